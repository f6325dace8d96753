"""Whom a pod calls and who calls it: Services as kube-proxy makes them, their endpoints, pods of this node and of others, the node itself.
Runs twice: [baseline] shows that each call gets through when nobody stops it."""
import pytest

from checks import BOTH, names
from harness import nodenet
from harness.kube import Owner, ServicePort, container
from harness.objects import policy
from podcast import ADMIN, ADMIN_WEB, HTTP, METRICS, UDP, WEB, located, serve, settled

PROBE = 8888


@pytest.fixture
def stage(pods):
    with pods.act():
        yield pods


def refused_by_callee(cast, caller, host, port, callee, workload=None, **options):
    """Nobody holds the caller back; the called pod does not answer."""
    return cast.node.denied(lambda: caller.attempt("tcp", (host, port), timeout=0.5), "source_not_allowed", "timeout", direction="ingress",
                            src_pid=None, src_comm=None, dst_port=port, **names(workload, callee), **options)


# -- Services by their addresses


@BOTH
@pytest.mark.parametrize(("attempt", "port"), [("tcp", WEB), ("tcp", METRICS), ("fastopen", WEB), ("udp", UDP), ("udp-connected", UDP)])
def test_a_service_by_its_address(pods, attempt, port, v):
    pods.may(attempt=attempt, host=pods.mcp_service.ips[v], port=port, reason="endpoint_allowed", policy="team/agent",
             dst_service="mcp", **names("team/agent"))


@BOTH
@pytest.mark.parametrize(("attempt", "port"), [("tcp", WEB), ("fastopen", WEB), ("udp", UDP), ("udp-connected", UDP)])
def test_another_service_by_its_address(pods, attempt, port, v):
    before = pods.vault_served.report()
    pods.may_not(attempt=attempt, host=pods.vault_service.ips[v], port=port, dst_service="vault", **names("team/agent"))
    after = pods.vault_served.report()
    assert (after["tcp"] + after["udp"] > before["tcp"] + before["udp"]) == (not pods.node.enforced)


@BOTH
def test_another_port_of_an_allowed_service(pods, v):
    pods.may_not(host=pods.mcp_service.ips[v], port=ADMIN_WEB, reason="port_not_allowed", dst_service="mcp", **names("team/agent"))


# -- by their endpoints


@BOTH
@pytest.mark.parametrize(("attempt", "port"), [("tcp", HTTP), ("tcp", METRICS), ("udp", UDP)], ids=["named", "number", "udp"])
def test_an_endpoint_by_its_own_address(pods, attempt, port, v):
    """The policy says the Service's port; the endpoint has the one that it stands for."""
    pods.may(attempt=attempt, host=pods.mcp.ips[v], port=port, **names("team/agent", "tools/mcp"))


@BOTH
def test_other_ports_of_an_endpoint(pods, v):
    pods.may_not(host=pods.mcp.ips[v], port=ADMIN, reason="port_not_allowed", **names("team/agent", "tools/mcp"))
    pods.may_not(host=pods.vault.ips[v], port=HTTP, **names("team/agent", "tools/vault"))


def test_the_services_port_is_none_of_the_endpoints(pods):
    outcome = pods.caller.attempt("tcp", (pods.mcp.ip, WEB))
    assert outcome.error == ("EPERM" if pods.node.enforced else "ECONNREFUSED")


@BOTH
def test_a_named_port_that_is_another_number_in_each_pod(stage, v):
    new = stage.run("tools/mcp", "Deployment", containers=[container(ports=[("http", HTTP + 1000), ("datagrams", UDP, "UDP")])])
    serve(new, tcp=[HTTP + 1000, HTTP + 1001])
    stage.mcp_service.pods.append(new)
    stage.node.sync(stage.mcp_service)
    settled(stage.node)
    stage.may(host=new.ips[v], port=HTTP + 1000, **names("team/agent", "tools/mcp"))
    stage.may_not(host=new.ips[v], port=HTTP + 1001, reason="port_not_allowed")
    for _ in range(8):  # whichever of the two it becomes
        stage.may(host=stage.mcp_service.ips[v], flow=False)


@BOTH
def test_a_headless_service(stage, v):
    there = stage.run("tools/headless", "StatefulSet", containers=[container(ports=[("http", HTTP)])])
    serve(there)
    service = stage.node.service("tools/headless", [there], ServicePort(WEB, "http"), headless=True)
    settled(stage.node)
    assert service.ips == []
    stage.may_not(host=there.ips[v], port=HTTP, **names("team/agent", "tools/headless"))
    stage.node.put("more.yaml", policy("team/agent-headless", f"tools/headless:{WEB}", target="agent"))
    settled(stage.node)
    stage.may(host=there.ips[v], port=HTTP, **names("team/agent", "tools/headless"))
    stage.may_not(host=there.ips[v], port=ADMIN, reason="port_not_allowed")


