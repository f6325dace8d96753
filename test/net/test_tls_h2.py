"""HTTP/2 inside TLS, as clients speak it by themselves where a server offers it: read from what they hand to their TLS library, and from what
servers get from theirs. Streams side by side, connections that are kept, header blocks in every form, tokens in the dynamic table."""
import importlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_tokens_h2 import PREFACE, block, frame
from tls_bed import (AGENT, APP_EVENT, EGRESS, GOPHER, HTTP2, INGRESS, PORT, SERVER, STRANGER, TOKEN_EVENT, bed, check_sighting, go_build, jwt,
                     sha256, tidy, watched_node)  # noqa: F401
from harness.world import until

H2_PORT, NODE_PORT = PORT + 10, PORT + 11
URL = f"https://127.0.0.1:{H2_PORT}"
AMBIGUOUS, TRUNCATED = 4, 3
INSIDE_A_BODY = "inside-a-body"

NODE = """
const h2 = require("http2"), c = h2.connect(process.argv[1], {rejectUnauthorized: false});
let left = 6;
for (let i = 0; i < 6; i++) {
  const r = c.request({":path": "/a?" + i, ":method": i % 2 ? "POST" : "GET", authorization: "Bearer " + process.argv[2]});
  r.resume(); r.on("end", () => { if (!--left) c.close(); }); r.end(i % 2 ? "z".repeat(30000) : undefined);
}
"""
NODE_SERVER = """
const fs = require("fs"), [port, certificate, key] = process.argv.slice(1);
require("http2").createSecureServer({cert: fs.readFileSync(certificate), key: fs.readFileSync(key)}, (q, r) => r.end("ok\\n")).listen(+port, "127.0.0.1");
"""
PYTHON = """
import socket, ssl, sys, h2.config, h2.connection, h2.events
x = ssl._create_unverified_context(); x.set_alpn_protocols(["h2"])
s = x.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10))
assert s.selected_alpn_protocol() == "h2"
c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8")); c.initiate_connection(); s.sendall(c.data_to_send())
size, left = int(sys.argv[2]), 6
for i in range(6):
    c.send_headers(1 + 2 * i, [(":method", "GET"), (":path", "/a"), (":authority", "x"), (":scheme", "https"), ("authorization", "Bearer " + sys.argv[3 + i % 2])], end_stream=True)
data = c.data_to_send()
for i in range(0, len(data), size): s.sendall(data[i:i + size])
while left:
    for e in c.receive_data(s.recv(65536)):
        left -= isinstance(e, h2.events.StreamEnded)
    s.sendall(c.data_to_send())
"""
# Frames as the test made them, each of `size` bytes a call; the server closes when it does not like them.
SEND = """
import socket, ssl, sys, time
x = ssl._create_unverified_context(); x.set_alpn_protocols(["h2"])
s = x.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10))
data, size = open(sys.argv[2], "rb").read(), int(sys.argv[3])
try:
    for i in range(0, len(data), size): s.sendall(data[i:i + size])
    s.settimeout(0.3)
    while s.recv(65536): pass
except OSError: pass
if sys.argv[4:]:
    print("sent", flush=True); time.sleep(60)
"""
GO = """
package main
import ("bytes"; "crypto/tls"; "fmt"; "io"; "net/http"; "os"; "sync"; "time")
func main() {
	time.Sleep(300 * time.Millisecond)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	ask := func(method, token string, body []byte) {
		q, _ := http.NewRequest(method, os.Args[1]+"/go?x=1", bytes.NewReader(body))
		q.Header.Set("Authorization", "Bearer "+token)
		r, e := c.Do(q)
		if e != nil { fmt.Println(e); os.Exit(1) }
		if r.ProtoMajor != 2 { fmt.Println(r.Proto); os.Exit(1) }
		io.ReadAll(r.Body); r.Body.Close()
	}
	for i := 0; i < 4; i++ { for _, token := range os.Args[2:] { ask("GET", token, nil) } }
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() { ask("POST", os.Args[2], bytes.Repeat([]byte("GET / HTTP/1.1\\r\\nAuthorization: Bearer inside-a-body\\r\\n\\r\\n"), 3000)); all.Done() }()
	}
	all.Wait()
}
"""

