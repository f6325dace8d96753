"""Pods of a mesh: what an application sends is redirected to a proxy in its pod, which sends it on. Both legs are the pod's, and both are
held to its policy: the application's to what it means to call, the proxy's to what is called."""
import time

import pytest

from checks import BOTH, names
from harness import nodenet
from harness.kube import Owner, ServicePort, container
from harness.objects import policy
from harness.puppet import Puppet
from harness.sidecar import USER, Sidecar, containers, rules
from naming import LLM, OTHER, PORT, llm_policy
from podcast import ADMIN, HTTP, METRICS, WEB, cast_of_pods, known, serve, settled
from podnames import CLEAR, OTHER_PORT, NamedPods
import lab

OUTBOUND, INBOUND, HEALTH = 15001, 15006, 15021
ANYWHERE = {"EPERM", "ECONNRESET", "closed", "timeout", "ECONNREFUSED"}  # the proxy took the connection, and has nothing to say


class Mesh(NamedPods):
    def __init__(self, node):
        super().__init__(node)
        self.routes = {f"{service.ips[v]}:{WEB}": [f"{pod.ips[v]}:{HTTP}"] for v in (0, 1)
                       for service, pod in ((self.mcp_service, self.mcp), (self.vault_service, self.vault))}
        self.meshed, self.app = self.injected("team/agent", (PORT, self.certified[1]))

    def injected(self, who, originate=None, routes=None, inject=True, **options):
        """(a pod of the mesh, its application); inject: with the proxy and the rules, and not only with a container of that name."""
        pod = self.run(who, "Deployment", containers=containers(container(ports=[("http", HTTP)])), **options)
        if inject:
            Sidecar(pod, self.routes if routes is None else routes, originate)
        known(self.node, pod)
        settled(self.node)
        return pod, pod.puppet("app")

    def ask(self, app, name=LLM, to=lab.OUTSIDE4, port=CLEAR):
        """An HTTP request in clear text, as an application of a mesh sends it, with its name looked up before."""
        return app.attempt("request", (to, port), (nodenet.DNS4, 53), name=name, timeout=1.5)

    def refused(self, outcome, since, reason, error=ANYWHERE, **match):
        assert not outcome.ok and outcome.error in error, outcome
        return self.node.wait_flow(since - 0.05, verdict="DENIED", reason=reason, src_workload="agent", **match)


@pytest.fixture(scope="module")
def pods(outside):
    yield from cast_of_pods(cast=Mesh)


@pytest.fixture
def stage(pods):
    with pods.act():
        yield pods


# -- the LLM


def test_clear_text_becomes_tls_on_the_declared_port(pods):
    heard = len(pods.llm.heard)
    since = time.time()
    outcome = pods.ask(pods.app)
    assert outcome.ok, outcome
    assert pods.llm.heard[heard:] == [LLM] and pods.clear.heard == []
    row = pods.node.wait_flow(since - 0.05, verdict="ALLOWED", reason="llm_allowed", dst_port=PORT, src_workload="agent")
    assert row["dst_fqdn"] == LLM and row["src_pid"] != pods.app.pid, "the proxy is who sends it"


def test_tls_of_the_application_itself(pods):
    """The proxy passes it through; the hello that it sends is the application's."""
    assert pods.call_llm(caller=pods.app).ok


def test_another_name_through_the_proxy(pods):
    """The application's request names another host of the same address: so does the proxy's hello."""
    assert pods.look_up(LLM, pods.app).ok
    since = time.time()
    outcome = pods.app.attempt("request", (lab.OUTSIDE4, CLEAR), name=OTHER, timeout=1.5)
    row = pods.refused(outcome, since, "sni_mismatch", dst_port=PORT)
    assert row["askedName"] == OTHER and OTHER not in pods.llm.heard


def test_a_proxy_that_uses_another_port(stage):
    pod, app = stage.injected("team/agent", (OTHER_PORT, stage.certified[1]))
    since = time.time()
    stage.refused(stage.ask(app), since, "port_not_allowed", dst_port=OTHER_PORT)
    assert stage.other_port.heard == [] and pod.containers[1]["name"] == "istio-proxy"


def test_a_proxy_that_encrypts_nothing(stage):
    """The exception is the application's leg; what leaves for port 80 is refused, whoever sends it."""
    _, app = stage.injected("team/agent")
    since = time.time()
    stage.refused(stage.ask(app), since, "port_not_allowed", dst_port=CLEAR)
    assert stage.clear.heard == []