def test_a_service_of_one_family(stage):
    there = stage.run("tools/old", "Deployment", containers=[container(ports=[HTTP])])
    serve(there)
    service = stage.node.service("tools/old", [there], ServicePort(WEB, HTTP), v6=False)
    stage.node.put("more.yaml", policy("team/agent-old", f"tools/old:{WEB}", target="agent"))
    settled(stage.node)
    assert len(service.ips) == 1
    stage.may(host=service.ips[0])
    stage.may(host=there.ip6, port=HTTP)  # the endpoint has both


@BOTH
def test_an_endpoint_comes_and_goes(stage, v):
    """The policy was not touched."""
    new = stage.run("tools/vault", "StatefulSet")  # of another workload: an endpoint is whom the EndpointSlice names
    serve(new)
    settled(stage.node)
    stage.may_not(host=new.ips[v], port=HTTP)
    stage.mcp_service.pods.append(new)
    new.containers = stage.mcp.containers
    stage.node.sync(stage.mcp_service)
    settled(stage.node)
    stage.may(host=new.ips[v], port=HTTP, **names("team/agent", "tools/vault"))
    stage.mcp_service.pods.remove(new)
    stage.node.sync(stage.mcp_service)
    settled(stage.node)
    stage.may_not(host=new.ips[v], port=HTTP)


@BOTH
def test_a_pod_calls_its_own_service(stage, v):
    """What comes back to the pod has the node's address as its source, as kube-proxy makes it, or else the pod would answer itself."""
    there = stage.run("team/self", "Deployment", containers=[container(ports=[HTTP])])
    served = serve(there)
    service = stage.node.service("team/self", [there], ServicePort(WEB, HTTP))
    stage.node.put("more.yaml", policy("team/self", f"team/self:{WEB}"))
    settled(stage.node)
    stage.may(there.puppet("self"), host=service.ips[v])
    assert served.report()["tcp_peers"][-1][0] in (nodenet.GATEWAY4, nodenet.GATEWAY6)


@BOTH
def test_the_own_service_of_a_pod_that_may_not(stage, v):
    there = stage.run("team/self", "Deployment", containers=[container(ports=[HTTP])])
    serve(there)
    service = stage.node.service("team/self", [there], ServicePort(WEB, HTTP))
    stage.node.put("more.yaml", policy("team/self", f"tools/mcp:{WEB}"))
    settled(stage.node)
    stage.may_not(there.puppet("self"), host=service.ips[v])


# -- pods of other nodes


@BOTH
def test_pods_of_another_node_are_called(stage, v):
    there, other = (stage.node.remote_pod(f"tools/{name}", number, owner=Owner("Deployment", name), containers=stage.mcp.containers)
                    for name, number in (("mcp", 10), ("archive", 11)))
    for pod in (there, other):
        pod.puppet().serve(tcp=[(pod.ips[v], port) for port in (HTTP, ADMIN)])
    stage.mcp_service.pods = [there]
    stage.node.sync(stage.mcp_service)
    settled(stage.node)
    stage.may(host=stage.mcp_service.ips[v])
    stage.may(host=there.ips[v], port=HTTP, **names("team/agent", "tools/mcp"))
    stage.may_not(host=there.ips[v], port=ADMIN, reason="port_not_allowed", **names("team/agent", "tools/mcp"))
    stage.may_not(host=other.ips[v], port=HTTP, **names("team/agent", "tools/archive"))


def call_from(pod, v, host, port):
    """A pod of the other node calls: the program beyond has several addresses and takes the pod's."""
    s = pod.puppet().socket("AF_INET6" if v else "AF_INET")
    s.call("settimeout", 0.5)
    assert s.call("bind", [pod.ips[v], 0]).ok
    outcome = s.call("connect", [host, port])
    if outcome.ok:
        assert s.call("sendall", "ping").ok
        outcome = s.call("recv", 4)
    s.call("close")  # or it goes on trying
    return outcome


@BOTH
def test_pods_of_another_node_call(stage, v):
    """They are who their addresses say, and nobody is whose address no object has."""
    agent, other = (stage.node.remote_pod(f"team/{name}", number, owner=Owner("Deployment", name)) for name, number in (("agent", 12), ("other", 13)))
    settled(stage.node)
    there = stage.mcp.ips[v]
    stage.node.allowed(lambda: call_from(agent, v, there, HTTP), src_pid=None, src_comm=None, direction="ingress", dst_port=HTTP,
                       src_address=agent.ips[v], **names("team/agent", "tools/mcp"))
    received = {"error": "timeout", "src_pid": None, "src_comm": None, "direction": "ingress"}
    stage.node.denied(lambda: call_from(agent, v, there, ADMIN), "port_not_allowed", dst_port=ADMIN, **received, **names("team/agent", "tools/mcp"))
    stage.node.denied(lambda: call_from(other, v, there, HTTP), "source_not_allowed", dst_port=HTTP, **received, **names("team/other", "tools/mcp"))
    agent.untell()
    settled(stage.node)
    outcome = stage.node.denied(lambda: call_from(agent, v, there, HTTP), "source_not_allowed", dst_port=HTTP, dst_workload="mcp", **received)
    if stage.node.enforced:
        assert outcome.row.get("src_workload") is None


