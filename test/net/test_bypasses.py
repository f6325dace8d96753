"""Ways around that a review found and proved, each as the attack itself: it must fail, and what is allowed must still go.
Every test runs a daemon of its own; none may need more than a few seconds."""
import signal
import socket
import subprocess
import sys
import time

import pytest

from cast import LOOP, NODE, PARTNER, SmallCast, UDP_PORT
from checks import NOT_THROUGH, V4, V6
from harness.objects import pod, policy, service
from harness.puppet import PuppetSocket
from harness.world import rfc3339, until

HOME = LOOP[V4]
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 23, 30
REUSEADDR = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
WAIT = 0.3  # for what must not come


@pytest.fixture
def cast(new_world):
    return SmallCast(new_world()).start()


def must(outcome):
    assert outcome.ok, outcome
    return outcome.detail


def listener(puppet, host, port, backlog=5, timeout=WAIT, fastopen=False):
    s = puppet.socket("AF_INET6" if ":" in host else "AF_INET")
    must(s.call("setsockopt", *REUSEADDR))
    must(s.call("bind", [host, port]))
    if fastopen:
        must(s.call("setsockopt", socket.IPPROTO_TCP, TCP_FASTOPEN, 16))
    must(s.call("listen", backlog))
    must(s.call("settimeout", timeout))
    return s


def caller(puppet, family="AF_INET", timeout=0.7):
    s = puppet.socket(family)
    must(s.call("settimeout", timeout))
    return s


def check_nobody_in(s):
    came = s.call("accept")
    assert (came.ok, came.error) == (False, "timeout"), f"somebody got in: {came}"


def script(puppet, text, *arguments, command=(), **pipes):
    """A program of its own in the puppet's cgroup."""
    return puppet.cgroup.popen([*command, sys.executable, "-I", "-S", "-B", "-c", text, *arguments], text=True, **pipes)


def finish(process, seconds=10):
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    return output


# -- sockets and ports that change their owner ---------------------------------------------------------------------------

@pytest.mark.parametrize("stranger", ["host", "outside"])
def test_connected_socket_recycled_as_a_listener(cast, stranger):
    """connect() to a listener of its own, connect(AF_UNSPEC), listen() on the same socket: its old verdict would let in
    everybody."""
    port = cast.world.port()
    own = listener(cast.agent, HOME, cast.world.port())
    s = caller(cast.agent)
    must(s.call("setsockopt", *REUSEADDR))
    must(s.call("bind", ["0.0.0.0", port]))
    must(s.call("connect", [HOME, own.port()]))
    accepted = PuppetSocket(cast.agent, must(own.call("accept"))[0])
    must(s.call("send", "x"))
    assert must(accepted.call("recv", 1)) == "x"
    must(s.call("unconnect"))
    must(s.call("listen", 5))
    assert s.port() == port
    p = cast.world.host_puppet("stranger", outside=stranger == "outside")
    call = caller(p).call("connect", [NODE[V4] if stranger == "outside" else HOME, port])
    must(s.call("settimeout", WAIT))
    check_nobody_in(s)
    assert call.error in NOT_THROUGH, call
    cast.world.wait_flow(verdict="DENIED", reason="source_not_allowed", direction="ingress", dst_workload="agent",
                         dst_port=port)
    # Its own workload still may.
    must(caller(cast.agent).call("connect", [HOME, port]))
    must(s.call("accept"))


@pytest.mark.parametrize("how", ["connected", "unconnected"])
def test_udp_port_that_gets_another_owner(cast, how):
    """A datagram to its own socket makes a conversation; then a service of the host has the port."""
    port, host = cast.world.port(), cast.world.host_puppet()
    own = cast.agent.socket("AF_INET", "SOCK_DGRAM")
    must(own.call("bind", [HOME, port]))
    s = cast.agent.socket("AF_INET", "SOCK_DGRAM")
    if how == "connected":
        must(s.call("connect", [HOME, port]))
    to = [[HOME, port]] if how == "unconnected" else []
    send = "sendto" if to else "send"
    must(s.call(send, "self", *to))
    assert must(own.call("recv", 9)) == "self"
    must(own.call("close"))
    service = host.socket("AF_INET", "SOCK_DGRAM")
    must(service.call("bind", [HOME, port]))
    must(service.call("settimeout", WAIT))
    tried = [s.call(send, "exfil", *to) for _ in range(3)]
    got = service.call("recv", 9)
    assert not got.ok, f"reached: {got}"
    assert not any(t.ok for t in tried), tried
    cast.world.wait_flow(verdict="DENIED", reason="peer_not_allowed", protocol="udp", dst_port=port, src_workload="agent")


