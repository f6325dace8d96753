"""A simulated Kubernetes node: real cgroups, network namespaces, veth pairs and address translation in the shape that kubelet, containerd,
a bridge CNI and kube-proxy give them, without any of these running. casad runs in the node's own network namespace, as its DaemonSet does.

The cluster's objects come to it as files of the policy directory. Beneath a pod processes are what they are in a container: with the
capabilities that container runtimes leave them, and no others.
"""
import uuid

from harness import kube, nodenet
from harness.puppet import Puppet
from harness.world import World
import lab

# What Docker and containerd keep by default.
CAPABILITIES = ("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw", "sys_chroot",
                "mknod", "audit_write", "setfcap")


class Entrance:
    """The way into a container, for what takes a namespace (lab.Cgroup.popen): its network, then its capabilities."""

    def __init__(self, namespace, capabilities=CAPABILITIES):
        self.namespace, self.capabilities = namespace, capabilities

    def enter(self):
        kept = ",".join(["-all", *("+" + c for c in self.capabilities)])
        return [*self.namespace.enter(), "setpriv", "--bounding-set", kept, "--inh-caps", "-all", "--"]


class Pod:
    """One pod of the node. The steps of its life are methods, so that a test can take them in any order."""

    def __init__(self, node, who, owner=None, qos="burstable", host_network=False, labels=None, annotations=None, containers=None, name=None,
                 uid=None):
        self.node, self.namespace, self.owner, self.qos, self.host_network = node, who.split("/")[0], owner, qos, host_network
        self.name = name or (owner.pod_name() if owner else who.split("/")[1])
        self.uid = uid or str(uuid.uuid4())
        self.node_name = kube.NODE_NAME
        self.labels = {**(labels or {}), **(owner.labels() if owner else {})}
        self.annotations = annotations or {}
        self.containers = containers or [kube.container()]
        self.ids = {}
        self.netns, self.number, self.ips, self.puppets = None, None, [], []
        if host_network:
            self.netns, self.ips = node.netns, [nodenet.NODE4, nodenet.NODE6]

    @property
    def cgroup(self):
        return lab.Cgroup(self.node.root.path / self.node.pod_cgroup(self.qos, self.uid))

    # -- what kubelet, the runtime and the CNI do

    def make_cgroup(self):
        self.cgroup.make()
        return self

    def make_network(self):
        if not self.host_network:
            self.netns, self.number = self.node.cni.add()
            self.ips = [nodenet.POD4.format(self.number), nodenet.POD6.format(self.number)]
        return self

    def container(self, name="app"):
        """The container's cgroup: with it comes the pod's, as from a runtime."""
        found = self.ids.setdefault(name, uuid.uuid4().hex + uuid.uuid4().hex)
        return self.cgroup.child(self.node.container_cgroup(found)).make()

    def entrance(self, capabilities=CAPABILITIES):
        return Entrance(self.netns, capabilities)

    def puppet(self, comm=None, container="app", capabilities=CAPABILITIES):
        p = Puppet(self.container(container), (comm or self.name)[:15], outside=self.entrance(capabilities))
        self.puppets.append(p)
        self.node.puppets.append(p)
        return p

    def end_processes(self):
        for p in self.puppets:
            self.node.end(p)
        self.puppets = []
        if self.cgroup.path.exists():
            self.cgroup.kill()

    def remove_cgroup(self):
        self.end_processes()
        self.cgroup.remove()

    def remove_network(self):
        if self.number:  # of its own
            self.node.cni.remove(self.netns, self.number)
            self.number = self.netns = None

    # -- what the API server holds

    @property
    def ip(self):
        return self.ips[0]

    @property
    def ip6(self):
        return self.ips[1]

    @property
    def file(self):
        return f"pod-{self.namespace}-{self.name}.yaml"

    def object(self, **how):
        return kube.pod_object(self, **how)

    def tell(self, **how):
        self.node.put(self.file, self.object(**how))
        return self

    def untell(self):
        self.node.remove_file(self.file)

    def remove(self):
        """Everything at once, in the order of kubelet."""
        self.remove_cgroup()
        self.remove_network()
        self.untell()
        self.node.pods.remove(self)


