"""A pod calls its own Service and is led back to itself, with its node's address as kube-proxy makes it. What lets that in is what the call
itself left when it went out (bpf/lib/own_call.h): nobody else gets in by it, neither the node's own processes, nor who comes through the
node with its address, nor who sends the same SYN again. Runs twice: [baseline] shows that each call gets through when nobody stops it."""
import itertools
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import BOTH, names
from harness import nodenet
from harness.kube import ServicePort, container
from harness.objects import policy
from harness.sniffer import Sniffer
from harness.world import until
from podcast import ADMIN, HTTP, UDP, WEB, serve, settled
from tokens import b64

SELF = "team/self"
GATEWAYS = (nodenet.GATEWAY4, nodenet.GATEWAY6)
SYN_OPTIONS = struct.Struct("!BBHBBBBII")
LEAVES = 3  # seconds: CASA_OWN_CALL_SECONDS


@pytest.fixture
def stage(pods):
    with pods.act():
        yield pods


class Alone:
    """team/self may call its Service at WEB, behind which are its own pods; nothing else."""

    def __init__(self, stage, *ports, pods=1, may=(WEB,)):
        self.stage, self.node = stage, stage.node
        self.pods = [stage.run(SELF, "Deployment", containers=[container(ports=[HTTP])]) for _ in range(pods)]
        self.pod = self.pods[0]
        self.served = serve(self.pod)
        self.service = stage.node.service(SELF, [self.pods[-1]], ServicePort(WEB, HTTP), *ports)
        self.allow(*(f"{SELF}:{port}" for port in may))
        self.puppet = self.pod.puppet("self")

    def allow(self, *endpoints, **options):
        self.node.put("self.yaml", policy(SELF, *endpoints, **options))
        settled(self.node)

    def calls(self, v, **match):
        """The call gets through, and comes from the node's address. -> [address, port]"""
        self.stage.may(self.puppet, host=self.service.ips[v], dst_service="self", **names(SELF), **match)
        peer = self.served.report()["tcp_peers"][-1]
        assert peer[0] == GATEWAYS[v]
        return peer

    def refuses(self, caller, v, port=HTTP, **match):
        """Somebody else's call to the pod's own address waits for nothing, and is told as the node's."""
        before = self.served.report()["tcp"]
        match = {"src_pid": None, "src_comm": None, "direction": "ingress", "dst_port": port, "dst_workload": "self", **match}
        outcome = self.node.denied(caller, "source_not_allowed", "timeout", **match)
        if self.node.enforced:
            assert outcome.row.get("src_workload") is None and self.served.report()["tcp"] == before
        return outcome


@BOTH
def test_both_ends_are_told_as_the_workload(stage, v):
    """The caller's record names the Service, the callee's the workload, by the rule that allows the Service."""
    self = Alone(stage)
    since = time.time() - 0.05
    port = self.calls(v, reason="endpoint_allowed", policy=SELF, direction="egress")[1]
    if stage.node.enforced:
        row = stage.node.wait_flow(since, verdict="ALLOWED", direction="ingress", reason="endpoint_allowed", policy=SELF, dst_port=HTTP,
                                   src_address=GATEWAYS[v], **names(SELF, SELF))
        assert row["src_port"] == port
        assert not [r for r in stage.node.flows(since) if r["verdict"] == "DENIED" and "self" in (r.get("src_workload"), r.get("dst_workload"))]


@BOTH
def test_a_process_of_the_node_stays_out(stage, v):
    """Before such a call, between such calls, and while one is open."""
    self = Alone(stage)
    node = stage.node.node_puppet("node-agent")
    there = (self.pod.ips[v], HTTP)
    knock = lambda: node.attempt("tcp", there, timeout=0.3)  # noqa: E731
    self.refuses(knock, v)
    for _ in range(3):
        self.calls(v)
        self.refuses(knock, v)
    s = connected(self, v)
    self.refuses(knock, v)
    assert said(s, "still there")