def test_tcp_port_that_gets_another_owner_while_the_syn_is_sent_again(cast):
    """A SYN to its own listener, whose queue is full, is sent again a second later: by then the host listens there."""
    port, host = cast.world.port(), cast.world.host_puppet()
    own = listener(cast.agent, HOME, port, backlog=0)
    fill = [cast.agent.socket() for _ in range(3)]
    s = cast.agent.socket()
    for c in [*fill, s]:
        must(c.call("setblocking", False))
        assert c.call("connect", [HOME, port]).error == "EINPROGRESS"
    time.sleep(0.1)
    assert s.call("getpeername").error == "ENOTCONN", "the queue was not full: nothing is tried here"
    must(own.call("close"))
    for c in fill:
        must(c.call("close"))
    service = listener(host, HOME, port, timeout=1.6)
    check_nobody_in(service)
    cast.world.wait_flow(verdict="DENIED", reason="peer_not_allowed", protocol="tcp", dst_port=port, src_workload="agent")


def test_tcp_port_that_gets_another_owner_before_a_held_back_syn(cast):
    """TCP_FASTOPEN_CONNECT: connect() is decided while its own listener has the port, the SYN leaves at the first send()."""
    port, host = cast.world.port(), cast.world.host_puppet()
    own = listener(cast.agent, HOME, port, fastopen=True)

    def held_back():
        s = caller(cast.agent)
        must(s.call("setsockopt", socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1))
        must(s.call("connect", [HOME, port]))
        return s

    first = held_back()  # for the cookie
    must(first.call("send", "x"))
    assert must(PuppetSocket(cast.agent, must(own.call("accept"))[0]).call("recv", 1)) == "x"
    s = held_back()
    check_nobody_in(own)
    must(own.call("close"))
    must(first.call("close"))
    service = listener(host, HOME, port, fastopen=True)
    s.call("send", "exfil")
    check_nobody_in(service)
    cast.world.wait_flow(verdict="DENIED", reason="peer_not_allowed", protocol="tcp", dst_port=port, src_workload="agent")


# -- policies ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("prefixes", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/0", "::/0"]], ids=["v4", "v6", "both"])
def test_a_prefix_of_one_family_admits_no_other(new_world, prefixes):
    """cidr 0.0.0.0/0 says nothing about IPv6 peers, ::/0 nothing about IPv4 ones."""
    ports = {"0.0.0.0/0": 7010, "::/0": 7011}
    cast = SmallCast(new_world(), sources=[{"cidr": p, "port": ports[p]} for p in prefixes]).start()
    far = cast.world.host_puppet("far-proc", outside=True)
    for p in prefixes:
        cast.mcp.serve(tcp=[(h, ports[p]) for h in NODE], udp=[(h, ports[p]) for h in NODE])
        right, wrong = (V4, V6) if p == "0.0.0.0/0" else (V6, V4)
        for kind in ("tcp", "udp"):
            cast.world.allowed(lambda k=kind: far.attempt(k, (NODE[right], ports[p])), src_pid=None, src_comm=None,
                               protocol=kind, direction="ingress", dst_port=ports[p], dst_address=NODE[right])
            cast.world.denied(lambda k=kind: far.attempt(k, (NODE[wrong], ports[p]), timeout=WAIT),
                              {"source_not_allowed", "port_not_allowed"}, NOT_THROUGH, src_pid=None,
                              src_comm=None, protocol=kind, dst_port=ports[p])


