"""Fixtures of the integration tests: those of harness/fixtures.py, and worlds."""
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from cast import Cast  # noqa: E402
from harness.fixtures import outside, pytest_collection_modifyitems, time_limit  # noqa: E402, F401
from harness.world import World, binary  # noqa: E402


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
