"""Fixtures of all suites that need root: a private network namespace for the whole run, and a bound on every test. A conftest.py imports
what it wants; nothing here may touch the machine's own network, or a cgroup or pin that the run did not make."""
import os
import signal

import pytest

import lab

TEST_SECONDS = 600  # 200 restarts of casad take 190 s on two idle CPUs


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
