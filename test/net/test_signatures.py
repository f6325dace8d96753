"""The check of signatures, with tokens that PyJWT made: what the kernel hands over of HTTP/1 and HTTP/2, what the daemon finds, what becomes of
requests under `tokens: {requireValidSignature: drop}`, and that nothing of a token stays in the ring."""
import ctypes
import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from harness.objects import policy
from harness.world import until
import lab


PORT, H2_PORT = 8080, 8081

# One connection in the agent's cgroup; its requests one after the other, each in pieces of so many bytes (0: whole), and with so many of a body.
ASK = """
import errno, json, socket, sys, time
host, port, piece, body, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.stdin.read())
try:
    s = socket.create_connection((host, port), timeout=8)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for token in tokens:
        length = f"Content-Length: {500 * body}\\r\\n" if body else ""
        request = f"{'POST' if body else 'GET'} /tools HTTP/1.1\\r\\nHost: tools\\r\\nAuthorization: Bearer {token}\\r\\n{length}\\r\\n".encode()
        for at in range(0, len(request), piece or len(request)):
            s.sendall(request[at:at + (piece or len(request))])
            if piece: time.sleep(0.0005)
        for i in range(body): s.sendall(b"x" * 500)
        got = b""
        while b"hello" not in got:
            data = s.recv(4096)
            if not data: break
            got += data
        print("ok" if b"hello" in got else "closed")
except OSError as e:
    print(errno.errorcode.get(e.errno, type(e).__name__))
"""

# The same over HTTP/2, for each line of stdin: a token, and how it is sent. Debian's python3-hpack writes every form that HPACK has.
ASK_H2 = """
import errno, json, socket, struct, sys, time
sys.path.append("/usr/lib/python3/dist-packages")
import hpack
def frame(kind, flags, stream, payload): return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
def frames(stream, block, cut, end):
    parts = [block[i:i + (cut or len(block))] for i in range(0, len(block), cut or len(block))]
    return b"".join(frame(9 if i else 1, end * (not i) | 4 * (i + 1 == len(parts)), stream, part) for i, part in enumerate(parts))
def ask(stream, token, huffman=True, index=False, cut=0, piece=0, last=True, body=0):
    fields = [(":method", "POST" if body else "GET", False), (":path", "/tools", False), (":scheme", "http", False), (":authority", "tools", False)]
    fields.append(("authorization", "Bearer " + token, not index))
    if not last: fields.append(("x-more", "of it", False))
    data = frames(stream, encoder.encode(fields, huffman=huffman), cut, 0 if body else 1)
    if stream == 1: data = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0, b"") + data
    for at in range(0, len(data), piece or len(data)):
        s.sendall(data[at:at + (piece or len(data))])
        if piece: time.sleep(0.0005)
    for i in range(body): s.sendall(frame(0, i + 1 == body, stream, b"x" * 500))
    got = b""
    while b"hello" not in got:
        piece = s.recv(4096)
        if not piece: break
        got += piece
    return "ok" if b"hello" in got else "closed"
encoder, stream = hpack.Encoder(), 1
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=8)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for line in sys.stdin:
    try:
        print(ask(stream, **json.loads(line)), flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, type(e).__name__), flush=True)
        break
    stream += 2
"""

