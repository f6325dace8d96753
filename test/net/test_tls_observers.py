"""Tokens inside TLS, seen by the observers of TLS libraries: curl, Python, node and Go as clients, Python and nginx as servers. tls_watch
(test/observe) has the observers and the kernel's side without a daemon around them; its lines are what the ring said."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
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

PYTHON = """
import http.client, ssl, sys, time
url, tokens = int(sys.argv[1]), sys.argv[2:]
c = http.client.HTTPSConnection("127.0.0.1", url, context=ssl._create_unverified_context(), timeout=10)
for t in tokens:
    c.request("POST", "/api/x?secret=1", body=b"GET / HTTP/1.1\\r\\nAuthorization: Bearer inside-a-body\\r\\n\\r\\n" * 2000,
              headers={"Authorization": "Bearer " + t})
    assert c.getresponse().read() == b"ok\\n"
"""

NODE_CLIENT = """
(async () => {
  const [port, ...tokens] = process.argv.slice(1);
  for (const t of tokens) {
    const r = await fetch(`https://127.0.0.1:${port}/node`, {headers: {authorization: 'Bearer ' + t}});
    if (await r.text() !== 'ok\\n') process.exit(1);
  }
})().catch(e => { console.error(e); process.exit(1); });
"""

GO_CLIENT = """
package main
import ("crypto/tls"; "fmt"; "io"; "net/http"; "os"; "time")
func main() {
	time.Sleep(300 * time.Millisecond)
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	for _, token := range os.Args[2:] {
		q, _ := http.NewRequest("GET", "https://127.0.0.1:"+os.Args[1]+"/go", nil)
		q.Header.Set("Authorization", "Bearer "+token)
		r, e := (&http.Client{Transport: t}).Do(q)
		if e != nil { fmt.Println(e); os.Exit(1) }
		io.ReadAll(r.Body); r.Body.Close()
	}
}
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

    def close(self):
        self.watch.close()
        self.root.remove()
        shutil.rmtree(self.bpffs, ignore_errors=True)
        for path in sorted(self.bpffs.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if self.bpffs.exists():
            self.bpffs.rmdir()


@pytest.fixture(scope="module")
def bed(outside):
    with tempfile.TemporaryDirectory(prefix="casad-tls-") as work:
        b = Bed(Path(work))
        server = b.serve()
        # The first process that runs a library is there before the probes are; a sleeping one keeps them.
        b.keeper = b.start(AGENT, ["/usr/bin/python3", "-c", "import ssl, time; time.sleep(600)"])
        until(lambda: b.watch.observed().get("probes", 0) >= 10, 10, "libssl has its probes")
        yield b
        server.kill()
        server.wait()
        b.close()


@pytest.fixture(autouse=True)
def tidy(bed):
    yield
    bed.groups[SERVER].kill()


def check_sighting(bed, token, pid, who=AGENT, direction=EGRESS, connections=1, **more):
    seen = bed.watch.wait(kind=TOKEN_EVENT, sha256=sha256(token), pid=pid)
    wanted = {"subject": who, "instance": bed.groups[who].id(), "via": 1, "app": HTTP1, "shape": JWT, "length": len(token), "verdict": 0,
              "direction": direction, **more}
    assert {k: seen[k] for k in wanted} == wanted
    assert len(bed.watch.find(kind=APP_EVENT, pid=pid, app=HTTP1, via=1, unread=0)) == connections
    return seen


def test_curl(bed):
    token = jwt("Y3VybA")
    pid = bed.curl(token)
    check_sighting(bed, token, pid, comm="curl", method="GET", path="/curl/a", request=1)


def test_two_requests_on_one_connection(bed):
    first, second = jwt("b25l"), jwt("dHdv", 3000)
    pid = bed.curl(first, second, first)
    check_sighting(bed, first, pid)
    assert check_sighting(bed, second, pid)["request"] == 2


def test_the_same_token_is_known(bed):
    token = jwt("c2FtZQ")
    pid = bed.curl(token, token)
    until(lambda: len(bed.watch.find(kind=TOKEN_EVENT, sha256=sha256(token), pid=pid)) == 2, what="two sightings")
    assert [x["flags"] for x in bed.watch.find(kind=TOKEN_EVENT, sha256=sha256(token))] == [0, 4]


def test_python(bed):
    tokens = [jwt("cHl0aG9u"), jwt("cHl0aG9u", 4000), "opaque-python-token"]
    pid = bed.run(AGENT, ["/usr/bin/python3", "-c", PYTHON, PORT, *tokens])
    check_sighting(bed, tokens[0], pid, method="POST", path="/api/x")
    check_sighting(bed, tokens[1], pid, request=2)
    check_sighting(bed, tokens[2], pid, request=3, shape=OPAQUE_TOKEN)
    assert not bed.watch.find(sha256=sha256("inside-a-body"))


def test_node(bed):
    if not shutil.which("node"):
        pytest.fail("node is needed (tools/install-deps.sh)")
    before = bed.watch.observed()["probes"]
    keeper = bed.start(AGENT, ["node", "-e", "setTimeout(() => 0, 60000)"])
    until(lambda: bed.watch.observed()["probes"] >= before + 10, 10, "node has its probes")
    token = jwt("bm9kZQ")
    pid = bed.run(AGENT, ["node", "-e", NODE_CLIENT, PORT, token])
    check_sighting(bed, token, pid, path="/node")
    keeper.kill()
    keeper.wait()


@pytest.mark.parametrize("stripped", [False, True], ids=["symbols", "stripped"])
def test_go(bed, stripped):
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        pytest.skip("no Go toolchain")
    source, program = bed.work / "client.go", bed.work / f"client-{stripped}"
    source.write_text(GO_CLIENT)
    subprocess.run([go, "build", *(["-ldflags=-s -w"] if stripped else []), "-o", program, source], check=True, timeout=240,
                   env={**bed.environment, "GO111MODULE": "off", "GOPROXY": "off"})
    token, second = jwt("Z28"), jwt("Z28y", 2000)
    pid = bed.run(GOPHER, [program, PORT, token, second])
    check_sighting(bed, token, pid, who=GOPHER, path="/go")
    check_sighting(bed, second, pid, who=GOPHER, request=2)


def test_a_server_reads_requests(bed):
    server = bed.serve(SERVER, PORT + 1)
    until(lambda: bed.watch.observed()["processes"] > 1, what="the server is followed")
    time.sleep(0.2)  # what was asked meanwhile to see that it answers is over
    before = len(bed.watch.find(kind=APP_EVENT, pid=server.pid))
    token = jwt("c2VydmVy", 500)
    bed.curl(token, port=PORT + 1, who=STRANGER)
    check_sighting(bed, token, server.pid, who=SERVER, direction=INGRESS, connections=before + 1, path="/curl/a")


def test_http2_is_told_as_such(bed):
    if not shutil.which("nghttpx") and not shutil.which("nginx"):
        pytest.skip("no server of HTTP/2")
    conf = bed.work / "nginx.conf"
    conf.write_text(f"""daemon off; master_process off; pid {bed.work}/nginx.pid; error_log /dev/null; events {{}}
http {{ access_log off; client_body_temp_path {bed.work}/b; proxy_temp_path {bed.work}/p; fastcgi_temp_path {bed.work}/f;
  uwsgi_temp_path {bed.work}/u; scgi_temp_path {bed.work}/s;
  server {{ listen 127.0.0.1:{PORT + 2} ssl http2; ssl_certificate {bed.certificate}; ssl_certificate_key {bed.key}; return 200 "ok"; }} }}""")
    server = bed.start(SERVER, [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(conf)])
    until(lambda: subprocess.run(["curl", "-sk", "-m", "2", f"https://127.0.0.1:{PORT + 2}/"], env=bed.environment,
                                 stdout=subprocess.DEVNULL).returncode == 0, 10, "nginx answers")
    time.sleep(0.5)
    pid = bed.run(AGENT, ["curl", "-sk", "--http2", "-m", "5", "-H", "Authorization: Bearer " + jwt("aDI"), f"https://127.0.0.1:{PORT + 2}/"])
    bed.watch.wait(kind=APP_EVENT, pid=pid, app=HTTP2, unread=2, subject=AGENT)
    bed.watch.wait(kind=APP_EVENT, pid=server.pid, app=HTTP2, unread=2, subject=SERVER, direction=INGRESS)


def test_what_is_not_observed_is_not_read(bed):
    token = jwt("c3RyYW5nZXI")
    pid = bed.curl(token, who=STRANGER)
    pid2 = bed.curl(token, who=GOPHER)  # observed for Go only
    subprocess.run(["curl", "-sk", "-H", f"Authorization: Bearer {token}", f"https://127.0.0.1:{PORT}/"], env=bed.environment, check=True,
                   stdout=subprocess.DEVNULL)
    marker = jwt("bWFya2Vy")
    bed.curl(marker)
    bed.watch.wait(sha256=sha256(marker))
    assert not bed.watch.find(sha256=sha256(token))
    assert not bed.watch.find(pid=pid) and not bed.watch.find(pid=pid2)


def test_not_http(bed):
    """A server that speaks first, and a client that says something else: told once, as not readable."""
    server = subprocess.Popen(["openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{PORT + 3}", "-key", bed.key, "-cert", bed.certificate],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = bed.start(AGENT, ["/usr/bin/python3", "-c", f"""
import socket, ssl, time
for i in range(100):
    try: s = socket.create_connection(("127.0.0.1", {PORT + 3}), 5); break
    except OSError: time.sleep(0.05)
c = ssl._create_unverified_context().wrap_socket(s)
print(c.recv(100)); c.sendall(b"\\x00\\x01binary"); c.sendall(b"GET / HTTP/1.1\\r\\nAuthorization: Bearer late\\r\\n\\r\\n"); time.sleep(0.2)"""])
    time.sleep(1)
    server.stdin.write(b"\x00hello\n")
    server.stdin.flush()
    assert client.wait(15) == 0
    bed.watch.wait(kind=APP_EVENT, pid=client.pid, app=OTHER, unread=2)
    assert not bed.watch.find(sha256=sha256("late"))
    server.kill()
    server.wait()


def test_forked_children_keep_the_probes(bed):
    """A library stays observed while a child has it, though the process that loaded it has ended."""
    token = jwt("Zm9yaw")
    p = bed.start(AGENT, ["/usr/bin/python3", "-c", f"""
import os, ssl, subprocess, sys, time
time.sleep(0.3)
if os.fork(): os._exit(0)
time.sleep(1)
sys.argv = ["x", "{PORT}", "{token}"]
exec({PYTHON!r})"""])
    assert p.wait(10) == 0
    bed.watch.wait(sha256=sha256(token))


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


def live_links():
    done = subprocess.run([shutil.which("bpftool") or "/usr/sbin/bpftool", "-j", "link"], stdout=subprocess.PIPE, text=True, check=True)
    return {x["id"] for x in json.loads(done.stdout)}


def test_probes_go_with_the_last_process(bed):
    """Run late in the module: ends the process that keeps libssl observed."""
    bed.groups[AGENT].kill()
    bed.keeper.wait()
    until(lambda: bed.watch.observed()["probes"] == 0, 10, "no probe is left")
    assert bed.watch.observed()["processes"] == 0
    late = bed.start(AGENT, ["/usr/bin/python3", "-c", f"""
import sys, time
time.sleep(0.7)      # the looks after exec() are over
import ssl           # the library is loaded now: the linker tells
time.sleep(0.5)
sys.argv = ["x", "{PORT}", "{jwt('bGF0ZQ')}"]
exec({PYTHON!r})"""])
    assert late.wait(20) == 0
    check_sighting(bed, jwt("bGF0ZQ"), late.pid)


def test_a_killed_daemon_leaves_nothing(bed):
    keeper = bed.start(AGENT, ["/usr/bin/python3", "-c", "import ssl, time; time.sleep(60)"])
    until(lambda: bed.watch.observed()["probes"] >= 10, 10, "probes")
    mine = probes_of(bed.watch.process.pid)
    assert len(mine) >= 10 and mine <= live_links()
    bed.watch.process.send_signal(signal.SIGKILL)
    bed.watch.process.wait()
    until(lambda: not mine & live_links(), 10, "its links are gone", pause=0.1)
    assert not list(bed.bpffs.rglob("casa_tls_*"))
    bed.curl(jwt("dW5vYnNlcnZlZA"))  # and what had probes still works
    bed.start_watch()  # the next one finds the process that is there already
    until(lambda: bed.watch.observed().get("probes", 0) >= 10, 10, "probes again")
    token = jwt("YWdhaW4")
    check_sighting(bed, token, bed.curl(token))
    keeper.kill()
    keeper.wait()
