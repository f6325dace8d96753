"""Go programs whose goroutines move: servers, whose requests are seen where crypto/tls.(*Conn).Read returns, and both sides while stacks grow.
Clients are other people's, and nobody observes them but where the test says so."""
import subprocess
import sys

import pytest

from tls_bed import (AGENT, APP_EVENT, GOPHER, HTTP1, HTTP2, INGRESS, PORT, SERVER, STRANGER, TOKEN_EVENT, bed, go_build, jwt, sha256, tidy)  # noqa: F401
from harness.world import until

GO_PORT = PORT + 20

HTTP_SERVER = """
package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); fmt.Fprintln(w, "ok") })
	fmt.Println(http.ListenAndServeTLS("127.0.0.1:"+os.Args[1], os.Args[2], os.Args[3], nil))
}
"""
# A buffer on a stack that grows: each connection has a new goroutine, which goes down to a depth of its own, and Read does the handshake. Before,
# a Read of it has ended in a panic.
STACK_SERVER = """
package main
import ("bytes"; "crypto/tls"; "net"; "os")
type broken struct{ net.Conn }
func (broken) Read([]byte) (int, error) { panic("no network") }
func (broken) Write([]byte) (int, error) { panic("no network") }
var config tls.Config
func panics() {
	defer func() { recover() }()
	var b [16]byte
	tls.Server(broken{}, &config).Read(b[:])
}
//go:noinline
func serve(c *tls.Conn, depth int) int {
	if depth > 0 { return serve(c, depth-1) + 1 }
	var buffer [1500]byte
	n, seen := 0, 0
	for {
		k, e := c.Read(buffer[n:])
		if e != nil { c.Close(); return seen }
		for n += k; ; seen++ {
			end := bytes.Index(buffer[:n], []byte("\\r\\n\\r\\n"))
			if end < 0 { break }
			n = copy(buffer[:], buffer[end+4:n])
			c.Write([]byte("HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n"))
		}
	}
}
func main() {
	pair, _ := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	config.Certificates = []tls.Certificate{pair}
	l, e := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if e != nil { panic(e) }
	for i := 0; ; i++ {
		c, e := l.Accept()
		if e != nil { panic(e) }
		go func(depth int) { panics(); serve(tls.Server(c, &config), depth) }(i % 64)
	}
}
"""
# As many connections and requests as it is told, each with a token of its own: PORT CONNECTIONS REQUESTS PREFIX SUFFIX. Each Write is made by a
# new goroutine at another depth of its stack, so that some of them find no room just there.
CLIENT = """
package main
import ("bufio"; "crypto/tls"; "fmt"; "net/http"; "os"; "strconv"; "sync"; "time")
//go:noinline
func write(c *tls.Conn, b []byte, depth int) int {
	if depth > 0 { return write(c, b, depth-1) + 1 }
	n, e := c.Write(b)
	if e != nil { panic(e) }
	return n
}
func main() {
	time.Sleep(300 * time.Millisecond)
	connections, _ := strconv.Atoi(os.Args[2])
	requests, _ := strconv.Atoi(os.Args[3])
	var all sync.WaitGroup
	for i := 0; i < connections; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			c, e := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{InsecureSkipVerify: true})
			if e != nil { panic(e) }
			answers := bufio.NewReader(c)
			for k := 0; k < requests; k++ {
				request := fmt.Sprintf("GET /x HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer %s%d-%d%s\\r\\n\\r\\n", os.Args[4], i, k, os.Args[5])
				done := make(chan bool)
				go func() { write(c, []byte(request), i*requests+k); done <- true }()
				<-done
				r, e := http.ReadResponse(answers, nil)
				if e != nil || r.StatusCode != 200 { panic(e) }
				answers.Discard(int(r.ContentLength))
			}
			c.Close()
		}(i)
	}
	all.Wait()
}
"""
PYTHON = """
import http.client, ssl, sys
c = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context(), timeout=10)
for t in sys.argv[3:]:
    sys.stdin.readline()
    c.request("POST", "/api/x?secret=1", body=b"GET / HTTP/1.1\\r\\nAuthorization: Bearer inside-a-body\\r\\n\\r\\n" * int(sys.argv[2]), headers={"Authorization": "Bearer " + t})
    assert c.getresponse().read() == b"ok\\n"
    print("done", flush=True)
"""
BUILDS = {"symbols": [], "stripped": ["-ldflags=-s -w"], "position-independent": ["-buildmode=pie", "-ldflags=-s -w"],
          # A C linker puts its own code before Go's.
          "linked-by-c": ["-ldflags=-s -w -linkmode=external"]}