class RemotePod:
    """A pod of the other node: objects tell of it, and its processes have its addresses."""

    def __init__(self, node, who, number, owner=None, labels=None, containers=None):
        self.node, (self.namespace, name) = node, who.split("/")
        self.name, self.owner = owner.pod_name() if owner else name, owner
        self.uid, self.node_name = str(uuid.uuid4()), "node-b"
        self.labels, self.annotations = {**(labels or {}), **(owner.labels() if owner else {})}, {}
        self.containers, self.qos, self.host_network = containers or [kube.container()], "burstable", False
        self.ips = [nodenet.REMOTE4.format(number), nodenet.REMOTE6.format(number)]

    ip, ip6, file, object, tell, untell = Pod.ip, Pod.ip6, Pod.file, Pod.object, Pod.tell, Pod.untell

    def puppet(self, comm=None):
        p = Puppet(None, (comm or self.name)[:15], outside=self.node.beyond)
        self.node.puppets.append(p)
        return p


class NodeWorld(World):
    """The node with its pods, and when enforced the casad over them."""

    def __init__(self, enforced=True, driver="systemd", **options):
        self.driver = driver
        self.netns, self.beyond = nodenet.make_node()
        super().__init__(self.beyond, enforced, enter=self.netns.enter(), **options)
        self.cni, self.pods, self.services = nodenet.Cni(self.netns), [], []
        self._service_numbers = iter(range(20, 250))
        self.put("node.yaml", kube.node_object([nodenet.NODE4, nodenet.NODE6]))

    # -- cgroups as kubelet names them

    def pod_cgroup(self, qos, uid):
        if self.driver == "systemd":
            part, uid = "kubepods" if qos == "guaranteed" else f"kubepods-{qos}", uid.replace("-", "_")
            middle = "" if qos == "guaranteed" else f"/{part}.slice"
            return f"kubepods.slice{middle}/{part}-pod{uid}.slice"
        return f"kubepods{'' if qos == 'guaranteed' else '/' + qos}/pod{uid}"

    def container_cgroup(self, number):
        return f"cri-containerd-{number}.scope" if self.driver == "systemd" else number

    # -- who there is

    def pod(self, who, owner=None, **options):
        """A pod as it is planned: nothing of it is there yet."""
        self.pods.append(Pod(self, who, owner, **options))
        return self.pods[-1]

    def run_pod(self, who, owner=None, **options):
        """A pod that runs, with everything told."""
        return self.pod(who, owner, **options).make_cgroup().make_network().tell()

    def remote_pod(self, who, number, **options):
        return RemotePod(self, who, number, **options).tell()

    def node_puppet(self, comm, cgroup="/system.slice/kubelet.service"):
        """A process of the node itself; None: outside of every cgroup below the root."""
        p = Puppet(self.cgroup(cgroup) if cgroup else None, comm, outside=self.netns)
        self.puppets.append(p)
        return p

    # -- Services

    def service(self, who, pods, *ports, headless=False, v6=True, number=None, selector=None):
        """A Service of these pods with addresses of its own."""
        number = number or next(self._service_numbers)
        ips = [] if headless else [nodenet.SERVICE4.format(number), *([nodenet.SERVICE6.format(number)] if v6 else [])]
        found = kube.Service(who, selector or {"app": who.split("/")[1]}, ports, ips, headless)
        found.pods = list(pods)
        self.services.append(found)
        self.sync(found)
        return found

    def sync(self, service):
        """The endpoints as they are now: for casad and for kube-proxy."""
        self.put(f"service-{service.namespace}-{service.name}.yaml", *service.objects())
        self.proxy()

    def proxy(self):
        """kube-proxy's part: the rules of the Services that there are."""
        self.netns.batch("nft", nodenet.proxy_rules(self.services))

    def close(self):
        if self.closed:
            return
        try:
            super().close()
        finally:
            for pod in self.pods:
                if pod.number:
                    pod.netns.close()
            self.netns.close()
            self.beyond.close()
