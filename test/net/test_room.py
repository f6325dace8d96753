"""Where the kernel side has no room: what it cannot keep it refuses, says why, and the daemon tells."""
from pathlib import Path

import pytest

from cast import LOOP, SmallCast, TCP_PORT
from harness.world import until

OPTMEM = Path("/proc/sys/net/core/optmem_max")


def problem(world, words):
    return until(lambda: next((p for p in world.status()["problems"] if words in p), None), 3, f"a problem with '{words}'")


def test_a_socket_without_storage_is_refused(new_world):
    """A workload's socket is refused while the kernel gives no memory for socket storage; everybody else's is not."""
    cast = SmallCast(new_world()).start()
    if not OPTMEM.exists():
        pytest.skip("before Linux 6.7 this knob is the whole machine's; test/prog/no_room_test.cpp is the same for every kernel")
    old, host = cast.agent.socket(), cast.world.host_puppet()
    usual = OPTMEM.read_text()
    OPTMEM.write_text("64")
    try:
        cast.world.denied(cast.may, "fault", dst_port=None)
        cast.world.denied(lambda: cast.agent.attempt("udp", (LOOP[1], TCP_PORT)), "fault", dst_port=None)
        assert host.attempt("udp", (LOOP[0], 9)).error != "EPERM"
        assert "optmem_max" in problem(cast.world, "socket storage")
        assert cast.world.status()["phase"] == "degraded"
        assert old.call("connect", [LOOP[0], TCP_PORT]).ok, "its storage is there already"
    finally:
        OPTMEM.write_text(usual)
    assert cast.may().ok
    stats = cast.world.daemon.api.get("/v1/stats")
    assert stats["deniedByReason"]["fault"] >= 2 and stats["counters"]["failuresSocketStorage"] >= 2


def test_a_unit_that_the_table_has_no_room_for_is_undeclared(new_world):
    """An instance of a declared template, in the slice: denied, counted and told; with room again it is who it is."""
    cast = SmallCast(new_world(config="limits: {cgroups: 16}\n")).start()
    many = [cast.world.cgroup(f"/agents.slice/agent@{i}.service") for i in range(16)]
    last = cast.world.puppet("/agents.slice/agent@last.service", "agent-last")
    cast.world.denied(lambda: cast.may(last), "undeclared_cgroup", dst_port=TCP_PORT)
    assert "limits.cgroups" in problem(cast.world, "cgroup map: ")
    assert cast.world.daemon.api.get("/v1/stats")["counters"]["failuresCgroupInsert"] >= 1
    assert cast.may().ok, "who was there before is as before"
    for cgroup in many:
        cgroup.remove()
    until(lambda: cast.may(last).ok, 5, "its place in the table")