def start(bed, program, port=GO_PORT):
    server = bed.start(SERVER, [program, str(port), bed.certificate, bed.key])
    until(lambda: curl(bed, port, "--http1.1").returncode == 0, 10, "the server answers")
    return server


def curl(bed, port, *arguments):
    return subprocess.run(["curl", "-sk", "-m", "5", *arguments, f"https://127.0.0.1:{port}/"], env=bed.environment, stdout=subprocess.DEVNULL)


def serve(bed, program, port=GO_PORT):
    """A server that is observed by now."""
    server, token = start(bed, program, port), jwt(f"d2FybQ{port}")

    def is_seen():
        curl(bed, port, "--http1.1", "-H", f"Authorization: Bearer {token}")
        return bed.watch.find(sha256=sha256(token), pid=server.pid)
    until(is_seen, 10, "the server is observed")
    return server


def check(bed, server, tokens, count=1, app=HTTP1):
    """Each token was seen `count` times by the server, as received."""
    for token in tokens:
        for seen in bed.sightings(token, server.pid, count, 10):
            wanted = {"subject": SERVER, "instance": bed.groups[SERVER].id(), "direction": INGRESS, "via": 1, "app": app, "length": len(token), "verdict": 0}
            assert {k: seen[k] for k in wanted} == wanted


def lost(bed, server, since):
    """What was told as not readable since then (a line's number)."""
    return [x for x in bed.watch.lines[since:] if x.get("kind") == APP_EVENT and x.get("pid") == server.pid and x["unread"]]


@pytest.mark.parametrize("build", BUILDS)
def test_a_server(bed, build):
    server = serve(bed, go_build(bed, f"server-{build}", HTTP_SERVER, *BUILDS[build]))
    since, one, two, three = len(bed.watch.lines), jwt(f"b25l{build}"), jwt(f"dHdv{build}", 3000), jwt(f"dGhyZWU{build}")
    bed.curl(one, two, one, port=GO_PORT, who=STRANGER)
    check(bed, server, [two])
    assert [(x["request"], x["flags"], x["method"], x["path"]) for x in bed.sightings(one, server.pid, 2)] == [(1, 0, "GET", "/curl/a"), (3, 0, "GET", "/curl/a")]
    url = f"https://127.0.0.1:{GO_PORT}"
    bed.run(STRANGER, ["nghttp", "-ny", "-m3", "-H", f"authorization: Bearer {three}", f"{url}/a", f"{url}/b"])
    check(bed, server, [three], 6, HTTP2)
    assert not lost(bed, server, since)


