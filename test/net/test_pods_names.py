"""Names in pods: the cluster's DNS is the resolver, its answers teach in the pods' network namespaces, and nothing else of DNS leaves."""
import time

import pytest

from checks import BOTH
from harness import nodenet
from harness.kube import Owner
from naming import LLM, OTHER, PORT, resolved
from podcast import cast_of_pods, known, settled
from podnames import NamedPods
import lab


@pytest.fixture(scope="module")
def pods(outside):
    yield from cast_of_pods(cast=NamedPods)


@pytest.fixture
def stage(pods):
    with pods.act():
        yield pods


def refused(pods, outcome, reason, since, **match):
    assert (outcome.ok, outcome.error) == (False, "EPERM"), outcome
    pods.node.wait_flow(since - 0.05, verdict="DENIED", reason=reason, src_workload="agent", **match)


def test_the_llm_by_its_name(pods):
    since = time.time()
    outcome = pods.call_llm()
    assert outcome.ok, outcome
    row = pods.node.wait_flow(since - 0.05, verdict="ALLOWED", reason="llm_allowed", dst_port=PORT, src_workload="agent")
    assert row["dst_fqdn"] == LLM


@pytest.mark.parametrize("at", [nodenet.DNS4, nodenet.DNS6], ids=["ipv4", "ipv6"])
def test_kube_dns_by_its_address(pods, at):
    assert pods.look_up(LLM, at=at).detail == [lab.OUTSIDE4]


@BOTH
def test_kube_dns_by_its_pods(pods, v):
    """As the endpoints of a headless Service, or through the stub of the pod's node."""
    assert pods.look_up(LLM, at=pods.dns.ips[v]).detail == [lab.OUTSIDE4]


def test_other_names_are_not_asked_for(pods):
    for name in (OTHER, "secret." + LLM, "agent.team.svc.cluster.local"):
        since = time.time()
        refused(pods, pods.look_up(name), "dns_name_not_allowed", since, dst_port=53)
    assert OTHER not in pods.resolver.asked()


def test_names_of_allowed_services_are(pods):
    for name in ("mcp.tools.svc.cluster.local", "mcp.tools", LLM + ".team.svc.cluster.local"):
        assert pods.look_up(name).ok, name
    since = time.time()
    refused(pods, pods.look_up("vault.tools.svc.cluster.local"), "dns_name_not_allowed", since, dst_port=53)


def test_other_resolvers_are_not_asked(pods):
    """Neither one outside, nor another pod that listens at port 53, also one that the agent may call elsewhere."""
    pods.mcp.puppet("mcp-dns").serve(udp=[("0.0.0.0", 53)], tcp=[("0.0.0.0", 53)])
    for at, reason in ((nodenet.UPSTREAM4, "resolver_not_trusted"), (pods.mcp.ip, None), (pods.neighbour.ip, None), (nodenet.GATEWAY4, None)):
        outcome = pods.look_up(LLM, at=at)
        assert (outcome.ok, outcome.error) == (False, "EPERM"), (at, outcome)
        if reason:
            pods.node.wait_flow(verdict="DENIED", reason=reason, src_workload="agent", dst_port=53)


def test_another_name_at_the_llms_address(pods):
    assert pods.look_up(LLM).ok
    since = time.time()
    outcome = pods.caller.attempt("hello", (lab.OUTSIDE4, PORT), name=OTHER)
    assert not outcome.ok, outcome
    row = pods.node.wait_flow(since - 0.05, verdict="DENIED", reason="sni_mismatch", src_workload="agent", dst_port=PORT)
    assert row["askedName"] == OTHER and OTHER not in pods.llm.heard


def test_an_answer_teaches_in_the_pod_that_asked(stage):
    """An address is the LLM's as soon as the answer with it is there, for the workload that asked; not for another one."""
    assert stage.caller.attempt("hello", (lab.PARTNER4, PORT)).error == "EPERM"
    stage.resolver.set({LLM: [lab.PARTNER4]})
    time.sleep(0.2)  # dnsmasq reads its file again
    assert stage.look_up(LLM).detail == [lab.PARTNER4]
    outcome = stage.caller.attempt("hello", (lab.PARTNER4, PORT))
    # Nobody listens there: what matters is that the SYN left, and that it was the answer that let it.
    assert outcome.error == "ECONNREFUSED", outcome
    assert resolved(stage.node, workload="team/agent")[lab.PARTNER4] == {"answer"}
    other = known(stage.node, stage.node.run_pod("tools/mcp", Owner("Deployment", "mcp")))
    settled(stage.node)
    assert other.puppet("other").attempt("hello", (lab.PARTNER4, PORT)).error == "EPERM"
    stage.resolver.set({name: [lab.OUTSIDE4, lab.OUTSIDE6] for name in (LLM, OTHER)})


def test_a_pod_that_plays_the_resolver_teaches_nothing(stage):
    """A container that has the capability to bind port 53 of its own loopback and address, asked by its neighbour in the pod."""
    stage.agent.puppet("forger", container="forger").serve(udp=[(a, 53) for a in ("127.0.0.1", stage.agent.ip)])
    for at in ("127.0.0.1", stage.agent.ip):
        s = stage.caller.socket("AF_INET", "SOCK_DGRAM")
        s.call("settimeout", 0.5)
        s.call("sendto", "forged", [at, 53])
        s.call("close")
    assert set(resolved(stage.node, workload="team/agent")) <= {lab.OUTSIDE4, lab.OUTSIDE6, lab.PARTNER4}
    assert stage.caller.attempt("hello", ("203.0.113.77", PORT), timeout=0.5).error == "EPERM"


def test_the_first_name_of_a_pods_first_process(stage, fleet):
    """A pod that just came: what it must not say is refused, what it may is answered."""
    pod = stage.node.pod("team/agent", Owner("Deployment", "agent"))
    pod.tell(phase="Pending", told=False)
    known(stage.node, pod).make_network().tell()
    settled(stage.node)
    caller = pod.puppet("agent-2")
    assert stage.look_up(OTHER, caller).error == "EPERM"
    assert stage.call_llm(caller=caller).ok
