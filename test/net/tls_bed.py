"""What the tests of TLS observers share: workloads in cgroups, an HTTPS server, and tls_watch (test/observe), which has the observers and the
kernel's side without a daemon around them; its lines are what the ring said."""
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from harness import TOP
from harness.world import until
import lab

OPENSSL, NODE, GO, ALL = 1, 2, 4, 7
TOKEN_EVENT, APP_EVENT = 6, 7
JWT, OPAQUE_TOKEN, UNHASHED = 1, 2, 3
HTTP1, HTTP2, OTHER = 1, 2, 4
EGRESS, INGRESS = 0, 1
AGENT, SERVER, STRANGER, GOPHER = 101, 102, 103, 104
LINGER_MS = 300
HEAD = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"RS256","typ":"JWT"}
PORT = 8443

HTTPS_SERVER = """
import http.server, ssl, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200); self.send_header("Content-Length", "3"); self.end_headers(); self.wfile.write(b"ok\\n")
    do_GET = do_POST = answer
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[2], sys.argv[3])
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
"""


def jwt(mark, length=0):
    return f"{HEAD}.{mark}{'x' * length}.c2lnbmF0dXJl"


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


class Watch:
    """tls_watch, and the lines that it said."""

    def __init__(self, bpffs, root, workloads):
        self.lines, self.workloads = [], workloads
        binary = TOP / "build" / "test" / "observe" / "tls_watch"
        self.process = subprocess.Popen([binary, str(bpffs), str(root), str(LINGER_MS), *workloads], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        until(lambda: self.find(ready=True) or self.process.poll() is not None, 20, "tls_watch is ready")
        assert self.process.poll() is None, self.process.stderr.read()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def find(self, **match):
        return [x for x in list(self.lines) if all(x.get(k) == v for k, v in match.items())]

    def wait(self, timeout=5.0, **match):
        return until(lambda: self.find(**match), timeout, f"a line with {match}")[0]

    def observed(self):
        return next((x for x in reversed(list(self.lines)) if "probes" in x), {})

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)


