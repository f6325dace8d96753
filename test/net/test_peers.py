"""Whom a workload may call, and on which port: identity, not address. Runs twice: [baseline] shows that each attempt gets
through when nobody stops it."""
import subprocess

import pytest

from cast import AUTH_PORT, BOX_PORT, LOOP, NODE, OUTSIDE, PARTNER, PARTNER_PORT, TCP_PORT, UDP_PORT
from checks import BOTH, UNTOLD, V4, check_served, check_wire, names


@BOTH
@pytest.mark.parametrize("hosts", [LOOP, NODE], ids=["loopback", "own-address"])
@pytest.mark.parametrize("attempt", ["tcp", "fastopen"])
def test_allowed_tcp(cast, attempt, hosts, v):
    cast.world.allowed(lambda: cast.agent.attempt(attempt, (hosts[v], TCP_PORT)), reason="endpoint_allowed", protocol="tcp",
                       dst_port=TCP_PORT, dst_address=hosts[v], policy="agents/agent",
                       **names("agents/agent", "tools/mcp-server"))


@BOTH
@pytest.mark.parametrize("attempt", ["udp", "udp-connected"])
def test_allowed_udp(cast, attempt, v):
    cast.world.allowed(lambda: cast.agent.attempt(attempt, (LOOP[v], UDP_PORT)), reason="endpoint_allowed", protocol="udp",
                       dst_port=UDP_PORT, dst_address=LOOP[v], **names("agents/agent", "tools/mcp-server"))


def test_allowed_ipv4_mapped_is_ipv4(cast):
    served = cast.mcp_served.report()["tcp"]
    cast.world.allowed(lambda: cast.agent.attempt("mapped", (LOOP[V4], TCP_PORT)), protocol="tcp", dst_port=TCP_PORT, dst_address=LOOP[V4])
    assert cast.mcp_served.report()["tcp"] == served + 1


def test_allowed_mapped_udp(cast):
    cast.world.allowed(lambda: cast.agent.attempt("mapped-udp", (LOOP[V4], UDP_PORT)), protocol="udp", dst_port=UDP_PORT)


@BOTH
def test_service_port_is_translated_to_its_target_port(cast, v):
    """The policy names the Service's port 80; its pods listen on 8000."""
    cast.world.allowed(lambda: cast.agent.attempt("tcp", (LOOP[v], AUTH_PORT)), dst_port=AUTH_PORT,
                       **names("agents/agent", "tools/auth-0"))


@BOTH
def test_pod_file_with_a_cgroup(cast, v):
    cast.world.allowed(lambda: cast.agent.attempt("tcp", (LOOP[v], BOX_PORT)), **names("agents/agent", "boxes/one"))


def test_dashes_nest_in_slice_names(cast):
    cast.world.allowed(lambda: cast.worker.attempt("tcp", (LOOP[V4], TCP_PORT)), **names("team-a/worker", "tools/mcp-server"))


@BOTH
def test_endpoint_slice_with_an_outside_address(cast, v):
    for attempt in ("tcp", "udp"):
        cast.world.allowed(lambda a=attempt: cast.agent.attempt(a, (PARTNER[v], PARTNER_PORT)), dst_address=PARTNER[v],
                           protocol=attempt, reason="endpoint_allowed")


@BOTH
@pytest.mark.parametrize("hosts", [LOOP, PARTNER], ids=["loopback", "outside"])
def test_large_datagrams_and_much_data(cast, hosts, v):
    """Fragments and segmentation offload: what is allowed is never dropped."""
    outside = hosts is PARTNER
    for size in (1400, 1473, 9000, 60000):
        cast.world.allowed(lambda n=size: cast.agent.attempt("udp", (hosts[v], PARTNER_PORT if outside else UDP_PORT), size=n),
                           flow=False)
    cast.world.allowed(lambda: cast.agent.attempt("bulk", (hosts[v], PARTNER_PORT if outside else TCP_PORT), size=8 << 20,
                                                  timeout=20), flow=False)


@BOTH
def test_loopback_inside_the_own_workload(cast, v):
    port, _ = cast.serve(cast.agent)
    for attempt in ("tcp", "udp"):
        cast.world.allowed(lambda a=attempt: cast.agent.attempt(a, (LOOP[v], port)), reason="baseline_loopback", dst_port=port)


def test_allowed_port_where_nobody_listens_is_refused_as_ever(cast):
    outcome = cast.agent.attempt("tcp", ("127.0.0.9", TCP_PORT))
    assert (outcome.ok, outcome.error) == (False, "ECONNREFUSED")


# -- other port, other workload, other address ---------------------------------------------------------------------------

STREAMS = ["tcp", "fastopen"]
DATAGRAMS = ["udp", "udp-connected"]


@BOTH
@pytest.mark.parametrize("attempt", STREAMS + DATAGRAMS)
def test_other_port_of_an_allowed_peer(cast, attempt, v):
    port, served = cast.serve(cast.mcp)
    cast.world.denied(lambda: cast.agent.attempt(attempt, (LOOP[v], port)), "port_not_allowed", direction="egress",
                      protocol="udp" if attempt in DATAGRAMS else "tcp", dst_port=port, dst_address=LOOP[v],
                      **names("agents/agent", "tools/mcp-server"))
    check_served(cast, served)


