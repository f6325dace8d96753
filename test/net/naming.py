"""What the tests of names share: a real resolver, TLS servers behind two names on one address, and clients that people use.

The resolver (dnsmasq) listens at 127.0.0.1:53 of the run's own network namespace, as a process of the host; the servers are outside,
behind the veth pair. Clients run in the agent's cgroup with a resolv.conf of their own, mounted in a mount namespace.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from harness.objects import policy
from harness.world import until
import lab

LLM, OTHER, THIRD = "api.llm.example", "files.llm.example", "api.other.example"
PORT = 443
RESOLVER = "127.0.0.1"
A, AAAA, TXT, NULL, ANY, PTR, HTTPS, OPT = 1, 28, 16, 10, 255, 12, 65, 41


def llm_policy(who, fqdn=LLM, port=PORT, endpoints=(), **options):
    p = policy(who, *endpoints, **options)
    p["spec"]["llmEndpoint"] = {"fqdn": fqdn, "port": port}
    return p


def wire_name(name):
    return b"".join(bytes([len(label)]) + label for label in name.encode("latin1").split(b".") if label) + b"\0"


def query(name, kind=A, ident=0x1234, flags=0x0100, extra=b"", counts=(1, 0, 0, 0), klass=1):
    """One DNS query as bytes; `name`: text or wire bytes."""
    name = wire_name(name) if isinstance(name, str) else name
    return struct.pack(">6H", ident, flags, *counts) + name + struct.pack(">2H", kind, klass) + extra


def answer(name, addresses, ident=0x1234, kind=A, ttl=60, flags=0x8180, question=None, owner=b"\xc0\x0c", extra=b"", count=None):
    """An answer to query(name, kind)."""
    question = wire_name(name) if question is None else question
    records = b""
    for a in addresses:
        data = socket.inet_pton(socket.AF_INET if kind == A else socket.AF_INET6, a)
        records += owner + struct.pack(">2HIH", kind, 1, ttl, len(data)) + data
    n = len(addresses) if count is None else count
    return struct.pack(">6H", ident, flags, 1, n, 0, 0) + question + struct.pack(">2H", kind, 1) + records + extra


class Resolver:
    """dnsmasq on 127.0.0.1:53, with the names that it is given and no upstream. popen, make_socket: another place for it and who tries it."""

    def __init__(self, work, records, listen=RESOLVER, arguments=(), popen=subprocess.Popen, make_socket=socket.socket):
        self.hosts = Path(work) / "dnsmasq.hosts"
        self.log = Path(work) / "dnsmasq.log"
        self.listen, self.arguments, self.popen, self.make_socket = listen, arguments, popen, make_socket
        self.process = None
        self.set(records)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def set(self, records):
        """{name: [address, ...]}"""
        self.hosts.write_text("".join(f"{a} {name}\n" for name, addresses in records.items() for a in addresses))
        if self.process:
            self.process.send_signal(signal.SIGHUP)

    def start(self):
        self.process = self.popen(
            [shutil.which("dnsmasq") or "/usr/sbin/dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root",
             f"--listen-address={self.listen}", "--bind-interfaces", f"--addn-hosts={self.hosts}", "--log-queries=extra",
             f"--log-facility={self.log}", "--local=/example/", "--conf-file=/dev/null", "--pid-file=",
             *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers, what="dnsmasq answers")

    def answers(self):
        assert self.process.poll() is None, self.log.read_text() if self.log.exists() else "dnsmasq ended"
        with self.make_socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            s.sendto(query("up.example"), (self.listen.split(",")[0], 53))
            try:
                return len(s.recv(512)) >= 12
            except OSError:
                return False

    def asked(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def certify(work, names):
    """-> (key, certificate): files of `work` that are named by the first of the names."""
    key, certificate = Path(work) / f"{names[0]}.key", Path(work) / f"{names[0]}.pem"
    lab.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={names[0]}",
            "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names))
    return key, certificate


class TlsServer:
    """openssl s_server outside, with a certificate for some names; counts nothing, answers HTTP with -www."""

    def __init__(self, work, outside, address, port=PORT, names=(LLM, OTHER), arguments=("-www",), like=None):
        """like: another server, to have its certificate."""
        self.key, self.certificate = (like.key, like.certificate) if like else certify(work, names)
        listen = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.process = outside.popen(["openssl", "s_server", "-accept", listen, "-key", self.key, "-cert", self.certificate, "-quiet",
                                      *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.outside, self.address, self.port = outside, address, port
        probe = ["sh", "-c", f"exec openssl s_client -connect {listen} -brief </dev/null"]
        try:
            until(lambda: subprocess.run([*outside.enter(), *probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         timeout=10).returncode == 0, what="s_server answers")
        except BaseException:
            self.close()
            raise

    def close(self):
        self.process.kill()
        self.process.wait()


class Client:
    """Runs programs in a workload's cgroup, with the resolver in their resolv.conf."""

    def __init__(self, cgroup, work, resolver=RESOLVER, search=(), certificate=None):
        self.cgroup, self.certificate = cgroup, certificate
        self.conf = Path(work) / f"client-{os.path.basename(cgroup.path)}.conf"
        self.conf.write_text(f"nameserver {resolver}\n" + (f"search {' '.join(search)}\n" if search else "") +
                             "options timeout:2 attempts:1\n")

    def start(self, argv, **kwargs):
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                  'mount --bind "$0" "$(readlink -f /etc/resolv.conf)"; exec "$@"', str(self.conf), *map(str, argv)]
        environment = {**os.environ, "SSL_CERT_FILE": str(self.certificate or ""),
                       "CURL_CA_BUNDLE": str(self.certificate or ""), "NODE_EXTRA_CA_CERTS": str(self.certificate or "")}
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            environment.pop(name, None)
        return self.cgroup.popen(inside, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, **kwargs)

    def run(self, argv, timeout=20):
        """-> (exit status, output, seconds)"""
        started = time.monotonic()
        p = self.start(argv)
        try:
            output, _ = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            output, _ = p.communicate()
            return "timeout", output, time.monotonic() - started
        return p.returncode, output, time.monotonic() - started

    def curl(self, url, *arguments):
        return self.run(["curl", "-sS", "-m", "8", "--cacert", self.certificate, *arguments, url])


