"""An LLM endpoint on port 80: clear text, every request of a connection held to the endpoint's name by its Host header."""
import json
import subprocess
import time

import pytest

from naming import LLM, OTHER, RESOLVER, Client, Resolver, llm_policy
from harness.world import until
import lab

SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        n = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding"):
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                self.rfile.read(size + 2)
                if not size: break
        self.rfile.read(n)
        body = self.headers["Host"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer((sys.argv[1], 80), H).serve_forever()
"""

# What a test sends: pieces, each its own segment. Runs in the agent's cgroup; prints what came back, or the error.
TALK = """
import json, socket, sys, time
s = socket.create_connection((sys.argv[1], 80), timeout=5)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    for piece in json.loads(sys.argv[2]):
        s.sendall(piece.encode("latin1")); time.sleep(0.002)
    got = b""
    s.settimeout(2)
    want = int(sys.argv[3])
    while got.count(b"HTTP/1.1 200") < want:
        data = s.recv(65536)
        if not data: break
        got += data
    print("got", got.count(b"HTTP/1.1 200"))
except OSError as e:
    import errno
    print(errno.errorcode.get(e.errno, type(e).__name__))
"""


@pytest.fixture(scope="module")
def web(lasting_world, outside):
    world = lasting_world()
    work = world.daemon.work
    world.keep(Resolver(work, {LLM: [lab.OUTSIDE4], OTHER: [lab.OUTSIDE4]}))
    world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
    world.keep(outside.popen(["/usr/bin/python3", "-c", SERVER, lab.OUTSIDE4], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    world.put("agent.yaml", llm_policy("agents/agent", port=80))
    agent = world.puppet("agents/agent")
    world.start()
    world.client = Client(agent.cgroup, work)
    until(lambda: world.client.run(["curl", "-s", "-m", "3", f"http://{LLM}/"])[0] == 0, 20, "the web server answers")
    return world


def talk(web, pieces, want=1):
    status, output, _ = web.client.run(["/usr/bin/python3", "-c", TALK, lab.OUTSIDE4, json.dumps(pieces), str(want)])
    assert status == 0, output
    return output.strip()


def get(host=LLM, path="/", extra="", version="1.1"):
    return f"GET {path} HTTP/{version}\r\nHost: {host}\r\n{extra}\r\n"


def test_curl(web):
    status, output, _ = web.client.run(["curl", "-sS", "-m", "5", f"http://{LLM}/a", f"http://{LLM}/b"])
    assert (status, output) == (0, LLM + LLM)


ALLOWED = {
    "one": ([get()], 1),
    "upper-case": ([get(LLM.upper())], 1),
    "with-port": ([get(LLM + ":80")], 1),
    "byte-by-byte": (list(get()), 1),
    "keep-alive": ([get(), get()], 2),
    "pipelined": ([get() * 3], 3),
    "length": (["POST / HTTP/1.1\r\nHost: " + LLM + "\r\nContent-Length: 40\r\n\r\nGET / HTTP/1.1\r\nHost: files.llm.example\r" + get()], 2),
    "chunks": (["POST / HTTP/1.1\r\nHost: " + LLM + "\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nb\r\nhello world\r\n0\r\n\r\n" + get()], 2),
    "large-head": ([get(extra="".join(f"X-{i}: {'v' * 100}\r\n" for i in range(80)))], 1),
    "large-body": (["POST / HTTP/1.1\r\nHost: " + LLM + "\r\nContent-Length: 100000\r\n\r\n" + "x" * 100000, get()], 2),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(web, case):
    pieces, want = ALLOWED[case]
    assert talk(web, pieces, want) == f"got {want}"


DENIED = {
    "other-host": ([get(OTHER)], "host_mismatch"),
    "second-request": ([get(), get(OTHER)], "host_mismatch"),
    "pipelined": ([get() + get(OTHER)], "host_mismatch"),
    "behind-a-body": (["POST / HTTP/1.1\r\nHost: " + LLM + "\r\nContent-Length: 3\r\n\r\nabc" + get(OTHER)], "host_mismatch"),
    "behind-chunks": (["POST / HTTP/1.1\r\nHost: " + LLM + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get(OTHER)],
                      "host_mismatch"),
    "user-info": ([get("x@" + LLM)], "host_mismatch"),
    "other-port": ([get(LLM + ":8080")], "host_mismatch"),
    "no-host": (["GET / HTTP/1.1\r\nX: y\r\n\r\n"], "host_missing"),
    "two-hosts": ([get(extra=f"Host: {OTHER}\r\n")], "not_http"),
    "absolute": ([f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {LLM}\r\n\r\n"], "not_http"),
    "connect": ([f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {LLM}\r\n\r\n"], "not_http"),
    "upgrade": ([get(extra="Upgrade: h2c\r\nConnection: Upgrade\r\n")], "not_http"),
    "length-and-chunks": ([f"POST / HTTP/1.1\r\nHost: {LLM}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"], "not_http"),
    "chunks-in-1.0": ([f"POST / HTTP/1.0\r\nHost: {LLM}\r\nTransfer-Encoding: chunked\r\n\r\n"], "not_http"),
    "odd-length": ([f"POST / HTTP/1.1\r\nHost: {LLM}\r\nContent-Length: +3\r\n\r\n"], "not_http"),
    "space-before-colon": ([f"GET / HTTP/1.1\r\nHost : {LLM}\r\n\r\n"], "not_http"),
    "folded": ([f"GET / HTTP/1.1\r\nX: y\r\n z\r\nHost: {LLM}\r\n\r\n"], "not_http"),
    "bare-line-feed": ([f"GET / HTTP/1.1\nHost: {LLM}\n\n"], "not_http"),
    "http2": (["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "not_http"),
    "tls": (["\x16\x03\x01\x00\x05hello"], "not_http"),
    "ssh": (["SSH-2.0-x\r\n"], "not_http"),
}


@pytest.mark.parametrize("case", DENIED)
def test_denied(web, case):
    pieces, reason = DENIED[case]
    since = time.time() - 0.05
    output = talk(web, pieces, 99)
    assert output in ("ECONNABORTED", "ECONNRESET", "EPERM", "EPIPE"), output
    web.wait_flow(since, verdict="DENIED", reason=reason, dst_port=80)
