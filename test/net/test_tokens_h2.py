"""Tokens in requests over HTTP/2 in clear text: by prior knowledge and by Upgrade, with the clients that people use; header blocks as only
some of them write: in several frames, padded, with tokens in the dynamic table, in any segmentation."""
import struct
import subprocess
import time

import pytest

from tokens import PROXY_PORT, TokenWorld, make_token
from harness.objects import pod, policy, service
from harness.world import until

PORT, SINK_PORT, UPGRADE_PORT = PROXY_PORT, 8082, 8083
URL = f"http://127.0.0.1:{PORT}"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def tokens(lasting_world):
    world = lasting_world()
    made = world.keep(TokenWorld(world))
    www = made.work / "www"
    www.mkdir()
    for name in ("a", "b", "c"):
        (www / name).write_text("ok")
    for name, port in (("sink", SINK_PORT), ("upgrade", UPGRADE_PORT)):
        world.change(f"{name}.yaml", pod(f"tools/{name}-0", f"tools.slice/{name}.service", {"app": name}),
                     service(f"tools/{name}", {"app": name}, (port, port, "TCP")),
                     policy(f"tools/{name}-0", f"tools/proxy:{PORT}", kind="Pod"),
                     {**policy("agents/agent", f"tools/{name}:{port}"), "metadata": {"namespace": "agents", "name": f"agent-{name}"}})
    made.start(world.cgroup("/tools.slice/sink.service"), ["socat", "-u", f"TCP-LISTEN:{SINK_PORT},bind=127.0.0.1,fork,reuseaddr", "OPEN:/dev/null"])
    made.wait_port(SINK_PORT)
    made.start(made.proxy, ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", www, PORT])
    made.wait_port(PORT)
    made.start(world.cgroup("/tools.slice/upgrade.service"),
               ["nghttpx", "--conf=/dev/null", "--single-process", "-n1", "-f", f"127.0.0.1,{UPGRADE_PORT};no-tls", "-b", f"127.0.0.1,{PORT};;proto=h2"])
    made.wait_port(UPGRADE_PORT)
    (made.work / "body").write_bytes(b"".join(frame(1, 5, 1, b"\x82\x84") for _ in range(60000)))
    (made.work / "small").write_bytes(b"x" * 100)
    return made


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


NODE = """
const h2 = require("http2"), c = h2.connect(process.argv[1]);
let left = 6;
for (let i = 0; i < 6; i++) {
  const r = c.request({":path": "/a?" + i, ":method": i % 2 ? "POST" : "GET", authorization: "Bearer " + process.argv[2]});
  r.resume(); r.on("end", () => { if (!--left) c.close(); }); r.end(i % 2 ? "z".repeat(3000) : undefined);
}
"""
PYTHON = """
import socket, sys, h2.config, h2.connection, h2.events
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8")); c.initiate_connection(); s.sendall(c.data_to_send())
left = 6
for i in range(6):
    c.send_headers(1 + 2 * i, [(":method", "GET"), (":path", "/a"), (":authority", "x"), (":scheme", "http"), ("authorization", "Bearer " + sys.argv[2])], end_stream=True)
s.sendall(c.data_to_send())
while left:
    for e in c.receive_data(s.recv(65536)):
        left -= isinstance(e, h2.events.StreamEnded)
    s.sendall(c.data_to_send())
"""

CLIENTS = {
    "nghttp": lambda t, w: ["nghttp", "-n", "-m2", "-H", f"authorization: Bearer {t}", f"{URL}/a", f"{URL}/b?x=y", f"{URL}/c"],
    "nghttp-padding": lambda t, w: ["nghttp", "-n", "-m2", "-b", "200", "-H", f"authorization: Bearer {t}", f"{URL}/a", f"{URL}/b", f"{URL}/c"],
    "nghttp-continuation": lambda t, w: ["nghttp", "-n", "-m6", "--continuation", "-H", f"authorization: Bearer {t}", f"{URL}/a"],
    "nghttp-no-table": lambda t, w: ["nghttp", "-n", "-m6", "-c", "0", "--encoder-header-table-size=0", "-H", f"authorization: Bearer {t}", f"{URL}/a"],
    "nghttp-large-table": lambda t, w: ["nghttp", "-n", "-m6", "-c", "65536", "--encoder-header-table-size=65536", "-H", f"authorization: Bearer {t}", f"{URL}/a"],
    "nghttp-body": lambda t, w: ["nghttp", "-n", "-m6", "-d", str(w / "body"), "-H", f"authorization: Bearer {t}", f"{URL}/a"],
    "curl": lambda t, w: ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-H", f"Authorization: Bearer {t}", f"{URL}/a?b"],  # Debian 12's reuses no such connection
    "h2load": lambda t, w: ["h2load", "-n6", "-c1", "-m3", "-H", f"authorization: Bearer {t}", f"{URL}/a"],
    "node": lambda t, w: ["node", "-e", NODE, URL, t],
    "python-h2": lambda t, w: ["/usr/bin/python3", "-c", PYTHON, str(PORT), t],
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("length", [600, 7800])
def test_clients(tokens, client, length):
    token = make_token(length)
    since = time.time() - 0.05
    status, output = tokens.run(CLIENTS[client](token, tokens.work))
    assert status == 0, output
    row = tokens.uses(token, 1 if client == "curl" else 6)
    assert row["sha256"] == subprocess.run(["sha256sum"], input=token, capture_output=True, text=True, check=True).stdout.split()[0]
    assert row["shape"] == "jwt" and row["length"] == len(token) and not row["algNone"]
    assert {s["request"].split()[1] for s in row["path"]} <= {"/a", "/b", "/c"}
    flow = until(lambda: tokens.world.find_flow(since, src_workload="agent", dst_workload="proxy-0", appProtocol="http2"), what="a flow that speaks HTTP/2")
    assert "unread" not in flow
    coverage = tokens.world.daemon.api.get("/v1/workloads?namespace=agents")["items"]
    assert any("wire-h2" in w["tokenCoverage"]["kinds"] for w in coverage)


@pytest.mark.parametrize("client", ["curl", "nghttp"])
def test_upgrade(tokens, client):
    """The first request is HTTP/1.1's; what the server answers 101 to goes on as HTTP/2. Behind it nghttpx passes it all on."""
    token, url = make_token(900), f"http://127.0.0.1:{UPGRADE_PORT}"
    argv = {"curl": ["curl", "-sS", "--noproxy", "*", "--http2", "-H", f"Authorization: Bearer {token}", f"{url}/a", f"{url}/b", f"{url}/c"],
            "nghttp": ["nghttp", "-n", "-u", "-H", f"authorization: Bearer {token}", f"{url}/a", f"{url}/b", f"{url}/c"]}[client]
    status, output = tokens.run(argv)
    assert status == 0, output
    row = tokens.uses(token, 6)
    assert [(s["source"]["workload"], s["destination"]["workload"]) for s in row["path"]].count(("agent", "upgrade-0")) == 3


def test_many_streams(tokens):
    """Many connections, many streams on each: as many sightings as requests."""
    token = make_token(700)
    status, output = tokens.run(["h2load", "-n4000", "-c8", "-m32", "-t1", "-H", f"authorization: Bearer {token}", f"{URL}/a"])
    assert status == 0 and "4000 succeeded" in output, output
    tokens.uses(token, 4000, 15)
    assert tokens.world.daemon.api.get("/v1/stats")["counters"]["eventsLost"] == 0


# What no client above sends.
def block(encoder, token, path="/a", method="GET", more=()):
    """`encoder`: of Debian's python3-hpack, which puts tokens into the dynamic table."""
    return encoder.encode([(":method", method), (":path", path), (":scheme", "http"), (":authority", "x"), *more,
                           *([("authorization", "Bearer " + token)] if token else [])], huffman=True)


# Sends a file in segments of `size` bytes, to somebody who only takes them.
SEND = """
import socket, sys
data, size = open(sys.argv[2], "rb").read(), int(sys.argv[3])
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for i in range(0, len(data), size or len(data)): s.sendall(data[i:i + (size or len(data))])
s.shutdown(socket.SHUT_WR)
s.recv(1)
"""


def send(tokens, frames, size=0):
    (tokens.work / "sent").write_bytes(PREFACE + frame(4, 0, 0, b"") + frames)
    status, output = tokens.run(["/usr/bin/python3", "-c", SEND, SINK_PORT, tokens.work / "sent", size])
    assert status == 0, output


@pytest.fixture(scope="module")
def hpack():
    import sys
    sys.path.append("/usr/lib/python3/dist-packages")
    return pytest.importorskip("hpack")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 63, 255, 256, 1000, 0])
