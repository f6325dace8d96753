#!/bin/sh
# meson runs this at install: /etc/casad with an empty policies.d, and the example config unless there is one already.
set -e
etc=${DESTDIR:-}/etc/casad
mkdir -p "$etc/policies.d"
if [ ! -e "$etc/casad.yaml" ]; then
  install -m 644 "$(dirname "$0")/casad.yaml" "$etc/casad.yaml"
fi
