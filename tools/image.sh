#!/usr/bin/env bash
# tools/image.sh [-o FILE] [-t NAME:TAG] [BINARY]: the container image of kubernetes/Containerfile as one archive, without a container engine.
# BINARY: build/casad; FILE: build/casad-image.tar; NAME:TAG: casad:latest. The archive is an OCI layout and has Docker's manifest.json as
# well, so that podman, docker, ctr and kind load it. The same binary gives the same bytes. Refuses a binary that is not static, and an image
# of more than 20 MB. CASAD_STRIP: the strip of the binary's architecture; `true` leaves it as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=20000000 out=build/casad-image.tar name=casad:latest
while getopts o:t: option; do
  case $option in
    o) out=$OPTARG ;;
    t) name=$OPTARG ;;
    *) echo "usage: tools/image.sh [-o FILE] [-t NAME:TAG] [BINARY]" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
binary=${1:-build/casad}
case $name in *:*) ;; *) name=$name:latest ;; esac
die() {
  echo "image: $*" >&2
  exit 1
}
[ -f "$binary" ] || die "$binary is not there: run \`make\` first"
# e_machine, two bytes at 18.
case $(od -An -tx1 -N 20 "$binary" | tr -d ' \n') in
  7f454c46*3e00) architecture=amd64 ;;
  7f454c46*b700) architecture=arm64 ;;
  *) die "$binary is no program for amd64 or arm64" ;;
esac
if LC_ALL=C grep -qa -m 1 '/lib.*/ld-linux' <(head -c 4096 "$binary"); then die "$binary is not static: an image from scratch has no libraries"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root" "$work/image/blobs/sha256"
install -m 0755 "$binary" "$work/root/casad"
strip=${CASAD_STRIP:-strip}
if command -v "$strip" >/dev/null; then "$strip" "$work/root/casad"; fi
archive() { tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf - "${@:2}"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
add() { # FILE: becomes a blob; prints its digest
  local sum
  sum=$(digest "$1")
  mv "$1" "$work/image/blobs/sha256/$sum"
  printf %s "$sum"
}

archive "$work/root" casad >"$work/layer.tar"
diff_id=$(digest "$work/layer.tar")
gzip -9n "$work/layer.tar"
layer_size=$(stat -c %s "$work/layer.tar.gz")
layer=$(add "$work/layer.tar.gz")
printf '{"architecture":"%s","os":"linux","config":{"User":"0:0","Entrypoint":["/casad"],"Cmd":["run"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"tools/image.sh"}]}' \
  "$architecture" "$diff_id" >"$work/config.json"
config_size=$(stat -c %s "$work/config.json")
config=$(add "$work/config.json")
types=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
  $types $types "$config" "$config_size" $types "$layer" "$layer_size" >"$work/manifest.json"
manifest_size=$(stat -c %s "$work/manifest.json")
manifest=$(add "$work/manifest.json")
printf '{"schemaVersion":2,"mediaType":"%s.index.v1+json","manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"docker.io/library/%s","org.opencontainers.image.ref.name":"%s"}}]}' \
  $types $types "$manifest" "$manifest_size" "$architecture" "$name" "${name##*:}" >"$work/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' "$config" "$name" "$layer" >"$work/image/manifest.json"

unpacked=$(stat -c %s "$work/root/casad")
[ "$unpacked" -le $limit ] || die "the image has $unpacked bytes unpacked; the limit is $limit"
mkdir -p "$(dirname "$out")"
archive "$work/image" blobs index.json manifest.json oci-layout >"$work/out.tar"
mv "$work/out.tar" "$out"
echo "$out: $name, $architecture, $((unpacked / 1000)) kB unpacked, $((layer_size / 1000)) kB compressed"
