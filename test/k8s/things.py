"""The objects that the tests give the server, in the versions that Kubernetes 1.20 has. Makers of plain policies, namespaces and the like
are those of harness/objects.py and harness/kube.py, which the tests without a server use, too."""
import os
from types import SimpleNamespace

import pytest
import yaml

from harness import TOP, kube
from harness.objects import thing

CRDS = TOP / "kubernetes" / "crds"
# What a test's namespace may have in it, in the order of removal.
NAMESPACED = ("CASAPolicy", "MultiAgentSystem", "EndpointSlice", "Service", "Deployment", "ReplicaSet", "Pod", "ConfigMap", "ServiceAccount")


def documents(file):
    return [d for d in yaml.safe_load_all(file.read_text()) if d]


def definitions():
    """The CustomResourceDefinitions that casad is shipped with."""
    return [d for f in sorted(CRDS.glob("*.yaml")) for d in documents(f) if d["kind"] == "CustomResourceDefinition"]


# For waits of half a minute: make test-k8s runs them, make test counts each as a skip.
slow = pytest.mark.skipif(not os.environ.get("CASAD_TEST_SLOW"), reason="takes long; make test-k8s runs it (CASAD_TEST_SLOW=1)")


def pod(who, ips=(), node=kube.NODE_NAME, owner=None, labels=None, annotations=None, containers=None, host_network=False, phase="Running"):
    """As the scheduler and kubelet leave it. Its uid is for the server to give. owner: a kube.Owner, which then names it."""
    namespace, name = who.split("/")
    row = SimpleNamespace(namespace=namespace, name=owner.pod_name() if owner else name, uid=None, owner=owner, node_name=node, ips=list(ips),
                          labels={**(labels or {}), **(owner.labels() if owner else {})}, annotations=annotations or {},
                          containers=containers or [kube.container()], host_network=host_network, qos="besteffort")
    return kube.pod_object(row, phase=phase, told=bool(ips))


def member(made, ips=None):
    """The server's pod, as kube.Service wants it in its `pods`."""
    metadata = made["metadata"]
    found = [row["ip"] for row in made.get("status", {}).get("podIPs", [])]
    return SimpleNamespace(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"], ips=ips or found,
                           node_name=made["spec"].get("nodeName"), containers=made["spec"]["containers"])


def served(found):
    """An object as this server has its kind: EndpointSlices are v1beta1, with a topology in place of nodeName."""
    if found["kind"] != "EndpointSlice":
        return found
    endpoints = [{**{k: v for k, v in e.items() if k != "nodeName"}, "topology": {"kubernetes.io/hostname": e["nodeName"]}} if "nodeName" in e
                 else e for e in found["endpoints"]]
    return {**found, "apiVersion": "discovery.k8s.io/v1beta1", "endpoints": endpoints}


def of_service(service):
    """A kube.Service and its slices."""
    return [served(o) for o in service.objects()]


def deployment(who, replicas, labels):
    namespace, name = who.split("/")
    template = {"metadata": {"labels": labels}, "spec": {"containers": [kube.container(ports=[8080])]}}
    return {**thing("Deployment", namespace, name, spec={"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}),
            "apiVersion": "apps/v1"}


def system(who, **apps):
    """A MultiAgentSystem; apps: workload="agent" | "client" | "mcp_server"."""
    namespace, name = who.split("/")
    rows = [{"name": app, "type": type, "kubernetesWorkloadName": app, "baseUrl": {"host": f"{app}:8080", "scheme": "http"}}
            for app, type in apps.items()]
    return thing("MultiAgentSystem", namespace, name, spec={"name": name, "apps": rows})
