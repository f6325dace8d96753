"""Tokens over a real wire between two network stacks: lost and reordered segments, large bodies, many connections; and the MCP SDK."""
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import TOP
from harness.objects import endpoint_slice, policy, service
from harness.world import until
from tokens import PORT, SERVER, TokenWorld, make_token
import lab

PARTNER_PORT = 7443
BODY_MB = int(os.environ.get("CASAD_TEST_BODY_MB", "24"))  # 1024: the large run
CONNECTIONS = 24

# One in ten packets is lost. (An XDP program: not every kernel has netem.)
LOSS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int loss(struct xdp_md *c) { return bpf_get_prandom_u32() % 10 ? XDP_PASS : XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
"""

# Drops the first packet of each connection (by its source port) that brings the beginning of a request.
OVERTAKEN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 1024); __type(key, unsigned short); __type(value, char); } lost SEC(".maps");
SEC("xdp") int overtaken(struct xdp_md *c) {
  unsigned char *p = (void *)(long)c->data, *end = (void *)(long)c->data_end;
  if (p + 70 > end || p[12] != 8 || p[13] || p[14] != 0x45 || p[23] != 6 || p[46] >> 4 != 8)
    return XDP_PASS;
  if (p[66] != 'P' || p[67] != 'O' || p[68] != 'S' || p[69] != 'T')
    return XDP_PASS;
  unsigned short port = p[34] << 8 | p[35];
  char yes = 1;
  return bpf_map_update_elem(&lost, &port, &yes, BPF_NOEXIST) ? XDP_PASS : XDP_DROP;
}
char LICENSE[] SEC("license") = "GPL";
"""

# Connections one after the other, some requests on each; prints how many were answered.
CLIENT = """
import http.client, sys
host, port, token, connections, requests = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
n = 0
for i in range(connections):
    c = http.client.HTTPConnection(host, port, timeout=60)
    for k in range(requests):
        c.request("POST", "/w", b"b" * 4000, {"Authorization": "Bearer " + token}); n += c.getresponse().read() == b"ok"
    c.close()
print(n)
"""

# Uploads at once, each of `mb` blocks that the server checks; prints how many went through whole.
UPLOAD = """
import sys, threading, http.client, zlib
token, mb, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block = bytes((i * 7 + (i >> 8)) & 255 for i in range(1 << 20))
done = []
def one():
    c = http.client.HTTPConnection("127.0.0.1", 8082, timeout=600)
    def body():
        for _ in range(mb): yield block
    c.request("PUT", "/up", body(), {"Authorization": "Bearer " + token, "Content-Length": str(mb << 20)})
    done.append(c.getresponse().read() == b"whole")
threads = [threading.Thread(target=one) for _ in range(count)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(done))
"""
BODY_SERVER = """
import http.server
block = bytes((i * 7 + (i >> 8)) & 255 for i in range(1 << 20))
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        whole, buffer, view = True, bytearray(1 << 20), None
        view = memoryview(buffer)
        for _ in range(int(self.headers["Content-Length"]) >> 20):
            have = 0
            while have < len(buffer): have += self.rfile.readinto(view[have:]) or exit(1)
            whole = whole and buffer == block
        answer = b"whole" if whole else b"broken"
        self.send_response(200); self.send_header("Content-Length", str(len(answer))); self.end_headers(); self.wfile.write(answer)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer): request_queue_size = 128
S(("127.0.0.1", 8082), H).serve_forever()
"""


@pytest.fixture(scope="module")
def wire(lasting_world, outside):
    world = lasting_world()
    made = world.keep(TokenWorld(world))
    world.put("partners.yaml", service("partners/api", None, (PARTNER_PORT, PARTNER_PORT, "TCP")),
              *(endpoint_slice("partners/api", [a], PARTNER_PORT, "TCP", f"p{PARTNER_PORT}-tcp") for a in (lab.PARTNER4, lab.PARTNER6)))
    world.change("wire.yaml", named("agents/agent", "to-partner", f"partners/api:{PARTNER_PORT}"),
                 named("tools/mcp-0", "from-outside", kind="Pod", sources=[{"cidr": f"{lab.GATEWAY4}/32"}, {"cidr": f"{lab.GATEWAY6}/128"}]),
                 service("tools/bodies", {"app": "mcp"}, (8082, 8082, "TCP")), named("agents/agent", "to-bodies", "tools/bodies:8082"))
    world.keep(outside.popen(["/usr/bin/python3", "-c", SERVER, lab.PARTNER4, str(PARTNER_PORT), str(made.log)], stdin=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL))
    made.start(made.mcp, ["/usr/bin/python3", "-c", SERVER, lab.NODE4, str(PORT), str(made.log)])
    made.start(made.mcp, ["/usr/bin/python3", "-c", BODY_SERVER])
    made.wait_port(8082)
    return made


def named(who, name, *endpoints, **options):
    made = policy(who, *endpoints, **options)
    made["metadata"]["name"] = name
    return made


@contextmanager
def attached(wire, name, source, ends):
    """An XDP program on devices; `ends`: (how to enter the device's namespace, device)."""
    work = Path(wire.work)
    (work / f"{name}.bpf.c").write_text(source)
    include = f"/usr/include/{subprocess.run(['gcc', '-print-multiarch'], capture_output=True, text=True, check=True).stdout.strip()}"
    lab.run("clang-19", "-target", "bpf", "-O2", "-g", "-isystem", include, "-c", str(work / f"{name}.bpf.c"), "-o", str(work / f"{name}.o"))
    pin = wire.world.daemon.bpffs.with_name(f"{wire.world.daemon.bpffs.name}-{name}")
    bpftool = next(p for p in ("/usr/sbin/bpftool", "/usr/bin/bpftool") if os.path.exists(p))
    lab.run(bpftool, "prog", "load", str(work / f"{name}.o"), str(pin), "type", "xdp")
    try:
        for enter, device in ends:
            lab.run(*enter, bpftool, "net", "attach", "xdpgeneric", "pinned", str(pin), "dev", device)
        yield
    finally:
        for enter, device in ends:
            subprocess.run([*enter, bpftool, "net", "detach", "xdpgeneric", "dev", device], check=False, timeout=20)
        pin.unlink()


@pytest.fixture
def loss(wire):
    """On what comes in at both ends of the wire."""
    with attached(wire, "loss", LOSS, [([], "out0"), (wire.world.outside.enter(), "far0")]):
        yield


def test_lost_segments_on_the_way_out(wire, loss):
    token = make_token(3000)
    status, output = wire.run(["/usr/bin/python3", "-c", CLIENT, lab.PARTNER4, PARTNER_PORT, token, 6, 10], timeout=200)
    assert (status, output) == (0, "60"), output
    wire.uses(token, 60, 10)
    assert wire.served(token) == 60


def test_lost_segments_on_the_way_in(wire, loss):
    """Segments that come too early wait for the one before: none is read twice, none is missed, and the bytes arrive. A connection whose
    handshake was ended by a segment with data (its ACK was lost) is the one exception: the listener has that segment, and the connection
    says that nobody saw its beginning."""
    token, since = make_token(3000), time.time() - 0.05
    client = wire.world.outside.popen(["/usr/bin/python3", "-c", CLIENT, lab.NODE4, str(PORT), token, "6", "10"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = client.communicate(timeout=250)
    assert output.strip() == "60", output
    flows = [f for f in wire.world.flows(since) if f.get("src_address") == lab.GATEWAY4 and f.get("dst_port") == PORT]
    unseen = sum(f.get("unread") == "start" for f in flows)
    assert len(flows) == 6 and unseen < 6 and not any(f.get("unread") not in (None, "start") for f in flows), flows
    row = wire.uses(token, 60 - 10 * unseen, 10)
    assert {s["direction"] for s in row["path"]} == {"ingress"}


def test_the_first_segment_comes_last(wire):
    """The body overtakes the head on a new connection: the head is read all the same, and what is behind it may follow."""
    token = make_token(900)
    with attached(wire, "overtaken", OVERTAKEN, [([], "out0")]):
        client = wire.world.outside.popen(["/usr/bin/python3", "-c", CLIENT, lab.NODE4, str(PORT), token, "3", "2"], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, _ = client.communicate(timeout=100)
    assert output.strip() == "6", output
    row = wire.uses(token, 6, 2)
    assert len({s["flow"] for s in row["path"]}) == 3


def test_large_bodies_on_many_connections(wire):
    token = make_token(900)
    status, output = wire.run(["/usr/bin/python3", "-c", UPLOAD, token, BODY_MB, CONNECTIONS], timeout=280)
    assert (status, output) == (0, str(CONNECTIONS)), output
    row = wire.uses(token, CONNECTIONS)
    assert len({s["flow"] for s in row["path"]}) == CONNECTIONS


MCP_SERVER = """
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import http from "node:http";
import { webcrypto } from "node:crypto";
globalThis.crypto ??= webcrypto;  // the SDK uses it; Debian 12's Node 18 has it as a module only
http.createServer(async (req, res) => {
  const chunks = []; for await (const c of req) chunks.push(c);
  if (!(req.headers.authorization || "").startsWith("Bearer ")) { res.writeHead(401).end(); return; }
  const server = new McpServer({ name: "time", version: "1.0.0" });
  server.registerTool("now", { description: "what time it is" }, async () => ({ content: [{ type: "text", text: "noon" }] }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await server.connect(transport);
  await transport.handleRequest(req, res, chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined);
}).listen(8083, "127.0.0.1");
"""
MCP_CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { webcrypto } from "node:crypto";
globalThis.crypto ??= webcrypto;
const client = new Client({ name: "agent", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL("http://127.0.0.1:8083/mcp"),
  { requestInit: { headers: { Authorization: "Bearer " + process.argv[2] } } }));
for (let i = 0; i < 3; i++) console.log((await client.callTool({ name: "now", arguments: {} })).content[0].text);
process.exit(0);
"""


def test_mcp_sdk(wire):
    """The MCP TypeScript SDK's client and server, with an Authorization header."""
    modules = Path(os.environ.get("CASAD_DEPS_CACHE", "/var/cache/casad-deps")) / "mcp-sdk" / "node_modules"
    assert modules.is_dir(), f"{modules} is missing: {TOP}/tools/install-deps.sh test installs it"
    work = Path(wire.work)
    (work / "node_modules").symlink_to(modules)
    (work / "server.mjs").write_text(MCP_SERVER)
    (work / "client.mjs").write_text(MCP_CLIENT)
    wire.world.change("mcp.yaml", service("tools/sdk", {"app": "mcp"}, (8083, 8083, "TCP")), named("agents/agent", "to-sdk", "tools/sdk:8083"))
    wire.start(wire.mcp, ["node", work / "server.mjs"])
    wire.wait_port(8083)
    token = make_token(800)
    status, output = wire.run(["node", work / "client.mjs", token])
    assert (status, output.split()) == (0, ["noon"] * 3), output
    row = until(lambda: (r := wire.row(token))["counts"]["use"] >= 5 and r, what="initialize, initialized and three calls")
    assert {s["request"] for s in row["path"]} <= {"POST /mcp", "GET /mcp"}
    assert [d["workload"] for d in row["destinations"]] == ["mcp-0"]


EARLY_SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, int(sys.argv[3]), int(sys.argv[4]))
while True:
    c = s.accept()[0]
    with c:
        got = b""
        while got.count(b"\\r\\n\\r\\n") < 3:
            piece = c.recv(65536)
            if not piece: break
            for _ in range(piece.count(b"\\r\\n\\r\\n")): c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            got += piece
"""
EARLY_CLIENT = """
import socket, sys
data = sys.argv[4].encode("latin1").decode("unicode_escape").encode("latin1")
s = socket.socket()
if sys.argv[3] == "fastopen": s.sendto(data, socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
else: s.connect((sys.argv[1], int(sys.argv[2]))); s.sendall(data)
s.settimeout(10); got = s.recv(100)
for _ in range(2):
    s.sendall(data); got += s.recv(100)
print(got.count(b"200 OK"))
"""


@pytest.mark.parametrize("case", ["defer-accept", "fastopen"])
def test_first_bytes_that_the_listener_gets(wire, case):
    """A server that is woken by data (TCP_DEFER_ACCEPT: the handshake ends with the segment that brings it), and TCP Fast Open."""
    port = {"defer-accept": 8084, "fastopen": 8085}[case]
    option, value = {"defer-accept": (9, 5), "fastopen": (23, 16)}[case]
    wire.start(wire.mcp, ["/usr/bin/python3", "-c", EARLY_SERVER, lab.NODE4, port, option, value])
    wire.wait_port(port)
    token = make_token(600)
    data = f"GET /early HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n"
    for round in (1, 2, 3):  # Fast Open needs a cookie of the connection before
        since = time.time() - 0.05
        done = subprocess.run([*wire.world.outside.enter(), "/usr/bin/python3", "-c", EARLY_CLIENT, lab.NODE4, str(port), case, data],
                              capture_output=True, text=True, timeout=30)
        assert done.stdout.strip() == "3", done
        wire.uses(token, 3 * round)
        flow = until(lambda: wire.world.find_flow(since, dst_port=port, direction="ingress", appProtocol="http"), what="the flow")
        assert "unread" not in flow
