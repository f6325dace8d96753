"""What happens to live sockets and workloads when policy, cgroups or callers change under them."""
import time

import pytest

from cast import LOOP, NODE, PARTNER, SmallCast, TCP_PORT, UDP_PORT, small_policies
from harness.objects import pod, policy
from harness.puppet import PuppetSocket
from harness.world import until
import lab

ENDED = {"ECONNABORTED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EPERM", "closed", "ENOTCONN"}
NOT_THROUGH = ENDED | {"timeout", "ECONNREFUSED"}


@pytest.fixture
def cast(new_world):
    return SmallCast(new_world()).start()


def connection(puppet, host=LOOP[0], port=TCP_PORT):
    s = puppet.socket("AF_INET6" if ":" in host else "AF_INET")
    opened = s.call("connect", [host, port])
    assert opened.ok, opened
    assert s.call("sendall", "hello").ok and s.call("recv", 100).detail == "hello"
    return s


# -- a generation takes away what a live flow needs ----------------------------------------------------------------------

@pytest.mark.parametrize("host", LOOP, ids=["ipv4", "ipv6"])
def test_idle_connection_ends_within_a_second(cast, host):
    s = connection(cast.agent, host)
    s.call("settimeout", 10)
    waiting = s.begin("recv", 100)
    in_force = cast.world.change("base.yaml", *small_policies(endpoints=["tools/mcp:9999"]))
    ended = waiting(10)
    assert not ended.ok and ended.error in ENDED or ended.detail == "", ended
    assert ended.ended - in_force <= 1.0, f"{ended.ended - in_force:.3f} s after the generation was in force"
    assert not cast.may(host=host).ok


def test_active_connection_ends_within_a_second(cast):
    load = cast.agent.load("allowed", tcp=[(LOOP[0], TCP_PORT)])
    time.sleep(0.3)
    assert load.report()["failures"] == []
    s = connection(cast.agent)
    s.call("settimeout", 0.2)
    in_force = cast.world.change("base.yaml", *small_policies(endpoints=["tools/mcp:9999"]))
    until(lambda: load.report()["failures"], 1.5, "the loops fail")

    def stopped():
        sent = s.call("sendall", "x")
        return not sent.ok or not s.call("recv", 10).ok
    until(stopped, 2, "the connection stopped")
    assert time.monotonic() - in_force <= 2.5
    served = cast.mcp_served.report()["tcp"]
    time.sleep(0.2)
    assert cast.mcp_served.report()["tcp"] == served, "a connection was accepted after the change"


@pytest.mark.parametrize("spoke", [True, False], ids=["after-data", "silent"])
def test_the_other_end_is_freed_too(cast, spoke):
    """The server's side of a connection that lost its permission ends as well: it does not wait for ever."""
    listener = cast.mcp.socket()
    listener.call("setsockopt", 1, 2, 1)
    assert listener.call("bind", ["127.0.0.5", TCP_PORT]).ok and listener.call("listen", 5).ok
    s = cast.agent.socket()
    assert s.call("connect", ["127.0.0.5", TCP_PORT]).ok
    accepted, _ = listener.call("accept").detail
    served = PuppetSocket(cast.mcp, accepted)
    served.call("settimeout", 10)
    if spoke:
        assert s.call("sendall", "hello").ok and served.call("recv", 10).detail == "hello"
    waiting = served.begin("recv", 100)
    in_force = cast.world.change("base.yaml", *small_policies(endpoints=["tools/mcp:9999"]))
    ended = waiting(10)
    assert ended.ended - in_force <= 1.5, ended


def test_udp_socket_loses_its_peer(cast):
    s = cast.agent.socket("AF_INET", "SOCK_DGRAM")
    assert s.call("connect", [LOOP[0], UDP_PORT]).ok
    assert s.call("send", "one").ok and s.call("recv", 10).detail == "one"
    cast.world.change("base.yaml", *small_policies(endpoints=["tools/mcp:9999"]))
    served = cast.mcp_served.report()["udp"]
    assert s.call("send", "two").error == "EPERM"
    assert cast.mcp_served.report()["udp"] == served


def test_a_connection_that_keeps_its_permission_lives_on(cast):
    s, t = connection(cast.agent), connection(cast.agent, LOOP[1])
    cast.world.change("more.yaml", policy("agents/other", "tools/mcp:8080"))
    cast.world.change("base.yaml", *small_policies(endpoints=[f"tools/mcp:{TCP_PORT}", "tools/vault:7001"]))
    for c in (s, t):
        assert c.call("sendall", "still").ok and c.call("recv", 100).detail == "still"
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok


