# shellcheck shell=bash disable=SC2034
# What the two scripts of this folder share: messages, a cache outside the checkout, and what harness/apt.sh has. Sourced, not
# run. Nothing is installed on this machine, and what is running on it is not touched.
set -euo pipefail

CACHE=${CASAD_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/casad-vm}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$CACHE"
. "$HERE/../harness/apt.sh"

need() {
  local command
  for command; do PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || die "$command is missing: tools/install-deps.sh vm"; done
}

cgroup2_mount() { awk '{ for (i = 7; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo; }
