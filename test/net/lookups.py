"""Lookups at speed: the agent's side (one process that asks, then connects at once) and the resolver's (a new address each time).

Run as a program: `lookups.py resolver ADDRESS` or `lookups.py client RESOLVER COUNT`; as a module it holds what the test needs of both.
"""
import errno
import json
import select
import socket
import struct
import sys
import time

NAME = b"\3api\3llm\7example\0"
RANGE = "198.18.0.0/15"
FIRST = int.from_bytes(socket.inet_aton("198.18.0.1"), "big")
PORT = 443
FIRST_EPHEMERAL = 20000  # the daemon's own resolver asks from there: it gets SERVFAIL, and teaches nothing
CLIENT_PORTS = range(10000, 20000)


def resolver(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind((address, 53))
    print("ready", flush=True)
    question = NAME + b"\0\1\0\1"
    turn = 0
    while True:
        data, peer = s.recvfrom(512)
        if peer[1] >= FIRST_EPHEMERAL or data[12:12 + len(question)] != question:
            s.sendto(data[:2] + b"\x81\x82" + data[4:6] + bytes(6) + data[12:], peer)
            continue
        turn += 1
        record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IHI", turn % 6, 4, FIRST + turn % 131000)
        s.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record, peer)


def ask(s, ident, totals):
    """-> the address of the answer"""
    message = struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + NAME + b"\0\1\0\1"
    for _ in range(5):
        try:
            s.send(message)
            while True:
                data = s.recv(512)
                if data[:2] == message[:2]:
                    return socket.inet_ntoa(data[-4:])
        except TimeoutError:
            totals["asked_again"] += 1
        except OSError as e:
            totals["query_errors"][errno.errorcode[e.errno]] = totals["query_errors"].get(errno.errorcode[e.errno], 0) + 1
    return None


def connect(address, port, timeout=5.0):
    """-> None, or what went wrong. A refusal by the other end is an answer: its SYN was let through."""
    s = socket.socket()
    s.setblocking(False)
    try:
        error = s.connect_ex((address, port))
        if error == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(s, select.POLLOUT)
            if not poll.poll(timeout * 1000):
                return "timeout"
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return None if error in (0, errno.ECONNREFUSED) else errno.errorcode[error]
    finally:
        s.close()


def client(server, count):
    """`count` lookups, and more until stdin ends."""
    totals = {"lookups": 0, "asked_again": 0, "query_errors": {}, "denied": {}, "slowest_us": 0}
    started = told = time.monotonic()
    port, s = 0, None
    spans = []
    i = -1
    while i + 1 < count or not select.select([sys.stdin], [], [], 0)[0]:
        i += 1
        if i % 200 == 0:  # a stub's socket does not live long
            if s:
                s.close()
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(1.0)
            s.bind(("0.0.0.0", CLIENT_PORTS[port % len(CLIENT_PORTS)]))
            port += 1
            s.connect((server, 53))
        begun = time.monotonic()
        address = ask(s, i & 0xFFFF, totals)
        wrong = connect(address, PORT) if address else "no answer"
        spans.append(time.monotonic() - begun)
        if wrong:
            totals["denied"][wrong] = totals["denied"].get(wrong, 0) + 1
        totals["lookups"] = i + 1
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            print(json.dumps(totals), flush=True)
    spans.sort()
    totals["seconds"] = round(time.monotonic() - started, 2)
    totals["median_us"], totals["p99_us"], totals["slowest_us"] = (round(1e6 * spans[int(q * (len(spans) - 1))]) for q in (0.5, 0.99, 1))
    totals["done"] = True
    print(json.dumps(totals), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "resolver":
        resolver(sys.argv[2])
    else:
        client(sys.argv[2], int(sys.argv[3]))
