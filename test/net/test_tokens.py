"""Tokens on the wire, with the clients and servers that people use: each request that carries one is seen, once, under the SHA-256 that
sha256sum gives; whatever the segmentation, the library or the peer."""
import json
import subprocess
import time

import pytest

from tokens import PORT, PROXY_PORT, TokenWorld, b64, make_token, request, sha256
from harness.world import until

URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def tokens(lasting_world):
    world = lasting_world()
    return world.keep(TokenWorld(world))


PYTHON_HTTP = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", {port})
for i in range(3):
    c.request("POST", "/a?b=c", b"x" * 1000, {{"Authorization": "Bearer " + sys.argv[1]}}); c.getresponse().read()
""".format(port=PORT)
PYTHON_REQUESTS = """
import requests, sys
s = requests.Session(); s.trust_env = False
for i in range(3): assert s.post("{url}/a", json={{"x": 1}}, headers={{"authorization": "bearer " + sys.argv[1]}}).text == "ok"
""".format(url=URL)
PYTHON_HTTPX = """
import httpx, sys
with httpx.Client(trust_env=False) as c:
    for i in range(3): assert c.post("{url}/a", content=(b"y" * 999 for _ in range(3)), headers={{"Authorization": "Bearer " + sys.argv[1]}}).text == "ok"
