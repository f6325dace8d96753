"""Raw tokens are nowhere: after requests in every form, with tokens that are easy to find, nothing of one is in whatever casad writes, answers or
keeps. Every place that is searched holds a word that the test put there, and the same search must find that one.

Signatures are not checked here: with that, tokens pass through one room of the daemon (test_signatures.py).
"""
import ctypes
import json
import mmap
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from naming import LLM, RESOLVER, Resolver, llm_policy
from test_tokens_h2 import PREFACE, block, frame
from test_tokens_stopped import SINK
from tokens import MARK, PORT, PROXY_PORT, TokenWorld, b64, make_token, request
from harness.world import until
import lab

CONTROL = "quite-an-ordinary-word"  # no digits, not longer than a segment that is told: as a path it is told as it is
PIECE = 12
RAW_RECORD, DISCARDED = 8232, 1 << 30  # of casa_raw_ring: a record's size, and the kernel's mark for one that nobody is to read
# The last segment of a path that is known as a token endpoint's is in a map.
CONFIG = f'tokens: {{eventClasses: [{{class: issuance, path: "/a/{CONTROL}"}}]}}\n'

# Sends pieces from a JSON list on stdin, each its own segment, for so many answers or until it is refused; keeps its connection until stdin ends.
KEEP = """
import errno, json, socket, sys
host, port, answers, pieces = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.stdin.readline())
s = socket.create_connection((host, port), timeout=10)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    for piece in pieces: s.sendall(piece.encode("latin1"))
    got = b""
    while got.count(b"HTTP/1.1 ") < answers and (data := s.recv(65536)): got += data
    print("done", flush=True)
except OSError as e:
    print(errno.errorcode.get(e.errno, type(e).__name__), flush=True)
sys.stdin.read()
"""
# The same over HTTP/2 as Python's h2 does it.
KEEP_H2 = """
import json, socket, sys
import h2.config, h2.connection, h2.events
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8")); c.initiate_connection()
left = int(sys.argv[3])
for i in range(left):
    c.send_headers(1 + 2 * i, [(":method", "GET"), (":path", sys.argv[4]), (":authority", "x"), (":scheme", "http"),
                               ("authorization", "Bearer " + json.loads(sys.stdin.readline()))], end_stream=True)
s.sendall(c.data_to_send())
while left:
    for e in c.receive_data(s.recv(65536)): left -= isinstance(e, h2.events.StreamEnded)
    s.sendall(c.data_to_send())
print("done", flush=True)
sys.stdin.read()
"""


