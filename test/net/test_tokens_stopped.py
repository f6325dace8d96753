"""Tokens on their way to an external endpoint: an alert, and with `exfiltration: drop` no byte of one leaves."""
import json
import subprocess
import time

import pytest

from naming import LLM, RESOLVER, Client, Resolver, llm_policy
from tokens import make_token, request, sha256
from harness.world import until
import lab

# Takes whatever comes, and writes it to a file; answers each request that it can see the end of.
SINK = """
import socket, sys, threading
def serve(c):
    with c:
        while data := c.recv(65536):
            log.write(data); log.flush()
            if b"\\r\\n\\r\\n" in data: c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
log = open(sys.argv[2], "ab")
s = socket.create_server((sys.argv[1], 80))
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

# Sends pieces, each its own segment; says how it ended and after how many ms since the piece that was refused.
TALK = """
import errno, json, socket, sys, time
s = socket.create_connection((sys.argv[1], 80), timeout=5)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
started = time.monotonic()
try:
    for piece in json.load(open(sys.argv[2])):
        started = time.monotonic(); s.sendall(piece.encode("latin1")); time.sleep(0.001)
    while s.recv(4096) and not sys.argv[3:]: break
    s.settimeout(0.5)
    try: s.recv(4096)
    except TimeoutError: pass
    print("got", "-", 0)
except OSError as e:
    print(errno.errorcode.get(e.errno, type(e).__name__), "-", round((time.monotonic() - started) * 1000))
"""


@pytest.fixture(scope="module")
def web(lasting_world, outside):
    world = lasting_world()
    work = world.daemon.work
    world.keep(Resolver(work, {LLM: [lab.OUTSIDE4]}))
    world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
    world.sink = work / "sink"
    world.sink.touch()
    world.keep(outside.popen(["/usr/bin/python3", "-c", SINK, lab.OUTSIDE4, str(world.sink)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    world.put("stopped.yaml", llm_policy("agents/stopped", port=80, tokens={"exfiltration": "drop"}))
    world.put("watched.yaml", llm_policy("agents/watched", port=80))
    world.put("audited.yaml", llm_policy("agents/audited", port=80, tokens={"exfiltration": "drop"}, enforcement="audit"))
    world.clients = {n: Client(world.puppet(f"agents/{n}").cgroup, work) for n in ("stopped", "watched", "audited")}
    world.start()
    for client in world.clients.values():
        until(lambda c=client: c.run(["curl", "-s", "-m", "3", f"http://{LLM}/"])[0] == 0, 20, "the server answers")
    return world


def talk(web, who, pieces):
    (web.daemon.work / "pieces").write_text(json.dumps(pieces))
    status, output, _ = web.clients[who].run(["/usr/bin/python3", "-c", TALK, lab.OUTSIDE4, str(web.daemon.work / "pieces")])
    assert status == 0, output
    return output.split()


def alert(web, token, who="stopped"):
    def find():
        rows = web.daemon.api.get("/v1/alerts?kind=token_unexpected_destination&limit=1000")["items"]
        return next((r for r in rows if r["workload"]["workload"] == who and (token is None or r.get("sha256") == sha256(token))), None)
    return until(find, what="an alert")


SEGMENTS = {
    "one": lambda data: [data],
    "before-the-token": lambda data: [data[:data.index("Bearer ") + 7], data[data.index("Bearer ") + 7:]],
    "inside-the-token": lambda data: [data[:data.index("Bearer ") + 60], data[data.index("Bearer ") + 60:]],
    "bytes": list,
    "second-request": lambda data: [f"GET / HTTP/1.1\r\nHost: {LLM}\r\n\r\n", data],
    "pipelined": lambda data: [f"GET / HTTP/1.1\r\nHost: {LLM}\r\n\r\n" + data],
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_no_byte_of_a_token_leaves(web, case):
    token = make_token(600)
    since = time.time() - 0.05
    result, _, ms = talk(web, "stopped", SEGMENTS[case](request(token, host=LLM).decode()))
    assert result in ("ECONNABORTED", "ECONNRESET", "EPERM", "EPIPE") and int(ms) < 1000, (result, ms)
    web.wait_flow(since, verdict="DENIED", reason="token_unexpected_destination", src_workload="stopped")
    time.sleep(0.1)
    assert token[:8].encode() not in web.sink.read_bytes()
    # The hash is known where the whole token was there before anything of it left.
    found = alert(web, token if case not in ("inside-the-token", "bytes") else None)
    assert found["blocked"] is True and found["workload"]["workload"] == "stopped"
    assert found["evidence"]["flows"]


def test_application_learns_at_once(web):
    times = []
    for _ in range(5):
        _, _, ms = talk(web, "stopped", [request(make_token(), host=LLM).decode()])
        times.append(int(ms))
    assert sorted(times)[2] <= 200, times


def test_other_requests_pass(web):
    assert talk(web, "stopped", [f"GET /a HTTP/1.1\r\nHost: {LLM}\r\nX-Api-Key: k\r\nAuthorization: Basic eDp5\r\n\r\n"])[0] == "got"


@pytest.mark.parametrize("case", ["alert", "audit"])
def test_alert_only(web, case):
    who = {"alert": "watched", "audit": "audited"}[case]
    token = make_token()
    assert talk(web, who, [request(token, host=LLM).decode()])[0] == "got"
    found = alert(web, token, who)
    assert found["blocked"] is False
    assert found["destination"].get("fqdn") == LLM
    assert token.encode() in web.sink.read_bytes()


UNREADABLE = {
    "long-token": f"GET / HTTP/1.1\r\nHost: {LLM}\r\nAuthorization: Bearer {'t' * 9000}\r\n\r\n",
    "long-head": f"GET / HTTP/1.1\r\nHost: {LLM}\r\nX: {'v' * 70000}\r\nAuthorization: Bearer abc.def.ghi\r\n\r\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_stopped(web, case):
    result = talk(web, "stopped", [UNREADABLE[case]])[0]
    assert result in ("ECONNABORTED", "ECONNRESET", "EPERM", "EPIPE")
    assert b"abc.def.ghi" not in web.sink.read_bytes()