def connected(self, v):
    s = self.puppet.socket("AF_INET6" if v else "AF_INET")
    s.call("settimeout", 2)
    outcome = s.call("connect", [self.service.ips[v], WEB])
    assert outcome.ok, outcome
    assert said(s, "first")
    return s


def said(s, text):
    return s.call("sendall", text).ok and s.call("recv", 64).detail == text


@BOTH
def test_the_nodes_process_at_the_port_of_the_last_call(stage, v):
    """A SYN from the very end that a call came from a moment ago is not that call's."""
    stage.node.netns.sysctl(**{f"netfilter__nf_conntrack_tcp_timeout_{state}": 1 for state in ("time_wait", "close", "last_ack", "fin_wait", "close_wait")})
    self = Alone(stage)
    node = stage.node.node_puppet("node-agent")

    def knock(port):
        s = node.socket("AF_INET6" if v else "AF_INET")
        s.call("settimeout", 0.3)
        assert s.call("setsockopt", socket.SOL_SOCKET, socket.SO_REUSEADDR, 1).ok and s.call("bind", [GATEWAYS[v], port]).ok
        outcome = s.call("connect", [self.pod.ips[v], HTTP])
        s.call("close")
        return outcome

    port = self.calls(v)[1]
    time.sleep(1.3)  # the node's table of connections has forgotten the call: it would give this one another port
    wire = Sniffer("eth0", outside=self.pod.netns)
    try:
        self.refuses(lambda: knock(port), v)
        assert wire.packets(source=GATEWAYS[v], source_port=port, destination=self.pod.ips[v], destination_port=HTTP)
    finally:
        wire.close()


@BOTH
def test_another_pod_that_comes_with_the_nodes_address_stays_out(stage, v):
    """As behind masquerade of everything, or through a node port."""
    self = Alone(stage)
    family, ips = ("ip", "ip6")[v], [p.ips[v] for p in (stage.neighbour, self.pod)]
    stage.node.netns.batch("nft", f"""
        table {family} other {{
          chain postrouting {{
            type nat hook postrouting priority 90;
            {family} saddr {ips[0]} {family} daddr {ips[1]} masquerade
          }}
        }}
        """)
    wire = Sniffer("eth0", outside=self.pod.netns)
    try:
        neighbour = stage.neighbour.puppet("neighbour")
        knock = lambda: neighbour.attempt("tcp", (self.service.ips[v], WEB), timeout=0.3)  # noqa: E731
        self.refuses(knock, v)
        assert wire.packets(source=GATEWAYS[v], destination=ips[1], destination_port=HTTP)
        self.calls(v)
        self.refuses(knock, v)
    finally:
        wire.close()
        stage.node.netns.batch("nft", f"delete table {family} other\n")


@BOTH
def test_a_pod_that_may_not_call_its_service_is_refused_at_once(stage, v):
    self = Alone(stage)
    self.allow(f"tools/mcp:{WEB}")
    for _ in range(2):
        stage.may_not(self.puppet, host=self.service.ips[v], dst_service="self", **names(SELF))
    self.allow(f"{SELF}:{WEB}")
    self.calls(v)


@BOTH
def test_another_port_of_the_own_service(stage, v):
    self = Alone(stage, ServicePort(WEB + 1, ADMIN))
    stage.may_not(self.puppet, host=self.service.ips[v], port=WEB + 1, reason="port_not_allowed", dst_service="self")
    self.calls(v)


@BOTH
def test_somebody_else_behind_the_service_too(stage, v):
    """Who gets some of the calls sees what lets them in: none are let in then, as long as it may be so."""
    self = Alone(stage)
    self.calls(v)
    self.service.pods = [self.pod, stage.neighbour]
    stage.node.sync(self.service)
    self.service.pods = [self.pod]
    stage.node.proxy()  # each call comes back
    settled(stage.node)
    self.refuses(lambda: self.puppet.attempt("tcp", (self.service.ips[v], WEB), timeout=0.3), v)
    stage.node.sync(self.service)
    settled(stage.node)
    self.calls(v)


