#!/usr/bin/env bash
# What test/k8s runs: kube-apiserver and kube-controller-manager 1.20.2, made of Debian's source package with the Go it was written for
# (about 5 minutes, once), and etcd and kubectl as Debian 12 has them. Usage: test/k8s/build.sh [--check]
#   --check: builds nothing; exit status 0 when all is there.
# All is below the cache that tools/install-deps.sh uses, too ($CASAD_DEPS_CACHE, /var/cache/casad-deps). Nothing is installed. amd64 only.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../harness/apt.sh"

CACHE=${CASAD_DEPS_CACHE:-/var/cache/casad-deps}/k8s
BIN=$CACHE/bin
WORK=$CACHE/build
GO=$CACHE/go1.15
SOURCE=$WORK/path/src/k8s.io/kubernetes
VERSION=1.20.2
BUILT=(kube-apiserver kube-controller-manager)
declare -A PACKAGED=([etcd]=etcd-server [kubectl]=kubernetes-client)

complete() {
  local program
  for program in "${BUILT[@]}" "${!PACKAGED[@]}"; do [ -x "$BIN/$program" ] || return 1; done
}

update() { # deb|deb-src SUITE
  private_apt "$CACHE" "$@" apt-get -qq update >&2 || die "no package lists of $2"
}

unpack() { # SUITE DIR PACKAGE...
  local suite=$1 into=$2 file
  shift 2
  if [ -d "$into" ]; then return; fi
  log "fetching $* of $suite"
  update deb "$suite"
  rm -rf "$into.new"
  mkdir -p "$into.new/root"
  (cd "$into.new" && private_apt "$CACHE" deb "$suite" apt-get -qq download "$@") >&2 || die "cannot download $*"
  for file in "$into.new"/*.deb; do dpkg-deb -x "$file" "$into.new/root"; done
  mv "$into.new/root" "$into"
  rm -rf "$into.new"
}

fetch_source() {
  if [ -d "$SOURCE" ]; then return; fi
  log "fetching the source of kubernetes"
  update deb-src bookworm
  rm -rf "$WORK/fetched" "$SOURCE.new"
  mkdir -p "$WORK/fetched" "$SOURCE.new"
  (cd "$WORK/fetched" && private_apt "$CACHE" deb-src bookworm apt-get -qq source --download-only kubernetes) >&2 || die "cannot download the source"
  # The package calls itself 1.20.5+really1.20.2.
  [ -n "$(compgen -G "$WORK/fetched/kubernetes_*$VERSION.orig.tar.*")" ] || die "the source package is not of $VERSION: $(ls "$WORK/fetched")"
  tar -xf "$WORK/fetched"/kubernetes_*.orig.tar.* -C "$SOURCE.new" --strip-components=1
  mv "$SOURCE.new" "$SOURCE"
  rm -rf "$WORK/fetched"
}

# The tables of the OpenAPI document, which the tarball leaves out, and without which the server does not compile.
generate() {
  local generated=$SOURCE/pkg/generated/openapi/zz_generated.openapi.go packages
  if [ -e "$WORK/generated" ]; then return; fi
  log "generating $(basename "$generated")"
  go build -o "$WORK/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  packages=$({
    grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io | sed 's|staging/src/|k8s.io/kubernetes/vendor/|'
    grep -rl --include='*.go' '+k8s:openapi-gen=' pkg cmd | sed 's|^|k8s.io/kubernetes/|'
  } | xargs -n 1 dirname | sort -u | grep -vE 'sample|examples|/test|code-generator|kube-openapi' | paste -sd ,)
  "$WORK/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h hack/boilerplate/boilerplate.generatego.txt -r /dev/null
  [ -s "$generated" ] || die "$generated was not made"
  touch "$WORK/generated"
}

compile() {
  local flags='-s -w' program package began
  # The version is linked in; the one of the source is no version number, and clients do not take it.
  for package in component-base/version client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags+=" -X $package.gitVersion=v$VERSION -X $package.gitMajor=1 -X $package.gitMinor=20 -X $package.gitTreeState=clean"
  done
  for program in "${BUILT[@]}"; do
    if [ -x "$BIN/$program" ]; then continue; fi
    began=$SECONDS
    go build -ldflags "$flags" -o "$BIN/.$program" "./cmd/$program"
    mv "$BIN/.$program" "$BIN/$program"
    log "$program built in $((SECONDS - began)) s"
  done
}

case ${1:-} in
  '') ;;
  --check)
    complete
    exit
    ;;
  *)
    echo "usage: test/k8s/build.sh [--check]" >&2
    exit 2
    ;;
esac
if complete; then exit 0; fi
[ "$(dpkg --print-architecture)" = amd64 ] || die "amd64 only"
mkdir -p "$BIN" || die "cannot write to $CACHE: as root, or with CASAD_DEPS_CACHE"
exec 9>"$CACHE/lock"
flock 9 # one build at a time; who waited finds it done
if complete; then exit 0; fi
renice -n 10 $$ >/dev/null || true

for program in "${!PACKAGED[@]}"; do
  package=${PACKAGED[$program]}
  unpack bookworm "$WORK/$package" "$package"
  install -m 755 "$WORK/$package/usr/bin/$program" "$BIN/$program"
done
# This Kubernetes compiles with Debian 12's Go 1.19, and does not start.
unpack bullseye "$GO" golang-1.15-go golang-1.15-src
fetch_source
export GOROOT=$GO/usr/lib/go-1.15 GOPATH=$WORK/path GOCACHE=$WORK/cache GO111MODULE=off GOPROXY=off CGO_ENABLED=0 GOENV=off GOFLAGS=
export PATH=$GOROOT/bin:$PATH
cd "$SOURCE"
generate
compile
cd /
# 3 GB that nothing needs any more.
rm -rf "$WORK" "$GO" "$CACHE"/apt-*
