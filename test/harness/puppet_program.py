"""What runs inside a workload's cgroup during a test: obeys one JSON request per line of stdin, answers one per line.

It can hold sockets by name over many requests (a socket made before the policy, an idle connection), run every attempt of
probe.py, serve echo, and generate load. It ends when stdin closes. Requests: see the methods `on_*` of Puppet.
"""
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))
import probe  # noqa: E402

TCP_INFO_TOTAL_RETRANS = 100  # offset in struct tcp_info


def tuples(value):
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, (int, str, type(None))) else repr(value)


class EchoServer:
    """TCP and UDP echo on any number of addresses; counts who came. Answers 'GET ' with a small HTTP response."""

    HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"

    def __init__(self, tcp=(), udp=(), udplite=(), reuseport=False, fastopen=False):
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.tcp_peers, self.udp_peers = [], []
        self.tcp_count = self.udp_count = 0
        self.sockets = []
        for address in tcp:
            s = self.open(address, socket.SOCK_STREAM, 0, reuseport)
            if fastopen:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            s.listen(1024)
            self.selector.register(s, selectors.EVENT_READ, self.accept)
        for protocol, addresses in ((0, udp), (probe.IPPROTO_UDPLITE, udplite)):
            for address in addresses:
                s = self.open(address, socket.SOCK_DGRAM, protocol, reuseport)
                self.selector.register(s, selectors.EVENT_READ, self.datagram)
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def open(self, address, kind, protocol, reuseport):
        s = socket.socket(probe.family_of(address[0]), kind, protocol)
        self.sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if s.family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(tuple(address))
        s.setblocking(False)
        return s

    def loop(self):
        while True:
            for key, _ in self.selector.select():
                try:
                    key.data(key.fileobj)
                except BlockingIOError:
                    pass
                except OSError:
                    if key.data == self.serve:
                        self.drop(key.fileobj)
                    else:
                        time.sleep(0.01)  # out of descriptors

    def accept(self, listener):
        connection, peer = listener.accept()
        with self.lock:
            self.tcp_count += 1
            self.tcp_peers = [*self.tcp_peers[-99:], list(peer[:2])]
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, self.serve)

    def serve(self, connection):
        data = connection.recv(65536)
        if not data:
            self.drop(connection)
        elif data.startswith(b"GET "):
            connection.sendall(self.HTTP)
            self.drop(connection)
        else:
            connection.settimeout(5)
            connection.sendall(data)
            connection.setblocking(False)

    def drop(self, connection):
        self.selector.unregister(connection)
        connection.close()

    def datagram(self, s):
        data, peer = s.recvfrom(65536)
        with self.lock:
            self.udp_count += 1
            self.udp_peers = [*self.udp_peers[-99:], list(peer[:2])]
        s.sendto(data, peer)

    def report(self):
        with self.lock:
            return {"tcp": self.tcp_count, "udp": self.udp_count, "tcp_peers": self.tcp_peers, "udp_peers": self.udp_peers}


