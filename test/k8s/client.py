"""A small client of the Kubernetes API, of http.client and nothing else, so that what a test sees is what the server sent.

Objects are plain dicts. One of them is named by its kind and "namespace/name" (or "name", for kinds without a namespace), as in the rest of
the harness. A client may be used by several threads at once: each has a connection of its own.
"""
import http.client
import json
import queue
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

# kind: (API group and version, plural, is in a namespace, has a status of its own that a create or replace leaves alone)
KINDS = {
    "Namespace": ("v1", "namespaces", False, True),
    "Node": ("v1", "nodes", False, True),
    "Pod": ("v1", "pods", True, True),
    "Service": ("v1", "services", True, True),
    "ServiceAccount": ("v1", "serviceaccounts", True, False),
    "ConfigMap": ("v1", "configmaps", True, False),
    "Deployment": ("apps/v1", "deployments", True, True),
    "ReplicaSet": ("apps/v1", "replicasets", True, True),
    "EndpointSlice": ("discovery.k8s.io/v1beta1", "endpointslices", True, False),
    "CASAPolicy": ("casa.io/v1alpha1", "casapolicies", True, True),
    "MultiAgentSystem": ("casa.io/v1alpha1", "multiagentsystems", True, True),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", False, True),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False, False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False, False),
}
PATCHES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json", "strategic": "application/strategic-merge-patch+json",
           "apply": "application/apply-patch+yaml"}


