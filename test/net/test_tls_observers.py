"""Tokens inside TLS, seen by the observers of TLS libraries: curl, Python, node and Go as clients, Python and nginx as servers. HTTP/2 is
test_tls_h2.py's."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tls_bed import (AGENT, APP_EVENT, EGRESS, GOPHER, INGRESS, OPAQUE_TOKEN, OTHER, PORT, SERVER, STRANGER, TOKEN_EVENT, bed, check_sighting,
                     go_build, jwt, probes_of, sha256, tidy, watched_node)  # noqa: F401
from harness.world import until

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
    token = jwt("bm9kZQ")
    with watched_node(bed):
        pid = bed.run(AGENT, ["node", "-e", NODE_CLIENT, PORT, token])
        check_sighting(bed, token, pid, path="/node")


@pytest.mark.parametrize("stripped", [False, True], ids=["symbols", "stripped"])
def test_go(bed, stripped):
    program = go_build(bed, f"client-{stripped}", GO_CLIENT, *(["-ldflags=-s -w"] if stripped else []))
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
