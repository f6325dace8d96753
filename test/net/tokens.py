"""What the tests of tokens share: tokens that are easy to find again, a world with a caller and servers, and what the API says of a token.

Every token here is made for one test: its claims carry the word MARK, so that whoever greps for it finds any that got out."""
import base64
import hashlib
import itertools
import json
import os
import subprocess

from harness.objects import namespace, pod, policy, service
from harness.world import until

MARK = "casad-test-marked-token"
PORT, PROXY_PORT = 8080, 8081
_numbers = itertools.count(1)

# Answers every request, over keep-alive, and counts them in a file.
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        if self.headers.get("Transfer-Encoding"):
            while (n := int(self.rfile.readline().split(b";")[0], 16)): self.rfile.read(n + 2)
            while self.rfile.readline().strip(): pass
        left = int(self.headers.get("Content-Length") or 0)
        while left: left -= len(self.rfile.read(min(left, 1 << 20)))
        print(self.command, self.path, self.headers.get("Authorization", "-")[-12:], file=log, flush=True)
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    do_GET = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *a): pass
log = open(sys.argv[3], "a")
class S(http.server.ThreadingHTTPServer): request_queue_size = 512
S((sys.argv[1], int(sys.argv[2])), H).serve_forever()
"""

# Sends bytes from a file in segments of `size` bytes (0: one write), and waits for `answers` answers or the end.
SEND = """
import errno, socket, sys, time
host, port, path, size, answers = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
data = open(path, "rb").read()
s = socket.create_connection((host, port), timeout=10)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    for i in range(0, len(data), size or len(data)): s.sendall(data[i:i + (size or len(data))])
    got = b""
    while got.count(b"HTTP/1.1 ") < answers:
        piece = s.recv(65536)
        if not piece: break
        got += piece
    print("got", got.count(b"HTTP/1.1 200"))
except OSError as e:
    print(errno.errorcode.get(e.errno, type(e).__name__))
"""


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_token(length=0, header=None):
    """A JWT of its own; `length`: about how many bytes it is to have."""
    claims = {"sub": MARK, "n": next(_numbers), "pad": ""}
    head, signature = b64(json.dumps(header or {"alg": "RS256", "typ": "JWT", "kid": "k"}).encode()), b64(os.urandom(256))
    claims["pad"] = MARK[:1] * max(0, (length - len(head) - len(signature) - 2) * 3 // 4 - len(json.dumps(claims)))
    return f"{head}.{b64(json.dumps(claims).encode())}.{signature}"


def sha256(token):
    return hashlib.sha256(token.encode("latin1")).hexdigest()


def request(token, path="/mcp", method="GET", body=b"", extra="", host="x"):
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{extra}"
    head += f"Content-Length: {len(body)}\r\n" if body else ""
    return head.encode("latin1") + b"\r\n" + body


class TokenWorld:
    """agents/agent and agents/second may call tools/mcp (port 8080); tools/proxy too, and the two agents may call it (8081)."""

    def __init__(self, world):
        self.world = world
        self.work = world.daemon.work
        world.put("tools.yaml", namespace("tools"), namespace("agents"),
                  pod("tools/mcp-0", "tools.slice/mcp.service", {"app": "mcp"}), service("tools/mcp", {"app": "mcp"}, (PORT, PORT, "TCP")),
                  pod("tools/proxy-0", "tools.slice/proxy.service", {"app": "proxy"}),
                  service("tools/proxy", {"app": "proxy"}, (PROXY_PORT, PROXY_PORT, "TCP")),
                  policy("tools/mcp-0", kind="Pod", sources=[{"host": True}]), policy("tools/proxy-0", f"tools/mcp:{PORT}", kind="Pod"))
        for agent in ("agent", "second"):
            world.put(f"{agent}.yaml", policy(f"agents/{agent}", f"tools/mcp:{PORT}", f"tools/proxy:{PROXY_PORT}"))
        self.agent, self.second = world.cgroup("agents/agent"), world.cgroup("agents/second")
        self.mcp, self.proxy = world.cgroup("/tools.slice/mcp.service"), world.cgroup("/tools.slice/proxy.service")
        self.log = self.work / "requests.log"
        self.log.touch()
        self.started = []
        world.start()
        self.start(self.mcp, ["/usr/bin/python3", "-c", SERVER, "127.0.0.1", str(PORT), str(self.log)])
        self.wait_port(PORT)

    def start(self, cgroup, argv):
        process = cgroup.popen([*map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def wait_port(self, port):
        def listens():
            return f":{port:04X} 00000000:0000 0A" in open("/proc/net/tcp", encoding="ascii").read()
        until(listens, 15, f"something listens on port {port}")

    def run(self, argv, cgroup=None, timeout=60, **kwargs):
        """In the agent's cgroup -> (exit status, output)"""
        p = (cgroup or self.agent).popen([*map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, **kwargs)
        try:
            output, _ = p.communicate(timeout=timeout)
        finally:
            p.kill()
        return p.returncode, output.strip()

    def send(self, data, size=0, answers=1, host="127.0.0.1", port=PORT, cgroup=None):
        (self.work / "sent").write_bytes(data)
        status, output = self.run(["/usr/bin/python3", "-c", SEND, host, port, self.work / "sent", size, answers], cgroup)
        assert status == 0, output
        return output

    def served(self, token):
        """How many requests with this token the server has read."""
        return sum(line.endswith(token[-12:]) for line in self.log.read_text().splitlines())

    def row(self, token, timeout=5.0):
        target = f"/v1/tokens/{sha256(token)}"
        return until(lambda: self.world.daemon.api.request(target)[0] == 200 and self.world.daemon.api.get(target), timeout,
                     f"a row of the token {sha256(token)[:12]}")

    def uses(self, token, wanted, timeout=5.0):
        """Waits until the token was used so often, and that no more come."""
        def count():
            counts = self.row(token)["counts"]
            return sum(counts[k] for k in ("issuance", "exchange", "introspection", "use"))
        until(lambda: count() >= wanted, timeout, f"{wanted} sightings (now {count()})")
        assert count() == wanted
        return self.row(token)

    def alerts(self, token=None, **wanted):
        rows = self.world.daemon.api.get("/v1/alerts?limit=1000")["items"]
        return [r for r in rows if (token is None or r.get("sha256") == sha256(token)) and all(r.get(k) == v for k, v in wanted.items())]

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()
