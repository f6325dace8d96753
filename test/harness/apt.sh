# shellcheck shell=bash
# Debian packages for tests, from the archive that this machine's own apt sources name, with apt lists apart: nothing is installed, and the
# machine's lists are neither read nor changed. Sourced, not run.

log() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { log "$*"; exit 1; }

mirror() {
  local uri
  # shellcheck disable=SC2016 # apt's own placeholders
  uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' 'Identifier: Packages' | awk '$2 == "bookworm" && $3 == "Debian" { print $1; exit }')
  [ -n "$uri" ] || die "no Debian bookworm archive in the apt sources (apt-get update?)"
  echo "$uri"
}

# private_apt CACHE deb|deb-src SUITE COMMAND...: an apt command that knows that suite only; its lists are below CACHE
private_apt() {
  local kind=$2 suite=$3 state=$1/apt-$3
  [ "$kind" = deb ] || state+=-source
  shift 3
  mkdir -p "$state"/{lists/partial,cache/archives/partial,etc/preferences.d}
  : >>"$state/status"
  printf '%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$kind" "$(mirror)" "$suite" >"$state/sources.list"
  "$@" -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
    -o Dir::Etc="$state/etc" -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=- -o APT::Architecture=amd64 \
    -o APT::Architectures=amd64 -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root
}