CLIENTS = {  # how many requests carry the token
    "curl": (1, lambda t, w: ["curl", "-sk", "--http2", "-H", f"Authorization: Bearer {t}", f"{URL}/a?b"]),
    "curl-by-itself": (1, lambda t, w: ["curl", "-sk", "-H", f"Authorization: Bearer {t}", f"{URL}/a?b"]),
    "curl-kept": (3, lambda t, w: ["curl", "-sk", "-H", f"Authorization: Bearer {t}", f"{URL}/a", f"{URL}/b?x=y", f"{URL}/c"]),
    "curl-streams": (6, lambda t, w: ["curl", "-skZ", "-H", f"Authorization: Bearer {t}", "-o", "/dev/null", f"{URL}/[a-f]"]),
    "curl-body": (1, lambda t, w: ["curl", "-sk", "-H", f"Authorization: Bearer {t}", "--data-binary", f"@{w}/body", f"{URL}/a"]),
    "nghttp": (6, lambda t, w: ["nghttp", "-ny", "-m2", "-H", f"authorization: Bearer {t}", f"{URL}/a", f"{URL}/b?x=y", f"{URL}/c"]),
    "nghttp-padding": (6, lambda t, w: ["nghttp", "-ny", "-m2", "-b", "200", "-H", f"authorization: Bearer {t}", f"{URL}/a", f"{URL}/b", f"{URL}/c"]),
    "nghttp-continuation": (6, lambda t, w: ["nghttp", "-ny", "-m6", "--continuation", "-H", f"authorization: Bearer {t}", f"{URL}/a"]),
    "nghttp-body": (6, lambda t, w: ["nghttp", "-ny", "-m6", "-d", str(w / "body"), "-H", f"authorization: Bearer {t}", f"{URL}/a"]),
    "h2load": (60, lambda t, w: ["h2load", "-n60", "-c1", "-m10", "-H", f"authorization: Bearer {t}", f"{URL}/a"]),
}


@pytest.fixture(scope="module")
def h2(bed):
    """nginx, which nobody observes."""
    (bed.work / "body").write_bytes(b"".join(frame(1, 5, 1, b"\x82\x84") for _ in range(5000)))  # frames that are none
    server = subprocess.Popen(nginx(bed, H2_PORT), stdin=subprocess.DEVNULL)
    try:
        wait_for(bed, H2_PORT)
        yield bed
    finally:
        server.kill()
        server.wait()


def nginx(bed, port):
    conf = bed.work / f"nginx-{port}.conf"
    conf.write_text(f"""daemon off; master_process off; pid {bed.work}/nginx-{port}.pid; error_log /dev/null; events {{}}
http {{ access_log off; client_max_body_size 64m; large_client_header_buffers 8 32k; client_body_temp_path {bed.work}/b; proxy_temp_path {bed.work}/p;
  fastcgi_temp_path {bed.work}/f; uwsgi_temp_path {bed.work}/u; scgi_temp_path {bed.work}/s;
  server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {bed.certificate}; ssl_certificate_key {bed.key}; return 200 "ok"; }} }}""")
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(conf)]


def wait_for(bed, port):
    until(lambda: subprocess.run(["curl", "-sk", "-m", "2", f"https://127.0.0.1:{port}/"], env=bed.environment, stdout=subprocess.DEVNULL).returncode == 0,
          10, "the server answers")


def is_whole(bed, pid):
    """The process's connections were told as HTTP/2, and nothing of them as unread."""
    told = bed.watch.find(kind=APP_EVENT, pid=pid)
    assert told and all((x["app"], x["unread"], x["via"]) == (HTTP2, 0, 1) for x in told), told


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("length", [0, 7000])
def test_clients(h2, client, length):
    token, (count, argv) = jwt(f"aDI{client}", length), CLIENTS[client]
    pid = h2.run(AGENT, argv(token, h2.work))
    seen = h2.sightings(token, pid, count)
    assert check_sighting(h2, token, pid, app=HTTP2)["path"] in ("/a", "/b", "/c", "/d", "/e", "/f")
    assert sha256(token) == subprocess.run(["sha256sum"], input=token, capture_output=True, text=True, check=True).stdout.split()[0]
    assert len({x["request"] for x in seen}) == count  # each its own stream
    # Recognised, not hashed again; unless it comes in two calls, as some of the long ones do.
    flags = [x["flags"] for x in seen]
    assert flags == [0] + [4] * (count - 1) if not length else flags[0] == 0 and set(flags) <= {0, 4}
    is_whole(h2, pid)


