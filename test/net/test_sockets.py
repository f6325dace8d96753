"""Tricks with sockets and listeners. Runs twice: [baseline] without casad."""
import pytest

from cast import LOOP, OUTSIDE, TCP_PORT, UDP_PORT
from checks import BOTH, V4, V6, check_served, check_wire, names
from harness.puppet import PuppetSocket


@BOTH
def test_sendto_an_allowed_and_a_denied_address_in_turn(cast, v):
    port, served = cast.serve(cast.vault)
    outcome = cast.world.denied(
        lambda: cast.agent.attempt("udp-alternate", (LOOP[v], port), also=(LOOP[v], UDP_PORT), count=50), "peer_not_allowed",
        protocol="udp", dst_port=port, dst_address=LOOP[v], **names("agents/agent", "tools/vault"))
    assert (outcome.detail["also_ok"], outcome.detail["also_failed"]) == (50, 0)
    if cast.world.enforced:
        assert (outcome.detail["to_ok"], outcome.detail["to_errors"]) == (0, {"EPERM": 50})
        cast.world.wait_flow(verdict="ALLOWED", protocol="udp", dst_port=UDP_PORT, src_pid=outcome.pid)
        denied = sum(row["count"] for row in cast.world.flows() if row["verdict"] == "DENIED" and row["dst_port"] == port)
        assert denied <= 50
    check_served(cast, served)


@BOTH
def test_connected_udp_socket_sends_elsewhere(cast, v):
    port, served = cast.serve(cast.vault)
    cast.world.denied(lambda: cast.agent.attempt("udp-elsewhere", (LOOP[v], port), also=(LOOP[v], UDP_PORT)),
                      "peer_not_allowed", protocol="udp", dst_port=port)
    check_served(cast, served, udp=True)


@BOTH
def test_reconnect_through_af_unspec(cast, v):
    port, served = cast.serve(cast.vault)
    outcome = cast.world.denied(lambda: cast.agent.attempt("reconnect", (LOOP[v], port), also=(LOOP[v], TCP_PORT)),
                                "peer_not_allowed", protocol="tcp", dst_port=port)
    if cast.world.enforced:
        assert outcome.stage == "connect"
    check_served(cast, served)


def test_old_raw_socket(cast):
    """Made before the policy was written and before the daemon first ran: the packet is what counts."""
    check_old_packet(cast, cast.old_raw, b"\x08\x00\xf7\xff\x00\x00\x00\x00", OUTSIDE[V4], 1)


def test_old_raw_socket_ipv6(cast):
    check_old_packet(cast, cast.old_raw6, b"\x80\x00\x00\x00\x00\x00\x00\x00", OUTSIDE[V6], 58)


def check_old_packet(cast, socket, packet, host, protocol):
    cast.world.denied(lambda: socket.call("sendto", packet.decode("latin1"), [host, 0]),
                      {"raw_socket", "protocol_not_allowed"}, src_pid=None, src_comm=None, **names("agents/agent"))
    check_wire(cast, cast.far_wire, destination=host, protocol=protocol)


def test_old_tcp_socket(cast):
    port, served = cast.serve(cast.vault)
    cast.world.denied(lambda: cast.old_tcp.call("connect", [LOOP[V4], port]), "peer_not_allowed", dst_port=port)
    check_served(cast, served)


def test_old_udp_socket(cast):
    port, served = cast.serve(cast.vault)
    cast.world.denied(lambda: cast.old_udp.call("sendto", "x", [LOOP[V4], port]), "peer_not_allowed", dst_port=port)
    check_served(cast, served, udp=True)
    assert cast.old_udp.call("sendto", "x", [LOOP[V4], UDP_PORT]).ok


def test_old_mptcp_socket(cast):
    """Its subflows are sockets that the kernel makes: to the vault not even as plain TCP."""
    port, served = cast.serve(cast.vault)
    cast.old_mptcp.call("settimeout", 2)
    outcome = cast.old_mptcp.call("connect", [LOOP[V4], port])
    assert outcome.ok != cast.world.enforced, outcome
    check_served(cast, served)


def test_foreign_listener_on_the_allowed_port_number(cast):
    """Identity, not port: the vault listens on the very port that the agent may use with the MCP server."""
    served = cast.vault.serve(tcp=[("127.0.0.7", TCP_PORT)], udp=[("127.0.0.7", UDP_PORT)])
    cast.world.denied(lambda: cast.agent.attempt("tcp", ("127.0.0.7", TCP_PORT)), "peer_not_allowed", dst_port=TCP_PORT,
                      dst_address="127.0.0.7", **names("agents/agent", "tools/vault"))
    cast.world.denied(lambda: cast.agent.attempt("udp", ("127.0.0.7", UDP_PORT)), "peer_not_allowed", dst_port=UDP_PORT,
                      dst_address="127.0.0.7", **names("agents/agent", "tools/vault"))
    check_served(cast, served)


