"""Who there is on a node with pods: the standing cast of the tests of pods, and the short ways to say what must become of a call."""
from contextlib import contextmanager

import pytest

from harness import kube
from harness.kube import Owner, ServicePort, container
from harness.objects import namespace, policy
from harness.pods import NodeWorld
from harness.world import binary, until

ANY4, ANY6 = "0.0.0.0", "::"
HTTP, ADMIN, METRICS, UDP = 8080, 8081, 9000, 9090  # where the servers' containers listen
WEB, ADMIN_WEB = 80, 81  # the Service's ports, which stand for HTTP and ADMIN
NODE_ARGUMENTS = ("--node-name", kube.NODE_NAME)


def need_binary(enforced):
    if enforced and not binary().exists():
        pytest.fail(f"{binary()} does not exist: build it, or name it in CASAD", pytrace=False)


def make_node(enforced=True, arguments=(), **options):
    need_binary(enforced)
    return NodeWorld(enforced, arguments=[*NODE_ARGUMENTS, *arguments], **options)


def serve(pod, tcp=(HTTP, ADMIN, METRICS), udp=(UDP,), **options):
    """The pod's own server, at every address of both families."""
    everywhere = lambda ports: [(any_, port) for any_ in (ANY4, ANY6) for port in ports]  # noqa: E731
    return pod.puppet(**options).serve(tcp=everywhere(tcp), udp=everywhere(udp))


def _rows(node, pod):
    """Workloads are asked for by their namespace: who has the name of another owner's is called KIND:NAME."""
    return node.daemon.api.get(f"/v1/workloads?namespace={pod.namespace}&limit=500")["items"]


def known(node, pod):
    """casad has read the pod's object: from here on its cgroup, whenever it comes, is the workload's."""
    names = (pod.uid, pod.uid.replace("-", "_"))  # as the two cgroup drivers write it
    if node.enforced:
        until(lambda: any(n in c for row in _rows(node, pod) for c in row["declaredCgroups"] for n in names),
              what=f"casad knows the pod {pod.namespace}/{pod.name}")
    return pod


def located(node, pod):
    """casad has read the pod's addresses."""
    if node.enforced:
        until(lambda: any(set(pod.ips) <= set(row["addresses"]) for row in _rows(node, pod)),
              what=f"casad knows the addresses of {pod.namespace}/{pod.name}")
    return pod


def settled(node):
    """Everything that was written until now is in force. A look at the directory that finds the first mark may have passed another file
    before that was written; the one that finds the second began later."""
    for _ in range(2 if node.enforced else 0):
        mark = f"settled/mark-{node.port()}"
        node.put("settled.yaml", policy(mark))
        until(lambda m=mark: node.policy_view(m), what="the directory as it is now is in force")


class PodCast:
    """The agent may call the Service tools/mcp, at WEB and METRICS and over UDP, not at ADMIN_WEB, and not tools/vault. The neighbour is in no
    namespace under enforcement: it may call whom it likes, who must let it in."""

    def __init__(self, node):
        self.node = node
        node.put("policies.yaml", namespace("tools"), policy("team/agent", f"tools/mcp:{WEB}", f"tools/mcp:{METRICS}", f"tools/mcp:{UDP}"),
                 policy("tools/mcp"), policy("tools/vault", kind="StatefulSet"))
        ports = [("http", HTTP), ("metrics", METRICS), ("datagrams", UDP, "UDP")]
        self.agent = self.run("team/agent", "Deployment")
        self.mcp = self.run("tools/mcp", "Deployment", containers=[container(ports=ports)])
        self.vault = self.run("tools/vault", "StatefulSet", containers=[container(ports=ports)])
        self.neighbour = self.run("free/neighbour", "Deployment")
        self.mcp_service = node.service("tools/mcp", [self.mcp], ServicePort(WEB, "http"), ServicePort(METRICS), ServicePort(ADMIN_WEB, ADMIN),
                                        ServicePort(UDP, "datagrams", protocol="UDP"))
        self.vault_service = node.service("tools/vault", [self.vault], ServicePort(WEB, "http"), ServicePort(UDP, "datagrams", protocol="UDP"))
        node.start()
        self.mcp_served, self.vault_served = serve(self.mcp), serve(self.vault)
        self.caller = self.agent.puppet("agent")
        located(node, self.agent)
        located(node, self.neighbour)

    @contextmanager
    def act(self):
        """For one test: what it adds to the cast goes when it ends, whatever became of it."""
        node = self.node
        pods, services, files = list(node.pods), {s: list(s.pods) for s in node.services}, set(node.daemon.policy_dir.iterdir())
        yield self
        for pod in [p for p in node.pods if p not in pods]:
            pod.remove_cgroup()
            pod.remove_network()
            node.pods.remove(pod)
        changed = [s for s in services if s.pods != services[s]]
        for service in changed:
            service.pods = services[service]
        node.services = list(services)
        for service in changed:
            node.sync(service)
        for file in set(node.daemon.policy_dir.iterdir()) - files:
            file.unlink()
        node.proxy()
        settled(node)

    def run(self, who, kind, **options):
        name = who.split("/")[1]
        return self.node.run_pod(who, Owner(kind, name), labels={"app": name}, **options)

    def may(self, caller=None, attempt="tcp", host=None, port=WEB, **match):
        """The call of tools/mcp gets through, and is recorded."""
        caller = caller or self.caller
        return self.node.allowed(lambda: caller.attempt(attempt, (host or self.mcp_service.ips[0], port)), **match)

    def may_not(self, caller=None, attempt="tcp", host=None, port=WEB, reason="peer_not_allowed", **match):
        """The call of tools/vault is refused at once, and recorded; the pods of a workload may share a row, with the process of the first."""
        caller = caller or self.caller
        match = {"src_pid": None, "src_comm": None, **match}
        return self.node.denied(lambda: caller.attempt(attempt, (host or self.vault_service.ips[0], port)), reason, **match)

    def close(self):
        """Ends what is not the node's."""


def cast_of_pods(enforced=True, cast=PodCast, **options):
    """For a fixture: the cast, on a node of its own, and the end of both."""
    node, players = make_node(enforced, **options), None
    try:
        players = cast(node)
        yield players
    finally:
        if players:
            players.close()
        node.close()