class Load:
    """Loops until stopped; one thread per loop. `allowed` counts what failed (`allowed-short` too, with no connection that stays open),
    `denied` counts what succeeded."""

    PAUSE = 0.002

    def __init__(self, kind, tcp=(), udp=(), pause=None):
        self.stop_flag = threading.Event()
        self.pause = pause or self.PAUSE
        self.done, self.failures, self.retransmits, self.slowest_ms = 0, [], 0, 0.0
        self.lock = threading.Lock()
        loops = {"allowed": ((self.short_tcp, tcp), (self.long_tcp, tcp), (self.echo_udp, udp)),
                 "allowed-short": ((self.short_tcp, tcp), (self.short_udp, udp)),
                 "denied": ((self.denied_tcp, tcp), (self.denied_udp, udp))}[kind]
        self.threads = [threading.Thread(target=loop, args=(tuple(address),), daemon=True)
                        for loop, addresses in loops for address in addresses]
        for t in self.threads:
            t.start()

    def note(self, started, failure=None):
        with self.lock:
            self.done += 1
            self.slowest_ms = max(self.slowest_ms, (time.monotonic() - started) * 1000)
            if failure:
                self.failures = [*self.failures[:19], f"{time.time():.3f} {failure}"]

    def retransmitted(self, s):
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        count = struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0]
        with self.lock:
            self.retransmits += count

    def short_tcp(self, address):
        while not self.stop_flag.wait(self.pause):
            started = time.monotonic()
            try:
                with socket.create_connection(address, 5) as s:
                    s.sendall(b"x")
                    if s.recv(1) != b"x":
                        raise OSError("connection closed early")
                    self.retransmitted(s)
                self.note(started)
            except OSError as e:
                self.note(started, f"short tcp to {address}: {e}")

    def long_tcp(self, address):
        s = None
        while not self.stop_flag.wait(self.pause):
            started = time.monotonic()
            try:
                s = s or socket.create_connection(address, 5)
                s.sendall(b"y")
                if s.recv(1) != b"y":
                    raise OSError("connection closed early")
                self.note(started)
            except OSError as e:
                self.note(started, f"long tcp to {address}: {e}")
                s = None
        if s:
            self.retransmitted(s)
            s.close()

    def echo_udp(self, address):
        s = socket.socket(probe.family_of(address[0]), socket.SOCK_DGRAM)
        s.settimeout(5)
        number = 0
        while not self.stop_flag.wait(self.pause):
            started, number = time.monotonic(), number + 1
            try:
                s.sendto(str(number).encode(), address)
                while s.recv(100) != str(number).encode():
                    pass
                self.note(started)
            except OSError as e:
                self.note(started, f"udp to {address}: {e}")
        s.close()

    def short_udp(self, address):
        while not self.stop_flag.wait(self.pause):
            started = time.monotonic()
            try:
                with socket.socket(probe.family_of(address[0]), socket.SOCK_DGRAM) as s:
                    s.settimeout(5)
                    s.sendto(b"z", address)
                    if s.recv(100) != b"z":
                        raise OSError("another answer")
                self.note(started)
            except OSError as e:
                self.note(started, f"one udp to {address}: {e}")

    def denied_tcp(self, address):
        while not self.stop_flag.wait(self.pause):
            started = time.monotonic()
            with socket.socket(probe.family_of(address[0]), socket.SOCK_STREAM) as s:
                s.settimeout(5)
                try:
                    s.connect(address)
                    self.note(started, f"tcp to {address} got through")
                except socket.timeout:
                    self.note(started, f"tcp to {address} timed out instead of EPERM: a SYN may have left")
                except OSError:
                    self.note(started)

    def denied_udp(self, address):
        s = socket.socket(probe.family_of(address[0]), socket.SOCK_DGRAM)
        while not self.stop_flag.wait(self.pause):
            started = time.monotonic()
            try:
                s.sendto(b"secret", address)
                self.note(started, f"udp to {address} was taken")
            except OSError:
                self.note(started)
        s.close()

    def report(self):
        with self.lock:
            return {"done": self.done, "failures": self.failures, "retransmits": self.retransmits,
                    "slowest_ms": round(self.slowest_ms, 1)}

    def stop(self):
        self.stop_flag.set()
        for t in self.threads:
            t.join(6)
        return self.report()


class Puppet:
    def __init__(self):
        self.sockets, self.servers, self.loads = {}, {}, {}
        self.output = threading.Lock()

    def on_attempt(self, attempt, **given):
        a = probe.arguments(**given)
        for key in ("to", "also"):
            if getattr(a, key):
                setattr(a, key, tuple(getattr(a, key)))
        return probe.run(probe.ATTEMPTS[attempt], a)

    def on_socket(self, name, family, kind, protocol=0):
        self.sockets[name] = probe.step("socket", socket.socket, getattr(socket, family), getattr(socket, kind), protocol)
        self.sockets[name].settimeout(5)

    def on_call(self, name, method, arguments):
        s = self.sockets[name]
        if method == "unconnect":
            return probe.unconnect(s)
        values = [tuples(v) for v in arguments]
        if method in ("send", "sendall", "sendto"):
            values[0] = values[0].encode("latin1")
        if method == "setsockopt" and isinstance(values[2], str):
            values[2] = values[2].encode("latin1")
        result = probe.step(method, getattr(s, method), *values)
        if method == "accept":
            self.sockets[f"{name}.{result[0].fileno()}"] = result[0]
            return [f"{name}.{result[0].fileno()}", plain(result[1])]
        if method == "close":
            del self.sockets[name]
        return plain(result)

    def on_serve(self, name, **options):
        self.servers[name] = EchoServer(**options)

    def on_served(self, name):
        return self.servers[name].report()

    def on_load(self, name, **options):
        self.loads[name] = Load(**options)

    def on_load_report(self, name):
        return self.loads[name].report()

    def on_load_stop(self, name):
        return self.loads.pop(name).stop()

    def answer(self, request):
        reply = {"id": request.pop("id")}
        started = time.monotonic()
        try:
            result = getattr(self, "on_" + request.pop("op"))(**request)
            reply.update({"ok": True, "result": result, "ms": round((time.monotonic() - started) * 1000, 3)})
        except probe.Failed as e:
            reply.update({"ok": False, "stage": e.stage, "error": e.error, "ms": round((time.monotonic() - started) * 1000, 3)})
        except Exception as e:  # a mistake of the test, not of the network: tell it as such
            reply.update({"ok": False, "stage": "puppet", "error": f"{type(e).__name__}: {e}"})
        reply["ended"] = time.monotonic()
        with self.output:
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()

    def obey(self):
        for line in sys.stdin:
            request = json.loads(line)
            if request.pop("background", False):
                threading.Thread(target=self.answer, args=(request,), daemon=True).start()
            else:
                self.answer(request)
        os._exit(0)


if __name__ == "__main__":
    probe.set_comm(sys.argv[1] if len(sys.argv) > 1 else "puppet")
    sys.stdout.write(json.dumps({"id": 0, "ok": True, "result": os.getpid()}) + "\n")
    sys.stdout.flush()
    Puppet().obey()