def path_of(kind, namespace=None, name=None, part=None):
    version, plural, namespaced, _ = KINDS[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    within = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return root + within + f"/{plural}" + (f"/{name}" if name else "") + (f"/{part}" if part else "")


def _path(kind, who, part=None):
    namespace, name = who.split("/") if KINDS[kind][2] else (None, who)
    return path_of(kind, namespace, name, part)


def who(thing):
    metadata = thing["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if KINDS[thing["kind"]][2] else metadata["name"]


class ApiError(Exception):
    """The server refused: code (HTTP), reason (as in its Status object), status (that object)."""

    def __init__(self, method, path, code, body):
        try:
            self.status = json.loads(body)
        except ValueError:
            self.status = {}
        self.code, self.reason = code, self.status.get("reason")
        super().__init__(f"{method} {path}: {code} {self.reason}: {self.status.get('message', body[:200])}")


class _Connection(http.client.HTTPSConnection):
    def __init__(self, client, timeout):
        super().__init__(client.address, client.port, timeout=timeout, context=client.context)
        self._dial, self._tls = client.dial, client.context

    def connect(self):
        plain = self._dial((self.host, self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are sent apart
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class Client:
    def __init__(self, address, port, ca, dial, token=None, certificate=None, timeout=15.0):
        """dial: as socket.create_connection; token: text, or a function that gives it; certificate: (file, key file); timeout: seconds
        of silence after which a request fails with TimeoutError."""
        self.address, self.port, self.dial, self.token, self.timeout = address, port, dial, token, timeout
        self.context = ssl.create_default_context(cafile=str(ca))
        if certificate:
            self.context.load_cert_chain(*map(str, certificate))
        self._local = threading.local()

    # -- requests

    def headers(self):
        token = self.token() if callable(self.token) else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def connection(self, timeout=None):
        return _Connection(self, self.timeout if timeout is None else timeout)

    def request(self, method, path, body=None, kind="application/json", query=None):
        """The answer's object; ApiError, or OSError where there was no answer. A kept connection that turned out closed before anything was
        answered is made anew, once."""
        if query:
            path += "?" + urlencode({k: v for k, v in query.items() if v is not None})
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self.headers(), **({"Content-Type": kind} if data is not None else {})}
        for attempt in (0, 1):
            kept = getattr(self._local, "connection", None)
            connection = kept or self.connection()
            self._local.connection = None
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
                connection.close()
                if kept is None or attempt:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            self._local.connection = connection
            if answer.status >= 400:
                raise ApiError(method, path, answer.status, text.decode(errors="replace"))
            return json.loads(text) if text[:1] == b"{" else text.decode()

    def get(self, kind, name):
        return self.request("GET", _path(kind, name))

    def find(self, kind, name):
        """get, or None where there is none"""
        try:
            return self.get(kind, name)
        except ApiError as e:
            if e.code != 404:
                raise
            return None

    def list(self, kind, namespace=None, **query):
        """The list object; query: limit, continue (as {"continue": ...}), labelSelector, fieldSelector, resourceVersion."""
        return self.request("GET", path_of(kind, namespace), query=query)

    def create(self, thing):
        return self.request("POST", path_of(thing["kind"], thing["metadata"].get("namespace")), thing)

    def replace(self, thing, part=None):
        return self.request("PUT", _path(thing["kind"], who(thing), part), thing)

    def patch(self, kind, name, body, how="merge", part=None):
        return self.request("PATCH", _path(kind, name, part), body, PATCHES[how])

    def apply(self, thing, manager="test"):
        """Server-side apply: makes the object, or brings the fields it names to what it says."""
        return self.request("PATCH", _path(thing["kind"], who(thing)), thing, PATCHES["apply"], {"fieldManager": manager, "force": "true"})

    def delete(self, kind, name, grace_seconds=0):
        """At once; with grace_seconds, or None for the server's own idea, a pod on a node stays until its kubelet deletes it anew with 0."""
        body = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        return self.request("DELETE", _path(kind, name), body)

    def place(self, pod, node):
        """What the scheduler does for a pod ("namespace/name") that has no node yet."""
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.split("/")[1]}, "target": {"kind": "Node", "name": node}}
        self.request("POST", _path("Pod", pod, "binding"), body)

    # -- objects with a status

    def put(self, thing):
        """Makes or replaces an object together with its status, which is a second write, as controllers and kubelet do it. The answer to
        the last write."""
        found = self.find(thing["kind"], who(thing))
        return self._put(thing, found["metadata"]["resourceVersion"] if found else None)

    def _put(self, thing, version):
        metadata = {k: v for k, v in thing["metadata"].items() if k not in ("uid", "resourceVersion", "creationTimestamp")}
        if version:
            metadata["resourceVersion"] = version
        has_status = KINDS[thing["kind"]][3] and thing.get("status")
        body = {k: v for k, v in thing.items() if k != "status"}
        made = (self.replace if version else self.create)({**body, "metadata": metadata})
        if not has_status:
            return made
        return self.patch(thing["kind"], who(made), {"status": thing["status"]}, part="status")

    def put_all(self, things, connections=4):
        """New objects by the thousand, with their status, over several connections; the answers, in the order of the objects."""
        with ThreadPoolExecutor(connections) as pool:
            return list(pool.map(lambda thing: self._put(thing, None), things))

    # -- whole namespaces

    def clear(self, kind, namespace):
        """Deletes all of that kind. Services, of which each holds an address, this server deletes only one by one."""
        if kind == "Service":
            for found in self.list(kind, namespace)["items"]:
                self.delete(kind, f"{namespace}/{found['metadata']['name']}")
        else:
            self.request("DELETE", path_of(kind, namespace), {"gracePeriodSeconds": 0})

    def remove_namespace(self, name, kinds):
        """With all objects of these kinds in it. Does what the namespace controller would, which need not run."""
        for kind in kinds:
            self.clear(kind, name)
        try:
            gone = self.request("DELETE", path_of("Namespace", name=name))
            self.request("PUT", path_of("Namespace", name=name, part="finalize"), {**gone, "spec": {"finalizers": []}})
        except ApiError as e:
            if e.code not in (404, 409):  # a controller that runs was first
                raise

    def watch(self, kind, namespace=None, **query):
        return Watch(self, path_of(kind, namespace), query)


class Watch:
    """A watch as the server sends it, read by a thread. Its events are dicts with type and object; `ended` is set when the server ended
    the answer or the connection."""

    def __init__(self, client, path, query, timeout=3600.0):
        self._connection = client.connection(timeout)
        self._connection.request("GET", f"{path}?{urlencode({'watch': 'true', **query})}", headers=client.headers())
        self._events, self.ended, self.seen = queue.Queue(), threading.Event(), []
        self._socket = self._connection.sock  # http.client lets go of it when the answer is to end with the connection
        answer = self._connection.getresponse()
        if answer.status != 200:
            text = answer.read().decode(errors="replace")
            self._connection.close()
            raise ApiError("WATCH", path, answer.status, text)
        self._reader = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._reader.start()

    def _read(self, answer):
        try:
            while line := answer.readline():
                self._events.put(json.loads(line))
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass  # closed, by either side
        self.ended.set()

    def next(self, timeout=5.0):
        """The next event; None when none came within the time."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        self.seen.append(event)
        return event

    def until(self, condition, timeout=10.0):
        """The first event of which condition is true; AssertionError with what came instead."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            event = self.next(left)
            if event is not None and condition(event):
                return event
        raise AssertionError(f"no such event within {timeout} s; last seen: {self.seen[-3:]}")

    def close(self):
        try:
            self._socket.shutdown(2)
        except OSError:
            pass
        self._reader.join(5)
        self._connection.close()