@BOTH
def test_over_udp_it_stays_refused(stage, v):
    """A datagram has nothing in it that only its sender knows."""
    self = Alone(stage, ServicePort(UDP, UDP, protocol="UDP"), may=(WEB, UDP))
    self.refuses(lambda: self.puppet.attempt("udp", (self.service.ips[v], UDP), timeout=0.3), v, UDP)


@BOTH
def test_without_timestamps_it_stays_refused(stage, v):
    """32 bits alone can be guessed by who sends fast enough."""
    self = Alone(stage)
    self.pod.netns.sysctl(ipv4__tcp_timestamps=0)
    self.refuses(lambda: self.puppet.attempt("tcp", (self.service.ips[v], WEB), timeout=0.3), v)
    self.pod.netns.sysctl(ipv4__tcp_timestamps=1)
    self.calls(v)


@BOTH
def test_an_open_connection_under_new_policies(stage, v):
    """It lives through a generation that still allows it, also while nothing is sent, and ends with the permission."""
    self = Alone(stage)
    s = connected(self, v)
    self.allow(f"{SELF}:{WEB}", f"tools/mcp:{WEB}")
    assert said(s, "after a change")
    for i in range(2):  # the sweep asks about what is idle
        self.allow(f"{SELF}:{WEB}", *[f"tools/mcp:{WEB}"] * i)
        time.sleep(1)
    assert said(s, "and idle")
    self.allow(f"tools/mcp:{WEB}")
    assert s.call("sendall", "no more").ok != stage.node.enforced or not s.call("recv", 64).ok


@BOTH
def test_many_calls_at_once(stage, v):
    """Beside callers from elsewhere: handshakes that overtake one another at the listener are still each its own."""
    self = Alone(stage)
    stage.node.put("more.yaml", policy("team/agent-self", f"{SELF}:{WEB}", target="agent"))
    settled(stage.node)
    since = time.time() - 0.05
    callers = [self.puppet, *(self.pod.puppet(f"self-{i}") for i in range(2)), stage.caller]
    call = lambda p: [p.attempt("tcp", (self.service.ips[v], WEB)) for _ in range(25)]  # noqa: E731
    with ThreadPoolExecutor(len(callers)) as pool:
        outcomes = [o for found in pool.map(call, callers) for o in found]
    assert all(o.ok for o in outcomes), [o for o in outcomes if not o.ok]
    if stage.node.enforced:
        assert not [r for r in stage.node.flows(since, verdict="DENIED") if r.get("dst_workload") == "self"]


def test_a_token_in_such_a_call_is_told_once(stage):
    """It was read where it left."""
    self = Alone(stage)
    head, claims = b64(b'{"alg":"none"}'), b64(f'{{"for":"own service {time.time()}"}}'.encode())
    s = connected(self, 0)
    assert s.call("sendall", f"POST /self HTTP/1.1\r\nHost: self\r\nContent-Length: 0\r\nAuthorization: Bearer {head}.{claims}.c2ln\r\n\r\n").ok
    assert s.call("recv", 4096).ok
    if stage.node.enforced:
        rows = lambda: stage.node.daemon.api.get(f"/v1/tokens?workload={SELF}")["items"]  # noqa: E731
        until(rows, what="the token is told")
        time.sleep(0.3)
        assert [r["sightings"] for r in rows()] == [1], rows()