def test_a_policy_file_truncated_to_nothing_keeps_what_it_said(cast):
    """A save that broke off leaves zero bytes; only a deleted file takes its policies back."""
    cast.may_not()
    file = cast.world.daemon.policy_dir / "base.yaml"
    file.write_bytes(b"")
    time.sleep(2 * WAIT)
    cast.may_not()
    assert cast.may().ok
    told = until(lambda: cast.world.status()["problems"], 2, "a problem in the status")
    assert any("base.yaml" in problem for problem in told), told
    file.unlink()
    until(lambda: cast.agent.attempt("tcp", (HOME, cast.VAULT_PORT)).ok, 3, "the deleted file's policies are taken back")
    until(lambda: not cast.world.status()["problems"], 2, "no problem any more")


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
def test_an_enforcement_root_removed_and_made_anew(cast, later):
    """The links go with the directory that they were attached to."""
    cast.world.end(cast.agent)
    cast.world.end(cast.mcp)
    cast.world.end(cast.vault)
    assert cast.world.status()["enforcementGaps"] == [] and replacements(cast.world) == 0
    removed = rfc3339(time.time() - 1.1)  # it looks once a second
    cast.world.root.remove()
    if later:
        told = until(lambda: cast.world.status()["problems"], 2.5, "a problem in the status")
        assert any(str(cast.world.root.path) in problem for problem in told), told
        now = cast.world.status()
        assert now["phase"] == "degraded" and not now["ready"]
        assert "until" not in now["enforcementGaps"][0]
        time.sleep(0.2)
    cast.world.root.make()
    since = time.monotonic()
    cast.agent, cast.mcp, cast.vault = map(cast.world.puppet, ("agents/agent", "tools/mcp", "tools/vault"))
    cast.serve()

    def held():
        return cast.agent.attempt("tcp", (HOME, cast.VAULT_PORT), timeout=WAIT).error in NOT_THROUGH

    until(held, 3, "enforced again")
    assert time.monotonic() - since <= 3
    until(lambda: cast.world.status()["phase"] == "enforcing", 3, "well again")
    assert cast.may().ok and held()
    log = cast.world.daemon.log_path.read_text()
    assert str(cast.world.root.path) in log and "made anew" in log, log[-2000:]
    gap, = cast.world.status()["enforcementGaps"]
    assert removed <= gap["from"] < gap["until"] <= rfc3339(time.time()), gap
    assert replacements(cast.world) == 1
    cast.world.daemon.kill9()
    cast.world.start()
    assert replacements(cast.world) == 1 and cast.world.status()["enforcementGaps"] == [], "counted over restarts, listed by run"
    assert cast.may().ok and held()


def replacements(world):
    return world.daemon.api.get("/v1/stats")["counters"]["rootReplacements"]


def test_an_enforcement_root_made_anew_while_the_daemon_is_dead(cast):
    cast.world.daemon.kill9()
    for p in (cast.agent, cast.mcp, cast.vault):
        cast.world.end(p)
    cast.world.root.remove()
    cast.world.root.make()
    cast.world.start()
    gap, = cast.world.status()["enforcementGaps"]
    assert "from" not in gap and gap["until"] <= rfc3339(time.time())
    assert cast.world.status()["phase"] == "enforcing" and replacements(cast.world) == 1


def test_a_connection_made_while_the_root_was_not_enforced_ends(cast):
    """Idle, so no packet of it is judged: it is looked for when the programs are back."""
    port = cast.world.port()
    cast.world.host_puppet().serve(tcp=[(HOME, port)])
    for p in (cast.agent, cast.mcp, cast.vault):
        cast.world.end(p)
    cast.world.daemon.process.send_signal(signal.SIGSTOP)
    cast.world.root.remove()
    cast.world.root.make()
    s = cast.world.puppet("agents/agent").socket()
    s.call("settimeout", 10)
    must(s.call("connect", [HOME, port]))
    cast.world.daemon.process.send_signal(signal.SIGCONT)
    waiting = s.begin("recv", 10)
    ended = waiting(5)
    assert not ended.ok or ended.detail == "", ended


# -- others' conversations and names -------------------------------------------------------------------------------------

FLOOD = """
import socket, sys
own, port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), int(sys.argv[1])
own.bind(("0.0.0.0", port))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[2])):
    s.sendto(b"x", ("127.%d.%d.%d" % (1 + (i >> 16), i >> 8 & 255, i & 255), port))
"""


