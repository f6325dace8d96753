"""A casad of another ABI version takes over: its own maps are filled and its programs attached beside the old ones, which go
only then. The old one is a real one, whose pins were given another version's name."""
import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cast import CYCLES, LOOP, SmallCast, TCP_PORT, UDP_PORT, UnderLoad
from harness.world import until

LIMITS = Path(__file__).resolve().parents[2] / "include" / "casa" / "abi" / "limits.h"
OWN = "abi-" + re.search(r"CASA_ABI_VERSION (\d+)", LIMITS.read_text()).group(1)
BPFTOOL = shutil.which("bpftool") or "/usr/sbin/bpftool"
IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x80, 0x100, 0x200


@pytest.fixture
def cast(new_world):
    return SmallCast(new_world()).start()


def bpftool(*arguments):
    return subprocess.run([BPFTOOL, "-j", *map(str, arguments)], capture_output=True, text=True, timeout=20)


def identify(links):
    """-> {(kind, id)} of the links pinned below, their programs and their maps"""
    found = set()
    for pin in links.iterdir():
        link = json.loads(bpftool("link", "show", "pinned", pin).stdout)
        program = json.loads(bpftool("prog", "show", "id", link["prog_id"]).stdout)
        found |= {("link", link["id"]), ("prog", link["prog_id"]), *(("map", m) for m in program.get("map_ids", ()))}
    return found


def age(cast, version="abi-0"):
    """Ends the daemon and makes an older version's of what it left in the kernel; returns its folder."""
    cast.world.daemon.kill9()
    pins = cast.world.daemon.bpffs
    (pins / OWN).rename(pins / version)
    return pins / version


class Watch:
    """What happened in some folders, in its order."""

    def __init__(self, *folders):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        self.folders = {self.libc.inotify_add_watch(self.fd, str(f).encode(), IN_MOVED_TO | IN_CREATE | IN_DELETE): f for f in folders}
        assert self.fd >= 0 and -1 not in self.folders

    def events(self):
        """-> [(folder, kind, name)]"""
        found = []
        data = os.read(self.fd, 1 << 16)
        while data:
            watch, mask, _, length = struct.unpack_from("iIII", data)
            found.append((self.folders[watch], mask & 0xfff, data[16:16 + length].rstrip(b"\0").decode()))
            data = data[16 + length:]
        os.close(self.fd)
        return found


def test_the_new_version_is_attached_before_the_old_one_goes(cast):
    old = age(cast)
    new = cast.world.daemon.bpffs / OWN
    (new / "links").mkdir(parents=True)
    names = {p.name for p in (old / "links").iterdir()}
    of_the_old = identify(old / "links")
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM", "the old version enforces"
    watch = Watch(old / "links", new / "links")
    cast.world.start()
    events = watch.events()
    gone = [i for i, (folder, kind, _) in enumerate(events) if folder == old / "links" and kind == IN_DELETE]
    there = {name: i for i, (folder, kind, name) in enumerate(events) if folder == new / "links" and kind in (IN_CREATE, IN_MOVED_TO)}
    assert names and names <= there.keys() and max(there[n] for n in names) < min(gone), events
    assert len(gone) == len(names)

    assert not old.exists() and {p.name for p in (new / "links").iterdir()} == names
    left = lambda: [what for what in of_the_old if bpftool(what[0], "show", "id", what[1]).returncode == 0]  # noqa: E731
    until(lambda: not left(), 5, "the old version's links, programs and maps are gone", pause=0.1)
    assert not cast.world.status()["adopted"] and cast.may().ok and cast.may(port=UDP_PORT).ok
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error in ("EPERM", "ECONNABORTED")


def test_several_old_versions_go_and_nothing_else(cast):
    age(cast, "abi-7")
    cast.world.start()
    age(cast, "abi-0")
    other = cast.world.daemon.bpffs / "somebody"
    (cast.world.daemon.bpffs / "abi-7").mkdir()
    other.mkdir()
    cast.world.start()
    assert sorted(p.name for p in cast.world.daemon.bpffs.iterdir()) == [OWN, "somebody"]
    other.rmdir()


def test_a_new_version_that_cannot_be_filled_leaves_the_old_one(cast):
    """Nothing readable in the policy directory: the new version has no generation, so the old one stays in force."""
    old = age(cast)
    folder = cast.world.daemon.policy_dir
    folder.rename(folder.with_name("away"))
    cast.world.daemon.api_socket.unlink()
    cast.world.daemon.start(wait=False)
    until(lambda: cast.world.daemon.api_socket.exists() and cast.world.status()["problems"], 5, "it is up, with a problem")
    assert (old / "links" / "casa_egress").exists()
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM" and cast.may().ok
    folder.with_name("away").rename(folder)
    until(lambda: not old.exists(), 8, "the old version goes when the new one is in force")
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error in ("EPERM", "ECONNABORTED") and cast.may().ok


def test_denied_stays_denied_while_versions_change(cast):
    load, host = UnderLoad(cast), cast.world.host_puppet()
    for _ in range(min(CYCLES, 20)):
        age(cast)
        cast.world.start()
        # A new version does not know a listener that is older than its maps before a SYN reached it: until then a refused
        # caller is ended by the daemon (ECONNABORTED), not told EPERM, and with the daemon dead it would wait.
        for address in LOOP:
            assert not host.attempt("tcp", (address, cast.VAULT_PORT), timeout=0.2).ok
    load.finish()
    assert sorted(p.name for p in cast.world.daemon.bpffs.iterdir()) == [OWN]