def test_reuseport_listener_of_another_workload(cast):
    """The rogue joins the MCP server's port; not one of the agent's connections may end up with it."""
    right = cast.mcp.serve(tcp=[("127.0.0.8", TCP_PORT)], reuseport=True)
    wrong = cast.rogue.serve(tcp=[("127.0.0.8", TCP_PORT)], reuseport=True)
    outcomes = [cast.agent.attempt("tcp", ("127.0.0.8", TCP_PORT), timeout=0.5) for _ in range(24)]
    reached, stolen = right.report()["tcp"], wrong.report()["tcp"]
    if not cast.world.enforced:
        assert stolen > 0 and reached > 0
        return
    # Not one is stolen. How many are refused is chance: connect() asks for one listener, and may find the rogue's.
    assert stolen == 0
    assert sum(o.ok for o in outcomes) == reached


def test_udp_peer_replaced_by_another_workload(cast):
    """The address of an allowed conversation is taken over by the vault: it gets nothing."""
    name = ("127.0.0.5", UDP_PORT)
    first = cast.mcp.socket("AF_INET", "SOCK_DGRAM")
    assert first.call("bind", list(name)).ok
    client = cast.agent.socket("AF_INET", "SOCK_DGRAM")
    assert client.call("connect", list(name)).ok and client.call("send", "one").ok
    assert first.call("recv", 10).detail == "one"
    first.call("close")
    second = cast.vault.socket("AF_INET", "SOCK_DGRAM")
    assert second.call("bind", list(name)).ok
    second.call("settimeout", 0.3)
    client.call("send", "two")
    client.call("send", "three")
    got = second.call("recv", 10)
    assert got.ok != cast.world.enforced, got
    if cast.world.enforced:
        cast.world.wait_flow(verdict="DENIED", protocol="udp", dst_port=UDP_PORT, dst_workload="vault")


@pytest.mark.parametrize("v", [V4, V6], ids=["0.0.0.0", "any6"])
def test_the_unspecified_address(cast, v):
    """connect(0.0.0.0) reaches this host."""
    port, served = cast.serve(cast.vault)
    for attempt in ("tcp", "udp"):
        cast.world.denied(lambda a=attempt: cast.agent.attempt(a, (("0.0.0.0", "::")[v], port)), "peer_not_allowed",
                          protocol=attempt, dst_port=port)
    check_served(cast, served)
    cast.world.allowed(lambda: cast.agent.attempt("tcp", (("0.0.0.0", "::")[v], TCP_PORT)), dst_port=TCP_PORT)


def test_udp_server_answers_its_client_and_nobody_else(cast):
    port, served = cast.serve(cast.vault)
    server = cast.mcp.socket("AF_INET", "SOCK_DGRAM")
    assert server.call("bind", ["127.0.0.6", UDP_PORT]).ok
    client = cast.agent.socket("AF_INET", "SOCK_DGRAM")
    assert client.call("sendto", "question", ["127.0.0.6", UDP_PORT]).ok
    data, caller = server.call("recvfrom", 100).detail
    assert data == "question"
    assert server.call("sendto", "answer", caller).ok
    assert client.call("recvfrom", 100).detail[0] == "answer"
    cast.world.denied(lambda: server.call("sendto", "x", ["127.0.0.1", port]), "peer_not_allowed", protocol="udp",
                      dst_port=port, **names("tools/mcp-server", "tools/vault"))
    check_served(cast, served, udp=True)


@BOTH
@pytest.mark.parametrize("spoke", [True, False], ids=["after-data", "silent"])
def test_an_allowed_caller_that_resets_does_not_leave_the_server_hanging(cast, spoke, v):
    """connect() and reset at once is what health checks do: when the RST arrives, the caller's socket is gone."""
    host = ("127.0.0.4", "::1")[v]
    listener = cast.mcp.socket(("AF_INET", "AF_INET6")[v])
    listener.call("setsockopt", 1, 2, 1)   # SO_REUSEADDR
    port = TCP_PORT if v == V4 else cast.world.port()
    assert listener.call("bind", [host, port]).ok and listener.call("listen", 5).ok
    client = (cast.agent if v == V4 else cast.mcp).socket(("AF_INET", "AF_INET6")[v])
    assert client.call("connect", [host, port]).ok
    server = PuppetSocket(cast.mcp, listener.call("accept").detail[0])
    if spoke:
        assert client.call("sendall", "x").ok and server.call("recv", 10).detail == "x"
    client.call("setsockopt", 1, 13, "\x01\0\0\0\0\0\0\0")  # SO_LINGER, 0 s
    server.call("settimeout", 2)
    client.call("close")
    listener.call("close")
    assert server.call("recv", 10).error == "ECONNRESET"
