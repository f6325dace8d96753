#!/usr/bin/env python3
"""One process that talks, or tries to: every attempt of the demo and of the integration tests starts here.

    probe.py ATTEMPT [--to HOST:PORT] [--also HOST:PORT] ...      does one thing, prints one JSON line

It assumes only the Python standard library and must not know whether anybody enforces anything: it tells what happened
to it. `ok` means that the attempt got through (an answer came, or the packet was taken); otherwise `error` is an errno
name, "timeout" or "unsupported", and `stage` the call that failed.
"""
import argparse
import ctypes
import errno
import json
import os
import resource
import socket
import ssl
import struct
import sys
import threading
import time

IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_MPTCP = 132, 136, 262
MSG_FASTOPEN = 0x20000000
LSRR = 131
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    def __init__(self, stage, error):
        super().__init__(f"{stage}: {error}")
        self.stage, self.error = stage, error


def step(stage, call, *args):
    """Runs one socket call; its failure becomes the attempt's result."""
    try:
        return call(*args)
    except socket.timeout:
        raise Failed(stage, "timeout") from None
    except OSError as e:
        if e.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT):
            raise Failed(stage, "unsupported") from None
        raise Failed(stage, errno.errorcode.get(e.errno, str(e.errno))) from None


def parse_endpoint(text):
    """'127.0.0.1:80', '[::1]:80' -> (host, port)"""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_socket(family, kind, protocol=0, timeout=2.0):
    s = step("socket", socket.socket, family, kind, protocol)
    s.settimeout(timeout)
    return s


def echo(s, data=b"ping\n"):
    step("send", s.sendall, data)
    answer = step("recv", s.recv, 4096)
    if not answer:
        raise Failed("recv", "closed")
    return answer.decode("latin1")


def unconnect(s):
    """connect(AF_UNSPEC): the socket forgets its peer."""
    blank = struct.pack("=H14x", socket.AF_UNSPEC)
    if _libc.connect(s.fileno(), blank, len(blank)) != 0:
        raise Failed("unconnect", errno.errorcode.get(ctypes.get_errno(), "?"))


def source_route(hop):
    """IP_OPTIONS value: a loose source route whose first hop is `hop`."""
    return bytes([LSRR, 7, 4]) + socket.inet_aton(hop) + b"\0"


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


# -- attempts: function(arguments) -> detail; they raise Failed ---------------------------------------------------------

def tcp(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        return echo(s)


def mptcp(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, IPPROTO_MPTCP, a.timeout) as s:
        step("connect", s.connect, a.to)
        return echo(s)


def sctp(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, IPPROTO_SCTP, a.timeout) as s:
        step("connect", s.connect, a.to)


def fastopen(a):
    """The SYN carries data: sendto() connects. Needs a blocking socket, so the kernel keeps the time."""
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=None) as s:
        limit = struct.pack("@ll", int(a.timeout), int(a.timeout % 1 * 1e6))
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            s.setsockopt(socket.SOL_SOCKET, option, limit)
        try:
            step("sendto", s.sendto, b"ping\n", MSG_FASTOPEN, a.to)
            return step("recv", s.recv, 4096).decode("latin1")
        except Failed as e:
            raise Failed(e.stage, "timeout" if e.error in ("EINPROGRESS", "EAGAIN") else e.error) from None


def mapped(a):
    """TCP over an IPv6 socket to the ::ffff: form of an IPv4 address."""
    with open_socket(socket.AF_INET6, socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, ("::ffff:" + a.to[0], a.to[1]))
        return echo(s)


def mapped_udp(a):
    with open_socket(socket.AF_INET6, socket.SOCK_DGRAM, timeout=a.timeout) as s:
        step("sendto", s.sendto, b"ping\n", ("::ffff:" + a.to[0], a.to[1]))
        return step("recv", s.recvfrom, 4096)[0].decode("latin1")


def udp(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, timeout=a.timeout) as s:
        step("sendto", s.sendto, b"p" * a.size, a.to)
        data = step("recv", s.recvfrom, 65536)[0]
        if len(data) != a.size:
            raise Failed("recv", "damaged")
        return len(data)


def udp_connected(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        return echo(s)


def udp_elsewhere(a):
    """A UDP socket connected to --also, then sendto(--to)."""
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.also)
        step("sendto", s.sendto, b"ping\n", a.to)


def udp_alternate(a):
    """sendto on one unconnected socket to --also (allowed) and --to in turn."""
    counts = {"also_ok": 0, "also_failed": 0, "to_ok": 0, "to_failed": 0}
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, timeout=a.timeout) as s:
        for _ in range(a.count):
            for name, address in (("also", a.also), ("to", a.to)):
                try:
                    step("sendto", s.sendto, b"ping\n", address)
                    if name == "also":
                        step("recv", s.recvfrom, 4096)
                    counts[name + "_ok"] += 1
                except Failed as e:
                    counts[name + "_failed"] += 1
                    counts.setdefault(name + "_errors", {}).setdefault(e.error, 0)
                    counts[name + "_errors"][e.error] += 1
    if counts["to_ok"] == 0:
        error = Failed("sendto", next(iter(counts["to_errors"])))
        error.detail = counts
        raise error
    return counts


