"""Other ways to make a packet: raw sockets, ping, other transports, IP options. Runs twice: [baseline] without casad."""
import pytest

from cast import LOOP, OUTSIDE, PARTNER, PARTNER_PORT, TCP_PORT, UDP_PORT
from checks import BOTH, V4, V6, check_wire, names


@BOTH
def test_raw_icmp(cast, v):
    cast.world.denied(lambda: cast.agent.attempt("raw-icmp", (OUTSIDE[v], 0)), "raw_socket",
                      protocol=("icmp", "icmpv6")[v], **names("agents/agent"))


@BOTH
def test_raw_tcp(cast, v):
    port, _ = cast.serve(cast.far, OUTSIDE)
    outcome = cast.world.denied(lambda: cast.agent.attempt("raw-tcp", (OUTSIDE[v], port)), "raw_socket", protocol="tcp")
    if cast.world.enforced:
        assert outcome.stage == "socket"
    check_wire(cast, cast.far_wire, destination_port=port)


def test_raw_ip_with_a_forged_source(cast):
    port = cast.world.port()
    cast.world.denied(lambda: cast.agent.attempt("raw-ip", (OUTSIDE[V4], port)), "raw_socket", **names("agents/agent"))
    check_wire(cast, cast.far_wire, destination_port=port)


@BOTH
def test_ping_socket(cast, v):
    cast.world.denied(lambda: cast.agent.attempt("ping", (OUTSIDE[v], 0)), "protocol_not_allowed",
                      protocol=("icmp", "icmpv6")[v])


@BOTH
@pytest.mark.parametrize("attempt", ["mptcp", "udplite", "sctp"])
def test_other_transport(cast, attempt, v):
    """Not even towards the allowed peer and port."""
    outcome = cast.world.denied(lambda: cast.agent.attempt(attempt, (LOOP[v], TCP_PORT)), "protocol_not_allowed",
                                error={"EPERM", "unsupported"}, flow=attempt != "sctp", **names("agents/agent"))
    if outcome.error == "unsupported":
        pytest.skip(f"this kernel has no {attempt}")
    if cast.world.enforced:
        assert outcome.stage == "socket"


def test_source_route_set_before_connect(cast):
    """connect() names the allowed address, the packet's first hop is outside."""
    since = cast.far_wire.packets()
    outcome = cast.agent.attempt("source-route-before", (OUTSIDE[V4], 0), also=(PARTNER[V4], PARTNER_PORT), timeout=1.0)
    packets = cast.far_wire.packets(options=True, destination=OUTSIDE[V4])
    if not cast.world.enforced:
        assert packets, f"the source route should have sent something out: {outcome}"
        return
    assert not outcome.ok and not packets, (outcome, packets, since[-2:])
    cast.world.wait_flow(verdict="DENIED", reason="ip_options", src_workload="agent")


def test_source_route_set_on_an_established_connection(cast):
    outcome = cast.agent.attempt("source-route-after", (OUTSIDE[V4], 0), also=(LOOP[V4], TCP_PORT), timeout=1.0)
    packets = cast.loop_wire.packets(options=True, destination_port=TCP_PORT) + cast.far_wire.packets(
        options=True, destination_port=TCP_PORT)
    if not cast.world.enforced:
        assert packets, f"a packet with options should have been on the wire: {outcome}"
        return
    assert not outcome.ok and not packets, (outcome, packets)
    cast.world.wait_flow(verdict="DENIED", reason="ip_options", src_workload="agent", src_address=LOOP[V4])


def test_source_route_of_one_datagram(cast):
    """A control message, not a socket option."""
    cast.world.denied(lambda: cast.agent.attempt("source-route-udp", (OUTSIDE[V4], 0), also=(PARTNER[V4], PARTNER_PORT)),
                      "ip_options", protocol="udp", dst_port=None)
    check_wire(cast, cast.far_wire, destination=OUTSIDE[V4], protocol=17, destination_port=PARTNER_PORT)


def test_ipv6_extension_header(cast):
    """Even to the allowed peer: what comes before the UDP header may route."""
    cast.world.denied(lambda: cast.agent.attempt("extension-header", (LOOP[V6], UDP_PORT)), "ip_options", protocol="udp")
