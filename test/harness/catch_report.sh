#!/bin/sh
# meson's --wrapper for test/run: lets a Catch2 program write its XML report beside its usual output. Other programs run
# as they are.
if [ -n "$CASAD_REPORT_DIR" ] && grep -aq 'Catch2 v' "$1" 2>/dev/null; then
  set -- "$@" --reporter console --reporter "xml::out=$CASAD_REPORT_DIR/$(basename "$1").$$.xml"
fi
exec "$@"
