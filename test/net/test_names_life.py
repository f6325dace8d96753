"""A name over time: what the daemon's own resolver finds, reloads, a dead daemon, connections older than it, systems of many agents."""
import socket
import subprocess
import time

import pytest

from hellos import usual
from naming import (LLM, OTHER, PORT, RESOLVER, THIRD, Client, Listener, Names, TlsServer, answer, llm_policy, name_endpoint, received,
                    resolved)
from harness.objects import thing
from harness.world import binary, until
from spoof import FakeResolver
import lab


@pytest.fixture
def names(new_world):
    n = Names(new_world())
    yield n
    n.close()


def connects(names, address):
    """A call to the address without any lookup: its error, or None."""
    s = names.agent.socket("AF_INET6" if ":" in address else "AF_INET")
    out = s.call("connect", [address, PORT])
    s.call("close")
    return out.error


def test_a_name_that_was_cached_before(names):
    """An application that resolved before casad came asks nobody: the daemon's resolver knows the addresses."""
    names.wait_resolved()
    names.wait_resolved(lab.OUTSIDE6)
    assert resolved(names.world) == {lab.OUTSIDE4: {"resolver"}, lab.OUTSIDE6: {"resolver"}}
    endpoint = name_endpoint(names.world)
    assert (endpoint["state"], endpoint["port"], endpoint["callers"]) == ("resolved", PORT, ["agents/agent"])
    assert "lastError" not in endpoint
    for address in (lab.OUTSIDE4, lab.OUTSIDE6):
        at = f"[{address}]" if ":" in address else address
        status, output, _ = names.client.curl(f"https://{LLM}/", "--resolve", f"{LLM}:{PORT}:{at}")
        assert status == 0, output
    names.client.run(["getent", "ahostsv4", LLM])
    assert resolved(names.world)[lab.OUTSIDE4] == {"resolver", "answer"}