SERVER = """
import socketserver, sys
class H(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            head = b""
            while not head.endswith(b"\\r\\n\\r\\n"):
                line = self.rfile.readline()
                if not line: return
                head += line
            length = head.partition(b"Content-Length: ")[2].partition(b"\\r")[0]
            self.rfile.read(int(length or 0))
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nhello\\n")
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
S(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


class Issuer:
    def __init__(self):
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()

    def jwks(self, *kinds):
        rows = {
            "rsa": lambda: json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key())),
            "ed": lambda: json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.ed.public_key())),
            "ec": self.ec_jwk,
        }
        keys = []
        for kind in kinds:
            key = rows[kind]()
            key.pop("key_ops", None)
            keys.append({**key, "kid": kind})
        return json.dumps({"keys": keys})

    def ec_jwk(self):  # PyJWT 2.6 reads EC keys, and does not write them
        numbers = self.ec.public_key().public_numbers()
        part = lambda n: jwt.utils.base64url_encode(n.to_bytes(32, "big")).decode()  # noqa: E731
        return {"kty": "EC", "crv": "P-256", "x": part(numbers.x), "y": part(numbers.y)}

    def token(self, kind, name, kid=None, **claims):
        key, alg = {"rsa": (self.rsa, "RS256"), "ec": (self.ec, "ES256"), "ed": (self.ed, "EdDSA")}[kind]
        return jwt.encode({"sub": name, "exp": int(time.time()) + 600, **claims}, key, alg, headers={"kid": kid or kind})


@pytest.fixture(scope="module")
def lab_of_tokens(lasting_world, tmp_path_factory):
    issuer, path = Issuer(), tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(issuer.jwks("rsa", "ec", "ed"))
    world = lasting_world(arguments=("--jwks", str(path)))
    world.issuer, world.jwks = issuer, path
    endpoints = [f"tools/mcp-server:{PORT}", f"tools/mcp-server:{H2_PORT}"]
    world.put("agents.yaml", policy("agents/agent", *endpoints, tokens={"requireValidSignature": "drop"}),
              policy("agents/easy", *endpoints), policy("tools/mcp-server"))
    world.agent, world.easy = world.cgroup("agents/agent"), world.cgroup("agents/easy")
    www = tmp_path_factory.mktemp("www")
    (www / "tools").write_text("hello\n")
    commands = [["/usr/bin/python3", "-c", SERVER, PORT], ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", www, H2_PORT]]
    for c in commands:
        world.keep(world.cgroup("tools/mcp-server").popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    world.start()
    until(lambda: ask(world, [issuer.token("rsa", "first")], who=world.easy) == ["ok"], 10, "the server answers")
    until(lambda: ask_h2(world, [issuer.token("rsa", "second")], who=world.easy) == ["ok"], 10, "the HTTP/2 server answers")
    return world


def ask(world, tokens, piece=0, who=None, body=0):
    client = (who or world.agent).popen(["/usr/bin/python3", "-c", ASK, "127.0.0.1", PORT, piece, body], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
    return client.communicate(json.dumps(tokens), timeout=60)[0].split()


class H2Client:
    """One connection whose requests are given one by one."""

    def __init__(self, world, who=None):
        self.process = (who or world.agent).popen(["/usr/bin/python3", "-c", ASK_H2, "127.0.0.1", H2_PORT], stdin=subprocess.PIPE,
                                                  stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def ask(self, token, **how):
        self.process.stdin.write(json.dumps({"token": token, **how}) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def ask_h2(world, tokens, who=None, **how):
    with H2Client(world, who) as client:
        outcomes = []
        for token in tokens:
            outcomes.append(client.ask(token, **how))
            if outcomes[-1] != "ok":
                break
        return outcomes


def row_of(world, token):
    status, _, body = world.daemon.api.request(f"/v1/tokens/{hashlib.sha256(token.encode()).hexdigest()}")
    return json.loads(body) if status == 200 else {}


def wait_state(world, token, state):
    return until(lambda: row_of(world, token).get("signature") == state, 5, f"the token is {state}")


@pytest.mark.parametrize("piece", [0, 1, 700])
@pytest.mark.parametrize("kind", ["rsa", "ec", "ed"])
def test_valid(lab_of_tokens, kind, piece):
    world = lab_of_tokens
    token = world.issuer.token(kind, f"valid-{kind}-{piece}", filler="x" * 1500)
    started = time.monotonic()
    assert ask(world, [token, token], piece) == ["ok", "ok"]
    assert time.monotonic() - started < 8
    wait_state(world, token, "valid")


def test_what_follows_waits_too(lab_of_tokens):
    """A packet that is held back comes again with everything that is written behind it; that is not what its time is counted by."""
    world = lab_of_tokens
    token = world.issuer.token("rsa", "with a body")
    assert ask(world, [token, token], body=40) == ["ok", "ok"]
    wait_state(world, token, "valid")


def test_several_on_one_connection(lab_of_tokens):
    world = lab_of_tokens
    tokens = [world.issuer.token(kind, f"many-{i}") for i in range(4) for kind in ("rsa", "ec", "ed")]
    assert ask(world, tokens) == ["ok"] * 12


# How HTTP/2 can send a token; `last`: its last byte is the packet's last one.
FORMS = {
    "coded": {}, "plain": {"huffman": False}, "not-last": {"last": False}, "frames": {"cut": 400}, "bytes": {"piece": 1},
    "pieces": {"piece": 700}, "plain-pieces": {"huffman": False, "piece": 700, "cut": 800}, "table": {"index": True}, "body": {"body": 30},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["rsa", "ec", "ed"])
def test_valid_http2(lab_of_tokens, kind, form):
    world = lab_of_tokens
    token = world.issuer.token(kind, f"valid-{kind}-{form}", filler="x" * 1500)
    started = time.monotonic()
    assert ask_h2(world, [token] * 3, **FORMS[form]) == ["ok"] * 3
    assert time.monotonic() - started < 8
    wait_state(world, token, "valid")


@pytest.mark.parametrize("form", FORMS)
def test_several_on_one_connection_http2(lab_of_tokens, form):
    world = lab_of_tokens
    tokens = [world.issuer.token(kind, f"many-{form}", filler="x" * (3000 if kind == "ed" else 0)) for kind in ("rsa", "ec", "ed")]
    assert ask_h2(world, tokens + tokens, **FORMS[form]) == ["ok"] * 6


def test_the_longest_http2(lab_of_tokens):
    world = lab_of_tokens
    token = next(t for n in range(5500, 6200) if len(t := world.issuer.token("ed", "long", filler="x" * n)) in (8190, 8191, 8192))
    assert ask_h2(world, [token], cut=5000, huffman=False) == ["ok"]
    wait_state(world, token, "valid")


CLIENTS = {
    "curl": ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-H"],
    "nghttp": ["nghttp", "-m3", "-H"],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_http2(lab_of_tokens, client):
    world = lab_of_tokens

    def run(token):
        process = world.agent.popen([*CLIENTS[client], f"authorization: Bearer {token}", f"http://127.0.0.1:{H2_PORT}/tools"],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return process.communicate(timeout=30)[0]
    good, bad = world.issuer.token("rsa", client), world.issuer.token("rsa", client, exp=int(time.time()) - 100)
    assert "hello" in run(good)
    wait_state(world, good, "valid")
    assert "hello" not in run(bad)
    wait_state(world, bad, "expired")


def test_a_valid_token_is_not_read_again_http2(lab_of_tokens):
    """Handed over once: the same bytes again are recognised, as they are where nobody checks."""
    world = lab_of_tokens

    def hashed():
        return world.daemon.api.get("/v1/stats")["counters"]["tokensHashed"]
    token = world.issuer.token("rsa", "again")
    assert ask_h2(world, [token], who=world.easy) == ["ok"]
    wait_state(world, token, "valid")
    before = hashed()
    assert ask_h2(world, [token] * 20, who=world.easy) == ["ok"] * 20
    until(lambda: row_of(world, token)["counts"]["use"] == 21, 5, "21 requests")
    assert hashed() == before + 1


def refused(world, token, state, how=ask, port=PORT):
    since = time.time() - 0.05
    outcome = how(world, [token])
    assert outcome and outcome[0] in ("ECONNABORTED", "ECONNRESET", "EPIPE", "closed"), outcome
    world.wait_flow(since, verdict="DENIED", reason="token_invalid_signature", dst_port=port)
    if state:
        wait_state(world, token, state)


def tampered(issuer):
    head, _, signature = issuer.token("rsa", "tampered").split(".")
    return f"{head}.{issuer.token('rsa', 'somebody else').split('.')[1]}.{signature}"


BAD = {
    "tampered": (tampered, "invalid"),
    "not-signed": (lambda issuer: jwt.encode({"sub": "none"}, None, "none", headers={"kid": "rsa"}), "invalid"),
    "expired": (lambda issuer: issuer.token("ec", "old", exp=int(time.time()) - 61), "expired"),
    "unknown-key": (lambda issuer: issuer.token("ed", "stranger", kid="nobody"), "unknown_key"),
    "opaque": (lambda issuer: f"opaque-{time.time_ns()}", None),
}


@pytest.mark.parametrize("form", ["coded", "bytes", "not-last", "table", "body"])
@pytest.mark.parametrize("bad", BAD)
def test_refused_http2(lab_of_tokens, bad, form):
    make, state = BAD[bad]
    refused(lab_of_tokens, make(lab_of_tokens.issuer), state, lambda world, tokens: ask_h2(world, tokens, **FORMS[form]), H2_PORT)


def test_without_the_rule_nothing_is_stopped_http2(lab_of_tokens):
    world = lab_of_tokens
    for bad, (make, state) in BAD.items():
        token = make(world.issuer)
        assert ask_h2(world, [token, token], who=world.easy) == ["ok", "ok"], bad
        wait_state(world, token, state or "unverified")


def test_tampered(lab_of_tokens):
    world = lab_of_tokens
    token = tampered(world.issuer)
    refused(world, token, "invalid")
    name = hashlib.sha256(token.encode()).hexdigest()
    until(lambda: any(a["kind"] == "token_invalid_signature" and a.get("sha256", a.get("token")) == name
                      for a in world.daemon.api.get("/v1/alerts?limit=500")["items"]), 5, "an alert")


def test_hmac_with_the_public_key(lab_of_tokens):
    world = lab_of_tokens
    secret = json.dumps(json.loads(world.issuer.jwks("rsa"))["keys"][0])
    refused(world, jwt.encode({"sub": "confused"}, secret, "HS256", headers={"kid": "rsa"}), "invalid")


def test_not_signed(lab_of_tokens):
    refused(lab_of_tokens, jwt.encode({"sub": "none"}, None, "none", headers={"kid": "rsa"}), "invalid")


def test_expired(lab_of_tokens):
    refused(lab_of_tokens, lab_of_tokens.issuer.token("ec", "old", exp=int(time.time()) - 61), "expired")


def test_opaque(lab_of_tokens):
    """Nobody can check it, so nobody waits for that."""
    started = time.monotonic()
    refused(lab_of_tokens, "opaque-token-of-nobody", None)
    assert time.monotonic() - started < 3


def test_without_the_rule_nothing_is_stopped(lab_of_tokens):
    world = lab_of_tokens
    token = world.issuer.token("rsa", "free", kid="nobody")
    assert ask(world, [token], who=world.easy) == ["ok"]
    wait_state(world, token, "unknown_key")


def test_a_key_that_comes_later(lab_of_tokens):
    world = lab_of_tokens
    later = Issuer()
    token = jwt.encode({"sub": "later", "exp": int(time.time()) + 600}, later.ed, "EdDSA", headers={"kid": "later"})
    refused(world, token, "unknown_key")
    key = {**json.loads(later.jwks("ed"))["keys"][0], "kid": "later"}
    both = json.loads(world.issuer.jwks("rsa", "ec", "ed"))
    both["keys"].append(key)
    world.jwks.write_text("half of a file")
    until(lambda: any("JSON" in p for p in world.status()["problems"]), 5, "a problem is told")
    assert ask(world, [world.issuer.token("rsa", "meanwhile")]) == ["ok"]  # the last good keys are used on
    lab.write_file(world.jwks, json.dumps(both))
    wait_state(world, token, "unverified")
    until(lambda: not world.status()["problems"], 5, "the problem is over")
    assert ask(world, [token]) == ["ok"]
    wait_state(world, token, "valid")


def test_a_token_named_by_its_number(lab_of_tokens):
    """Of a token in the dynamic table only the hash is there: one that is not verified any more is refused at once; on a new connection it is checked."""
    world = lab_of_tokens
    keys, rest = (world.issuer.jwks(*kinds) for kinds in (("rsa", "ec", "ed"), ("rsa", "ec")))
    token = world.issuer.token("ed", "by number")
    with H2Client(world) as client:
        assert client.ask(token, index=True) == "ok"
        wait_state(world, token, "valid")
        try:
            lab.write_file(world.jwks, rest)
            wait_state(world, token, "unverified")
            since = time.time() - 0.05
            assert client.ask(token, index=True) in ("ECONNABORTED", "ECONNRESET", "EPIPE", "closed")
            assert time.time() - since < 3
            world.wait_flow(since, verdict="DENIED", reason="token_invalid_signature", dst_port=H2_PORT)
        finally:
            lab.write_file(world.jwks, keys)
    until(lambda: ask_h2(world, [token], index=True) == ["ok"], 10, "the key is there again")
    wait_state(world, token, "valid")


class Ring:
    """casa_raw_ring's data, as its reader has it mapped."""

    def __init__(self, pin):
        attr = ctypes.create_string_buffer(128)
        path = ctypes.create_string_buffer(str(pin).encode())
        attr[:8] = ctypes.addressof(path).to_bytes(8, sys.byteorder)
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(321 if os.uname().machine == "x86_64" else 280, 7, attr, 128)  # BPF_OBJ_GET
        assert fd >= 0, os.strerror(ctypes.get_errno())
        size = 1 << 19
        # A page of the consumer's, one of the producer's, the data.
        self.map = mmap.mmap(fd, mmap.PAGESIZE + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE)
        os.close(fd)

    def has(self, text):
        return self.map.find(text.encode()) >= 0


