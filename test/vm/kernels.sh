#!/usr/bin/env bash
# Boots Debian's kernels in emulated machines, with busybox and the static binary as all there is, and runs
# kernels_inside.sh there. Usage: test/vm/kernels.sh [BINARY [SERIES...]]   (default build/casad, and 5.10 6.1 6.12)
# amd64 only. The kernels come from the archive of this machine's apt sources, once, into the cache; nothing is installed.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BINARY=$(realpath "${1:-build/casad}")
shift $(($# > 0 ? 1 : 0))
SERIES=("${@:-}")
[ -n "${SERIES[0]}" ] || SERIES=(5.10 6.1 6.12)
TIMEOUT=${TIMEOUT:-900}
# Emulation by default: it works on every machine, and nested virtualisation does not.
ACCEL=${ACCEL:-tcg,thread=multi}

[ -x "$BINARY" ] || die "$BINARY is not there: make"
need qemu-system-x86_64 busybox cpio depmod modprobe xz

fetch() { # SERIES: the newest cloud kernel of it, into $CACHE/kernel-SERIES
  local series=$1 into=$CACHE/kernel-$1 suite package
  if [ -e "$into/release" ]; then return; fi
  case $series in
    5.10) suite=bullseye ;;
    6.1) suite=bookworm ;;
    6.12) suite=bookworm-backports ;;
    *) die "kernel series $series is unknown: 5.10, 6.1 or 6.12" ;;
  esac
  log "fetching $series from $suite"
  private_apt "$CACHE" deb "$suite" apt-get -qq update >&2 || die "no package lists of $suite"
  package=$(private_apt "$CACHE" deb "$suite" apt-cache pkgnames linux-image-"$series" | grep -E "^linux-image-${series//./\\.}\\.[0-9]+.*-cloud-amd64$" |
    grep -v unsigned | sort -V | tail -n 1)
  [ -n "$package" ] || die "$suite has no cloud kernel of $series"
  rm -rf "$into.new"
  mkdir -p "$into.new/root"
  (cd "$into.new" && private_apt "$CACHE" deb "$suite" apt-get -qq download "$package") >&2 || die "cannot download $package"
  dpkg-deb -x "$into.new"/*.deb "$into.new/root"
  rm "$into.new"/*.deb
  echo "${package#linux-image-}" >"$into.new/release"
  PATH=$PATH:/sbin:/usr/sbin depmod -b "$into.new/root" "${package#linux-image-}"
  rm -rf "$into"
  mv "$into.new" "$into"
}

modules() { # SERIES DIR: tcp_diag (SOCK_DESTROY) with what it needs, unpacked, named in load order
  local from=$CACHE/kernel-$1/root into=$2 file number=10
  mkdir -p "$into"
  PATH=$PATH:/sbin:/usr/sbin modprobe -d "$from" -S "$(cat "$CACHE/kernel-$1/release")" --show-depends tcp_diag 2>/dev/null |
    awk '$1 == "insmod" { print $2 }' | while read -r file; do
    case $file in
      *.xz) xz -dc "$file" ;;
      *) cat "$file" ;;
    esac >"$into/$number.ko"
    number=$((number + 1))
  done
}

image() { # SERIES DIR: the initramfs
  local root=$2
  mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc}
  cp "$(command -v busybox)" "$root/bin/busybox"
  "$root/bin/busybox" --list | grep -vx busybox | while read -r name; do ln -s busybox "$root/bin/$name"; done
  cp "$BINARY" "$root/bin/casad"
  cp "$HERE/kernels_inside.sh" "$root/inside"
  sed -n 's/^BUDGET = //p' "$HERE/../check/budget.py" | tr -d _ >"$root/budget"
  # How many there are: a program has its SEC() at the start of a line. Those that look at what is sent need 5.15.
  local sources=("$HERE"/../../bpf/*.bpf.c)
  if [ "$1" = 5.10 ]; then for late in inspect requests tls_observer; do sources=("${sources[@]/*$late.bpf.c/}"); done; fi
  for source in "${sources[@]}"; do [ -z "$source" ] || cat "$source"; done | grep -c "^SEC(\"" >"$root/programs"
  modules "$1" "$root/modules"
  cat >"$root/init" <<'I'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*; do [ -e "$module" ] && insmod "$module"; done
ip link set lo up
sh /inside >/dev/ttyS1 2>&1 </dev/null
echo "INSIDE-STATUS $?" >/dev/ttyS1
poweroff -f
I
  chmod 755 "$root/init"
}

run() { # SERIES
  local series=$1 dir=$work/$1 status began=$SECONDS
  image "$series" "$dir/root"
  (cd "$dir/root" && find . | cpio -o -H newc --quiet -R 0:0) >"$dir/initrd"
  timeout -k 5 "$TIMEOUT" qemu-system-x86_64 -machine q35 -accel "$ACCEL" -cpu max -smp 1 -m 1024 -nodefaults -nographic -no-reboot \
    -serial "file:$dir/console" -serial "file:$dir/output" -kernel "$CACHE/kernel-$series/root/boot/vmlinuz-$(cat "$CACHE/kernel-$series/release")" \
    -initrd "$dir/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off" </dev/null >"$dir/qemu" 2>&1 || true
  tr -d '\r' <"$dir/output" | grep -v '^INSIDE-STATUS' | sed -E "s#^(pass|fail|skip) #\\1 kernel $series/#"
  status=$(tr -d '\r' <"$dir/output" | sed -n 's/^INSIDE-STATUS //p')
  log "$series ($(cat "$CACHE/kernel-$series/release")): $((SECONDS - began)) s"
  if [ -z "$status" ]; then
    echo "fail kernel $series/boot: no result (the limit is $TIMEOUT s)"
    tail -n 20 "$dir/qemu" "$dir/console" >&2
    return 1
  fi
  return "$status"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for series in "${SERIES[@]}"; do
  fetch "$series"
  run "$series" || failed=1
done
exit $failed