def test_another_address_through_the_proxy(pods):
    """What the application may not call is refused to it, although the proxy would take it anywhere."""
    for to in ((lab.PARTNER4, CLEAR), (lab.PARTNER4, PORT), (lab.OUTSIDE4, OTHER_PORT), (lab.OUTSIDE4, 81)):
        assert pods.app.attempt("tcp", to, timeout=1.0).error == "EPERM", to


# -- without the proxy


def test_a_workload_without_the_proxy_has_no_exception(stage):
    stage.node.put("more.yaml", llm_policy("team/plain"))
    plain = stage.run("team/plain", "Deployment")
    settled(stage.node)
    caller = plain.puppet("plain")
    assert stage.call_llm(caller=caller).ok
    stage.node.denied(lambda: caller.attempt("tcp", (lab.OUTSIDE4, CLEAR)), "port_not_allowed", src_workload="plain", dst_port=CLEAR)
    assert stage.clear.heard == []


def test_a_pod_without_the_proxy_beside_one_that_has_it(pods):
    """The workload is of the mesh, this pod of it is not (it is older than the injection): its first packet is refused."""
    since = time.time()
    pods.refused(pods.ask(pods.caller), since, "port_not_allowed", {"timeout"}, dst_port=CLEAR)
    assert pods.clear.heard == []


def test_a_container_of_that_name_is_no_way_out(stage):
    """No rules redirect what this pod sends: its connection to port 80 leaves for the LLM itself, and is refused at its first packet."""
    pod, app = stage.injected("team/agent", inject=False)
    assert stage.look_up(LLM, app).ok
    since = time.time()
    outcome = app.attempt("request", (lab.OUTSIDE4, CLEAR), name=LLM, timeout=1.0)
    stage.refused(outcome, since, "port_not_allowed", dst_port=CLEAR)
    app.attempt("udp", (lab.OUTSIDE4, CLEAR), timeout=0.5)
    assert stage.clear.heard == [] and pod.containers[1]["name"] == "istio-proxy"


def test_an_application_in_the_proxys_place(stage):
    """It listens where the rules send its own connections, and runs as the user whose connections they let through: it hears itself, and
    what it sends from there is refused as the proxy's would be."""
    pod, app = stage.injected("team/agent", inject=False)
    for family in ("ip", "ip6"):
        pod.netns.batch("nft", rules(family))
    app.serve(tcp=[("0.0.0.0", OUTBOUND)])
    assert stage.look_up(LLM, app).ok
    assert app.attempt("tcp", (lab.OUTSIDE4, CLEAR)).ok, "its own echo"
    other = as_user(stage, pod, USER)
    since = time.time()
    stage.refused(other.attempt("request", (lab.OUTSIDE4, CLEAR), name=LLM, timeout=1.0), since, "port_not_allowed", dst_port=CLEAR)
    assert other.attempt("tcp", (lab.PARTNER4, CLEAR), timeout=1.0).error == "EPERM"
    assert other.attempt("tcp", (stage.vault.ip, HTTP), timeout=1.0).error == "EPERM"
    assert stage.clear.heard == []


def as_user(cast, pod, user):
    entrance = pod.entrance()

    class AsUser:
        @staticmethod
        def enter():
            return [*entrance.enter(), "setpriv", f"--reuid={user}", "--clear-groups", "--"]
    made = Puppet(pod.container("istio-proxy"), "as-proxy", outside=AsUser)
    pod.puppets.append(made)
    cast.node.puppets.append(made)
    return made


# -- Services


@BOTH
def test_an_allowed_service_through_the_proxy(pods, v):
    """The proxy calls an endpoint of its own choice."""
    served = pods.mcp_served.report()["tcp"]
    since = time.time()
    outcome = pods.app.attempt("tcp", (pods.mcp_service.ips[v], WEB))
    assert outcome.ok, outcome
    assert pods.mcp_served.report()["tcp"] == served + 1
    pods.node.wait_flow(since - 0.05, verdict="ALLOWED", direction="egress", dst_address=pods.mcp.ips[v], dst_port=HTTP,
                        **names("team/agent", "tools/mcp"))


@BOTH
def test_an_endpoint_through_the_proxy(pods, v):
    assert pods.app.attempt("tcp", (pods.mcp.ips[v], METRICS)).ok


@BOTH
def test_another_service_through_the_proxy(pods, v):
    served = pods.vault_served.report()["tcp"]
    for host, port in ((pods.vault_service.ips[v], WEB), (pods.vault.ips[v], HTTP), (pods.mcp.ips[v], ADMIN)):
        assert pods.app.attempt("tcp", (host, port), timeout=1.0).error == "EPERM", (host, port)
    assert pods.vault_served.report()["tcp"] == served


