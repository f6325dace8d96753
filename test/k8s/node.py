"""The simulated node of harness/pods.py as one of a real cluster: what it and its pods are is told to the API server, which gives the pods
their uids, and casad reads it there."""
from harness import kube
from harness.pods import NodeWorld

from client import ApiError, who
import things


class ClusterNode(NodeWorld):
    def __init__(self, cluster, kubeconfig, arguments=(), node_name=kube.NODE_NAME, **options):
        """kubeconfig: a file; None: casad is told that it is a pod. node_name: what casad is told that it is on."""
        self.cluster, self._told = cluster, {}
        server = ["--kubeconfig", kubeconfig] if kubeconfig else ["--in-cluster"]
        super().__init__(arguments=[*server, "--node-name", node_name, *arguments], **options)
        cluster.link(self.netns.path)

    # -- objects: the names that files have elsewhere stand for what was told under them

    def put(self, file, *objects):
        told = [things.served(o) for o in objects]
        for kind, name in self._told.get(file, set()) - {(o["kind"], who(o)) for o in told}:
            self.cluster.admin.delete(kind, name)
        self._told[file] = {(o["kind"], who(o)) for o in told}
        return [self.cluster.admin.put(o) for o in told]

    def remove_file(self, file):
        for kind, name in self._told.pop(file):
            self.cluster.admin.delete(kind, name)

    def pod(self, name, owner=None, **options):
        """As the scheduler leaves it: the server has it, and nothing of it is on the node."""
        found = super().pod(name, owner, **options)
        found.uid = self.put(found.file, found.object(phase="Pending", told=False))[0]["metadata"]["uid"]
        return found

    def close(self):
        if self.closed:
            return
        try:
            super().close()
        finally:
            for file in list(self._told):
                for kind, name in self._told.pop(file):
                    try:
                        self.cluster.admin.delete(kind, name)
                    except ApiError as e:
                        if e.code != 404:
                            raise