def test_a_kept_connection_with_bodies(bed):
    server = serve(bed, go_build(bed, "server-kept", HTTP_SERVER))
    since, tokens = len(bed.watch.lines), [jwt(f"a2VwdA{i}", 1500 * i) for i in range(5)]
    client = bed.groups[STRANGER].popen([sys.executable, "-c", PYTHON, str(GO_PORT), "2000", *tokens], stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
    client.communicate("\n" * len(tokens), timeout=20)
    assert client.returncode == 0
    check(bed, server, tokens)
    assert [bed.sightings(t, server.pid, 1)[0]["request"] for t in tokens] == [1, 2, 3, 4, 5]
    assert not bed.watch.find(sha256=sha256("inside-a-body")) and not lost(bed, server, since)


@pytest.mark.parametrize("length", [0, 7000])
def test_http2_with_many_streams(bed, length):
    server = serve(bed, go_build(bed, "server-h2", HTTP_SERVER))
    since, token = len(bed.watch.lines), jwt(f"bWFueQ{length}", length)
    bed.run(STRANGER, ["h2load", "-n400", "-c4", "-m10", "-H", f"authorization: Bearer {token}", f"https://127.0.0.1:{GO_PORT}/a"])
    check(bed, server, [token], 400, HTTP2)
    assert not lost(bed, server, since)


def test_two_servers_of_one_program(bed):
    """Go's allocator gives both the same addresses."""
    program, client = go_build(bed, "server-two", HTTP_SERVER), go_build(bed, "client-two", CLIENT)
    servers = [serve(bed, program, port) for port in (GO_PORT, GO_PORT + 1)]
    since = len(bed.watch.lines)
    clients = [bed.groups[STRANGER].popen([client, str(GO_PORT + i), "40", "20", jwt(f"dHdv{i}-"), "z" * 300 * i], env=bed.environment) for i in (0, 1)]
    assert [c.wait(60) for c in clients] == [0, 0]
    for i, server in enumerate(servers):
        tokens = [f"{jwt(f'dHdv{i}-')}{c}-{r}{'z' * 300 * i}" for c in range(40) for r in range(20)]
        check(bed, server, tokens)
        assert not any(x["pid"] == servers[1 - i].pid for t in tokens for x in bed.watch.find(kind=TOKEN_EVENT, sha256=sha256(t)))
        assert not lost(bed, server, since)


def test_stacks_that_move(bed):
    """The server's buffers move while they are read into, and calls of both sides begin again for want of room: each token is seen once by each."""
    server, client = serve(bed, go_build(bed, "server-stack", STACK_SERVER)), go_build(bed, "client-stack", CLIENT)
    since = len(bed.watch.lines)
    pid = bed.run(GOPHER, [client, str(GO_PORT), "100", "4", jwt("c3RhY2s"), ""], 60)
    tokens = [f"{jwt('c3RhY2s')}{c}-{r}" for c in range(100) for r in range(4)]
    check(bed, server, tokens)
    assert not lost(bed, server, since)
    for token in tokens:
        assert len(bed.sightings(token, pid, 1)) == 1


def test_a_server_that_was_there_before(bed):
    """Of a connection that waited for a request already, that request is not seen; those after it are, and so are new connections."""
    bed.watch.close()
    server = start(bed, go_build(bed, "server-before", HTTP_SERVER))
    kept, fresh = [jwt(f"dm9yaGVy{i}") for i in range(4)], jwt("bmV1")
    client = bed.groups[STRANGER].popen([sys.executable, "-c", PYTHON, str(GO_PORT), "0", *kept], stdin=subprocess.PIPE, text=True, stdout=subprocess.PIPE)

    def ask():
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "done\n"
    ask()
    bed.start_watch()
    until(lambda: bed.watch.observed().get("probes", 0) >= 10, 10, "the server is observed")
    for _ in range(3):
        ask()
    bed.curl(fresh, port=GO_PORT, who=STRANGER)
    check(bed, server, [*kept[2:], fresh])
    assert not bed.watch.find(kind=TOKEN_EVENT, sha256=sha256(kept[0])) and not bed.watch.find(kind=TOKEN_EVENT, sha256=sha256(kept[1]))
    client.communicate(timeout=10)


def test_an_observed_client_is_not_read_twice(bed):
    """The answers that a client reads are no requests, though one begins like a HEAD."""
    server, client = serve(bed, go_build(bed, "server-both", HTTP_SERVER)), go_build(bed, "client-both", CLIENT)
    pid = bed.run(AGENT, [client, str(GO_PORT), "3", "5", jwt("Ym90aA"), ""])
    for token in [f"{jwt('Ym90aA')}{c}-{r}" for c in range(3) for r in range(5)]:
        check(bed, server, [token])
        assert len(bed.sightings(token, pid, 1)) == 1
    assert {(x["app"], x["unread"]) for x in bed.watch.find(kind=APP_EVENT, pid=pid)} == {(HTTP1, 0)}