def test_permission_comes_and_goes(cast):
    cast.may_not()
    cast.world.change("base.yaml", *small_policies(endpoints=[f"tools/mcp:{TCP_PORT}", "tools/vault:7001"]))
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok
    cast.world.change("base.yaml", *small_policies())
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM"


def test_audit_lets_pass_and_tells(cast):
    cast.world.change("audit.yaml", policy("agents/watched", f"tools/mcp:{TCP_PORT}", enforcement="audit"),
                      policy("tools/open", kind="Pod", enforcement="audit"))
    watched, opened = cast.world.puppet("agents/watched"), cast.world.puppet("tools/open")
    opened.serve(tcp=[(LOOP[0], 7005)])
    outcome = watched.attempt("tcp", (LOOP[0], 7005))
    assert outcome.ok, outcome
    cast.world.wait_flow(verdict="AUDIT", reason="peer_not_allowed", src_workload="watched", dst_port=7005)


def test_socket_made_before_its_namespace_had_a_policy(cast):
    """The cgroup was nobody's; then a policy names it. Old sockets and old connections are held to it."""
    p = cast.world.puppet("later/late")
    tcp, udp, raw = p.socket(), p.socket("AF_INET", "SOCK_DGRAM"), p.socket("AF_INET", "SOCK_RAW", 1)
    host = cast.world.host_puppet()
    host.serve(tcp=[(LOOP[0], 7100)], udp=[(LOOP[0], 7100)])
    old = connection(p, port=7100)
    old.call("settimeout", 10)
    waiting = old.begin("recv", 10)
    in_force = cast.world.change("later.yaml", policy("later/late", f"tools/mcp:{UDP_PORT}"))
    ended = waiting(10)
    assert (not ended.ok or ended.detail == "") and ended.ended - in_force <= 1.0, ended
    # The host's listener has no storage that connect() could ask: the packet is dropped, the socket ended.
    tcp.call("settimeout", 3)
    cast.world.denied(lambda: tcp.call("connect", [LOOP[0], 7100]), "peer_not_allowed", NOT_THROUGH, dst_port=7100)
    assert udp.call("sendto", "x", [LOOP[0], 7100]).error == "EPERM"
    assert raw.call("sendto", "\x08\x00\xf7\xff\x00\x00\x00\x00", [lab.OUTSIDE4, 0]).error == "EPERM"
    assert udp.call("sendto", "x", [LOOP[0], UDP_PORT]).ok and udp.call("recv", 10).ok


# -- ingress -------------------------------------------------------------------------------------------------------------

def through(caller, host=LOOP[0], port=TCP_PORT):
    return caller.attempt("udp" if port == UDP_PORT else "tcp", (host, port), timeout=1.0)


def test_ingress_from_the_host_when_allowed(cast):
    host = cast.world.host_puppet()
    assert not through(host).ok
    cast.world.change("base.yaml", *small_policies(sources=[{"host": True, "port": TCP_PORT}]))
    for address in LOOP:
        cast.world.allowed(lambda a=address: through(host, a), reason="source_allowed", direction="ingress", dst_port=TCP_PORT,
                           src_pid=None, src_comm=None, dst_workload="mcp-0")
    assert through(host, port=UDP_PORT).error in NOT_THROUGH, "another port"
    cast.world.change("base.yaml", *small_policies(sources=[{"host": True}]))
    assert through(host, port=UDP_PORT).ok


def test_ingress_from_a_workload_by_allowed_sources(cast):
    """allowedSources opens the destination's end only; the source's own policy must name the endpoint too."""
    cast.world.change("base.yaml", *small_policies(sources=[{"namespace": "agents", "name": "second", "port": TCP_PORT}]))
    cast.world.change("second.yaml", policy("agents/second"))
    second = cast.world.puppet("agents/second")
    assert through(second).error == "EPERM"
    # A workload of a namespace that is under no enforcement may call whom it likes; the server's end decides.
    cast.world.change("base.yaml", *small_policies(sources=[{"namespace": "free", "name": "caller", "port": TCP_PORT}]))
    cast.world.change("free.yaml", pod("free/caller", "free.slice/caller.service"), pod("free/other", "free.slice/other.service"))
    caller, other = cast.world.puppet("free/caller"), cast.world.puppet("free/other")
    cast.world.allowed(lambda: through(caller), reason="source_allowed", direction="ingress", src_workload="caller",
                       dst_port=TCP_PORT)
    cast.world.denied(lambda: through(other), "source_not_allowed", NOT_THROUGH, direction="ingress", dst_port=TCP_PORT,
                      src_pid=None, src_comm=None)


