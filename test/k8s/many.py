"""What a large cluster has, made in seconds: Pods by the ten thousand, policies and Services. One Pod is made through the API, as a scheduler and a
kubelet make it; what the server stored of it is stored again with other names of the same length, so the server finds them as if it had written them.
"""
import json

from harness import kube, objects

from client import who

PODS_OF_WORKLOAD, PODS_OF_NAMESPACE, PODS_OF_NODE = 20, 500, 30
HASH, OTHER_NODE = "7d9c5b6f4", "node-b"


def told(address):
    """What kubelet writes when a Pod has its network."""
    return {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}


class Pods:
    """app-0 has the first 20, bench-000 the first 500, this node the first 30. In each namespace a policy lets the first workload call a Service of the
    second one."""

    def __init__(self, cluster):
        self.cluster, self.api = cluster, cluster.admin
        self.count = self.namespaces = 0
        self._add_namespace()
        self.size, self._uid, self._template = self._make_template()

    # -- of the Pod with that number

    @staticmethod
    def address(i):
        return f"10.{100 + i // 22500}.{100 + i // 150 % 150}.{100 + i % 150}"

    @staticmethod
    def uid(i):
        return f"3c3e6a52-6d1f-4d3b-9d53-{i:012}"

    @staticmethod
    def name(i):
        return f"app-{i // PODS_OF_WORKLOAD:05}-{HASH}-{i:05}"

    # -- making them

    @staticmethod
    def _owner(app):
        return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-{HASH}", "uid": "9b0a2a0e-0000-4000-8000-000000000001", "controller": True,
                "blockOwnerDeletion": True}

    @classmethod
    def object(cls, namespace, name, app, node=OTHER_NODE):
        probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10}
        container = {"name": "app", "image": "registry.example/team/app:1.2.3", "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe,
                     "livenessProbe": probe, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                     "env": [{"name": f"SETTING_{i}", "value": "some value of it"} for i in range(6)],
                     "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}]}
        return objects.thing("Pod", namespace, name,
                             metadata={"labels": {"app": app, "pod-template-hash": HASH, "tier": "backend"}, "ownerReferences": [cls._owner(app)],
                                       "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}},
                             spec={"nodeName": node, "containers": [container], "volumes": [{"name": "config", "configMap": {"name": "app"}}]})

    def _make_template(self):
        """-> (size of its JSON, its uid, what the server stored)"""
        made = self.api.put({**self.object("bench-000", self.name(0), "app-00000"), "status": {
            **told(self.address(0))["status"], "qosClass": "Burstable", "hostIP": "172.18.0.3", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": t, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                           for t in ("Initialized", "Ready", "ContainersReady", "PodScheduled")],
            "containerStatuses": [{"name": "app", "ready": True, "restartCount": 0, "image": "registry.example/team/app:1.2.3", "started": True,
                                   "imageID": "registry.example/team/app@sha256:" + "0" * 64, "containerID": "containerd://" + "0" * 64,
                                   "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}})
        size = len(json.dumps(self.api.get("Pod", who(made)), separators=(",", ":")))
        return size, made["metadata"]["uid"], self.cluster.stored("Pod", who(made))

    def _stored(self, i):
        """-> (namespace, name, bytes)"""
        namespace, data = f"bench-{i // PODS_OF_NAMESPACE:03}", self._template
        for old, new in (("bench-000", namespace), (self.name(0), self.name(i)), ("app-00000", self.name(i)[:9]), (self.address(0), self.address(i)),
                         (OTHER_NODE, kube.NODE_NAME if i < PODS_OF_NODE else OTHER_NODE), (self._uid, self.uid(i))):
            assert len(old) == len(new), (old, new)  # of each text the length stands in front
            data = data.replace(old.encode(), new.encode())
        return namespace, self.name(i), data

    def _add_namespace(self):
        number, name = self.namespaces, f"bench-{self.namespaces:03}"
        first = number * PODS_OF_NAMESPACE // PODS_OF_WORKLOAD
        target, server = f"app-{first:05}", f"app-{first + 1:05}"
        self.api.create(objects.namespace(name))
        self.api.create(objects.policy(f"{name}/p", f"{name}/svc:80", target=target))
        service = kube.Service(f"{name}/svc", {"app": server}, [kube.ServicePort(80, "http")], [f"10.96.{1 + number // 200}.{1 + number % 200}"])
        self.api.create(service.objects()[0])
        members = range((first + 1) * PODS_OF_WORKLOAD, (first + 2) * PODS_OF_WORKLOAD)
        self.api.create(slice_of(name, [(self.address(i), self.name(i), self.uid(i)) for i in members]))
        self.namespaces += 1

    def grow(self, count):
        """Until there are so many, at most 100,000."""
        while self.namespaces * PODS_OF_NAMESPACE < count:
            self._add_namespace()
        self.cluster.store_bytes("Pod", (self._stored(i) for i in range(self.count, count)))
        self.count = max(self.count, count)
        namespace, name, _ = self._stored(count - 1)
        last = self.api.get("Pod", f"{namespace}/{name}")
        shown = (last["metadata"]["uid"], last["metadata"]["labels"]["app"], last["status"]["podIP"], last["status"]["podIPs"])
        wanted = (self.uid(count - 1), name[:9], self.address(count - 1), [{"ip": self.address(count - 1)}])
        if shown != wanted:
            raise RuntimeError(f"the server shows {shown} and not {wanted}")


def slice_of(namespace, members):
    """The slice of the Service svc. members: (address, Pod, uid)"""
    rows = [{"addresses": [a], "conditions": {"ready": True}, "topology": {"kubernetes.io/hostname": OTHER_NODE},
             "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid}} for a, pod, uid in members]
    return {**objects.thing("EndpointSlice", namespace, "svc-0", metadata={"labels": {"kubernetes.io/service-name": "svc"}}), "addressType": "IPv4",
            "apiVersion": "discovery.k8s.io/v1beta1", "endpoints": rows, "ports": [{"name": "p80-tcp", "port": 8080, "protocol": "TCP"}]}
