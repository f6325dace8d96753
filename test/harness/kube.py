"""Objects as an API server holds them: what a controller, the scheduler, kubelet and the endpoint controllers write, as plain dicts."""
import copy
import random
import uuid

from harness.objects import thing

NODE_NAME = "node-a"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names
_random = random.Random()


def suffix(length=5):
    return "".join(_random.choice(_LETTERS) for _ in range(length))


class Owner:
    """What made a pod: of kind Deployment (its pods belong to a ReplicaSet of it), StatefulSet, Job, DaemonSet, ReplicaSet."""

    def __init__(self, kind, name):
        self.kind, self.name, self.uid = kind, name, str(uuid.uuid4())
        self.number = 0
        self.hash, self.set_uid = suffix(9), str(uuid.uuid4())

    def rolled(self):
        """The same with a new template: what it makes are pods of another ReplicaSet. Those that are there stay what they are."""
        new = copy.copy(self)
        new.hash, new.set_uid = suffix(9), str(uuid.uuid4())
        return new

    def pod_name(self):
        self.number += 1
        if self.kind == "Deployment":
            return f"{self.name}-{self.hash}-{suffix()}"
        return f"{self.name}-{self.number - 1}" if self.kind == "StatefulSet" else f"{self.name}-{suffix()}"

    def labels(self):
        return {"pod-template-hash": self.hash} if self.kind == "Deployment" else {}

    def reference(self):
        group = "batch/v1" if self.kind == "Job" else "apps/v1"
        is_deployment = self.kind == "Deployment"
        return {"apiVersion": group, "kind": "ReplicaSet" if is_deployment else self.kind, "controller": True, "blockOwnerDeletion": True,
                "name": f"{self.name}-{self.hash}" if is_deployment else self.name, "uid": self.set_uid if is_deployment else self.uid}


def container(name="app", ports=(), probe=None, **rest):
    """ports: numbers, or (name, number), or (name, number, protocol); probe: a port's number or name."""
    rows = []
    for port in ports:
        port_name, number, protocol = (*((None, port) if isinstance(port, int) else port), "TCP")[:3]
        rows.append({**({"name": port_name} if port_name else {}), "containerPort": number, "protocol": protocol})
    found = {"name": name, "image": "registry.example/app:1", "ports": rows, **rest}
    if probe is not None:
        found["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": probe, "scheme": "HTTP"}, "periodSeconds": 10}
    return found


def pod_object(pod, phase="Running", told=True, deleting=False):
    """told: status has the pod's addresses, which kubelet writes when the pod's network is there."""
    metadata = {"uid": pod.uid, "labels": pod.labels, "annotations": pod.annotations, "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z"}
    if pod.owner:
        metadata["ownerReferences"] = [pod.owner.reference()]
    if deleting:
        metadata.update({"deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 30})
    spec = {"nodeName": pod.node_name, "containers": pod.containers, "restartPolicy": "Always"}
    if pod.host_network:
        spec["hostNetwork"] = True
    status = {"phase": phase, "qosClass": {"burstable": "Burstable", "besteffort": "BestEffort", "guaranteed": "Guaranteed"}[pod.qos]}
    if told and pod.ips:
        status.update({"podIP": pod.ips[0], "podIPs": [{"ip": ip} for ip in pod.ips]})
    return thing("Pod", pod.namespace, pod.name, metadata=metadata, spec=spec, status=status)


def node_object(addresses, name=NODE_NAME):
    return thing("Node", None, name, status={"addresses": [*({"type": "InternalIP", "address": a} for a in addresses),
                                                           {"type": "Hostname", "address": name}]})


class ServicePort:
    def __init__(self, port, target=None, name=None, protocol="TCP"):
        self.port, self.target, self.protocol = port, port if target is None else target, protocol
        self.name = name or f"p{port}-{protocol.lower()}"

    def at(self, pod):
        """The number at this pod; None where the pod has no port of that name."""
        if isinstance(self.target, int):
            return self.target
        return next((p["containerPort"] for c in pod.containers for p in c["ports"] if p.get("name") == self.target), None)


class Service:
    """One Service and its EndpointSlices."""

    def __init__(self, who, selector, ports, ips=(), headless=False):
        self.namespace, self.name = who.split("/")
        self.selector, self.ports, self.ips, self.headless = selector, ports, list(ips), headless
        self.pods = []

    def objects(self):
        ips = ["None"] if self.headless else self.ips
        rows = [{"name": p.name, "port": p.port, "targetPort": p.target, "protocol": p.protocol} for p in self.ports]
        spec = {"clusterIP": ips[0], "clusterIPs": ips, "type": "ClusterIP", "selector": self.selector, "ports": rows,
                "ipFamilies": ["IPv4", "IPv6"][:max(1, len(ips))], "ipFamilyPolicy": "PreferDualStack"}
        return [thing("Service", self.namespace, self.name, spec=spec), *self.slices()]

    def slices(self):
        """One for each family and each set of numbers that the ports have at the pods, as the endpoint controller makes them."""
        groups = {}
        for pod in self.pods:
            numbers = tuple(p.at(pod) for p in self.ports)
            for ip in pod.ips:
                groups.setdefault(("IPv6" if ":" in ip else "IPv4", numbers), []).append((ip, pod))
        made = []
        for i, ((family, numbers), members) in enumerate(sorted(groups.items(), key=lambda item: str(item[0]))):
            endpoints = [{"addresses": [ip], "conditions": {"ready": True, "serving": True, "terminating": False}, "nodeName": pod.node_name,
                          "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid}} for ip, pod in members]
            ports = [{"name": p.name, "port": n, "protocol": p.protocol} for p, n in zip(self.ports, numbers) if n]
            made.append(thing("EndpointSlice", self.namespace, f"{self.name}-{i}", addressType=family, endpoints=endpoints, ports=ports,
                              metadata={"labels": {"kubernetes.io/service-name": self.name}}))
        return made

    def backends(self, port, v6):
        """[(address, number), ...]"""
        return [(ip, port.at(pod)) for pod in self.pods for ip in pod.ips if (":" in ip) == v6 and port.at(pod)]
