"""News of a running daemon: /v1/events streams flows as they happen and goes on where a client was; /metrics counts them."""
import json
import socket

import pytest

from cast import LOOP, SmallCast, TCP_PORT
from harness.world import until


@pytest.fixture
def cast(new_world):
    return SmallCast(new_world()).start()


class Stream:
    def __init__(self, path, target, last_id=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        extra = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")
        assert self.lines.readline().startswith("HTTP/1.1 200")
        while self.lines.readline().strip():
            pass

    def next(self):
        """-> (id, event, data) of the next event"""
        fields = {}
        while True:
            line = self.lines.readline()
            assert line, "the stream ended"
            if line == "\n":
                if "event" in fields:
                    return fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value

    def close(self):
        self.lines.close()
        self.socket.close()


def metric(cast, name):
    status, _, body = cast.world.daemon.api.request("/metrics")
    assert status == 200
    return int(next(line.split()[-1] for line in body.decode().splitlines() if line.startswith(name + " ")))


def test_flows_are_streamed_and_counted(cast):
    path = str(cast.world.daemon.api_socket)
    stream = Stream(path, "/v1/events?kind=flow&workload=agents/agent")
    before = metric(cast, 'casad_flows_total{verdict="ALLOWED"}')
    assert cast.may(host=LOOP[0]).ok
    number, kind, row = stream.next()
    assert kind == "flow" and row["verdict"] == "ALLOWED" and row["destination"]["port"] == TCP_PORT
    stream.close()
    until(lambda: metric(cast, 'casad_flows_total{verdict="ALLOWED"}') > before, what="the flow is counted")
    again = Stream(path, "/v1/events?kind=flow&workload=agents/agent", number)
    later, kind, row = again.next()  # the same connection's end, or its other side
    assert kind == "flow" and int(later.split("-")[1]) > int(number.split("-")[1])
    again.close()
