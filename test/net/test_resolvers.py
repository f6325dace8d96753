"""Who is a resolver: the ones that the node names, at their own address and port, and nobody else; and search-list forms."""
import socket
import time

import pytest

from naming import LLM, OTHER, PORT, RESOLVER, Client, Names, answer, query, resolved, socket_outside
from harness.puppet import Puppet
from harness.world import until
import lab

THIRD_PARTY = "203.0.113.77"


@pytest.fixture
def names(new_world):
    n = Names(new_world(), servers=False)
    n.wait_resolved()
    yield n
    n.close()


def outside_packets(s, wait=0.1):
    s.settimeout(wait)
    try:
        return s.recv(4096)
    except OSError:
        return b""


def test_other_resolvers(names):
    """Any other address at port 53, UDP and TCP, whatever is asked: also the name that is allowed."""
    for address in (lab.GATEWAY4, lab.PARTNER4, lab.PARTNER6):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket_outside(names.world.outside, family, socket.SOCK_DGRAM) as server:
            server.bind((address, 53))
            since = time.time() - 0.02
            s = names.agent.socket(family.name, "SOCK_DGRAM")
            out = s.call("sendto", query(LLM).decode("latin1"), [address, 53])
            assert (out.ok, out.error) == (False, "EPERM"), out
            assert outside_packets(server) == b""
            names.world.wait_flow(since, verdict="DENIED", reason="resolver_not_trusted", dst_port=53, protocol="udp")
        since = time.time() - 0.02
        out = names.agent.attempt("tcp", (address, 53), timeout=1.0)
        assert (out.ok, out.error) == (False, "EPERM"), out
        names.world.wait_flow(since, verdict="DENIED", reason="resolver_not_trusted", dst_port=53, protocol="tcp")


def test_the_llm_is_no_resolver(names):
    """Its address is no way out for DNS either; the reason is that of any other port of a peer."""
    with socket_outside(names.world.outside, kind=socket.SOCK_DGRAM) as server:
        server.bind((lab.OUTSIDE4, 53))
        out = names.agent.socket("AF_INET", "SOCK_DGRAM").call("sendto", query(LLM).decode("latin1"), [lab.OUTSIDE4, 53])
        assert (out.ok, out.error) == (False, "EPERM"), out
        assert outside_packets(server) == b""
    names.world.wait_flow(verdict="DENIED", reason="port_not_allowed", dst_port=53, protocol="udp")


def test_with_dig(names):
    """The tool that people would try it with."""
    dig = lambda *arguments: names.client.run(["dig", "+time=1", "+tries=1", "+noall", "+answer", *arguments])[:2]  # noqa: E731
    status, output = dig(LLM)
    assert (status, lab.OUTSIDE4 in output) == (0, True), output
    # The reverse name of an address that it learnt, and of no other.
    status, output = dig("-x", lab.OUTSIDE4)
    assert (status, LLM in output) == (0, True), output
    for flags in (["+nocookie"], ["+noedns"], ["+tcp"], ["+dnssec"], ["+cdflag"], ["+bufsize=4096"]):
        status, output = dig(*flags, LLM)
        assert (status, lab.OUTSIDE4 in output) == (0, True), (flags, output)
    for arguments in ([OTHER], ["TXT", LLM], ["NULL", LLM], ["ANY", LLM], ["+tcp", OTHER], ["+tcp", "TXT", LLM], ["+subnet=10.0.0.0/8", LLM],
                      ["+ednsopt=65001:736563726574", LLM], ["+nsid", LLM], [f"@{lab.OUTSIDE4}", LLM], ["-x", "203.0.113.99"], ["-x", "2001:db8::1"]):
        status, output = dig(*arguments)
        assert status != 0, (arguments, output)
    asked = names.resolver.asked()
    assert OTHER not in asked and "[TXT]" not in asked and "[ANY]" not in asked and "[NULL]" not in asked, asked


def test_encrypted_and_link_local_resolution(names):
    """DNS over TLS, mDNS and LLMNR are like all else."""
    for address in (lab.OUTSIDE4, lab.OUTSIDE6):
        out = names.agent.attempt("tcp", (address, 853), timeout=1.0)
        assert (out.ok, out.error) == (False, "EPERM"), out
    for family, group, port in (("AF_INET", "224.0.0.251", 5353), ("AF_INET", "224.0.0.252", 5355), ("AF_INET6", "ff02::fb%out0", 5353),
                                ("AF_INET6", "ff02::1:3%out0", 5355)):
        out = names.agent.socket(family, "SOCK_DGRAM").call("sendto", query(LLM).decode("latin1"), [group, port])
        assert (out.ok, out.error) == (False, "EPERM"), (group, out)


def forge(agent, server, address):
    """The agent asks whoever has the resolver's address, and a process of its own answers."""
    s = agent.socket("AF_INET", "SOCK_DGRAM")
    s.call("settimeout", 0.5)
    asked = s.call("sendto", query(LLM).decode("latin1"), [address, 53])
    seen = server.call("recvfrom", 4096)
    if not seen.ok:
        return asked, seen, None
    said = server.call("sendto", answer(LLM, [THIRD_PARTY]).decode("latin1"), seen.detail[1])
    return asked, said, s.call("recv", 4096)