def udplite(a):
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, IPPROTO_UDPLITE, a.timeout) as s:
        step("sendto", s.sendto, b"ping\n", a.to)


def reconnect(a):
    """Connects to --also, forgets it by connect(AF_UNSPEC), connects to --to."""
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect also", s.connect, a.also)
        unconnect(s)
        step("connect", s.connect, a.to)
        return echo(s)


def icmp_echo_request(v6):
    body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + b"casad-probe"
    kind = 128 if v6 else 8
    sum_ = 0 if v6 else checksum(struct.pack("!BBH", kind, 0, 0) + body)
    return struct.pack("!BBH", kind, 0, sum_) + body


def await_echo_reply(s, v6, raw, timeout):
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        data = step("recv", s.recvfrom, 4096)[0]
        if not v6 and raw:
            data = data[(data[0] & 15) * 4:]
        if data and data[0] == (129 if v6 else 0):
            return "echo reply"
    raise Failed("recv", "timeout")


def raw_icmp(a):
    v6 = family_of(a.to[0]) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    with open_socket(family_of(a.to[0]), socket.SOCK_RAW, protocol, a.timeout) as s:
        step("sendto", s.sendto, icmp_echo_request(v6), (a.to[0], 0))
        return await_echo_reply(s, v6, True, a.timeout)


def ping(a):
    """The unprivileged ping socket, SOCK_DGRAM."""
    v6 = family_of(a.to[0]) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    with open_socket(family_of(a.to[0]), socket.SOCK_DGRAM, protocol, a.timeout) as s:
        step("sendto", s.sendto, icmp_echo_request(v6), (a.to[0], 0))
        return await_echo_reply(s, v6, False, a.timeout)


def local_address_towards(to):
    with socket.socket(family_of(to[0]), socket.SOCK_DGRAM) as s:
        s.connect(to)
        return s.getsockname()[0]


def raw_tcp(a):
    """A hand-made SYN through a raw socket; through when a SYN-ACK comes back."""
    family = family_of(a.to[0])
    with open_socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP, a.timeout) as s:
        source_port = 20000 + os.getpid() % 10000
        segment = struct.pack("!HHIIBBHHH", source_port, a.to[1], 1000, 0, 5 << 4, 2, 65535, 0, 0)
        packed = [socket.inet_pton(family, x) for x in (a.source or local_address_towards(a.to), a.to[0])]
        if family == socket.AF_INET:
            pseudo = packed[0] + packed[1] + struct.pack("!BBH", 0, 6, len(segment))
        else:
            pseudo = packed[0] + packed[1] + struct.pack("!I3xB", len(segment), 6)
        segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
        step("sendto", s.sendto, segment, (a.to[0], 0))
        until = time.monotonic() + a.timeout
        while time.monotonic() < until:
            data = step("recv", s.recvfrom, 4096)[0]
            if family == socket.AF_INET:
                data = data[(data[0] & 15) * 4:]
            if len(data) >= 14 and struct.unpack("!HH", data[:4]) == (a.to[1], source_port) and data[13] & 0x12 == 0x12:
                return "SYN-ACK"
        raise Failed("recv", "timeout")


def raw_ip(a):
    """A whole UDP packet with a forged source address (IP_HDRINCL)."""
    with open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW, a.timeout) as s:
        datagram = struct.pack("!HHHH", 4000, a.to[1], 13, 0) + b"ping\n"
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0)
        header += socket.inet_aton(a.source or "192.0.2.200") + socket.inet_aton(a.to[0])
        step("sendto", s.sendto, header + datagram, (a.to[0], 0))


