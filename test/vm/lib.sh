# shellcheck shell=bash disable=SC2034
# What the two scripts of this folder share: messages, a cache outside the checkout, and the archive that this machine's own
# apt sources name. Sourced, not run. Nothing is installed on this machine, and what is running on it is not touched.
set -euo pipefail

CACHE=${CASAD_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/casad-vm}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$CACHE"

log() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { log "$*"; exit 1; }
need() {
  local command
  for command; do PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || die "$command is missing: tools/install-deps.sh vm"; done
}

mirror() {
  local uri
  # shellcheck disable=SC2016 # apt's own placeholders
  uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' 'Identifier: Packages' | awk '$2 == "bookworm" && $3 == "Debian" { print $1; exit }')
  [ -n "$uri" ] || die "no Debian bookworm archive in the apt sources (apt-get update?)"
  echo "$uri"
}

cgroup2_mount() { awk '{ for (i = 7; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo; }