def test_an_agent_in_the_resolvers_place(names):
    """The resolver is away; a process of the agent takes its address and port. It teaches nobody."""
    names.resolver.close()
    server = names.agent.socket("AF_INET", "SOCK_DGRAM")
    assert server.call("bind", [RESOLVER, 53]).ok
    server.call("settimeout", 0.5)
    for puppet in (names.agent, names.world.puppet("agents/agent", "second")):
        since = time.time() - 0.02
        asked, said, heard = forge(puppet, server, RESOLVER)
        assert not said.ok and said.error in ("EPERM", "timeout"), (asked, said, heard)
        assert heard is None or not heard.ok, heard
    names.world.wait_flow(since - 2, verdict="DENIED", reason="resolver_not_trusted")
    assert THIRD_PARTY not in resolved(names.world)
    out = names.agent.attempt("tcp", (THIRD_PARTY, PORT), timeout=1.0)
    assert (out.ok, out.error) == (False, "EPERM"), out


def test_another_workload_in_the_resolvers_place(names):
    names.resolver.close()
    names.world.change("rogue.yaml", {"apiVersion": "casa.io/v1alpha1", "kind": "CASAPolicy", "metadata": {"namespace": "agents", "name": "rogue"},
                                      "spec": {"targetRef": {"kind": "Deployment", "name": "rogue"}}})
    rogue = names.world.puppet("agents/rogue")
    server = rogue.socket("AF_INET", "SOCK_DGRAM")
    assert server.call("bind", [RESOLVER, 53]).ok
    server.call("settimeout", 0.5)
    asked, said, heard = forge(names.agent, server, RESOLVER)
    assert not said.ok, (asked, said, heard)
    assert THIRD_PARTY not in resolved(names.world)


class OwnNetwork:
    """As `outside` of a puppet: a network namespace of its own, with the resolver's addresses in it."""

    @staticmethod
    def enter():
        return ["unshare", "--net", "sh", "-ec", f'ip link set lo up; ip addr add {lab.NODE4}/32 dev lo; exec "$@"', "sh"]


def test_a_network_namespace_of_its_own(names):
    """There an agent can be its own resolver. It learns nothing from itself, and so nothing for the host's network."""
    puppet = Puppet(names.agent.cgroup, "hermit", outside=OwnNetwork)
    names.world.puppets.append(puppet)
    server = puppet.socket("AF_INET", "SOCK_DGRAM")
    assert server.call("bind", [RESOLVER, 53]).ok
    server.call("settimeout", 0.5)
    forge(puppet, server, RESOLVER)
    assert THIRD_PARTY not in resolved(names.world)
    out = names.agent.attempt("tcp", (THIRD_PARTY, PORT), timeout=1.0)
    assert (out.ok, out.error) == (False, "EPERM"), out


def test_search_list_forms(names):
    """A stub that goes through its search list may ask each form; what it finds there is not the LLM."""
    names.world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\nsearch corp.example lab.example\n")
    names.resolver.set({LLM: [lab.OUTSIDE4, lab.OUTSIDE6], LLM + ".corp.example": [THIRD_PARTY]})
    client = Client(names.agent.cgroup, names.work, search=("corp.example", "lab.example"))
    dig = lambda name: client.run(["dig", "+time=1", "+tries=1", "+search", "+ndots=5", "+short", name])[:2]  # noqa: E731
    until(lambda: dig(LLM) == (0, THIRD_PARTY + "\n"), what="the form with the first suffix is answered")
    for name in (LLM + ".lab.example.", LLM + ".agents.svc.cluster.local.", LLM + ".svc.cluster.local.", LLM + ".cluster.local."):
        assert client.run(["dig", "+time=1", "+tries=1", name])[0] == 0, name
    for name in (LLM + ".elsewhere.example.", "x." + LLM + ".corp.example.", "corp.example.", LLM + ".other.svc.cluster.local."):
        assert client.run(["dig", "+time=1", "+tries=1", name])[0] != 0, name
    assert THIRD_PARTY not in resolved(names.world)
    out = names.agent.attempt("tcp", (THIRD_PARTY, PORT), timeout=1.0)
    assert (out.ok, out.error) == (False, "EPERM"), out


def test_resolv_conf_is_read_again(names):
    """Another resolver in resolv.conf: trusted from then on, and the one before no longer."""
    names.world.daemon.resolv_conf.write_text(f"nameserver {lab.OUTSIDE4}\n")
    with socket_outside(names.world.outside, kind=socket.SOCK_DGRAM) as server:
        server.bind((lab.OUTSIDE4, 53))
        s = names.agent.socket("AF_INET", "SOCK_DGRAM")
        until(lambda: s.call("sendto", query(LLM).decode("latin1"), [lab.OUTSIDE4, 53]).ok, what="the new resolver is trusted")
        assert outside_packets(server, 2.0)
        until(lambda: s.call("sendto", query(LLM).decode("latin1"), [RESOLVER, 53]).error == "EPERM", what="the old one is not")