ALLOWED_FLOOD = """
import socket, sys
s, port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), int(sys.argv[1])
for i in range(int(sys.argv[2])):
    s.sendto(b"x", ("127.%d.%d.%d" % (1 + (i >> 16), i >> 8 & 255, i & 255), port))
"""


def test_a_flood_of_datagrams_to_itself_costs_nobody_a_conversation(new_world):
    """45,000 destinations, more than the table of UDP conversations holds; an answer of others is under way meanwhile."""
    world = new_world()
    cast = SmallCast(world)
    world.put("more.yaml", policy("agents/other", f"tools/mcp:{UDP_PORT}"))
    other = world.puppet("agents/other")
    world.start()
    server = cast.mcp.socket("AF_INET", "SOCK_DGRAM")
    must(server.call("bind", [HOME, UDP_PORT]))
    client = other.socket("AF_INET", "SOCK_DGRAM")
    must(client.call("connect", [HOME, UDP_PORT]))
    must(client.call("send", "question"))
    question, back = must(server.call("recvfrom", 100))
    assert question == "question"
    finish(script(cast.agent, FLOOD, str(world.port()), "45000"))
    must(server.call("sendto", "answer", back))
    assert must(client.call("recv", 100)) == "answer"
    must(client.call("send", "again"))
    assert must(server.call("recv", 100)) == "again"


@pytest.mark.parametrize("aim", ["the-same-server", "another-server"])
def test_a_flood_of_allowed_conversations_costs_nobody_else_an_answer(new_world, aim):
    """Six times what the table of UDP conversations holds, all of them allowed, while others wait for their answers."""
    world = new_world()
    cast = SmallCast(world)
    world.put("more.yaml", policy("agents/other", f"tools/mcp:{UDP_PORT}"), policy("agents/flooder", "tools/sink:9191"),
              pod("tools/sink", "tools.slice/sink.service", {"app": "sink"}), policy("tools/sink", kind="Pod"),
              service("tools/sink", {"app": "sink"}, (9191, 9191, "UDP")))
    other, flooder = world.puppet("agents/other"), world.puppet("agents/flooder")
    world.start()
    server, sink = cast.mcp.socket("AF_INET", "SOCK_DGRAM"), world.puppet("tools/sink").socket("AF_INET", "SOCK_DGRAM")
    must(server.call("bind", ["0.0.0.0", UDP_PORT]))
    must(sink.call("bind", ["0.0.0.0", 9191]))
    clients = []
    for i in range(8):
        client = other.socket("AF_INET", "SOCK_DGRAM")
        must(client.call("connect", [HOME, UDP_PORT]))
        must(client.call("send", f"question {i}"))
        question, back = must(server.call("recvfrom", 100))
        assert question == f"question {i}"
        clients.append((client, back))
    if aim == "another-server":
        finish(script(flooder, ALLOWED_FLOOD, "9191", "200000"), 60)
    else:
        finish(script(cast.agent, ALLOWED_FLOOD, str(UDP_PORT), "200000"), 60)
    for client, back in clients:
        must(server.call("sendto", "answer", back))
        assert must(client.call("recv", 100)) == "answer"
    stranger = world.host_puppet().socket("AF_INET", "SOCK_DGRAM")
    must(stranger.call("bind", [HOME, 0]))
    assert server.call("sendto", "unasked", [HOME, stranger.port()]).error == "EPERM", "it never asked"


def test_a_socket_that_outlives_its_cgroup_keeps_its_identity(new_world):
    """A listener kept by a process elsewhere (a descriptor store) while its unit is removed and made anew: after the next
    generation it must be neither a stranger's nor everybody's."""
    port, world = 7200, new_world()
    cast = SmallCast(world, sources=[{"host": True, "port": port}]).start()
    host, rogue = world.host_puppet(), world.puppet("agents/rogue")
    old = listener(cast.mcp, HOME, port, timeout=2)
    talk = cast.mcp.socket("AF_INET", "SOCK_DGRAM")

    def right():
        since = time.time() - 0.05
        client = caller(host)
        must(client.call("connect", [HOME, port]))
        must(client.call("send", "x"))
        assert must(PuppetSocket(cast.mcp, must(old.call("accept"))[0]).call("recv", 1)) == "x"
        world.wait_flow(since, verdict="ALLOWED", direction="ingress", dst_workload="mcp-0", dst_port=port)
        assert caller(rogue).call("connect", [HOME, port]).error in NOT_THROUGH
        assert talk.call("sendto", "x", [HOME, cast.VAULT_PORT]).error == "EPERM"

    right()
    unit = cast.mcp.cgroup
    (world.cgroup("/plain.slice/keeper.service").path / "cgroup.procs").write_text(str(cast.mcp.pid))
    unit.remove()
    unit.make()
    time.sleep(WAIT)
    right()
    world.change("more.yaml", policy("agents/other", "tools/mcp:9999"))
    right()