def test_segments(tokens, hpack, size):
    """Tokens by reference, blocks in several frames with padding and priority, DATA that looks like frames; trailers."""
    encoder = hpack.Encoder()
    first, second = make_token(300), make_token(300)
    data = b""
    for i in range(6):
        stream, token = 1 + 2 * i, (first, second)[i % 2]
        whole = block(encoder, token, f"/a/{'xyz'[i % 3]}?secret={i}", "PUT" if i < 3 else "POST")
        part = len(whole) // 2
        data += frame(1, 0x28, stream, bytes([5]) + b"\0\0\0\0\x10" + whole[:part] + b"p" * 5)
        data += frame(9, 0, stream, b"") + frame(9, 4, stream, whole[part:])
        data += frame(0, 0, stream, frame(1, 5, 99, b"\x82\x84" * 50)) + frame(0x42, 0, 0, b"?" * 300)
        data += frame(1, 5, stream, encoder.encode([("x-trailer", "1")]))
    send(tokens, data, size)
    for token in (first, second):
        tokens.uses(token, 3)
    assert {s["request"] for s in tokens.row(first)["path"]} == {"PUT /a/x", "PUT /a/z", "POST /a/y"}


def test_a_reference_is_not_hashed_again(tokens, hpack):
    def hashed():
        return tokens.world.daemon.api.get("/v1/stats")["counters"]["tokensHashed"]
    encoder, token = hpack.Encoder(), make_token(1500)
    before = hashed()
    send(tokens, b"".join(frame(1, 5, 1 + 2 * i, block(encoder, token)) for i in range(20)))
    tokens.uses(token, 20)
    assert hashed() == before + 1