class Stage:
    """What has happened when the search begins. The connections are still open, and so is a reader of /v1/events."""

    def __init__(self, world, outside):
        self.world, self.clients, self.sent = world, [], []
        work = world.daemon.work
        world.keep(Resolver(work, {LLM: [lab.OUTSIDE4]}))
        world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
        (work / "sink").touch()
        world.keep(outside.popen([sys.executable, "-c", SINK, lab.OUTSIDE4, str(work / "sink")], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        world.put("stopped.yaml", llm_policy("agents/stopped", port=80, tokens={"exfiltration": "drop"}))
        world.put(f"{CONTROL}.yaml", f"kind: {CONTROL}\n")
        self.stopped = world.cgroup("agents/stopped")
        self.tokens = world.keep(TokenWorld(world))
        www = work / "www" / "a"
        www.mkdir(parents=True)
        (www / CONTROL).write_text("ok")
        self.tokens.start(self.tokens.proxy, ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", work / "www", PROXY_PORT])
        self.tokens.wait_port(PROXY_PORT)
        self.listen()

    def listen(self):
        self.news = bytearray()
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(str(self.world.daemon.api_socket))
        self.stream.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")

        def read():
            try:
                while data := self.stream.recv(65536):
                    self.news.extend(data)
            except OSError:
                pass
        threading.Thread(target=read, daemon=True).start()
        until(lambda: b"200 OK" in self.news, what="the stream begins")

    def mark(self, *tokens):
        self.sent.extend(tokens)
        return tokens

    def keep(self, program, cgroup, lines, *arguments):
        """Starts a client that keeps its connection; returns how its requests ended."""
        client = cgroup.popen(["/usr/bin/python3", "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.clients.append(client)
        client.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
        client.stdin.flush()
        return client.stdout.readline().strip()

    def http1(self, *requests, size=0, cgroup=None, host="127.0.0.1", port=PORT, answers=None):
        data = b"".join(requests).decode("latin1")
        pieces = [data[i:i + (size or len(data))] for i in range(0, len(data), size or len(data))]
        return self.keep(KEEP, cgroup or self.tokens.agent, [pieces], host, port, len(requests) if answers is None else answers)

    def play(self):
        path = f"/a/{CONTROL}"
        for size in (0, 1, 300):  # new, then known
            (token,) = self.mark(make_token(900 if size else 3000))
            assert self.http1(request(token, path), request(token, path, "POST", b"x" * 9), size=size) == "done"
            self.tokens.uses(token, 2)
        first, second = self.mark(make_token(), make_token())
        assert self.http1(request(first, path, extra=f"Authorization: Bearer {second}\r\n")) == "done"
        for token in self.mark(make_token(header={"alg": "none"}), f"{MARK}.opaque_{b64(os.urandom(40))}"):
            assert self.http1(request(token, path)) == "done"
            self.tokens.uses(token, 1)
        (longest,) = self.mark(make_token(8300))
        self.http1(request(longest, path))
        self.play_http2(path)
        self.play_refused(path)
        self.tokens.uses(first, 1)
        until(lambda: self.tokens.alerts(kind="duplicate_authorization"), what="an alert")

    def play_http2(self, path):
        first, second, third = self.mark(make_token(900), make_token(900), make_token())
        assert self.keep(KEEP_H2, self.tokens.agent, [first, first, second], "127.0.0.1", PROXY_PORT, 3, path) == "done"
        sys.path.append("/usr/lib/python3/dist-packages")
        import hpack  # python3-hpack, which puts tokens into the dynamic table
        encoder = hpack.Encoder()
        data = PREFACE + frame(4, 0, 0, b"") + b"".join(frame(1, 5, i, block(encoder, third, path)) for i in (1, 3))
        for size in (0, 1):
            assert self.http1(data, size=size, port=PROXY_PORT, answers=0) == "done"
        self.tokens.uses(first, 2)
        self.tokens.uses(third, 4)

    def play_refused(self, path):
        for size in (0, 1):
            (token,) = self.mark(make_token(600))
            how = self.http1(request(token, path, host=LLM), size=size, cgroup=self.stopped, host=lab.OUTSIDE4, port=80)
            assert how in ("ECONNABORTED", "ECONNRESET", "EPERM", "EPIPE"), how
        until(lambda: self.tokens.alerts(kind="token_unexpected_destination", blocked=True), what="an alert")

    def close(self):
        for client in self.clients:
            client.kill()
            client.communicate()
        self.stream.close()


@pytest.fixture(scope="module")
def stage(outside):
    from conftest import make_world
    world = make_world(outside, config=CONFIG, arguments=("--log-level", "debug"))
    made = None
    try:
        made = Stage(world, outside)
        made.play()
        yield made
    finally:
        if made:
            made.close()
        world.close()


# Where to look: each gives (name, bytes).

def in_log(stage):
    yield "log", stage.world.daemon.log_path.read_bytes()


def in_state(stage):
    for path in (stage.world.daemon.work / "state").rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()


def in_answers(stage):
    targets = [f"/v1/{list_}?limit=1000" for list_ in ("policies", "workloads", "endpoints", "flows", "tokens", "alerts")]
    targets += ["/v1/status", "/v1/stats", "/metrics", "/openapi.json", "/healthz", "/readyz"]
    rows = stage.world.daemon.api.get("/v1/tokens?limit=1000")["items"]
    assert len(rows) >= 10
    for target in targets + [f"/v1/tokens/{row['sha256']}" for row in rows]:
        status, headers, body = stage.world.daemon.api.request(target)
        assert status == 200, target
        yield target, str(headers).encode() + body


def in_events(stage):
    yield "/v1/events", bytes(stage.news)


def pins(stage, *types):
    """(type, path) of each pinned map of these types; none given: of all."""
    for path in sorted(p for p in stage.world.daemon.bpffs.rglob("*") if p.is_file()):
        shown = subprocess.run(["/usr/sbin/bpftool", "-j", "map", "show", "pinned", path], capture_output=True, text=True, timeout=20)
        kind = json.loads(shown.stdout or "{}").get("type") if shown.returncode == 0 else None
        if kind and (not types or kind in types):
            yield kind, path


UNDUMPED = {"sk_storage", "ringbuf", "prog_array"}  # the first two are places of their own; the last holds the ids of programs


def in_maps(stage):
    for kind, path in pins(stage):
        if kind in UNDUMPED:
            continue
        dump = subprocess.run(["/usr/sbin/bpftool", "-j", "map", "dump", "pinned", path], capture_output=True, text=True, check=True, timeout=60).stdout
        yield path.name, bytes(int(x, 16) for x in re.findall(r'"0x([0-9a-f]{2})"', dump))


def bpf(command, attributes):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(321 if os.uname().machine == "x86_64" else 280, command, ctypes.create_string_buffer(attributes, 128), 128)
    return result if result >= 0 else -ctypes.get_errno()


def open_pin(path):
    name = ctypes.create_string_buffer(str(path).encode())
    fd = bpf(7, ctypes.addressof(name).to_bytes(8, sys.byteorder))  # BPF_OBJ_GET
    assert fd >= 0, os.strerror(-fd)
    return fd


def sockets_of(stage):
    """A descriptor of our own for each socket of the world's processes: those of the callers and those that servers accepted."""
    libc = ctypes.CDLL(None, use_errno=True)
    for procs in stage.world.root.path.rglob("cgroup.procs"):
        for pid in map(int, procs.read_text().split()):
            pidfd = os.pidfd_open(pid)
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(fd).startswith("socket:"):
                    ours = libc.syscall(438, pidfd, int(fd.name), 0)  # pidfd_getfd
                    assert ours >= 0, os.strerror(ctypes.get_errno())
                    yield f"{pid}/{fd.name}", ours
                    os.close(ours)
            os.close(pidfd)


def in_storages(stage):
    """Socket storage is looked up by a descriptor of its socket."""
    storages = [(path.name, open_pin(path)) for _, path in pins(stage, "sk_storage")]
    value = ctypes.create_string_buffer(1 << 16)
    for name, sock in sockets_of(stage):
        key = ctypes.c_int(sock)
        for storage, fd in storages:
            attributes = (fd, ctypes.addressof(key), ctypes.addressof(value), 0)
            if bpf(1, b"".join(a.to_bytes(8, sys.byteorder) for a in attributes)) == 0:  # BPF_MAP_LOOKUP_ELEM
                yield f"{storage} of {name}", value.raw
    for _, fd in storages:
        os.close(fd)


def ring_bytes(stage, name):
    """All of a ring, what was read included: behind the page of the reader's position and that of the writer's."""
    path = next(path for _, path in pins(stage, "ringbuf") if path.name == name)
    fd = open_pin(path)
    info = json.loads(subprocess.run(["/usr/sbin/bpftool", "-j", "map", "show", "pinned", path], capture_output=True, text=True, check=True).stdout)
    with mmap.mmap(fd, mmap.PAGESIZE + info["max_entries"], mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE) as pages:
        os.close(fd)
        return pages[mmap.PAGESIZE:]


def in_ring(stage):
    yield "casa_ring", ring_bytes(stage, "casa_ring")


def in_memory(stage):
    pid = stage.world.daemon.process.pid
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *rest = line.split()
            if not rights.startswith("r") or rest[-1] in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):  # the kernel's clocks and code
                continue
            begin, end = (int(x, 16) for x in span.split("-"))
            memory.seek(begin)
            data = b""
            while len(data) < end - begin and (piece := memory.read(end - begin - len(data))):
                data += piece
            assert len(data) == end - begin, line
            yield line, data


PLACES = {"log": in_log, "state": in_state, "answers": in_answers, "events": in_events, "maps": in_maps, "storages": in_storages,
          "ring": in_ring, "memory": in_memory}


def pieces_of(token):
    """What must not be found: the token, its parts, and every piece of 12 bytes of what is not its header."""
    parts = token.split(".")
    secret = parts[1:] if len(parts) == 3 else [token]
    return {token, *(p for p in parts if len(p) >= PIECE)} | {p[i:i + PIECE] for p in secret for i in range(len(p) - PIECE + 1)}


def search(stage, place, words):
    """-> what of `words` is there, and where"""
    patterns = stage.world.daemon.work / "patterns"
    patterns.write_text("\n".join(sorted(words)) + "\n")
    found = []
    for name, data in PLACES[place](stage):
        hits = subprocess.run(["grep", "-a", "-o", "-F", "-f", str(patterns)], input=data, capture_output=True, env={"LC_ALL": "C"}, timeout=120)
        assert hits.returncode in (0, 1), hits.stderr
        found += [(name, hit) for hit in hits.stdout.split(b"\n")[:3] if hit]
    return found


@pytest.mark.parametrize("place", PLACES)
def test_the_search_finds(stage, place):
    assert search(stage, place, {CONTROL}), f"nothing of what was put into {place} is found there"


@pytest.mark.parametrize("place", PLACES)
def test_raw_tokens_are_nowhere(stage, place):
    assert len(stage.sent) == 13
    words = {MARK}.union(*map(pieces_of, stage.sent))
    assert len(words) > 4000  # 256 bytes of signature each, at least
    assert search(stage, place, words) == []


def test_nothing_was_handed_over(stage):
    """In the ring that takes tokens to the signature check there is nothing but zeros and the heads of the records that wiped it."""
    head = re.escape((RAW_RECORD | DISCARDED).to_bytes(4, sys.byteorder))
    assert not any(re.sub(head + b".{4}", b"", ring_bytes(stage, "casa_raw_ring"), flags=re.DOTALL))


def test_all_maps_are_searched(stage):
    """No map is passed over because it is of a kind that this test does not know."""
    kinds = {kind for kind, _ in pins(stage)}
    assert {"hash", "lru_hash", "sk_storage", "ringbuf"} <= kinds
    assert kinds <= UNDUMPED | {"hash", "lru_hash", "array", "percpu_array", "lpm_trie"}
    assert {path.name for _, path in pins(stage, "ringbuf")} == {"casa_ring", "casa_raw_ring"}


def half_of_http2(token, huffman):
    import hpack
    block = hpack.Encoder().encode([(":method", "GET"), (":path", "/a"), (":scheme", "http"), (":authority", "x"), ("authorization", "Bearer " + token)], huffman=huffman)
    return PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, block)[:9 + len(block) * 2 // 3]


@pytest.mark.parametrize("size", [1, 50, 0])
@pytest.mark.parametrize("form", ["http1", "http2", "http2-plain"])
def test_of_half_a_token(stage, form, size):
    """While a token is still being sent, its socket's storage holds less than one block of the hash (64 bytes) of it; other places nothing. What
    gathers tokens for the check of signatures is not there at all."""
    token = make_token(1000)
    if form == "http1":
        half, port = request(token)[:request(token).index(b"Bearer ") + 7 + len(token) * 2 // 3], PORT
    else:
        half, port = half_of_http2(token, form == "http2"), PROXY_PORT
    assert stage.http1(half, size=size, port=port, answers=0) == "done"
    client = stage.clients.pop()
    try:
        assert not any(name.startswith("casa_gathered ") for name, _ in in_storages(stage))
        blocks = {token[i:i + 64] for i in range(len(token) - 63)}
        assert search(stage, "storages", blocks) == []
        assert search(stage, "storages", pieces_of(token)), "nothing of it is there: what is searched for?"
        for place in set(PLACES) - {"storages"}:
            assert search(stage, place, pieces_of(token)) == []
    finally:
        client.kill()
        client.communicate()