@pytest.mark.parametrize("how", [ask, ask_h2])
def test_nothing_stays_in_the_ring(lab_of_tokens, how):
    world = lab_of_tokens
    pin = next(Path(world.daemon.bpffs).glob("abi-*/casa_raw_ring"))
    ring = Ring(pin)
    token = world.issuer.token("rsa", f"ring-{how.__name__}")
    world.daemon.process.send_signal(signal.SIGSTOP)
    try:
        assert how(world, [token], who=world.easy) == ["ok"]
        assert ring.has(token)  # so the search finds what there is
    finally:
        world.daemon.process.send_signal(signal.SIGCONT)
    wait_state(world, token, "valid")
    until(lambda: not ring.has(token) and not ring.has(token.split(".")[1]), 3, "the ring is overwritten")


def test_no_core_dump(lab_of_tokens):
    limits = Path(f"/proc/{lab_of_tokens.daemon.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"], core


def test_a_policy_that_needs_keys_fails_without_them(new_world):
    world = new_world()
    world.put("agents.yaml", policy("agents/agent", f"tools/mcp-server:{PORT}", tokens={"requireValidSignature": "drop"}))
    world.start()
    view = world.policy_view("agents/agent")
    assert view["phase"] == "Failed" and "tokens.signature" in view["message"], view
