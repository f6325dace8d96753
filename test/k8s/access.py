"""Who a client of the cluster is: service accounts with their tokens, and the files that tell a program how to reach a server and as whom."""
import base64
import time
from pathlib import Path

import jwt

from harness import TOP, objects
import lab
import things

CONTEXT = "test"
# The server grants a token's times this much, and remembers for CACHE_SECONDS that it took one.
LEEWAY_SECONDS, CACHE_SECONDS = 60, 10
WATCH = ("get", "list", "watch")


def rule(group, *resources, verbs=WATCH):
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def rules_of_casad():
    """Those that casad is shipped with."""
    shipped = things.documents(TOP / "kubernetes" / "base" / "rbac.yaml")
    return next(d["rules"] for d in shipped if d["kind"] == "ClusterRole")


def without(rules, resource):
    """The rules, less the right to anything of that resource; subresources stay."""
    return [{**r, "resources": left} for r in rules if (left := [name for name in r["resources"] if name != resource])]


class ServiceAccount:
    """An account of its own namespace and name, with the rules it is allowed in the whole cluster."""

    def __init__(self, cluster, who, rules):
        self.cluster, (self.namespace, self.name) = cluster, who.split("/")
        self._role = f"{self.namespace}-{self.name}"
        self.uid = cluster.admin.create({"apiVersion": "v1", "kind": "ServiceAccount",
                                         "metadata": {"name": self.name, "namespace": self.namespace}})["metadata"]["uid"]
        cluster.admin.create({**self._rbac("ClusterRole"), "rules": list(rules)})
        cluster.admin.create({**self._rbac("ClusterRoleBinding"),
                              "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self._role},
                              "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}]})

    def _rbac(self, kind):
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": self._role}}

    def allow(self, rules):
        """These rules instead; the server has them in a moment."""
        self.cluster.admin.replace({**self._rbac("ClusterRole"), "rules": list(rules)})

    def token(self, seconds=3600):
        """From the server, which gives none for less than 600 s."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        return self.cluster.admin.request("POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.name}/token", body)["status"]["token"]

    def short_token(self, seconds):
        """One that the server takes for that long (and up to CACHE_SECONDS more), signed here with the server's key."""
        end = int(time.time() + seconds - LEEWAY_SECONDS)
        issuer = "https://kubernetes.default.svc"
        claims = {"iss": issuer, "aud": [issuer], "iat": end - 600, "nbf": end - 600, "exp": end,
                  "sub": f"system:serviceaccount:{self.namespace}:{self.name}",
                  "kubernetes.io": {"namespace": self.namespace, "serviceaccount": {"name": self.name, "uid": self.uid}}}
        return jwt.encode(claims, self.cluster.pki.account_key.read_text(), algorithm="RS256")

    def remove(self):
        """All of it; its tokens are worth nothing then."""
        self.cluster.admin.delete("ClusterRoleBinding", self._role)
        self.cluster.admin.delete("ClusterRole", self._role)
        self.cluster.admin.delete("ServiceAccount", f"{self.namespace}/{self.name}")


def kubeconfig(path, server, ca, token=None, token_file=None, certificate=None, embed=False):
    """Writes it by rename, and returns the path. certificate: (file, key file); embed: the files' content stands in it, not their names."""
    def file(key, name):
        return {f"{key}-data": base64.b64encode(Path(name).read_bytes()).decode()} if embed else {key: str(name)}

    user = {**({"token": token} if token else {}), **({"tokenFile": str(token_file)} if token_file else {})}
    if certificate:
        user.update({**file("client-certificate", certificate[0]), **file("client-key", certificate[1])})
    rows = {"cluster": {"server": server, **file("certificate-authority", ca)}, "user": user, "context": {"cluster": CONTEXT, "user": CONTEXT}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": CONTEXT, "clusters": [{"name": CONTEXT, "cluster": rows["cluster"]}],
                "users": [{"name": CONTEXT, "user": rows["user"]}], "contexts": [{"name": CONTEXT, "context": rows["context"]}]}
    lab.write_file(path, objects.text(document))
    return path


def in_cluster(directory, ca, token, namespace):
    """The directory that kubelet mounts into a pod: token, ca.crt, namespace. Written again, the token is a rotated one."""
    directory.mkdir(exist_ok=True)
    for name, text in (("token", token), ("ca.crt", Path(ca).read_text()), ("namespace", namespace)):
        lab.write_file(directory / name, text)
    return directory