@pytest.mark.parametrize("v", [0, 1], ids=["ipv4", "ipv6"])
def test_ingress_from_a_cidr(cast, v):
    far = cast.world.host_puppet("far", outside=True)
    partner = far.socket("AF_INET6" if v else "AF_INET")
    assert through(far, NODE[v]).error in NOT_THROUGH
    cidr = (f"{lab.PARTNER4}/32", f"{lab.PARTNER6}/128")[v]
    cast.world.change("base.yaml", *small_policies(sources=[{"cidr": cidr, "port": TCP_PORT}]))
    assert partner.call("bind", [PARTNER[v], 0]).ok
    since = time.time() - 0.05
    opened = partner.call("connect", [NODE[v], TCP_PORT])
    assert opened.ok, opened
    assert partner.call("sendall", "hi").ok and partner.call("recv", 10).detail == "hi"
    cast.world.wait_flow(since, verdict="ALLOWED", reason="source_allowed", direction="ingress", src_address=PARTNER[v],
                         dst_port=TCP_PORT)
    assert through(far, NODE[v]).error in NOT_THROUGH, "the gateway's own address is not in the range"


# -- cgroups come and go -------------------------------------------------------------------------------------------------

def test_cgroup_removed_and_made_anew(cast):
    assert cast.may().ok
    before = cast.world.workload_view("agents/agent")
    cast.world.end(cast.agent)
    cast.world.cgroup("agents/agent").remove()
    until(lambda: not cast.world.workload_view("agents/agent")["instances"], what="the instance is gone")
    agent = cast.world.puppet("agents/agent")
    assert cast.may(agent).ok
    cast.may_not(agent)
    after = until(lambda: (w := cast.world.workload_view("agents/agent"))["instances"] and w, what="the new instance")
    assert after["identity"] == before["identity"]
    assert after["instances"][0]["cgroupId"] != before["instances"][0]["cgroupId"]
    assert after["instances"][0]["cgroupId"] == str(agent.cgroup.id())


def test_cgroup_that_appears_later(cast):
    """Under enforcement, and allowed what it may, from its first instruction on: no moment to wait for."""
    cast.world.change("late.yaml", policy("agents/late", f"tools/mcp:{TCP_PORT}"))
    for round_ in range(20):
        late = cast.world.cgroup("agents/late")
        p = late.popen(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{TCP_PORT} || exit 10; exec 2>/dev/null;"
                        f"(exec 3<>/dev/tcp/127.0.0.1/{cast.VAULT_PORT}) && exit 20; exit 0"])
        assert p.wait(10) == 0, f"round {round_}: 10: not allowed at once, 20: not denied at once"
        late.remove()
    assert cast.vault_served.report()["tcp"] == 0


def test_template_unit(cast):
    """name@instance.service is an instance of workload `name`."""
    p = cast.world.puppet("/agents.slice/agent@2.service", "agent-2")
    assert cast.may(p).ok
    cast.may_not(p)
    until(lambda: len(cast.world.workload_view("agents/agent")["instances"]) == 2, what="two instances")


def test_a_pod_file_that_names_a_cgroup_that_is_not_there(cast):
    cast.world.change("box.yaml", pod("boxes/two", "a/b/c/two"), policy("boxes/two", f"tools/mcp:{TCP_PORT}", kind="Pod"))
    assert not cast.world.workload_view("boxes/two")["instances"]
    p = cast.world.puppet("/a/b/c/two")
    assert cast.may(p).ok
    cast.may_not(p)


def test_flow_rows_of_one_moment(cast):
    """`since` cuts off what is older; ids grow; a closed flow is told as ended."""
    assert cast.may().ok
    row = cast.world.wait_flow(verdict="ALLOWED", dst_port=TCP_PORT)
    until(lambda: cast.world.find_flow(id=row["id"])["state"] != "open", what="the flow has ended")
    assert cast.world.flows(since=time.time() + 1) == []
    cast.may_not()
    newest = cast.world.flows()
    assert [r["id"] for r in newest] == sorted((r["id"] for r in newest), reverse=True)
    assert newest[0]["time"].endswith("Z")