SPOOF = """
import socket, struct, subprocess, sys, time
source, destination = ((h, int(p)) for h, p in (a.split(":") for a in sys.argv[1:3]))
subprocess.run("for i in all lo; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done; ip link set lo up; "
               f"ip addr add {destination[0]}/32 dev lo; ip route add {source[0]}/32 dev lo", shell=True, check=True)
l = socket.socket()
l.bind(destination)
l.listen(1)
def summed(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    s = (s >> 16) + (s & 0xffff)
    return ~(s + (s >> 16)) & 0xffff
ends = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
tcp = struct.pack("!HHIIBBHHH", source[1], destination[1], 1, 0, 0x50, 2, 1024, 0, 0)
tcp = tcp[:16] + struct.pack("!H", summed(ends + struct.pack("!BBH", 0, 6, 20) + tcp)) + tcp[18:]
ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends
ip = ip[:10] + struct.pack("!H", summed(ip)) + ip[12:]
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
p.bind(("lo", 0x0800))
p.send(bytes(12) + b"\\x08\\0" + ip + tcp)
time.sleep(0.1)
"""


def test_a_forged_syn_in_a_network_of_its_own_ends_nobody_elses_connection(cast):
    """The refused caller of a SYN is ended; the forged ends are those of a connection of the host, in its own network."""
    host, far = cast.world.host_puppet(), cast.world.host_puppet("far-proc", outside=True)
    ends = [(NODE[V4], 7301), (PARTNER[V4], 7302)]  # nobody else's: no TIME-WAIT of an earlier test
    service = listener(far, *ends[1])
    victim = caller(host)
    must(victim.call("bind", list(ends[0])))
    must(victim.call("connect", list(ends[1])))
    accepted = PuppetSocket(far, must(service.call("accept"))[0])
    finish(script(cast.agent, SPOOF, *("%s:%d" % e for e in ends), command=["unshare", "--net"], stdout=subprocess.PIPE,
                  stderr=subprocess.STDOUT))
    cast.world.wait_flow(verdict="DENIED", direction="ingress", dst_workload="agent", dst_port=ends[1][1],
                         src_address=ends[0][0])
    quiet = victim.call("recv", 1)
    assert quiet.error == "timeout", f"the host's connection was ended: {quiet}"
    must(victim.call("send", "alive"))
    assert must(accepted.call("recv", 9)) == "alive"


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_listed_source_in_a_namespace_without_policies_gets_through(new_world, kind):
    """The workload is known by name though nothing holds it; at connect() it must not be taken for just any process of the
    host."""
    port, world = 7100, new_world()
    cast = SmallCast(world, sources=[{"namespace": "ops", "name": "probe", "port": port}]).start()
    probe, neighbour, host = world.puppet("ops/probe"), world.puppet("ops/other"), world.host_puppet()
    cast.mcp.serve(tcp=[(HOME, port)], udp=[(HOME, port)])
    world.allowed(lambda: probe.attempt(kind, (HOME, port)), src_pid=None, src_comm=None, protocol=kind, dst_port=port,
                  dst_workload="mcp-0")
    for p in (neighbour, host):
        world.denied(lambda p=p: p.attempt(kind, (HOME, port), timeout=WAIT), "source_not_allowed", NOT_THROUGH, src_pid=None,
                     src_comm=None, protocol=kind, dst_port=port)
    world.denied(lambda: probe.attempt(kind, (HOME, cast.VAULT_PORT), timeout=WAIT), "source_not_allowed", NOT_THROUGH,
                 src_pid=None, src_comm=None, protocol=kind, dst_port=cast.VAULT_PORT)