class Bed:
    def __init__(self, work):
        self.work = work
        name = f"casad-tls-{os.getpid()}"
        self.bpffs = lab.BPFFS / name
        self.bpffs.mkdir(mode=0o700, exist_ok=True)
        self.root = lab.Cgroup(lab.find_cgroup2() / name).make()
        self.groups = {i: self.root.child(n).make() for i, n in
                       ((AGENT, "agent"), (SERVER, "server"), (STRANGER, "stranger"), (GOPHER, "gopher"))}
        self.key, self.certificate = work / "key.pem", work / "cert.pem"
        lab.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout",
                str(self.key), "-out", str(self.certificate), "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
        self.environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | {"NODE_TLS_REJECT_UNAUTHORIZED": "0",
                                                                                             "NODE_NO_WARNINGS": "1"}
        self.watch = None
        self.start_watch()

    def start_watch(self):
        self.watch = Watch(self.bpffs, self.root.path, [f"{AGENT}=agent:{ALL}", f"{SERVER}=server:{ALL}", f"{STRANGER}=stranger:0",
                                                        f"{GOPHER}=gopher:{GO}"])

    def start(self, who, argv, **kwargs):
        return self.groups[who].popen(argv, env=self.environment, stdin=subprocess.DEVNULL, **kwargs)

    def run(self, who, argv, timeout=30):
        """-> the process's number"""
        p = self.start(who, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, _ = p.communicate(timeout=timeout)
        assert p.returncode == 0, output
        return p.pid

    def serve(self, who=None, port=PORT):
        argv = ["/usr/bin/python3", "-c", HTTPS_SERVER, str(port), str(self.certificate), str(self.key)]
        server = self.start(who, argv) if who else subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        until(lambda: subprocess.run(["curl", "-sk", "-m", "2", f"https://127.0.0.1:{port}/"], env=self.environment,
                                     stdout=subprocess.DEVNULL).returncode == 0, 10, "the server answers")
        return server

    def curl(self, *tokens, port=PORT, who=AGENT, arguments=()):
        url = f"https://127.0.0.1:{port}/curl/a?q=1"
        argv = ["curl", "-sk", "--http1.1", "-m", "10", *arguments]
        for i, t in enumerate(tokens):
            argv += (["--next", "-sk", "--http1.1"] if i else []) + ["-H", f"Authorization: Bearer {t}", "-o", "/dev/null", url]
        return self.run(who, argv)

    def sightings(self, token, pid, count, timeout=5.0):
        """All of this token by this process, of which there are `count`."""
        def found():
            return self.watch.find(kind=TOKEN_EVENT, sha256=sha256(token), pid=pid)
        until(lambda: len(found()) >= count, timeout, f"{count} sightings by {pid}")
        assert len(found()) == count
        return found()

    def close(self):
        self.watch.close()
        self.root.remove()
        shutil.rmtree(self.bpffs, ignore_errors=True)
        for path in sorted(self.bpffs.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if self.bpffs.exists():
            self.bpffs.rmdir()


def probes_of(pid):
    """The links of probes that a process holds, by number."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        except FileNotFoundError:
            continue
        if fields.get("link_type", "").strip() == "perf":
            found.add(int(fields["link_id"]))
    return found


@pytest.fixture(scope="module")
def bed(outside):
    with tempfile.TemporaryDirectory(prefix="casad-tls-") as work, contextlib.ExitStack() as ends:
        b = ends.enter_context(contextlib.closing(Bed(Path(work))))
        server = b.serve()
        ends.callback(server.wait)
        ends.callback(server.kill)
        # The first process that runs a library is there before the probes are; a sleeping one keeps them.
        b.keeper = b.start(AGENT, ["/usr/bin/python3", "-c", "import ssl, time; time.sleep(600)"])
        until(lambda: b.watch.observed().get("probes", 0) >= 10, 10, "libssl has its probes")
        yield b


@pytest.fixture(autouse=True)
def tidy(bed):
    yield
    bed.groups[SERVER].kill()


def check_sighting(bed, token, pid, who=AGENT, direction=EGRESS, connections=1, app=HTTP1, **more):
    seen = bed.watch.wait(kind=TOKEN_EVENT, sha256=sha256(token), pid=pid)
    wanted = {"subject": who, "instance": bed.groups[who].id(), "via": 1, "app": app, "shape": JWT, "length": len(token), "verdict": 0,
              "direction": direction, **more}
    assert {k: seen[k] for k in wanted} == wanted
    assert len(bed.watch.find(kind=APP_EVENT, pid=pid, app=app, via=1, unread=0)) == connections
    return seen


def go_build(bed, name, source, *flags):
    """A Go program: its path."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    assert Path(go).exists(), "go is needed (tools/install-deps.sh)"
    (bed.work / f"{name}.go").write_text(source)
    subprocess.run([go, "build", *flags, "-o", bed.work / name, bed.work / f"{name}.go"], check=True, timeout=240,
                   env={**bed.environment, "GO111MODULE": "off", "GOPROXY": "off"})
    return bed.work / name


@contextlib.contextmanager
def watched_node(bed):
    """While a node runs whose functions have their probes: the next one's first call is seen."""
    node = shutil.which("node")
    assert node, "node is needed (tools/install-deps.sh)"
    before = bed.watch.observed()["probes"]
    keeper = bed.start(AGENT, [node, "-e", "setTimeout(() => 0, 60000)"])
    # Debian's node runs the libssl that has its probes already; others have OpenSSL in a file of their own.
    if b"libssl.so" not in subprocess.run(["ldd", node], capture_output=True, check=True).stdout:
        until(lambda: bed.watch.observed()["probes"] >= before + 10, 10, "node has its probes")
    yield
    keeper.kill()
    keeper.wait()
