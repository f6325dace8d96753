#!/usr/bin/env bash
# Installs what building, testing and the demo need, from Debian 12 packages only (the backports suite included).
# Usage: tools/install-deps.sh [build|test|vm]  build: enough for `make` and `make demo`; test (default): and for `make test`,
# `make lint`, `make bench`; vm: and for `make test-systemd` and `make test-kernels`.
# Idempotent: asks apt for nothing when all is there. Needs root or sudo. The mirror is the one the machine's own apt
# sources name, so that a site with its own mirror stays on it.
set -euo pipefail

what=${1:-test}
build_packages=(
  make git ca-certificates pkg-config ninja-build python3
  clang-19 lld-19 llvm-19 g++
  libelf-dev zlib1g-dev libzstd-dev libssl-dev libyaml-dev libc-ares-dev libfmt-dev libspdlog-dev libcli11-dev libzycore-dev
  linux-libc-dev iproute2 procps
)
declare -A backports_packages=([libbpf-dev]=1:1.4 [bpftool]=7.4 [meson]=1.3 [catch2]=3.0) # and the least version
test_packages=(
  python3-pytest python3-jwt python3-cryptography curl clang-format-19 clang-tidy-19 libclang-rt-19-dev iputils-ping util-linux openssl socat
  python3-yaml systemd dnsmasq-base bind9-dnsutils nodejs nginx haproxy wrk python3-requests python3-httpx
  libnghttp2-dev nghttp2-client nghttp2-server nghttp2-proxy python3-h2 nftables
)
vm_packages=(systemd-container debootstrap busybox-static cpio kmod xz-utils)
# qemu 7.2, bookworm's own, loses flags in emulated locked instructions: one boot of kernel 6.12 in three panics, and programs
# in it crash.
declare -A vm_backports_packages=([qemu-system-x86]=1:10.0)

if [ "$(id -u)" -eq 0 ]; then as_root=(); else as_root=(sudo); fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }
installed() { dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }
version_at_least() { dpkg --compare-versions "$(dpkg-query -W -f='${Version}' "$1" 2>/dev/null || echo 0)" ge "$2"; }

# shellcheck source=/dev/null
. /etc/os-release
if [ "${VERSION_CODENAME:-}" != bookworm ]; then
  echo "install-deps: this script knows Debian 12 (bookworm); this machine is ${PRETTY_NAME:-unknown}. Install the packages named in it by hand." >&2
  exit 1
fi

packages=("${build_packages[@]}")
case $what in
  build) ;;
  test) packages+=("${test_packages[@]}") ;;
  vm)
    packages+=("${test_packages[@]}" "${vm_packages[@]}")
    for p in "${!vm_backports_packages[@]}"; do backports_packages[$p]=${vm_backports_packages[$p]}; done
    ;;
  *) echo "usage: tools/install-deps.sh [build|test|vm]" >&2; exit 2 ;;
esac
# Programs of any version of Go are tested, 1.19 of Debian 12 too.
if [ "$what" != build ] && ! command -v go >/dev/null && [ ! -x /usr/local/go/bin/go ]; then packages+=(golang-go); fi
missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done

missing_backports=()
for p in "${!backports_packages[@]}"; do
  version_at_least "$p" "${backports_packages[$p]}" || missing_backports+=("$p")
done

# Three pieces live in a private cache, read by meson.build:
#  - Boost 1.81 headers, where Debian's default 1.74 headers are installed (the two packages exclude one another and
#    somebody else needs those). casad uses Boost's headers only, no Boost library.
#  - simdjson's single-header source pair, from Debian's source package: the binary package has a shared object only, and
#    casad is one static binary.
#  - Zydis's sources, for the same reason.
cache=${CASAD_DEPS_CACHE:-/var/cache/casad-deps}
need_boost=no
if ! installed libboost1.81-dev && [ ! -e "$cache/boost-1.81/usr/include/boost/version.hpp" ]; then need_boost=yes; fi
need_simdjson=no
if [ ! -e "$cache/simdjson/simdjson.cpp" ]; then need_simdjson=yes; fi
need_zydis=no
if [ ! -e "$cache/zydis/src/Decoder.c" ]; then need_zydis=yes; fi

