"""A real API server with its etcd, in a network namespace of their own that only leads to the namespaces that a test links to it.

What a server does to its clients when it fails can be had here: it is killed, frozen (the kernel still takes what is sent to it, nobody
reads), dark (no packet gets in or out: TCP hears nothing), or forgets its history (a watch from an old resourceVersion gets 410).
Tests reach it through the namespace's loopback, which none of this cuts off but the death of the server itself.
"""
import base64
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.netns import Namespace
from harness.world import until

import access
from client import KINDS, ApiError, Client
from pki import Pki

BINARIES = Path(os.environ.get("CASAD_DEPS_CACHE", "/var/cache/casad-deps")) / "k8s" / "bin"
PORT, ETCD_PORT, ETCD_PEER_PORT, CONTROLLERS_PORT = 6443, 2379, 2380, 10257
ADDRESS4, ADDRESS6 = "198.18.0.1", "2001:db8:18::1"  # where the server is for those that are linked to it
ISSUER = "https://kubernetes.default.svc"
READY_SECONDS = 90  # an idle machine takes 5
# Not by default: garbagecollector, which ends pods whose owner a test only named.
CONTROLLERS = "namespace,serviceaccount,deployment,replicaset,endpoint,endpointslice"


class Program:
    """A server program that can be ended hard and started anew; its output is added to one log file."""

    def __init__(self, namespace, log, *argv):
        self.namespace, self.log, self.argv, self.process = namespace, log, argv, None
        self.name = Path(argv[0]).name

    def start(self):
        with open(self.log, "ab") as log:
            # It ends with the test, also when that is killed.
            self.process = self.namespace.popen(["setpriv", "--pdeathsig", "KILL", *self.argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(60)  # of 100,000 Pods the server has 7 GB to give back
            self.process = None

    def log_tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    def __init__(self, work):
        """work: a directory that is there and empty."""
        self.work, self.namespace = work, Namespace()
        self._numbers, self._dark = itertools.count(1), False
        self.namespace.batch("ip", f"link set lo up\naddress add {ADDRESS4}/32 dev lo\naddress add {ADDRESS6}/128 dev lo nodad\n")
        self.pki = Pki(work / "pki", [f"IP:{a}" for a in ("127.0.0.1", "::1", ADDRESS4, ADDRESS6)] +
                       ["DNS:" + n for n in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")])
        self.etcd = self._program(
            "etcd", "--data-dir", work / "etcd", "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", f"http://127.0.0.1:{ETCD_PORT}", "--advertise-client-urls", f"http://127.0.0.1:{ETCD_PORT}",
            "--listen-peer-urls", f"http://127.0.0.1:{ETCD_PEER_PORT}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{ETCD_PEER_PORT}",
            "--initial-cluster", f"default=http://127.0.0.1:{ETCD_PEER_PORT}")
        certificate, key = self.pki.server
        self.server = self._program(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}", "--etcd-compaction-interval=0", f"--secure-port={PORT}",
            f"--advertise-address={ADDRESS4}", f"--cert-dir={self.pki.directory}", f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}", f"--client-ca-file={self.pki.ca}", f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self.pki.account_key}", f"--service-account-signing-key-file={self.pki.account_key}",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true", "--delete-collection-workers=8",
            "--feature-gates=IPv6DualStack=true", "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            # Pods are made without the service account that a controller gives each namespace.
            "--disable-admission-plugins=ServiceAccount")
        self.admin_certificate = self.pki.client("admin", ["system:masters"])
        self.admin = self.client(certificate=self.admin_certificate)
        self.controllers = None

    def _program(self, name, *arguments):
        return Program(self.namespace, self.work / f"{name}.log", BINARIES / name, *arguments)

    # -- life

    def start(self):
        self.etcd.start()
        self.server.start()
        self.wait_ready()
        return self

    def is_ready(self):
        try:
            return self.client(certificate=self.admin_certificate, timeout=2.0).request("GET", "/readyz") == "ok"
        except (OSError, http.client.HTTPException, ApiError):
            return False

    def wait_ready(self, timeout=READY_SECONDS):
        end = time.monotonic() + timeout
        while not self.is_ready():
            for program in (self.etcd, self.server):
                if not program.runs():
                    raise RuntimeError(f"{program.name} ended with {program.process and program.process.returncode}:\n{program.log_tail()}")
            if time.monotonic() > end:
                raise RuntimeError(f"kube-apiserver was not ready within {timeout} s:\n{self.server.log_tail()}")
            time.sleep(0.05)

    def kill(self):
        """The server ends without a word to its clients but what the kernel says: ports answer with a reset."""
        self.server.kill()

    def restart(self):
        self.server.kill()
        self.server.start()
        self.wait_ready()

    def start_controllers(self, controllers=CONTROLLERS):
        """Those of kube-controller-manager, which most tests do without, since they write the objects themselves."""
        kubeconfig = access.kubeconfig(self.work / "controllers.kubeconfig", f"https://127.0.0.1:{PORT}", self.pki.ca, certificate=self.admin_certificate)
        self.controllers = self._program(
            "kube-controller-manager", f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--port=0", "--bind-address=127.0.0.1",
            f"--secure-port={CONTROLLERS_PORT}", f"--cert-dir={self.pki.directory}", f"--root-ca-file={self.pki.ca}",
            f"--service-account-private-key-file={self.pki.account_key}", f"--controllers={controllers}", "--feature-gates=IPv6DualStack=true",
            "--kube-api-qps=200", "--kube-api-burst=200")
        self.controllers.start()

    def stop_controllers(self):
        if self.controllers:
            self.controllers.kill()
            self.controllers = None

    def freeze(self):
        """When it returns nothing of the server runs: a busy machine stops a process's threads one by one."""
        self.server.signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.server.process.pid}/task")
        until(lambda: all(t.read_text().rpartition(")")[2].split()[0] == "T" for t in threads.glob("*/stat")), 5, "a server that stands still")

    def thaw(self):
        self.server.signal(signal.SIGCONT)

    def mend(self):
        """Whatever a test did: the server runs, is reachable, and answers."""
        self.stop_controllers()
        if self._dark:
            self.lighten()
        if self.server.runs():
            self.thaw()
        else:
            self.server.start()
        if not self.etcd.runs():
            self.etcd.start()
        self.wait_ready()

    def define(self, definitions):
        """CustomResourceDefinitions, until the server serves them."""
        for one in definitions:
            self.admin.create(one)
        end = time.monotonic() + 30
        for one in definitions:
            while not self._serves(one["spec"]["names"]["kind"]):
                if time.monotonic() > end:
                    raise RuntimeError(f"{one['metadata']['name']} is not served: {self.admin.get(one['kind'], one['metadata']['name'])['status']}")
                time.sleep(0.05)

    def _serves(self, kind):
        try:
            self.admin.list(kind, limit=1)
            return True
        except ApiError as e:
            if e.code not in (404, 503):
                raise
            return False

    def close(self):
        self.stop_controllers()
        self.server.kill()
        self.etcd.kill()
        self.namespace.close()

    # -- the network

    def link(self, path=None, name="k8s0"):
        """Leads from a network namespace, of this path or this process's own, to the server."""
        number = next(self._numbers)
        far = path or f"/proc/{os.getpid()}/ns/net"
        self.namespace.batch("ip", f"""
            link add to{number} type veth peer name {name} netns {far}
            address add 198.18.{number}.1/30 dev to{number}
            address add 2001:db8:18:{number}::1/64 dev to{number} nodad
            link set to{number} up
            """)
        there = _Far(far)
        try:
            there.batch("ip", f"""
                address add 198.18.{number}.2/30 dev {name}
                address add 2001:db8:18:{number}::2/64 dev {name} nodad
                link set {name} up
                route add {ADDRESS4}/32 via 198.18.{number}.1
                route add {ADDRESS6}/128 via 2001:db8:18:{number}::1
                """)
        finally:
            there.close()

    def darken(self):
        """From now on no packet gets from a link to the server or back; connections stay as they are and hear nothing."""
        chains = "".join(f'chain {hook} {{ type filter hook {hook} priority -300; {way} != "lo" drop; }}\n'
                         for hook, way in (("input", "iifname"), ("output", "oifname")))
        self.namespace.batch("nft", f"table inet dark {{ {chains} }}")
        self._dark = True

    def lighten(self):
        self.namespace.batch("nft", "delete table inet dark")
        self._dark = False

    # -- history

    def etcd_call(self, what, body):
        """One call of etcd's JSON gateway."""
        return self._etcd_calls(what, [body])[0]

    def _etcd_calls(self, what, bodies):
        """Over one connection, one after the other."""
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", ETCD_PORT, timeout=30)
            found = []
            for body in bodies:
                connection.request("POST", f"/v3/{what}", json.dumps(body))
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"etcd: {what}: {answer.status}: {text.decode(errors='replace')}")
                found.append(json.loads(text))
            connection.close()
            return found
        return self.namespace.inside(ask)

    def revision(self):
        return int(self.etcd_call("maintenance/status", {})["header"]["revision"])

    def compact(self):
        """etcd forgets all before now: lists that go on from an earlier revision get 410. The server's own memory of recent events lasts,
        and watches feed on that."""
        self.etcd_call("kv/compaction", {"revision": self.revision(), "physical": True})

    def forget(self, meanwhile=None):
        """compact, and a new server, which knows of nothing before its start: watches from before get 410. meanwhile: is called while there
        is no server, with etcd alone (store, unstore)."""
        self.server.kill()
        if meanwhile:
            meanwhile()
        for _ in range(2):  # a server still takes a watch from the revision that it started at
            self.etcd_call("kv/put", {"key": _base64("test"), "value": _base64("test")})
        self.compact()
        self.server.start()
        self.wait_ready()

    # -- storms

    def store(self, objects):
        """Pods and objects of casad's kinds by the ten thousand, in seconds: written where the server keeps them, with uids made here. It
        lists and watches them as any other; only its admission has not seen them. Each is a write of its own: what one transaction wrote
        would have one resourceVersion, and a watch that goes on from there would miss the rest."""
        puts = []
        for one in objects:
            metadata = {"creationTimestamp": "2026-01-01T00:00:00Z", **one["metadata"], "uid": str(uuid.uuid4())}
            metadata.pop("resourceVersion", None)  # the server makes it of etcd's revision
            name = f"{self._prefix(one['kind'], metadata['namespace'])}{metadata['name']}"
            puts.append({"key": _base64(name), "value": _base64(json.dumps({**one, "metadata": metadata}))})
        self._etcd_each("kv/put", puts)

    def stored(self, kind, name):
        """An object's bytes, as the server itself has stored them."""
        rows = self.etcd_call("kv/range", {"key": _base64(self._key(kind, *name.split("/")))})["kvs"]
        return base64.b64decode(rows[0]["value"])

    def store_bytes(self, kind, rows):
        """Objects as `stored` gives them. rows: (namespace, name, bytes)."""
        self._etcd_each("kv/put", [{"key": _base64(self._key(kind, *name)), "value": base64.b64encode(data).decode()} for *name, data in rows])

    def unstore(self, kind, namespace, name=None):
        """The end of all of them, or of one."""
        first = self._prefix(kind, namespace)
        keys = [_base64(first + name)] if name else [
            row["key"] for row in self.etcd_call("kv/range", {"key": _base64(first), "range_end": _base64(first[:-1] + "0"),  # "0" follows "/"
                                                              "keys_only": True}).get("kvs", [])]
        self._etcd_each("kv/deleterange", [{"key": key} for key in keys])

    def _etcd_each(self, what, bodies, connections=4):
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda i: self._etcd_calls(what, bodies[i::connections]), range(connections)))

    def _key(self, kind, namespace, name):
        return self._prefix(kind, namespace) + name

    @staticmethod
    def _prefix(kind, namespace):
        version, plural, _, _ = KINDS[kind]
        group = version.split("/")[0] + "/" if "/" in version else ""
        return f"/registry/{group}{plural}/{namespace}/"

    # -- clients

    def client(self, address="127.0.0.1", **options):
        """Through the namespace's own loopback."""
        return Client(address, PORT, self.pki.ca, self._dial, **options)

    def linked_client(self, address=ADDRESS4, **options):
        """As whoever is linked to the server sees it, from this process's own namespace."""
        return Client(address, PORT, self.pki.ca, socket.create_connection, **options)

    def _dial(self, address, timeout):
        return self.namespace.inside(socket.create_connection, address, timeout)

    @property
    def url(self):
        return f"https://{ADDRESS4}:{PORT}"


def _base64(text):
    return base64.b64encode(text.encode()).decode()


class _Far(Namespace):
    """A namespace that is there already."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