@BOTH
def test_a_proxy_that_leads_elsewhere(stage, v):
    """The application means tools/mcp, which it may call; the proxy's routes say tools/vault. The proxy's leg is refused."""
    routes = {f"{stage.mcp_service.ips[v]}:{WEB}": [f"{stage.vault.ips[v]}:{HTTP}"]}
    _, app = stage.injected("team/agent", routes=routes)
    served = stage.vault_served.report()["tcp"]
    since = time.time()
    stage.refused(app.attempt("tcp", (stage.mcp_service.ips[v], WEB), timeout=1.5), since, "peer_not_allowed", dst_workload="vault")
    assert stage.vault_served.report()["tcp"] == served


# -- who calls a pod of the mesh


@pytest.fixture
def callee(stage):
    """tools/meshed, with a proxy; the agent may call it at WEB alone."""
    stage.node.put("more.yaml", policy("team/agent-meshed", f"tools/meshed:{WEB}", target="agent"), policy("tools/meshed"))
    pod, app = stage.injected("tools/meshed")
    pod.served = app.serve(tcp=[(a, p) for a in ("0.0.0.0", "::") for p in (HTTP, ADMIN)])
    pod.service = stage.node.service("tools/meshed", [pod], ServicePort(WEB, "http"))
    settled(stage.node)
    return pod


@BOTH
def test_what_comes_in_goes_through_the_proxy(stage, callee, v):
    """The port that was called is lost on the way: who may call some port of the pod gets as far as the proxy's."""
    for host, port in ((callee.service.ips[v], WEB), (callee.ips[v], HTTP)):
        outcome = stage.caller.attempt("tcp", (host, port))
        assert outcome.ok, (host, outcome)
    assert {peer[0] for peer in callee.served.report()["tcp_peers"]} == {("127.0.0.6", "::6")[v]}
    stage.node.wait_flow(verdict="ALLOWED", direction="ingress", dst_port=INBOUND, **names("team/agent", "tools/meshed"))


@BOTH
def test_what_may_not_come_in(stage, callee, v):
    served = callee.served.report()["tcp"]
    for port in (ADMIN, INBOUND, OUTBOUND):
        assert stage.caller.attempt("tcp", (callee.ips[v], port), timeout=1.0).error == "EPERM", port
    neighbour = stage.neighbour.puppet("neighbour")
    for port in (HTTP, INBOUND):
        stage.node.denied(lambda p=port: neighbour.attempt("tcp", (callee.ips[v], p), timeout=0.5), "source_not_allowed", {"timeout"},
                          direction="ingress", src_pid=None, src_comm=None, **names("free/neighbour", "tools/meshed"))
    assert callee.served.report()["tcp"] == served


@BOTH
def test_from_proxy_to_proxy(stage, callee, v):
    """Four legs, of which two cross between the pods."""
    assert stage.app.attempt("tcp", (callee.ips[v], HTTP)).ok
    assert stage.app.attempt("tcp", (callee.ips[v], ADMIN), timeout=1.0).error == "EPERM"


@BOTH
def test_the_proxys_health(stage, callee, v):
    """Its own probe: the rules let it by, so that it is no way to the port that they redirect to."""
    callee.puppet("envoy", container="istio-proxy").serve(tcp=[(("0.0.0.0", "::")[v], HEALTH)])
    kubelet = stage.node.node_puppet("kubelet")
    assert kubelet.attempt("tcp", (callee.ips[v], HEALTH)).ok
    assert kubelet.attempt("tcp", (callee.ips[v], HTTP), timeout=0.5).error == "timeout"


# -- the control plane


def test_istiod_is_for_pods_of_the_mesh(stage):
    istiod = stage.run("istio-system/istiod", "Deployment", containers=[container(ports=[15010, 15012, 15014, 15017])])
    serve(istiod, tcp=[15010, 15012, 15014, 15017], udp=[])
    service = stage.node.service("istio-system/istiod", [istiod], *(ServicePort(p) for p in (15010, 15012, 15014, 15017)))
    plain = stage.run("tools/mcp", "Deployment").puppet("plain")
    settled(stage.node)
    proxy = as_user(stage, stage.meshed, USER)
    for port in (15010, 15012, 15014):
        for host in (service.ips[0], istiod.ip):
            assert proxy.attempt("tcp", (host, port)).ok, (host, port)
            assert plain.attempt("tcp", (host, port)).error == "EPERM", (host, port)
    assert proxy.attempt("tcp", (istiod.ip, 15017)).error == "EPERM"