def name_endpoint(world, fqdn=LLM):
    return next((e for e in world.daemon.api.get("/v1/endpoints")["items"] if e.get("fqdn") == fqdn), None)


def dump(value):
    return json.dumps(value, indent=1)


def socket_outside(outside, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    """A socket of this process in the outside's network namespace: a thread that goes there makes it."""
    made = []

    def make():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{outside.holder.pid}/ns/net", encoding="ascii") as there:
            if libc.setns(there.fileno(), lab.CLONE_NEWNET) == 0:
                made.append(socket.socket(family, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, "setns failed"
    made[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made[0]


class Listener:
    """A TCP server outside, step by step: the test sees each byte that arrives, and says what it likes."""

    def __init__(self, outside, address=lab.PARTNER4, port=PORT):
        self.socket = socket_outside(outside, socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.bind((address, port))
        self.socket.listen(64)
        self.address, self.port = address, port

    def accept(self, timeout=3.0):
        self.socket.settimeout(timeout)
        connection, _ = self.socket.accept()
        connection.settimeout(timeout)
        return connection

    def close(self):
        self.socket.close()


def received(connection, wanted, timeout=3.0):
    """Bytes until there are `wanted`, the end, or the time is over."""
    data, end = b"", time.monotonic() + timeout
    while len(data) < wanted:
        connection.settimeout(max(0.01, end - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data


def resolved(world, fqdn=LLM, workload="agents/agent"):
    """{address: sources} of the addresses that are in force for the workload"""
    endpoint = name_endpoint(world, fqdn) or {}
    return {a["address"]: set(a["sources"]) for a in endpoint.get("resolved", [])
            if a.get("workload") == workload and a["secondsLeft"] > 0}


class Names:
    """The usual world: an agent that may call one name, dnsmasq, and TLS servers with two names on one address."""

    def __init__(self, world, servers=True):
        self.world, self.work = world, world.daemon.work
        self.servers = []
        self.resolver = Resolver(self.work, {n: [lab.OUTSIDE4, lab.OUTSIDE6] for n in (LLM, OTHER)})
        try:
            world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
            if servers:
                self.servers.append(TlsServer(self.work, world.outside, lab.OUTSIDE4))
                self.servers.append(TlsServer(self.work, world.outside, lab.OUTSIDE6, like=self.servers[0]))
            world.put("agent.yaml", llm_policy("agents/agent"))
            self.agent = world.puppet("agents/agent")
            self.client = Client(self.agent.cgroup, self.work, certificate=self.servers[0].certificate if servers else None)
            world.start()
        except BaseException:
            self.close()
            raise

    def wait_resolved(self, address=lab.OUTSIDE4):
        until(lambda: address in resolved(self.world), what=f"{address} is known to the daemon's resolver")

    def close(self):
        for server in self.servers:
            server.close()
        self.resolver.close()