def source_route_before(a):
    """connect(--also) with a loose source route whose first hop is --to."""
    with open_socket(socket.AF_INET, socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("setsockopt", s.setsockopt, socket.IPPROTO_IP, socket.IP_OPTIONS, source_route(a.to[0]))
        step("connect", s.connect, a.also)
        return echo(s)


def source_route_after(a):
    """An established connection to --also gets a loose source route through --to."""
    with open_socket(socket.AF_INET, socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect also", s.connect, a.also)
        echo(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # nothing goes on in the background
        step("setsockopt", s.setsockopt, socket.IPPROTO_IP, socket.IP_OPTIONS, source_route(a.to[0]))
        return echo(s)


def child_cgroup(a):
    """The agent makes a cgroup below its own, moves there and connects."""
    inner = os.path.join(a.cgroup, f"escape-{os.getpid()}")
    step("mkdir", os.mkdir, inner)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(os.path.join(inner, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))
        os.write(writer, json.dumps(run(tcp, a)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f:
        text = f.read()
    os.waitpid(pid, 0)
    os.rmdir(inner)
    result = json.loads(text or '{"ok": false, "stage": "move", "error": "the child died"}')
    if result["ok"]:
        return {"child": pid}
    error = Failed(result["stage"], result["error"])
    error.detail = {"child": pid}
    raise error


def source_route_udp(a):
    """One datagram to --also whose control message asks for a loose source route through --to."""
    with open_socket(socket.AF_INET, socket.SOCK_DGRAM, timeout=a.timeout) as s:
        options = [(socket.IPPROTO_IP, socket.IP_RETOPTS, source_route(a.to[0]))]
        step("sendmsg", s.sendmsg, [b"ping\n"], options, 0, a.also)


def extension_header(a):
    """UDP over IPv6 with a destination-options header before it."""
    with open_socket(socket.AF_INET6, socket.SOCK_DGRAM, timeout=a.timeout) as s:
        padding = b"\0\0\x01\x04\0\0\0\0"
        step("setsockopt", s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, padding)
        step("sendto", s.sendto, b"ping\n", a.to)
        return step("recv", s.recvfrom, 4096)[0].decode("latin1")


def bulk(a):
    """--size bytes there and back over TCP."""
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        sender = threading.Thread(target=s.sendall, args=(b"x" * a.size,), daemon=True)
        sender.start()
        left = a.size
        while left > 0:
            data = step("recv", s.recv, 1 << 20)
            if not data:
                raise Failed("recv", "closed")
            left -= len(data)
        sender.join(a.timeout)
        return a.size


def listen(a):
    """Waits for one caller on --to and answers it."""
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        step("bind", s.bind, a.to)
        s.listen()
        print(json.dumps({"listening": a.to}), flush=True)
        caller, who = step("accept", s.accept)
        with caller:
            caller.settimeout(a.timeout)
            step("send", caller.sendall, step("recv", caller.recv, 4096))
        return list(who[:2])


def hold(a):
    """Connects and then only listens; "through" while the connection lives for --timeout seconds."""
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        print(json.dumps({"connected": list(s.getsockname()[:2])}), flush=True)
        try:
            if not step("recv", s.recv, 1):
                raise Failed("recv", "closed")
        except Failed as e:
            if e.error != "timeout":
                raise
        return "still connected"


def old_raw(a):
    """Opens a raw socket at once, uses it when a line comes on stdin."""
    with open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, a.timeout) as s:
        print(json.dumps({"opened": True}), flush=True)
        sys.stdin.readline()
        step("sendto", s.sendto, icmp_echo_request(False), (a.to[0], 0))
        return await_echo_reply(s, False, True, a.timeout)


def storm(a):
    """--count short-lived processes, up to 20 at once, each trying one TCP connect (fork; or fork and exec of a shell)."""
    statuses, running = {}, {}
    command = ["bash", "-c", f"exec 3<>/dev/tcp/{a.to[0]}/{a.to[1]}"]
    quiet = [(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]

    def reap():
        pid, status = os.wait()
        if running.pop(pid, None):
            code = os.waitstatus_to_exitcode(status)
            statuses[code] = statuses.get(code, 0) + 1

    for _ in range(a.count):
        if a.exec:
            pid = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)
        else:
            pid = os.fork()
            if pid == 0:
                result = run(tcp, a)
                os._exit(0 if result["ok"] else getattr(errno, result["error"], 255))
        running[pid] = True
        while len(running) >= 20:
            reap()
    while running:
        reap()
    passed = statuses.pop(0, 0)
    names = {("exit %d" % k if a.exec else errno.errorcode.get(k, str(k))): v for k, v in statuses.items()}
    if passed == 0 and names:
        error = Failed("connect", max(names, key=names.get))
        error.detail = {"passed": 0, "failed": names}
        raise error
    return {"passed": passed, "failed": names}


def many_fds(a):
    """As many sockets as the limit allows (at most --count), half TCP, half UDP; each tries --to once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds, sockets, errors, passed = (socket.SOCK_STREAM, socket.SOCK_DGRAM), [], {}, 0
    try:
        while len(sockets) < min(a.count, hard - 64):
            s = open_socket(family_of(a.to[0]), kinds[len(sockets) % 2])
            sockets.append(s)
            try:
                if s.type == socket.SOCK_STREAM:
                    step("connect", s.connect, a.to)
                else:
                    step("sendto", s.sendto, b"x", a.to)
                passed += 1
            except Failed as e:
                errors[e.error] = errors.get(e.error, 0) + 1
    finally:
        for s in sockets:
            s.close()
    detail = {"sockets": len(sockets), "passed": passed, "failed": errors}
    if passed == 0:
        error = Failed("connect", max(errors, key=errors.get) if errors else "nothing tried")
        error.detail = detail
        raise error
    return detail


def look_up(a, resolver):
    """Asks for the A records of --name; returns the addresses."""
    name = b"".join(bytes([len(label)]) + label.encode() for label in a.name.split(".")) + b"\0"
    with open_socket(family_of(resolver[0]), socket.SOCK_DGRAM, timeout=a.timeout) as s:
        step("sendto", s.sendto, struct.pack(">6H", 0x4321, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), resolver)
        answer = step("recv", s.recv, 4096)
    records, at = struct.unpack(">H", answer[6:8])[0], 12 + len(name) + 4
    return [socket.inet_ntoa(answer[at + 16 * i + 12:at + 16 * i + 16]) for i in range(records)]


def dns(a):
    return look_up(a, a.to)


def hello(a):
    """A TLS ClientHello that names --name, as OpenSSL makes it; any answer will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=a.name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        return echo(s, out.read() + b"\n")


def llm(a):
    """As an application does it: the name is looked up at --also, then called."""
    addresses = look_up(a, a.also)
    if a.to[0] not in addresses:
        raise Failed("lookup", f"{a.name} is {addresses}")
    return hello(a)


def request(a):
    """An HTTP request to the host --name, which is looked up at --also if that is given, with the bearer token in --token-file."""
    if a.also and a.to[0] not in (addresses := look_up(a, a.also)):
        raise Failed("lookup", f"{a.name} is {addresses}")
    token = read_token(a.token_file, a.timeout) if a.token_file else None
    body = b'{"model": "m", "input": "hello"}'
    head = [f"POST {a.path} HTTP/1.1", f"Host: {a.name}", "Content-Type: application/json", f"Content-Length: {len(body)}",
            *([f"Authorization: Bearer {token}"] if token else []), "Connection: close"]
    with open_socket(family_of(a.to[0]), socket.SOCK_STREAM, timeout=a.timeout) as s:
        step("connect", s.connect, a.to)
        answer = echo(s, "\r\n".join(head).encode() + b"\r\n\r\n" + body).split("\r\n")[0]
    if not answer.startswith("HTTP/1."):
        raise Failed("recv", f"no answer of HTTP: {answer}")
    return answer


def read_token(path, timeout):
    """Whoever keeps a token there replaces the file as a whole, but perhaps not yet."""
    until = time.monotonic() + timeout
    while not os.path.exists(path):
        if time.monotonic() > until:
            raise Failed("token", "ENOENT")
        time.sleep(0.02)
    with open(path, encoding="ascii") as f:
        return f.read().strip()


ATTEMPTS = {f.__name__.replace("_", "-"): f for f in (
    tcp, mptcp, sctp, fastopen, mapped, mapped_udp, udp, udp_connected, udp_elsewhere, udp_alternate, udplite, reconnect,
    raw_icmp, ping, raw_tcp, raw_ip, source_route_before, source_route_after,
    source_route_udp, extension_header, bulk, child_cgroup, listen, hold,
    old_raw, storm, many_fds, dns, hello, llm, request)}


def run(attempt, a):
    started = time.monotonic()
    try:
        detail = attempt(a)
        result = {"ok": True, "detail": detail}
    except Failed as e:
        result = {"ok": False, "stage": e.stage, "error": e.error, "detail": getattr(e, "detail", None)}
    result["ms"] = round((time.monotonic() - started) * 1000, 3)
    return result


def set_comm(name):
    """The name that the kernel knows this process by."""
    _libc.prctl(15, name.encode()[:15] + b"\0", 0, 0, 0)


def arguments(**given):
    a = argparse.Namespace(to=None, also=None, source=None, cgroup=None, count=10, size=5, timeout=2.0, exec=False, name="api.llm.example",
                           path="/", token_file=None)
    for key, value in given.items():
        setattr(a, key, parse_endpoint(value) if key in ("to", "also") and isinstance(value, str) else value)
    return a


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attempt", choices=ATTEMPTS)
    parser.add_argument("--to", type=parse_endpoint)
    parser.add_argument("--also", type=parse_endpoint)
    parser.add_argument("--source", help="address to write into hand-made packets")
    parser.add_argument("--cgroup", help="directory of the own cgroup")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--size", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=2.0)
    parser.add_argument("--exec", action="store_true")
    parser.add_argument("--name", default="api.llm.example", help="DNS name, or server name in the first bytes")
    parser.add_argument("--path", default="/", help="of a request")
    parser.add_argument("--token-file", help="where somebody keeps a bearer token")
    parser.add_argument("--comm", default="probe", help="process name to take")
    a = parser.parse_args()
    set_comm(a.comm)
    result = run(ATTEMPTS[a.attempt], a)
    result["pid"] = os.getpid()
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
