"""Where the daemon runs: in a cgroup namespace of its own, as a container gives it. What it takes for a cgroup's path must be
what the kernel says at mkdir(), or it must not start."""
import os
import shutil
import subprocess

import pytest

from cast import LOOP, SmallCast, TCP_PORT
from harness.objects import policy
import lab


class Container:
    """Runs a command in a cgroup of its own, which is the root of a private cgroup namespace, with a fresh cgroup2 mount at
    `mount` that nobody else sees; the rest of the machine's files as they are."""

    def __init__(self, scratch):
        self.cgroup = lab.Cgroup(lab.find_cgroup2() / f"casad-test-{os.getpid()}-container").make()
        self.mount = scratch / "cgroup"
        self.mount.mkdir()

    def argv(self, argv):
        inside = 'mount -t cgroup2 none "$0" && exec "$@"'
        enter = 'echo 0 >"$0"/cgroup.procs && exec "$@"'
        return ["sh", "-c", enter, str(self.cgroup.path), "unshare", "--cgroup", "--mount", "sh", "-c", inside, str(self.mount), *argv]

    def run(self, argv):
        return subprocess.run(self.argv(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)


@pytest.fixture
def container(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("casad-container-")
    made = Container(scratch)
    yield made
    made.cgroup.remove()
    shutil.rmtree(scratch, ignore_errors=True)


def test_a_cgroup_namespace_is_what_these_tests_think(container):
    seen = container.run(["sh", "-c", 'tail -n 1 /proc/self/cgroup; stat -c %i "$0"', str(container.mount)]).stdout.split()
    assert seen == ["0::/", str(container.cgroup.id())] and container.cgroup.id() != 1


@pytest.mark.parametrize("below", [False, True], ids=["the mount", "a cgroup in it"])
def test_refused_with_the_namespaces_own_mount(new_world, container, below):
    world = new_world()
    root = container.mount / "part" if below else container.mount
    container.cgroup.child("part").make()
    world.daemon.cgroup_root = lab.Cgroup(root)
    done = container.run(world.daemon.command())
    assert done.returncode == 1, done.stdout
    for words in (str(container.mount), "cgroup namespace", "--cgroupns=host", "--cgroup-root"):
        assert words in done.stdout, done.stdout
    assert not list(world.daemon.bpffs.iterdir()), "something was pinned"


def test_enforces_from_a_namespace_with_the_hosts_mount(new_world, container):
    """Also what the kernel side does alone, by path: a cgroup that is made while the daemon is dead."""
    world = new_world()
    plain = world.daemon.command()
    world.daemon.command = lambda: container.argv(plain)
    cast = SmallCast(world).start()
    assert cast.may().ok
    cast.may_not()
    world.change("late.yaml", policy("agents/late", f"tools/mcp:{TCP_PORT}"))
    world.daemon.kill9()
    late = world.puppet("agents/late")
    assert cast.may(late).ok
    assert late.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM"


def test_enforces_below_a_part_of_the_tree_that_is_mounted_elsewhere(new_world, tmp_path):
    """A bind mount in the host's namespace: /proc/self/mountinfo tells its real path, and that holds."""
    world = new_world()
    plain = world.daemon.command()
    part = tmp_path / "part"
    part.mkdir()
    plain[plain.index("--cgroup-root") + 1] = str(part)
    inside = 'mount --make-rprivate / && mount --bind "$0" "$1" && shift && exec "$@"'
    world.daemon.command = lambda: ["unshare", "--mount", "sh", "-c", inside, str(world.root.path), str(part), *plain]
    cast = SmallCast(world).start()
    world.change("late.yaml", policy("agents/late", f"tools/mcp:{TCP_PORT}"))
    world.daemon.kill9()
    late = world.puppet("agents/late")
    assert cast.may(late).ok
    assert late.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM"