""".format(url=URL)
NODE_FETCH = """
(async () => { for (let i = 0; i < 3; i++) {
  const r = await fetch("%s/a", {method: "POST", body: "z".repeat(5000), headers: {authorization: "Bearer " + process.argv[1]}});
  if (await r.text() !== "ok") process.exit(1);
} })();
""" % URL

CLIENTS = {
    "curl": lambda t: ["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {t}", f"{URL}/a", f"{URL}/b?x", f"{URL}/c"],
    "curl-expect": lambda t: ["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {t}", "-H", "Expect: 100-continue", "-d", "x" * 2000,
                              f"{URL}/a", f"{URL}/b", f"{URL}/c"],
    # Three curls: one tries the connection that the server is about to close once more, and where it does sends the request, and the token, twice.
    "curl-1.0": lambda t: ["sh", "-c", "for path in a b c; do curl -sS --noproxy '*' -0 -H \"Authorization: Bearer $1\" $0/$path || exit; done", URL, t],
    "python-http.client": lambda t: ["/usr/bin/python3", "-c", PYTHON_HTTP, t],
    "python-requests": lambda t: ["/usr/bin/python3", "-c", PYTHON_REQUESTS, t],
    "python-httpx": lambda t: ["/usr/bin/python3", "-c", PYTHON_HTTPX, t],
    "node-fetch": lambda t: ["node", "-e", NODE_FETCH, t],
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("length", [600, 7800])
def test_clients(tokens, client, length):
    token = make_token(length)
    status, output = tokens.run(CLIENTS[client](token))
    assert status == 0, output
    row = tokens.uses(token, 3)
    assert tokens.served(token) == 3
    assert row["shape"] == "jwt" and row["length"] == len(token) and not row["algNone"]
    assert [p["workload"] for p in row["presenters"]] == ["agent"]
    assert [d["workload"] for d in row["destinations"]] == ["mcp-0"]


def test_hash_is_sha256sums(tokens):
    token = make_token()
    told = subprocess.run(["sha256sum"], input=token, capture_output=True, text=True, check=True).stdout.split()[0]
    tokens.send(request(token))
    assert tokens.row(token)["sha256"] == told


def test_wrk(tokens):
    """Many connections at once: as many sightings as requests that the server has read."""
    token = make_token(900)
    status, output = tokens.run(["wrk", "-t1", "-c8", "-d1s", "-H", f"Authorization: Bearer {token}", f"{URL}/mcp"])
    assert status == 0, output
    served = until(lambda: (n := tokens.served(token)) and (time.sleep(0.3) or n == tokens.served(token)) and n, 10, "wrk is over")
    assert served > 100
    # wrk ends in the middle of requests: some left, and nobody read them.
    counts = until(lambda: (c := tokens.row(token)["counts"]["use"]) >= served and c, 10, f"{served} sightings")
    assert served <= counts <= served + 8
    stats = tokens.world.daemon.api.get("/v1/stats")["counters"]
    assert stats["eventsLost"] == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 63, 64, 65, 255, 256, 1000, 0])
def test_segments(tokens, size):
    token = make_token(300 if size < 7 else 2000)
    data = request(token, "/a/b?c", "POST", b"GET / HTTP/1.1\r\nAuthorization: Bearer no.such.token\r\n\r\n") * 3
    assert tokens.send(data, size, 3) == "got 3"
    row = tokens.uses(token, 3)
    assert {s["request"] for s in row["path"]} == {"POST /a/b"}
    assert len({s["flow"] for s in row["path"]}) == 1


FORMS = {
    "lower-case": "authorization: bearer {}\r\n",
    "upper-case": "AUTHORIZATION: BEARER {}\r\n",
    "no-space": "Authorization:Bearer {}\r\n",
    "tabs": "Authorization:\t \tBearer\t\t {} \t\r\n",
    "folded": "Authorization:\r\n Bearer\r\n\t{}\r\n",
    "bare-line-feeds": "Authorization: Bearer {}\nX: y\n",
    "after-64k": "".join(f"X-{i}: {'v' * 1000}\r\n" for i in range(60)) + "Authorization: Bearer {}\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tokens, form):
    token = make_token()
    data = ("GET /f HTTP/1.1\r\nHost: x\r\n" + FORMS[form].format(token) + "\r\n").encode()
    if form == "after-64k":  # more than the server takes, not more than is read
        tokens.send(data, 0, 0)
    else:
        tokens.send(data)
    tokens.uses(token, 1)


def test_chunks_are_passed_over(tokens):
    token, fake = make_token(), make_token()
    inside = request(fake)
    body = b"".join(b"%x;x=y\r\n%s\r\n" % (len(c), c) for c in (inside, b"z" * 70000, inside)) + b"0\r\nAuthorization: Bearer t.r.l\r\n\r\n"
    head = f"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    assert tokens.send(head + body + request(token), 0, 2) == "got 2"
    tokens.uses(token, 2)
    assert tokens.world.daemon.api.request(f"/v1/tokens/{sha256(fake)}")[0] == 404


def test_large_segments(tokens):
    """Pipelined requests in writes of 128 KiB: the kernel hands itself segments as large as that."""
    token = make_token(1000)
    data = request(token, body=b"b" * 3000) * 200
    tokens.send(data, 131072, 200)
    tokens.uses(token, 200, 10)


def test_known_token_is_not_hashed_again(tokens):
    def hashed():
        return tokens.world.daemon.api.get("/v1/stats")["counters"]["tokensHashed"]
    token = make_token(1500)
    before = hashed()
    assert tokens.send(request(token) * 20, 0, 20) == "got 20"
    tokens.uses(token, 20)
    assert hashed() == before + 1


SHAPES = {
    "alg-none": (lambda: make_token(header={"alg": "none"}), "jwt", True),
    "alg-nOnE": (lambda: make_token(header={"alg": "nOnE"}), "jwt", True),
    "alg-escaped": (lambda: f"{b64(b'{' + bytes([34]) + b'alg' + bytes([34]) + b': ' + bytes([34]) + b'n' + bytes([92]) + b'u006fne' + bytes([34]) + b'}')}.{b64(b'{}')}.", "jwt", True),
    "jwt": (make_token, "jwt", False),
    "opaque": (lambda: "ya29.opaque_value-" + b64(str(time.time()).encode()), "opaque-bearer", False),
    "no-alg": (lambda: make_token(header={"typ": "JWT"}), "opaque-bearer", False),
    "five-parts": (lambda: make_token() + ".a.b", "opaque-bearer", False),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes(tokens, case):
    make, shape, none = SHAPES[case]
    token = make()
    tokens.send(request(token))
    row = tokens.uses(token, 1)
    assert (row["shape"], row["algNone"]) == (shape, none)
    assert bool(tokens.alerts(token, kind="token_alg_none")) == none


def test_two_authorization_headers(tokens):
    first, second = make_token(), make_token()
    tokens.send(request(first, extra=f"Authorization: Bearer {second}\r\n"))
    tokens.uses(first, 1)
    assert tokens.row(second)["counts"]["use"] == 0 and tokens.row(second)["counts"]["duplicate"] == 1
    assert until(lambda: tokens.alerts(kind="duplicate_authorization"), what="an alert")


UNREAD = {
    "length-and-chunks": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous"),
    "odd-chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "ambiguous"),
    "two-lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "ambiguous"),
    "space-before-colon": (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer a\r\n\r\n", "ambiguous"),
    "head-over-64k": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 66000 + b"\r\n\r\n", "truncated"),
    "token-over-8k": (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"v" * 8300 + b"\r\n\r\n", "truncated"),
    "tls": (b"\x16\x03\x01\x00\x05hello", "opaque"),
    "other": (b"SSH-2.0-OpenSSH\r\n", "opaque"),
    "after-upgrade": (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x85abcdhello", "opaque"),
    "out-of-step": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\x02", "truncated"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_is_not_read_says_so(tokens, case):
    data, why = UNREAD[case]
    since = time.time() - 0.05
    tokens.send(data, 0, 0)
    until(lambda: tokens.world.find_flow(since, unread=why, src_workload="agent", direction="egress"), what=f"a flow that says {why}")
    if why == "ambiguous":
        assert tokens.alerts(kind="ambiguous_http")


def test_old_connection_says_so(tokens):
    """A connection that is older than the programs is let through, and says that nobody saw its beginning."""
    from conftest import make_world
    world = make_world(tokens.world.outside)
    puppet = world.puppet("agents/agent")
    try:
        listener = world.host_puppet().serve(tcp=[["127.0.0.1", 9191]])
        assert listener
        old = puppet.socket()
        assert old.call("connect", ["127.0.0.1", 9191]).ok
        assert old.call("sendall", "one").ok
    finally:
        world.close()


def test_comes_in_from_the_host(tokens):
    token = make_token()
    since = time.time() - 0.05
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {token}", f"{URL}/in"], capture_output=True, text=True, timeout=20)
    assert done.stdout == "ok", done.stderr
    row = tokens.uses(token, 1)
    assert row["path"][0]["direction"] == "ingress" and row["path"][0]["destination"]["workload"] == "mcp-0"
    flow = until(lambda: tokens.world.find_flow(since, direction="ingress", dst_workload="mcp-0", appProtocol="http"), what="the flow")
    assert flow["tokens"] == 1


def test_through_haproxy(tokens):
    """agent -> haproxy -> server: the token's path shows both legs, and a second workload that presents it is an alert."""
    (tokens.work / "haproxy.cfg").write_text(f"""
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:{PROXY_PORT}
  default_backend out
backend out
  server s 127.0.0.1:{PORT}
""")
    tokens.start(tokens.proxy, ["haproxy", "-db", "-f", tokens.work / "haproxy.cfg"])
    tokens.wait_port(PROXY_PORT)
    token = make_token()
    status, output = tokens.run(["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{PROXY_PORT}/via"])
    assert (status, output) == (0, "ok")
    row = tokens.uses(token, 2)
    assert [(s["source"]["workload"], s["destination"]["workload"]) for s in row["path"]] == [("agent", "proxy-0"), ("proxy-0", "mcp-0")]
    alert = until(lambda: tokens.alerts(token, kind="token_replay"), what="an alert")[0]
    assert alert["workload"]["workload"] == "proxy-0" and len(alert["evidence"]["flows"]) >= 1


