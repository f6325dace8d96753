"""Fixtures of the integration tests: those of harness/fixtures.py, and worlds."""
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from cast import Cast  # noqa: E402
from harness.fixtures import outside, pytest_collection_modifyitems, time_limit  # noqa: E402, F401
from harness.fleet import Fleet  # noqa: E402
from harness.world import World  # noqa: E402
from podcast import cast_of_pods, make_node, need_binary  # noqa: E402


def make_world(outside, enforced=True, **options):
    need_binary(enforced)
    return World(outside, enforced, **options)


def close_all(worlds):
    errors = []
    for w in worlds:
        try:
            w.close()
        except Exception as e:  # the next world must go too
            errors.append(e)
    assert not errors, errors


def world_maker(outside):
    worlds = []

    def make(**options):
        worlds.append(make_world(outside, **options))
        return worlds[-1]

    yield make
    close_all(worlds)


@pytest.fixture
def new_world(outside):
    """A function that makes worlds; they go when the test ends."""
    yield from world_maker(outside)


@pytest.fixture(scope="module")
def lasting_world(outside):
    """The same for a module's fixture: they go when the module ends, also where the fixture does not come to its end."""
    yield from world_maker(outside)


@pytest.fixture(scope="module")
def shared_world(lasting_world):
    """One enforced world for a whole module."""
    return lasting_world()


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


@pytest.fixture
def new_node(outside):
    """A function that makes nodes with pods; they go when the test ends. The run's own network is left alone: each has networks of its own."""
    nodes = []

    def make(enforced=True, **options):
        nodes.append(make_node(enforced, **options))
        return nodes[-1]

    yield make
    close_all(nodes)


@pytest.fixture(scope="module", params=[False, True], ids=["baseline", "enforced"])
def pods(request, outside):
    """The standing cast of a node with pods; every test of a module plays in it twice, first without enforcement."""
    yield from cast_of_pods(request.param)


@pytest.fixture(scope="module", params=["systemd", "cgroupfs"])
def node_of_driver(request, outside):
    """The same cast, enforced, on a node whose kubelet has the one cgroup driver and on one with the other."""
    yield from cast_of_pods(True, driver=request.param)


@pytest.fixture(scope="module")
def fleet(outside):
    """Containers that make their first attempts the moment they are there."""
    made = Fleet()
    yield made
    made.close()
