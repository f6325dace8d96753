"""Fixtures of the tests against a real API server: one cluster for the whole run, and for each test namespaces that nobody else uses."""
import itertools
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from harness.fixtures import outside, pytest_collection_modifyitems, time_limit  # noqa: E402, F401
from harness.objects import namespace as namespace_object  # noqa: E402
from access import ServiceAccount, rules_of_casad  # noqa: E402
from cluster import BINARIES, Cluster  # noqa: E402
import things  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def running_cluster(outside):  # noqa: F811
    """The cluster, linked to the run's own network (k8s0), with casad's kinds defined."""
    if not (BINARIES / "kube-apiserver").exists():
        pytest.fail(f"no kube-apiserver in {BINARIES}: test/k8s/build.sh makes it", pytrace=False)
    work = Path(tempfile.mkdtemp(prefix="casad-test-k8s-"))
    found = Cluster(work)
    try:
        found.start().link()
        found.define(things.definitions())
        yield found
    finally:
        found.close()
        shutil.rmtree(work)


@pytest.fixture
def cluster(running_cluster):
    """The cluster, whole: what a test did to its server is undone before the next one."""
    yield running_cluster
    running_cluster.mend()


@pytest.fixture
def new_namespace(cluster):
    """A function that makes a namespace of a new name, and returns that."""
    made = []

    def make(mas=True):
        name = f"test-{next(_numbers)}"
        cluster.admin.create(namespace_object(name, mas))
        made.append(name)
        return name

    yield make
    cluster.mend()
    for name in made:
        for kind in ("Pod", "CASAPolicy"):  # there may be thousands
            cluster.unstore(kind, name)
        cluster.admin.remove_namespace(name, things.NAMESPACED)


@pytest.fixture
def namespace(new_namespace):
    return new_namespace()


@pytest.fixture
def api(cluster):
    """A client that may do everything."""
    return cluster.admin


@pytest.fixture
def watch(cluster):
    """As Client.watch of the admin, or of another client; closed when the test ends."""
    made = []

    def start(kind, within=None, client=None, **query):
        made.append((client or cluster.admin).watch(kind, within, **query))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def account(cluster, namespace):
    """A service account with casad's rights."""
    made = ServiceAccount(cluster, f"{namespace}/casad", rules_of_casad())
    yield made
    cluster.mend()
    made.remove()