@pytest.mark.parametrize("size", [1, 7, 255, 100000])
def test_python(h2, size):
    first, second = jwt(f"cHl0aG9uMQ{size}"), jwt(f"cHl0aG9uMg{size}", 900)
    pid = h2.run(AGENT, ["/usr/bin/python3", "-c", PYTHON, str(H2_PORT), str(size), first, second])
    for token in (first, second):
        h2.sightings(token, pid, 3)
        check_sighting(h2, token, pid, app=HTTP2, method="GET", path="/a")
    is_whole(h2, pid)


@pytest.mark.parametrize("size", [1, 7, 255, 100000])
def test_the_dynamic_table(h2, hpack, size):
    """Tokens by reference, and header blocks in several frames, padded, with DATA that looks like such frames between them."""
    encoder, first, second = hpack.Encoder(), jwt(f"dGFibGUx{size}"), jwt(f"dGFibGUy{size}", 900)
    data = b""
    for i in range(6):
        stream, whole = 1 + 2 * i, block(encoder, (first, second)[i % 2], f"/a/{'xyz'[i % 3]}?secret={i}", "POST")
        part = len(whole) // 2
        data += frame(1, 0x28, stream, bytes([5]) + b"\0\0\0\0\x10" + whole[:part] + b"\0" * 5) + frame(9, 4, stream, whole[part:])
        data += frame(0, 1, stream, frame(1, 5, 99, b"\x82\x84" * 50))
    pid = send(h2, data, size)
    for token, paths in ((first, {"/a/x", "/a/z", "/a/y"}), (second, {"/a/y", "/a/x", "/a/z"})):
        seen = h2.sightings(token, pid, 3)
        assert [x["flags"] for x in seen] == [0, 4, 4] and {x["path"] for x in seen} == paths
    is_whole(h2, pid)


def test_node(h2):
    token = jwt("aDJub2Rl", 500)
    with watched_node(h2):
        pid = h2.run(AGENT, ["node", "-e", NODE, URL, token])
        assert {x["method"] for x in h2.sightings(token, pid, 6)} == {"GET", "POST"}
        check_sighting(h2, token, pid, app=HTTP2, path="/a")
        is_whole(h2, pid)


def test_go(h2):
    """Go's client puts tokens into the dynamic table too."""
    first, second = jwt("aDJnbw"), jwt("aDJnbzI", 1500)
    pid = h2.run(GOPHER, [go_build(h2, "h2client", GO), URL, first, second])
    assert {x["method"] for x in h2.sightings(first, pid, 12)} == {"GET", "POST"}
    assert [x["flags"] for x in h2.sightings(second, pid, 4)] == [0, 4, 4, 4]
    check_sighting(h2, first, pid, who=GOPHER, app=HTTP2, path="/go")
    assert not h2.watch.find(sha256=sha256(INSIDE_A_BODY))
    is_whole(h2, pid)


@pytest.mark.parametrize("server", ["nginx", "node"])
def test_servers(h2, server):
    argv = {"nginx": nginx(h2, NODE_PORT), "node": ["node", "-e", NODE_SERVER, str(NODE_PORT), str(h2.certificate), str(h2.key)]}[server]
    process = h2.start(SERVER, argv)
    wait_for(h2, NODE_PORT)
    time.sleep(0.7)  # a server that is the first of its kind has its probes a little later than it runs
    token = jwt(f"aDJzZXJ2ZXI{server}", 700)
    url = f"https://127.0.0.1:{NODE_PORT}"
    h2.run(STRANGER, ["nghttp", "-ny", "-m3", "-H", f"authorization: Bearer {token}", f"{url}/a", f"{url}/b"])
    assert {x["path"] for x in h2.sightings(token, process.pid, 6)} == {"/a", "/b"}
    seen = h2.watch.wait(kind=TOKEN_EVENT, sha256=sha256(token), pid=process.pid)
    assert (seen["direction"], seen["subject"], seen["app"]) == (INGRESS, SERVER, HTTP2)
    process.kill()
    process.wait()