# For tests only: the MCP SDK, whose client and server they let talk.
mcp_sdk=1.32.2
install_mcp_sdk() {
  case $what in test | vm) ;; *) return 0 ;; esac
  if grep -qs "\"version\": \"$mcp_sdk\"" "$cache/mcp-sdk/node_modules/@modelcontextprotocol/sdk/package.json"; then return 0; fi
  command -v npm >/dev/null || apt install -y --no-install-recommends npm
  "${as_root[@]}" mkdir -p "$cache/mcp-sdk"
  "${as_root[@]}" npm install --prefix "$cache/mcp-sdk" --no-audit --no-fund --ignore-scripts --loglevel=error "@modelcontextprotocol/sdk@$mcp_sdk"
}

if [ ${#missing[@]} -eq 0 ] && [ ${#missing_backports[@]} -eq 0 ] && [ $need_boost = no ] && [ $need_simdjson = no ] && [ $need_zydis = no ]; then
  install_mcp_sdk
  exit 0
fi
if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
  echo "install-deps: missing ${missing[*]} ${missing_backports[*]}; run as root, or install sudo" >&2
  exit 1
fi

sources=/etc/apt/sources.list.d/casad.sources
if [ ! -e $sources ] && { [ ${#missing_backports[@]} -gt 0 ] || [ $need_simdjson = yes ] || [ $need_zydis = yes ]; }; then
  apt update || true
  # shellcheck disable=SC2016 # apt's own placeholders
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' 'Identifier: Packages' | awk '$2=="bookworm" && $3=="Debian" {print $1; exit}')
  if [ -z "$mirror" ]; then echo "install-deps: no Debian bookworm source in /etc/apt; add one first" >&2; exit 1; fi
  echo "install-deps: adding $mirror bookworm-backports and sources ($sources)"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  signed=; if [ -e $keyring ]; then signed="Signed-By: $keyring"; fi
  printf '%s\n' "Types: deb" "URIs: $mirror" "Suites: bookworm-backports" "Components: main" ${signed:+"$signed"} "" \
    "Types: deb-src" "URIs: $mirror" "Suites: bookworm" "Components: main" ${signed:+"$signed"} | "${as_root[@]}" tee $sources >/dev/null
fi
apt update || echo "install-deps: apt-get update reported a problem; going on with what it has" >&2
if [ ${#missing[@]} -gt 0 ]; then apt install -y --no-install-recommends "${missing[@]}"; fi
if [ ${#missing_backports[@]} -gt 0 ]; then
  # libbpf-dev pins the exact version of its runtime package.
  case " ${missing_backports[*]} " in *" libbpf-dev "*) missing_backports+=(libbpf1) ;; esac
  apt install -y --no-install-recommends -t bookworm-backports "${missing_backports[@]}"
fi
if [ $need_boost = yes ]; then
  if installed libboost1.74-dev; then
    scratch=$(mktemp -d)
    (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download libboost1.81-dev && dpkg-deb -x libboost1.81-dev_*.deb x)
    "${as_root[@]}" mkdir -p "$cache" && "${as_root[@]}" rm -rf "$cache/boost-1.81" && "${as_root[@]}" cp -r "$scratch/x" "$cache/boost-1.81"
    rm -rf "$scratch"
  else
    apt install -y --no-install-recommends libboost1.81-dev
  fi
fi
if [ $need_simdjson = yes ]; then
  scratch=$(mktemp -d)
  (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root source --download-only simdjson && tar -xzf simdjson_*.orig.tar.gz --strip-components=2 --wildcards '*/singleheader/simdjson.*')
  "${as_root[@]}" mkdir -p "$cache/simdjson" && "${as_root[@]}" cp "$scratch/simdjson.h" "$scratch/simdjson.cpp" "$cache/simdjson/"
  rm -rf "$scratch"
fi
if [ $need_zydis = yes ]; then
  scratch=$(mktemp -d)
  (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root source --download-only zydis && tar -xzf zydis_*.orig.tar.gz --strip-components=1 --wildcards '*/include/*' '*/src/*')
  "${as_root[@]}" mkdir -p "$cache/zydis" && "${as_root[@]}" cp -r "$scratch/include" "$scratch/src" "$cache/zydis/"
  rm -rf "$scratch"
fi
install_mcp_sdk
