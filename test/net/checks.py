"""What the tests of the attempts share: the two address families, the errors, and the checks at the far end."""
import time

import pytest

from harness.world import until

V4, V6 = 0, 1
BOTH = pytest.mark.parametrize("v", [V4, V6], ids=["ipv4", "ipv6"])
# What connect() cannot know about (a listener older than casad, or outside its root) the packet's verdict decides, and the
# daemon ends the socket.
UNTOLD = {"EPERM", "ECONNABORTED", "timeout"}
# A refused caller on the other side of the wire: no hook of its own says no, so it waits, or is reset.
NOT_THROUGH = {"EPERM", "timeout", "ECONNABORTED", "ECONNRESET", "ECONNREFUSED", "ETIMEDOUT", "closed"}


def names(*ends):
    """src_/dst_ fields for ('namespace/name', 'namespace/name')"""
    fields = {}
    for prefix, who in zip(("src_", "dst_"), ends):
        if who:
            fields[prefix + "namespace"], fields[prefix + "workload"] = who.split("/")
    return fields


def check_served(cast, served, udp=False):
    """Enforced: the server saw nobody. Baseline: it saw the attempt, or the test proves nothing."""
    seen = lambda: sum(served.report()[k] for k in ("tcp", "udp"))  # noqa: E731
    if cast.world.enforced:
        time.sleep(0.03)
        assert seen() == 0, served.report()
    elif not udp:
        until(seen, 2, "the server saw the attempt")


def check_wire(cast, wire, **match):
    packets = wire.packets(**match)
    if cast.world.enforced:
        assert packets == []
    else:
        assert packets, f"unenforced, and no packet on the wire with {match}"
