"""Who may call a workload; cgroups that nobody declared. Runs twice: [baseline] without casad."""
import pytest

from cast import AUTH_PORT, LOOP, NODE, OUTSIDE, PARTNER_PORT, TCP_PORT, UDP_PORT
from checks import BOTH, NOT_THROUGH, V4, check_served, names


@BOTH
@pytest.mark.parametrize("attempt", ["tcp", "udp"])
def test_ingress_from_the_host(cast, attempt, v):
    port, served = cast.serve(cast.mcp)
    cast.world.denied(lambda: cast.host.attempt(attempt, (LOOP[v], port), timeout=0.7), "source_not_allowed", NOT_THROUGH,
                      direction="ingress", protocol=attempt, dst_port=port, src_pid=None, src_comm=None,
                      **names(None, "tools/mcp-server"))
    check_served(cast, served)


@BOTH
@pytest.mark.parametrize("attempt", ["tcp", "udp"])
def test_ingress_from_outside(cast, attempt, v):
    port, served = cast.serve(cast.mcp, NODE)
    cast.world.denied(lambda: cast.far.attempt(attempt, (NODE[v], port), timeout=0.7), "source_not_allowed", NOT_THROUGH,
                      direction="ingress", protocol=attempt, dst_port=port, src_pid=None, src_comm=None,
                      **names(None, "tools/mcp-server"))
    check_served(cast, served)


@BOTH
def test_undeclared_cgroup_in_a_slice(cast, v):
    """Whatever runs in a MAS slice and is no declared workload may do nothing, not even on an allowed port."""
    cast.world.denied(lambda: cast.stray.attempt("tcp", (LOOP[v], TCP_PORT)), "undeclared_cgroup", dst_port=TCP_PORT)
    cast.world.denied(lambda: cast.stray.attempt("udp", (LOOP[v], UDP_PORT)), "undeclared_cgroup", dst_port=UDP_PORT)
    cast.world.denied(lambda: cast.stray.attempt("tcp", (OUTSIDE[v], PARTNER_PORT)), "undeclared_cgroup",
                      dst_port=PARTNER_PORT) if cast.world.enforced else None


@BOTH
def test_ingress_to_an_undeclared_cgroup(cast, v):
    port, served = cast.serve(cast.stray)
    cast.world.denied(lambda: cast.host.attempt("tcp", (LOOP[v], port), timeout=0.7), "undeclared_cgroup", NOT_THROUGH,
                      src_pid=None, src_comm=None, dst_port=port)
    check_served(cast, served)


def test_the_slice_itself_is_no_workload(cast):
    p = cast.world.puppet("/agents.slice/", "loose")
    cast.world.denied(lambda: p.attempt("tcp", (LOOP[V4], AUTH_PORT)), "undeclared_cgroup", dst_port=AUTH_PORT)
    cast.world.end(p)


def test_ingress_from_a_cgroup_outside_every_slice(cast):
    p = cast.world.puppet("/plain.slice/unit.service", "plain")
    port, served = cast.serve(cast.mcp)
    cast.world.denied(lambda: p.attempt("tcp", (LOOP[V4], port), timeout=0.7), "source_not_allowed", NOT_THROUGH,
                      direction="ingress", src_pid=None, src_comm=None, dst_port=port)
    check_served(cast, served)
    cast.world.end(p)


def test_workload_without_any_policy(cast):
    """In a MAS namespace, named by no policy: everything denied, both ways."""
    cast.world.denied(lambda: cast.forgotten.attempt("tcp", (LOOP[V4], TCP_PORT)), "no_policy", dst_port=TCP_PORT,
                      **names("tools/forgotten", "tools/mcp-server"))
    port, served = cast.serve(cast.forgotten)
    cast.world.denied(lambda: cast.host.attempt("tcp", (LOOP[V4], port), timeout=0.7), "no_policy", NOT_THROUGH,
                      direction="ingress", src_pid=None, src_comm=None, dst_port=port)
    check_served(cast, served)
