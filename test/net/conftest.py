"""Fixtures of the integration tests: root, a private network namespace for the whole run, worlds. Nothing here may touch
the machine's own network, or a cgroup or pin that the run did not make."""
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from cast import Cast  # noqa: E402
from harness.world import World, binary  # noqa: E402
import lab  # noqa: E402

TEST_SECONDS = 300


def pytest_collection_modifyitems(items):
    """Only who is not root may skip. As root a missing part is mended, or is an error: a suite that skips itself on a machine
    that lacks something would be green there."""
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: cgroups, network namespaces and BPF"))
        return
    lab.ensure_bpffs()
    lab.find_cgroup2()


@pytest.fixture(autouse=True)
def time_limit():
    """No test may hang: every wait has its own bound, this is the bound of all of them."""
    def too_long(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)


@pytest.fixture(scope="session")
def outside():
    """The run's own network: this process moves into a new namespace, the "outside" is a second one behind a veth pair."""
    there = lab.enter_private_network()
    yield there
    there.close()


def make_world(outside, enforced=True, **options):
    if enforced and not binary().exists():
        pytest.fail(f"{binary()} does not exist: build it, or name it in CASAD", pytrace=False)
    return World(outside, enforced, **options)


@pytest.fixture
def new_world(outside):
    """A function that makes worlds; they go when the test ends."""
    worlds = []

    def make(**options):
        worlds.append(make_world(outside, **options))
        return worlds[-1]

    yield make
    errors = []
    for w in worlds:
        try:
            w.close()
        except Exception as e:  # the next world must go too
            errors.append(e)
    assert not errors, errors


@pytest.fixture(scope="module")
def shared_world(outside):
    """One enforced world for a whole module."""
    world = make_world(outside)
    yield world
    world.close()


@pytest.fixture(scope="module", params=[False, True], ids=["baseline", "enforced"])
def cast(request, outside):
    """The standing cast; every test of a module plays in it twice, first without enforcement."""
    world = make_world(outside, request.param)
    players = None
    try:
        players = Cast(world)
        yield players
    finally:
        if players:
            players.close()
        world.close()