@BOTH
@pytest.mark.parametrize("hosts", [LOOP, NODE], ids=["loopback", "own-address"])
@pytest.mark.parametrize("attempt", STREAMS + DATAGRAMS)
def test_other_workload(cast, attempt, hosts, v):
    port, served = cast.serve(cast.vault, hosts)
    cast.world.denied(lambda: cast.agent.attempt(attempt, (hosts[v], port)), "peer_not_allowed", direction="egress",
                      protocol="udp" if attempt in DATAGRAMS else "tcp", dst_port=port, dst_address=hosts[v],
                      **names("agents/agent", "tools/vault"))
    check_served(cast, served)


@pytest.mark.parametrize("attempt", ["mapped", "mapped-udp"])
def test_other_workload_ipv4_mapped(cast, attempt):
    port, served = cast.serve(cast.vault)
    cast.world.denied(lambda: cast.agent.attempt(attempt, (LOOP[V4], port)), "peer_not_allowed", dst_port=port,
                      dst_address=LOOP[V4], **names("agents/agent", "tools/vault"))
    check_served(cast, served)


@BOTH
@pytest.mark.parametrize("attempt", STREAMS + DATAGRAMS)
def test_other_address(cast, attempt, v):
    port, served = cast.serve(cast.far, OUTSIDE)
    cast.world.denied(lambda: cast.agent.attempt(attempt, (OUTSIDE[v], port)), "external_not_allowed", direction="egress",
                      protocol="udp" if attempt in DATAGRAMS else "tcp", dst_port=port, dst_address=OUTSIDE[v],
                      **names("agents/agent"))
    check_served(cast, served)
    check_wire(cast, cast.far_wire, destination_port=port)


@pytest.mark.parametrize("attempt", ["mapped", "mapped-udp"])
def test_other_address_ipv4_mapped(cast, attempt):
    port, _ = cast.serve(cast.far, OUTSIDE)
    cast.world.denied(lambda: cast.agent.attempt(attempt, (OUTSIDE[V4], port)), "external_not_allowed", dst_port=port,
                      dst_address=OUTSIDE[V4])
    check_wire(cast, cast.far_wire, destination_port=port)


def test_other_port_of_an_allowed_outside_address(cast):
    port, _ = cast.serve(cast.far, PARTNER)
    cast.world.denied(lambda: cast.agent.attempt("tcp", (PARTNER[V4], port)), "port_not_allowed", dst_port=port)
    check_wire(cast, cast.far_wire, destination_port=port)


@BOTH
def test_a_process_of_the_host(cast, v):
    """Nothing that the host runs is a peer by default."""
    port, served = cast.serve(cast.host)
    cast.world.denied(lambda: cast.agent.attempt("tcp", (LOOP[v], port)), "peer_not_allowed", UNTOLD, dst_port=port)
    check_served(cast, served)


@BOTH
@pytest.mark.parametrize("attempt", ["tcp", "udp"])
def test_other_workload_whose_listener_is_older_than_casad(cast, attempt, v):
    cast.world.denied(lambda: cast.agent.attempt(attempt, (LOOP[v], cast.old_port)), "peer_not_allowed", UNTOLD,
                      protocol=attempt, dst_port=cast.old_port, **names("agents/agent", "tools/vault"))
    check_served(cast, cast.old_listener)


@BOTH
def test_a_port_without_listener_that_is_not_allowed(cast, v):
    port = cast.world.port()
    outcome = cast.agent.attempt("tcp", (LOOP[v], port))
    if not cast.world.enforced:
        assert outcome.error == "ECONNREFUSED"
        return
    assert (outcome.ok, outcome.error) == (False, "EPERM")
    cast.world.wait_flow(verdict="DENIED", reason="no_listener", dst_port=port, src_pid=cast.agent.pid)


def test_what_another_policy_allows_does_not_help(cast):
    """The rogue may call auth; the agent's peers are not its own."""
    cast.world.allowed(lambda: cast.rogue.attempt("tcp", (LOOP[V4], AUTH_PORT)), **names("agents/rogue", "tools/auth-0"))
    cast.world.denied(lambda: cast.rogue.attempt("tcp", (LOOP[V4], TCP_PORT)), "peer_not_allowed", dst_port=TCP_PORT,
                      **names("agents/rogue", "tools/mcp-server"))




@pytest.mark.parametrize("client", ["curl", "openssl", "node"])
def test_real_clients(cast, client):
    """Programs that people use, in the agent's cgroup."""
    port, _ = cast.serve(cast.vault)

    def call(to):
        script = ("const r=require('http').get('http://127.0.0.1:%d/',x=>process.exit(x.statusCode==200?0:1));"
                  "r.on('error',e=>{console.log(e.code);process.exit(7)})" % to)
        argv = {"curl": ["curl", "-sS", "-m", "5", f"http://127.0.0.1:{to}/"],
                "openssl": ["openssl", "s_client", "-connect", f"127.0.0.1:{to}"], "node": ["node", "-e", script]}[client]
        p = cast.agent.cgroup.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, _ = p.communicate(timeout=20)
        return p.returncode, output

    code, output = call(TCP_PORT)
    assert "CONNECTED" in output if client == "openssl" else code == 0, output
    code, output = call(port)
    if not cast.world.enforced:
        assert "CONNECTED" in output if client == "openssl" else code == 0, output
        return
    assert code != 0 and "CONNECTED" not in output
    cast.world.wait_flow(verdict="DENIED", reason="peer_not_allowed", dst_port=port, src_workload="agent", src_comm=client)