def test_kept_while_the_resolver_is_away(new_world):
    """dnsmasq gives TTL 0; it is away for longer than anything was to live, then answers SERVFAIL: the last good address serves on."""
    names = Names(new_world())
    try:
        names.wait_resolved()
        names.resolver.close()
        time.sleep(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as broken:
            broken.bind((RESOLVER, 53))
            end = time.monotonic() + 33
            broken.settimeout(1)
            served = 0
            while time.monotonic() < end:
                try:
                    data, peer = broken.recvfrom(512)
                except TimeoutError:
                    continue
                broken.sendto(data[:2] + b"\x81\x82" + data[4:6] + bytes(6) + data[12:], peer)
                served += 1
        assert served, "the daemon's resolver asked"
        assert connects(names, lab.OUTSIDE4) is None
        endpoint = name_endpoint(names.world)
        assert endpoint["lastError"], endpoint
        left = [a["secondsLeft"] for a in endpoint["resolved"] if a["address"] == lab.OUTSIDE4]
        assert left and left[0] > 10, left
    finally:
        names.close()


def test_a_name_that_never_resolved(new_world):
    world = new_world()
    names = Names(world, servers=False)
    try:
        world.change("agent.yaml", llm_policy("agents/agent", fqdn=THIRD))
        until(lambda: "never resolved" in (world.policy_view("agents/agent") or {}).get("message", ""), what="the policy says so")
        assert THIRD in world.policy_view("agents/agent")["message"]
        explain = [str(binary()), "explain", "--api-socket", str(world.daemon.api_socket), "--from", "agents/agent", "--to", f"{THIRD}:{PORT}"]
        done = subprocess.run(explain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        assert "never resolved" in done.stdout, done.stdout
        assert name_endpoint(world, THIRD)["state"] == "never resolved"
        until(lambda: name_endpoint(world, THIRD).get("lastError"), what="the endpoint tells why")
        names.resolver.set({THIRD: [lab.OUTSIDE4]})
        assert names.client.run(["getent", "ahostsv4", THIRD])[0] == 0
        done = subprocess.run(explain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        assert lab.OUTSIDE4 in done.stdout, done.stdout
        until(lambda: "never resolved" not in world.policy_view("agents/agent").get("message", ""), 15, "the policy's message goes")
    finally:
        names.close()


def test_a_connection_outlives_its_address(new_world):
    """A live connection, idle for longer than its answer's TTL: a reload keeps it, and what is sent then arrives."""
    dns = FakeResolver(new_world())
    listener = Listener(dns.outside)
    try:
        dns.exchange([answer(LLM, [lab.PARTNER4], ttl=0)], expect=1)
        s = dns.agent.socket()
        assert s.call("connect", [lab.PARTNER4, PORT]).ok
        assert s.call("sendall", usual().decode("latin1")).ok
        server = listener.accept()
        assert received(server, len(usual())) == usual()
        time.sleep(32)
        dns.world.change("more.yaml", llm_policy("agents/other"))
        assert s.call("sendall", "after the reload").ok
        assert received(server, 16) == b"after the reload"
        server.sendall(b"answer")
        assert s.call("recv", 100).detail == "answer"
        # As long as a flow uses it, an address stays known.
        assert lab.PARTNER4 in dns.learnt()
        server.close()
    finally:
        listener.close()
        dns.close()


def test_removing_the_endpoint_ends_its_connections(names):
    names.wait_resolved()
    listener = Listener(names.world.outside)
    try:
        names.resolver.set({LLM: [lab.PARTNER4]})
        until(lambda: names.client.run(["getent", "ahostsv4", LLM])[0] == 0 and lab.PARTNER4 in resolved(names.world), what="the new address")
        s = names.agent.socket()
        assert s.call("connect", [lab.PARTNER4, PORT]).ok
        assert s.call("sendall", usual().decode("latin1")).ok
        server = listener.accept()
        assert received(server, len(usual())) == usual()
        waits = s.begin("recv", 100)
        started = names.world.change("agent.yaml", llm_policy("agents/agent", fqdn=THIRD))
        out = waits()
        assert not out.ok and out.error in ("ECONNABORTED", "EPERM", "ECONNRESET"), out
        assert out.ended - started < 1.0, out.ended - started
        server.close()
        assert connects(names, lab.PARTNER4) == "EPERM"
        status, _, _ = names.client.run(["getent", "ahostsv4", LLM])
        assert status != 0
    finally:
        listener.close()


def test_the_kernel_learns_without_the_daemon(names):
    """Killed: a name that moves to a new address works there at once, other names do not; so it is when the daemon is back."""
    names.wait_resolved()
    moved = TlsServer(names.work, names.world.outside, lab.PARTNER4, like=names.servers[0])
    try:
        names.world.daemon.kill9()
        names.resolver.set({LLM: [lab.PARTNER4], OTHER: [lab.PARTNER4]})
        until(lambda: lab.PARTNER4 in names.client.run(["getent", "ahostsv4", LLM])[1], what="the new answer")
        status, output, _ = names.client.curl(f"https://{LLM}/", "-4")
        assert status == 0, output
        assert names.client.run(["getent", "ahosts", OTHER])[0] != 0
        other = ["--connect-to", f"::{lab.PARTNER4}:{PORT}", "-m", "2"]
        assert names.client.curl(f"https://{OTHER}/", *other)[0] != 0
        assert connects(names, "203.0.113.99") == "EPERM"
        names.world.start()
        assert resolved(names.world)[lab.PARTNER4] >= {"answer"}
        assert connects(names, lab.PARTNER4) is None
        assert names.client.curl(f"https://{LLM}/", "-4")[0] == 0
        status, _, seconds = names.client.curl(f"https://{OTHER}/", *other)
        assert status != 0 and seconds < 1.5, "the daemon ends it"
    finally:
        moved.close()


def ended(s, sends):
    """The socket tells its error once: to who sends, or to who waits then."""
    out = s.call("sendall", sends.decode("latin1"))
    if out.ok:
        out = s.call("recv", 100)
    return not out.ok and out.error in ("ECONNABORTED", "EPERM", "ECONNRESET", "EPIPE")


SENDS = pytest.mark.parametrize("sends", [usual(), usual(OTHER), b"GET / HTTP/1.0\r\n\r\n"], ids=["the hello", "another", "plaintext"])


@SENDS
def test_connections_older_than_casad(new_world, sends):
    """Nobody saw how such a connection began: it must begin anew."""
    world = new_world()
    listener = Listener(world.outside)
    agent = world.puppet("agents/agent")
    s = agent.socket()
    assert s.call("connect", [lab.PARTNER4, PORT]).ok
    server = listener.accept()
    names = None
    try:
        names = Names(world, servers=False)
        names.resolver.set({LLM: [lab.PARTNER4]})
        until(lambda: names.client.run(["getent", "ahostsv4", LLM])[0] == 0 and lab.PARTNER4 in resolved(world), what="the address is known")
        assert ended(s, sends) and received(server, 1, 0.2) == b""
        # Ended when the policy came, since nothing had taught the address yet; or, if the resolver was faster, when it sent.
        world.wait_flow(verdict="DENIED", reason={"external_not_allowed", "sni_missing"}, dst_port=PORT)
    finally:
        server.close()
        listener.close()
        if names:
            names.close()


@SENDS
def test_connections_older_than_the_policy(new_world, sends):
    """The address is known still, so the connection lives until it sends: then its first bytes are not its first any more."""
    world = new_world()
    dns, listener = FakeResolver(world), Listener(world.outside)
    try:
        dns.exchange([answer(LLM, [lab.PARTNER4], ttl=3600)], expect=1)
        world.remove_file("agent.yaml")
        until(lambda: not world.policy_view("agents/agent"), what="the policy is gone")
        s = dns.agent.socket()
        out = s.call("connect", [lab.PARTNER4, PORT])
        assert out.ok, out
        server = listener.accept()
        world.change("agent.yaml", llm_policy("agents/agent"))
        time.sleep(0.5)
        assert lab.PARTNER4 in resolved(world)
        since = time.time() - 0.02
        assert ended(s, sends) and received(server, 1, 0.2) == b""
        world.wait_flow(since, verdict="DENIED", reason="sni_missing", dst_port=PORT)
        server.close()
    finally:
        listener.close()
        dns.close()


def test_a_system_of_many_agents(new_world):
    """llm_host is for each of its agents what llmEndpoint is for one, and not for its servers."""
    world = new_world()
    apps = [{"name": n, "type": kind, "kubernetesWorkloadName": n, "baseUrl": f"http://{n}:8080"}
            for n, kind in (("planner", "agent"), ("critic", "agent"), ("flights", "mcp_server"))]
    names = Names(world)
    try:
        world.change("system.yaml", thing("MultiAgentSystem", "travel", "travel", spec={"name": "Travel", "llm_host": LLM, "apps": apps}))
        for who in ("planner", "critic"):
            cgroup = world.cgroup(f"travel/{who}")
            client = Client(cgroup, names.work, certificate=names.servers[0].certificate)
            until(lambda: resolved(world, workload=f"travel/{who}"), what="its address")
            assert client.curl(f"https://{LLM}/")[0] == 0
            assert client.curl(f"https://{OTHER}/", "--connect-to", f"::{lab.OUTSIDE4}:{PORT}")[0] != 0
            assert client.run(["getent", "ahosts", OTHER])[0] != 0
        row = world.wait_flow(verdict="DENIED", reason="sni_mismatch", src_namespace="travel")
        assert row["askedName"] == OTHER
        client = Client(world.cgroup("travel/flights"), names.work, certificate=names.servers[0].certificate)
        assert client.run(["getent", "ahosts", LLM])[0] != 0
        assert client.curl(f"https://{LLM}/", "--connect-to", f"::{lab.OUTSIDE4}:{PORT}")[0] != 0
    finally:
        names.close()
