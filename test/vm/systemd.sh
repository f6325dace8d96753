#!/usr/bin/env bash
# Boots Debian 12's systemd as PID 1 in a container on this kernel, installs casad with `make install`, and runs
# systemd_inside.sh there as a service. Needs root. Usage: test/vm/systemd.sh [BINARY] (default build/casad)
#
# The root file system is made once (debootstrap, in the cache) and used read-only below an overlay in memory. The
# container has a bpffs, a network namespace (lo only) and a cgroup of its own. It has no cgroup namespace: programs see
# cgroups from the kernel's root, so the daemon must, too; its cgroupRoot is the container's cgroup.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PACKAGES=systemd,systemd-sysv,dbus,python3,curl,iproute2,procps
BINARY=$(realpath "${1:-build/casad}")
ROOT=$CACHE/systemd-root
TIMEOUT=${TIMEOUT:-180}

[ "$(id -u)" -eq 0 ] || die "needs root"
[ -x "$BINARY" ] || die "$BINARY is not there: make"
need systemd-nspawn debootstrap

make_root() {
  if [ "$(cat "$ROOT/.made-of" 2>/dev/null)" = "$PACKAGES" ]; then return; fi
  log "debootstrap (once, about a minute)"
  rm -rf "$ROOT"
  # What debootstrap mounts goes with the mount namespace.
  unshare -m --propagation private debootstrap --variant=minbase --include="$PACKAGES" bookworm "$ROOT" "$(mirror)" >"$CACHE/debootstrap.log" 2>&1 ||
    { tail -n 5 "$CACHE/debootstrap.log" >&2; die "debootstrap failed: $CACHE/debootstrap.log"; }
  rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/*
  : >"$ROOT/etc/machine-id"
  echo "$PACKAGES" >"$ROOT/.made-of"
}

make_root
work=$(mktemp -d)
cgroup=$(cgroup2_mount)/casad-systemd-$$
pid=
clean() {
  trap - EXIT
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  if [ -d "$cgroup" ]; then
    if [ -e "$cgroup/cgroup.kill" ]; then echo 1 >"$cgroup/cgroup.kill" || true; fi
    for _ in $(seq 50); do
      find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$cgroup" ] || break
      sleep 0.1
    done
  fi
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

mkdir -p "$work/put" "$work/out" "$work/mount" "$cgroup"
# As a user installs it; the build directory is the binary's.
make -s -C "$HERE/../.." install DESTDIR="$work/put" PREFIX=/usr >"$work/install.log" || { cat "$work/install.log" >&2; die "make install failed"; }
install -D -m 755 "$BINARY" "$work/put/usr/sbin/casad"
# Without a cgroup namespace the container's systemd lives below this cgroup, and so do its slices.
printf 'cgroupRoot: /sys/fs/cgroup/%s/payload\n' "$(basename "$cgroup")" >"$work/put/etc/casad/casad.yaml"
install -D -m 755 "$HERE/systemd_inside.sh" "$work/put/test/inside"
cat >"$work/put/test/run" <<'R'
#!/bin/sh
/test/inside >/out/log 2>&1 </dev/null
echo $? >/out/status
systemctl --force --force poweroff
R
chmod 755 "$work/put/test/run"
mkdir -p "$work/put/etc/systemd/system"
cat >"$work/put/etc/systemd/system/casad-test.service" <<'S'
[Unit]
Description=Test of casad under systemd
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/test/run
TimeoutStartSec=infinity
S
cat >"$work/put/etc/systemd/system/casad-test.target" <<'S'
[Unit]
Requires=multi-user.target casad-test.service
After=multi-user.target
AllowIsolate=yes
S

(
  trap - EXIT
  echo "$BASHPID" >"$cgroup/cgroup.procs"
  export ROOT WORK=$work
  export SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_USE_CGNS=0 SYSTEMD_LOG_LEVEL=warning
  # shellcheck disable=SC2016 # expanded inside
  exec timeout -k 5 "$TIMEOUT" unshare -m --propagation private bash -ec '
    # Also a hybrid host looks like a pure one in here.
    umount -R -l /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t tmpfs tmpfs "$WORK/mount"
    mkdir -p /run/systemd/nspawn "$WORK"/mount/{upper,scratch,root,bpf}
    mount -t tmpfs tmpfs /run/systemd/nspawn
    mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$WORK/mount/upper,workdir=$WORK/mount/scratch" "$WORK/mount/root"
    mount -t bpf -o mode=0700 bpf "$WORK/mount/bpf"
    cp -a "$WORK/put/." "$WORK/mount/root/"
    exec systemd-nspawn -q -D "$WORK/mount/root" --register=no --keep-unit -b --private-network --machine=casad-test \
      --capability=all --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
      --bind="$WORK/out:/out" --bind="$WORK/mount/bpf:/sys/fs/bpf" --tmpfs=/tmp systemd.unit=casad-test.target systemd.show_status=0'
) >"$work/console" 2>&1 </dev/null &
pid=$!
wait "$pid" || true
pid=
if [ -e "$work/out/log" ]; then cat "$work/out/log"; fi
if [ ! -s "$work/out/status" ]; then
  log "the container gave no result within $TIMEOUT s; its console:"
  tr -d '\r\033' <"$work/console" | tail -n 40 >&2
  exit 1
fi
exit "$(cat "$work/out/status")"
