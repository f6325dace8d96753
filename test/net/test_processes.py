"""Tricks with processes: cgroups and namespaces of their own, storms, crowds. Runs twice: [baseline] without casad."""
from cast import LOOP, OUTSIDE, TCP_PORT
from checks import BOTH, UNTOLD, V4, check_served, names
from harness.puppet import Puppet
from harness.world import until


def test_child_cgroup_made_by_the_agent(cast):
    port, served = cast.serve(cast.vault)
    outcome = cast.world.denied(lambda: cast.agent.attempt("child-cgroup", (LOOP[V4], port)), "peer_not_allowed",
                                src_pid=None, dst_port=port, **names("agents/agent", "tools/vault"))
    if cast.world.enforced:
        assert outcome.row["src_pid"] == outcome.detail["child"]
    check_served(cast, served)
    cast.world.allowed(lambda: cast.agent.attempt("child-cgroup", (LOOP[V4], TCP_PORT)), src_pid=None, dst_port=TCP_PORT)


def test_fork_storm(cast):
    storm(cast, exec=False)


def test_exec_storm(cast):
    storm(cast, exec=True)


def storm(cast, exec):
    port, served = cast.serve(cast.vault)
    outcome = cast.world.denied(
        lambda: cast.agent.attempt("storm", (LOOP[V4], port), count=200, exec=exec), "peer_not_allowed",
        error={"exit 1"} if exec else {"EPERM"}, src_pid=None, src_comm="bash" if exec else "agent", dst_port=port)
    if not cast.world.enforced:
        assert outcome.detail["passed"] == 200
        return
    assert sum(outcome.detail["failed"].values()) == 200
    check_served(cast, served)
    until(lambda: sum(row["count"] for row in cast.world.flows()
                      if row["verdict"] == "DENIED" and row["dst_port"] == port) == 200, what="200 attempts counted")


def test_64k_sockets(cast):
    """As many descriptors as four processes may have; none gets through, and the allowed peer still answers."""
    port, served = cast.serve(cast.vault)
    crowd = [cast.agent] + [cast.world.puppet("agents/agent", f"crowd{i}") for i in range(3)]
    try:
        count = 16384 if cast.world.enforced else 100
        replies = [p.begin("attempt", attempt="many-fds", to=(LOOP[V4], port), count=count) for p in crowd]
        results = [r.result(120)["result"] for r in replies]
    finally:
        for p in crowd[1:]:
            cast.world.end(p)
    total = sum(r["detail"]["sockets"] for r in results)
    passed = sum(r["detail"]["passed"] for r in results)
    print(f"{total} sockets at once in {len(crowd)} processes")
    if not cast.world.enforced:
        assert passed == total == 400
        return
    assert total >= 4000
    assert passed == 0, results
    assert all(set(r["detail"]["failed"]) == {"EPERM"} for r in results), results
    cast.world.wait_flow(verdict="DENIED", dst_port=port, protocol="tcp", src_workload="agent")
    cast.world.wait_flow(verdict="DENIED", dst_port=port, protocol="udp", src_workload="agent")
    check_served(cast, served)
    assert cast.agent.attempt("tcp", (LOOP[V4], TCP_PORT)).ok


@BOTH
def test_a_network_namespace_of_its_own(cast, v):
    """The agent's cgroup, but another network namespace: addresses there are nobody's that it may call."""
    port, served = cast.serve(cast.far, OUTSIDE)
    p = Puppet(cast.agent.cgroup, "elsewhere", outside=cast.world.outside)
    try:
        for attempt in ("tcp", "udp"):
            cast.world.denied(lambda a=attempt: p.attempt(a, (OUTSIDE[v], port)),
                              {"peer_not_allowed", "external_not_allowed", "no_listener"}, UNTOLD, protocol=attempt, dst_port=port)
    finally:
        p.close()
    check_served(cast, served)