# -- who has seen a call's SYN


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Forger:
    """Sends SYNs with the node's address, as who has CAP_NET_RAW on the node could, and sees what comes back."""

    def __init__(self, node, v):
        self.v, self.family = v, (socket.AF_INET, socket.AF_INET6)[v]
        self.raw = node.netns.inside(socket.socket, self.family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sniffer = Sniffer("cni0", outside=node.netns)
        self.ports = itertools.count(10001)

    def answered(self, to, port, sequence, timestamp):
        source, own = GATEWAYS[self.v], next(self.ports)
        ends = socket.inet_pton(self.family, source) + socket.inet_pton(self.family, to)
        options = SYN_OPTIONS.pack(2, 4, 1460, 4, 2, 8, 10, timestamp, 0)
        tcp = struct.pack("!HHIIBBHHH", own, port, sequence, 0, (20 + len(options)) // 4 << 4, 2, 64240, 0, 0) + options
        filled = checksum(ends + struct.pack("!IHH" if self.v else "!HH", *((len(tcp), 0, 6) if self.v else (6, len(tcp)))) + tcp)
        tcp = tcp[:16] + struct.pack("!H", filled) + tcp[18:]
        if self.v:
            packet = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ends + tcp
        else:
            packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends + tcp
        self.raw.sendto(packet, (to, 0))
        return bool(self.sniffer.packets(0.2, source=to, destination=source, source_port=port, destination_port=own))

    def close(self):
        self.raw.close()
        self.sniffer.close()


class Listener:
    """Reads the last SYN that a pod sends."""

    def __init__(self, pod, v):
        self.v = v
        self.socket = pod.netns.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.socket.bind(("eth0", 3))
        self.socket.settimeout(1)

    def syn(self, to):
        """-> (sequence, timestamp)"""
        at = (20, 40)[self.v]
        while True:
            data = self.socket.recv(65536)
            if data[0] >> 4 != (4, 6)[self.v] or socket.inet_pton((socket.AF_INET, socket.AF_INET6)[self.v], to) not in data[:at]:
                continue
            if data[at + 13] & 0x12 == 2:
                assert data[at + 26:at + 28] == b"\x08\x0a", "where Linux puts the timestamp"
                return struct.unpack_from("!I", data, at + 4)[0], struct.unpack_from("!I", data, at + 28)[0]

    def close(self):
        self.socket.close()


@pytest.fixture
def heard(stage):
    """-> a function: makes (Alone, Forger, Listener); calls of its pod are led to the workload's other pod, so what they leave stays."""
    open_ = []

    def make(v):
        self = Alone(stage, pods=2)
        serve(self.pods[1])
        open_.extend([Forger(stage.node, v), Listener(self.pod, v)])
        return self, *open_

    yield make
    for thing in open_:
        thing.close()


def left(self, listener, v):
    """A call of the pod. -> the numbers of its SYN"""
    self.stage.may(self.puppet, host=self.service.ips[v], flow=False)
    return listener.syn(self.service.ips[v])


@BOTH
def test_both_numbers_of_the_syn_count_and_they_count_once(stage, heard, v):
    """The one that has both right is let in: it shows that the others would have been, had they not been looked at."""
    self, forger, listener = heard(v)
    there, enforced = self.pod.ips[v], stage.node.enforced
    sequence, timestamp = left(self, listener, v)
    assert forger.answered(there, HTTP, sequence, timestamp ^ 1) != enforced
    assert forger.answered(there, HTTP, sequence ^ 1, timestamp) != enforced
    assert forger.answered(self.pods[1].ips[v], HTTP, sequence, timestamp) != enforced, "another pod of the workload"
    assert forger.answered(there, HTTP, sequence, timestamp)
    assert forger.answered(there, HTTP, sequence, timestamp) != enforced, "the second time"
    assert forger.answered(there, HTTP, (sequence + 1) & 0xffffffff, timestamp) != enforced, "a SYN where data would be"


@BOTH
def test_the_pods_port_counts(stage, heard, v):
    self, forger, listener = heard(v)
    assert forger.answered(self.pod.ips[v], ADMIN, *left(self, listener, v)) != stage.node.enforced
    if stage.node.enforced:
        stage.node.wait_flow(verdict="DENIED", reason="port_not_allowed", direction="ingress", dst_port=ADMIN, **names(SELF, SELF))


@BOTH
def test_what_a_call_leaves_is_forgotten(stage, heard, v):
    self, forger, listener = heard(v)
    numbers = left(self, listener, v)
    time.sleep(LEAVES + 0.2)
    assert forger.answered(self.pod.ips[v], HTTP, *numbers) != stage.node.enforced