# -- addresses that no object tells of


@BOTH
def test_an_address_of_a_pod_that_nobody_tells_of(stage, v):
    """It is nobody's, as caller and as callee, until an object says whose it is."""
    pod = stage.node.pod("free/silent", Owner("Deployment", "silent")).make_network()
    serve(pod)
    stage.may_not(host=pod.ips[v], port=HTTP, reason="external_not_allowed")
    caller = pod.puppet("silent")
    outcome = refused_by_callee(stage, caller, stage.mcp.ips[v], HTTP, "tools/mcp")
    if stage.node.enforced:
        assert outcome.row.get("src_workload") is None
    located(stage.node, pod.tell())
    stage.may_not(host=pod.ips[v], port=HTTP, **names("team/agent", "free/silent"))
    refused_by_callee(stage, caller, stage.mcp.ips[v], HTTP, "tools/mcp", "free/silent")


# -- who calls


@BOTH
def test_callers_are_known_by_their_addresses(pods, v):
    neighbour = pods.neighbour.puppet("neighbour")
    for port in (HTTP, METRICS, ADMIN):
        refused_by_callee(pods, neighbour, pods.mcp.ips[v], port, "tools/mcp", "free/neighbour")
    pods.may(host=pods.mcp.ips[v], port=HTTP)
    if pods.node.enforced:
        pods.node.wait_flow(verdict="ALLOWED", direction="ingress", dst_port=HTTP, src_address=pods.agent.ips[v], **names("team/agent", "tools/mcp"))


@BOTH
def test_callers_through_a_service_are_known_too(pods, v):
    """kube-proxy changes the destination, not the source."""
    refused = lambda: pods.neighbour.puppet("neighbour").attempt("tcp", (pods.vault_service.ips[v], WEB), timeout=0.5)  # noqa: E731
    pods.node.denied(refused, "source_not_allowed", "timeout", direction="ingress", src_pid=None, src_comm=None,
                     **names("free/neighbour", "tools/vault"))


@BOTH
def test_probes_of_the_kubelet(stage, v):
    """From the node's own addresses to the ports that the pod's probes name, and to no others; and from nobody else."""
    there = stage.run("tools/probed", "Deployment", containers=[container(ports=[("web", HTTP), ("health", PROBE)], probe="health")])
    serve(there, tcp=[HTTP, PROBE])
    kubelet = stage.node.node_puppet("kubelet")
    stage.node.put("more.yaml", policy("tools/probed"))
    settled(stage.node)
    outcome = stage.node.allowed(lambda: kubelet.attempt("tcp", (there.ips[v], PROBE)), src_pid=None, src_comm=None, dst_port=PROBE,
                                 direction="ingress", reason="baseline_probe", dst_workload="probed")
    assert not stage.node.enforced or outcome.row["src_address"] in (nodenet.GATEWAY4, nodenet.GATEWAY6)
    refused_by_callee(stage, kubelet, there.ips[v], HTTP, "tools/probed")
    neighbour = stage.neighbour.puppet("neighbour")
    refused_by_callee(stage, neighbour, there.ips[v], PROBE, "tools/probed", "free/neighbour")
    stage.may_not(host=there.ips[v], port=PROBE, dst_port=PROBE)


@BOTH
def test_the_node_itself_is_no_peer(pods, v):
    """Neither may pods call what the node runs, nor the node what pods serve."""
    node = pods.node.node_puppet("node-agent")
    port = pods.node.port()
    served = node.serve(tcp=[(a, port) for a in (("0.0.0.0", "::")[v],)])
    for host in ((nodenet.GATEWAY4, nodenet.GATEWAY6)[v], (nodenet.NODE4, nodenet.NODE6)[v]):
        pods.may_not(host=host, port=port)
    assert (served.report()["tcp"] > 0) != pods.node.enforced
    refused_by_callee(pods, node, pods.vault.ips[v], HTTP, "tools/vault")


@BOTH
def test_loopback_of_a_pod_is_its_own(pods, v):
    """Containers of a pod share it; another pod's is another one, also at the same port."""
    host = ("127.0.0.1", "::1")[v]
    port = pods.node.port()
    pods.agent.puppet("beside", container="beside").serve(tcp=[(host, port)], udp=[(host, port)])
    for attempt in ("tcp", "udp"):
        pods.may(attempt=attempt, host=host, port=port, reason="baseline_loopback")
        pods.may(attempt=attempt, host=host, port=port, flow=False)
    elsewhere = pods.node.port()
    pods.vault.puppet("vault-local").serve(tcp=[(host, elsewhere)])
    outcome = pods.caller.attempt("tcp", (host, elsewhere))
    assert outcome.error == ("EPERM" if pods.node.enforced else "ECONNREFUSED")


def test_the_own_address_of_a_pod_is_its_own(pods):
    """What a pod sends to its own address stays on its loopback."""
    port = pods.node.port()
    pods.agent.puppet("beside", container="beside").serve(tcp=[(a, port) for a in pods.agent.ips])
    for host in pods.agent.ips:
        pods.may(host=host, port=port, flow=False)