def to_send(bed, data):
    (bed.work / "sent").write_bytes(PREFACE + frame(4, 0, 0, b"") + data)
    return bed.work / "sent"


def send(bed, data, size=100000):
    return bed.run(AGENT, ["/usr/bin/python3", "-c", SEND, str(H2_PORT), str(to_send(bed, data)), str(size)])


@pytest.fixture(scope="module")
def hpack():
    sys.path.append("/usr/lib/python3/dist-packages")
    return importlib.import_module("hpack")


def test_what_cannot_be_read_is_told(h2, hpack):
    token = jwt("YW1iaWd1b3Vz")
    pid = send(h2, frame(1, 5, 1, block(hpack.Encoder(), token)) + frame(1, 5, 3, b"\xff\xff\x7f"))  # the second block names what is not there
    h2.sightings(token, pid, 1)
    h2.watch.wait(kind=APP_EVENT, pid=pid, app=HTTP2, unread=AMBIGUOUS)
    longest = jwt("bG9uZ2VzdA", 9000)
    pid = send(h2, frame(1, 5, 1, block(hpack.Encoder(), longest)))
    h2.watch.wait(kind=APP_EVENT, pid=pid, app=HTTP2, unread=TRUNCATED)
    assert not h2.watch.find(kind=TOKEN_EVENT, pid=pid)


def test_a_long_body_in_one_call(h2, hpack):
    """What one call brings is read to its end, however many frames it has."""
    token, last = jwt("bG9uZw"), jwt("bGFzdA")
    encoder = hpack.Encoder()
    data = frame(1, 4, 1, block(encoder, token, method="POST")) + frame(0, 0, 1, b"x" * 16384) * 60 + frame(1, 5, 3, block(encoder, last))
    pid = send(h2, data, len(data) + 1000)
    h2.sightings(token, pid, 1)
    h2.sightings(last, pid, 1)


def test_no_raw_token_is_left(h2, hpack):
    """In the maps of the observers while the connections are open, and in what was told: neither of tokens that were read, nor, but for fewer
    than 64 bytes, of one that ends in the middle."""
    marks = [f"bm93aGVyZQ{i}" for i in range(3)]
    read, too_long, unfinished = jwt(marks[0], 300), jwt(marks[1] * 900), jwt(marks[2] * 40)
    clients = []
    for data in (frame(1, 5, 1, block(hpack.Encoder(), read)), frame(1, 5, 1, block(hpack.Encoder(), too_long)),
                 frame(1, 5, 1, block(hpack.Encoder(), unfinished))[:-30]):
        clients.append(h2.start(AGENT, ["/usr/bin/python3", "-c", SEND, str(H2_PORT), str(to_send(h2, data)), "100000", "keep"], stdout=subprocess.PIPE))
        assert clients[-1].stdout.readline() == b"sent\n"
    h2.watch.wait(kind=TOKEN_EVENT, sha256=sha256(read))
    h2.watch.wait(kind=APP_EVENT, pid=clients[1].pid, app=HTTP2, unread=TRUNCATED)
    maps = dump_maps(h2.watch.process.pid)
    assert any(bytes.fromhex(sha256(read)) in content for content in maps.values())  # the search finds what is there
    for name, content in maps.items():
        for token in (read, too_long):
            for i in range(0, len(token) - 12, 3):
                assert token[i:i + 12].encode() not in content or token[i:i + 12] in unfinished, name
        assert content.count(marks[2].encode()) < 64 // len(marks[2]), name
    assert not any(mark in str(line) for mark in marks for line in h2.watch.lines)
    for client in clients:
        client.kill()
        client.communicate()


def dump_maps(pid):
    """-> the bytes of each map that the process has, by name and number"""
    tool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    found = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if "map_id" not in fields or fields["map_type"].strip() == "27":  # a ring
            continue
        number = fields["map_id"].strip()
        dump = subprocess.run([tool, "-j", "map", "dump", "id", number], capture_output=True, text=True, timeout=60).stdout
        found[number] = bytes(int(x, 16) for x in re.findall(r'"0x([0-9a-f]{2})"', dump))
    return found
