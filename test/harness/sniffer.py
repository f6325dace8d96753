"""Sees what is really on a wire: an AF_PACKET socket in a process of its own, outside every workload.

Run as a program it prints one JSON line per IP packet of an interface (neighbour discovery and router chatter left out);
as a module it is the test's side of that.
"""
import json
import socket
import struct
import subprocess
import sys
import threading
import time

QUIET_ICMPV6 = {130, 131, 132, 133, 134, 135, 136, 137, 143}


def describe(data):
    if data[0] >> 4 == 4:
        header, later = (data[0] & 15) * 4, struct.unpack("!H", data[6:8])[0] & 0x1FFF
        protocol, family, ends = data[9], socket.AF_INET, (data[12:16], data[16:20])
    else:
        header, later, protocol, family, ends = 40, 0, data[6], socket.AF_INET6, (data[8:24], data[24:40])
        if protocol == 0 and data[40] == 58:  # MLD: hop-by-hop, then ICMPv6
            return None
        if protocol == 58 and data[40] in QUIET_ICMPV6:
            return None
    ports = struct.unpack("!HH", data[header:header + 4]) if protocol in (6, 17, 136) and not later else (0, 0)
    source, destination = (socket.inet_ntop(family, e) for e in ends)
    return {"protocol": protocol, "source": source, "destination": destination, "source_port": ports[0],
            "destination_port": ports[1], "options": header > 20 and family == socket.AF_INET, "length": len(data)}


def main(interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as s:
        s.bind((interface, 3))
        print(json.dumps({"ready": True}), flush=True)
        while True:
            data, where = s.recvfrom(65536)
            # Loopback shows each packet twice: as outgoing and as received.
            if where[1] not in (0x0800, 0x86DD) or (interface == "lo" and where[2] == socket.PACKET_OUTGOING):
                continue
            packet = describe(data)
            if packet:
                print(json.dumps(packet), flush=True)


class Sniffer:
    """Packets of one interface since it was made; `outside`: look in that namespace."""

    def __init__(self, interface, outside=None):
        enter = outside.enter() if outside else []
        self.process = subprocess.Popen([*enter, sys.executable, "-I", "-S", "-B", __file__, interface], stdout=subprocess.PIPE,
                                        text=True)
        assert json.loads(self.process.stdout.readline())["ready"]
        self._packets = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._packets.append(json.loads(line))

    def packets(self, settle=0.1, **match):
        """What came so far, after a moment for what is under way; match: field=value."""
        time.sleep(settle)
        assert self.process.poll() is None, "the sniffer ended"
        return [p for p in list(self._packets) if all(p[k] == v for k, v in match.items())]

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(2)
        self.process.stdout.close()


if __name__ == "__main__":
    main(sys.argv[1])