def test_the_same_value_is_not_hashed_again(tokens):
    """Clients that keep tokens out of the dynamic table send the same bytes in each request."""
    token = make_token(1500)
    before = tokens.world.daemon.api.get("/v1/stats")["counters"]["tokensHashed"]
    status, output = tokens.run(["h2load", "-n200", "-c1", "-m1", "-H", f"authorization: Bearer {token}", f"{URL}/a"])
    assert status == 0, output
    tokens.uses(token, 200)
    assert tokens.world.daemon.api.get("/v1/stats")["counters"]["tokensHashed"] == before + 1


def test_two_authorization_fields(tokens, hpack):
    first, second = make_token(), make_token()
    whole = block(hpack.Encoder(), second, more=[("authorization", "Bearer " + first)])
    send(tokens, frame(1, 5, 1, whole))
    tokens.uses(first, 1)
    assert tokens.row(second)["counts"]["use"] == 0 and tokens.row(second)["counts"]["duplicate"] == 1


def unread(case, hpack):
    get = b"\x82\x84"
    if case == "forgotten":  # more tokens in the dynamic table than are kept
        encoder = hpack.Encoder()
        shorts = [f"opaque-{i}" for i in range(12)]
        return b"".join(frame(1, 5, 1 + 2 * i, block(encoder, t)) for i, t in enumerate([*shorts, shorts[0]]))
    return {"interleaved": frame(1, 0, 1, get) + frame(0, 0, 1, b""), "no-stream": frame(1, 5, 0, get), "bad-index": frame(1, 5, 1, b"\xff\x40"),
            "upper-case": frame(1, 5, 1, get + b"\x00\x0dAuthorization\x08Bearer x")}[case]


@pytest.mark.parametrize("case, why", [("forgotten", "truncated"), ("interleaved", "ambiguous"), ("no-stream", "ambiguous"), ("bad-index", "ambiguous"), ("upper-case", "ambiguous")])
def test_what_is_not_read_says_so(tokens, hpack, case, why):
    since = time.time() - 0.05
    send(tokens, unread(case, hpack))
    until(lambda: tokens.world.find_flow(since, unread=why, src_workload="agent", appProtocol="http2"), what=f"a flow that says {why}")


def test_token_endpoints(tokens):
    """A POST to a token endpoint counts without a token, too."""
    before = tokens.world.daemon.api.get("/v1/stats")["tokens"]["total"]["issuances"]
    status, output = tokens.run(["nghttp", "-n", "-m3", "-d", tokens.work / "small", f"{URL}/app/oauth2/token"])
    assert status == 0, output
    until(lambda: tokens.world.daemon.api.get("/v1/stats")["tokens"]["total"]["issuances"] == before + 3, what="three issuances")