def test_nginx(tokens):
    (tokens.work / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {tokens.work}/nginx.pid; error_log /dev/null;
events {{}}
http {{ access_log off; client_body_temp_path {tokens.work}/n1; proxy_temp_path {tokens.work}/n2; fastcgi_temp_path {tokens.work}/n3;
  uwsgi_temp_path {tokens.work}/n4; scgi_temp_path {tokens.work}/n5; large_client_header_buffers 8 16k;
  server {{ listen 127.0.0.1:8090; location / {{ return 200 "ok"; }} }} }}
""")
    tokens.world.change("nginx.yaml", *nginx_objects())
    server = tokens.start(tokens.world.cgroup("/tools.slice/nginx.service"), ["nginx", "-c", tokens.work / "nginx.conf", "-p", tokens.work])
    tokens.wait_port(8090)
    token = make_token(7000)
    status, output = tokens.run(["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8090/[1-5]"])
    assert status == 0 and output.count("ok") == 5, output
    tokens.uses(token, 5)
    server.kill()


def nginx_objects():
    from harness.objects import pod, policy, service
    return (pod("tools/nginx-0", "tools.slice/nginx.service", {"app": "nginx"}), service("tools/nginx", {"app": "nginx"}, (8090, 8090, "TCP")),
            policy("tools/nginx-0", kind="Pod"), {**policy("agents/agent", "tools/nginx:8090"), "metadata": {"namespace": "agents", "name": "agent-nginx"}})


def test_events_and_counts(tokens):
    """Issuance, exchange, introspection, use: by method and path, the first three also without a token."""
    before = tokens.world.daemon.api.get("/v1/stats")["tokens"]["total"]
    token = make_token()
    for path in ("/realms/r/protocol/openid-connect/token", "/app/oauth2/token"):
        tokens.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b".encode())
    tokens.send(request(token, "/app/oauth2/token_exchange", "POST", b"x"))
    tokens.send(request(token, "/oauth2/introspect", "POST", b"x"))
    tokens.send(request(token, "/mcp"))
    tokens.uses(token, 3)

    def counts():
        now = tokens.world.daemon.api.get("/v1/stats")["tokens"]["total"]
        return {k: now[k] - before[k] for k in ("issuances", "exchanges", "introspections", "uses")}
    until(lambda: counts() == {"issuances": 2, "exchanges": 1, "introspections": 1, "uses": 1}, what=f"counts (now {counts()})")
    metrics = tokens.world.daemon.api.request("/metrics")[2].decode()
    assert 'casad_token_events_total{' in metrics, metrics[:3000]


def test_lists(tokens):
    token = make_token()
    tokens.send(request(token))
    tokens.uses(token, 1)
    assert any(r["sha256"] == sha256(token) for r in tokens.world.daemon.api.get("/v1/tokens?limit=1000&workload=agents/agent")["items"])
    assert json.dumps(tokens.world.daemon.api.get("/v1/tokens?workload=agents/nobody")["items"]) == "[]"
