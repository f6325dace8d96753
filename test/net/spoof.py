"""A resolver outside that the test plays itself: it sees every query that arrives, and answers what it likes, from where it likes.

Only the agent's queries are the test's: they come from ports below the ephemeral ones. The daemon's own get SERVFAIL.
"""
import itertools
import select
import socket
import struct
import time

from naming import LLM, Client, llm_policy, query, resolved, socket_outside
import lab

ADDRESS = lab.OUTSIDE4
FIRST_EPHEMERAL = 20000  # as lab.enter_private_network() has it
SERVFAIL = 0x8182
_ports = itertools.count(10000)


class FakeResolver:
    def __init__(self, world, policies=None, address=ADDRESS):
        self.address = address
        self.world, self.outside = world, world.outside
        self.udp = self.at(address)
        self.tcp = socket_outside(self.outside)
        try:
            self.tcp.bind((address, 53))
            self.tcp.listen(16)
            world.daemon.resolv_conf.write_text(f"nameserver {address}\n")
            world.put("agent.yaml", *(policies or [llm_policy("agents/agent")]))
            self.agent = world.puppet("agents/agent")
            self.client = Client(self.agent.cgroup, world.daemon.work, resolver=address)
            world.start()
        except BaseException:
            self.close()
            raise

    def at(self, address, port=53):
        """A UDP socket outside, with this address and port."""
        s = socket_outside(self.outside, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, port))
        return s

    def queries(self, wait=0.1):
        """The agent's queries that arrive within `wait`: [(bytes, address), ...]"""
        found, end = [], time.monotonic() + wait
        while select.select([self.udp], [], [], max(0, end - time.monotonic()))[0]:
            data, peer = self.udp.recvfrom(4096)
            if peer[1] < FIRST_EPHEMERAL:
                found.append((data, peer))
                continue
            self.udp.sendto(data[:2] + struct.pack(">H", SERVFAIL) + data[4:6] + bytes(6) + data[12:], peer)
        return found

    def query(self, wait=2.0):
        end = time.monotonic() + wait
        while time.monotonic() < end:
            found = self.queries(0.02)
            if found:
                return found[0]
        raise AssertionError("no query of the agent arrived")

    def asker(self, kind="SOCK_DGRAM", timeout=1.0):
        """A socket of the agent that the test's resolver knows as such."""
        s = self.agent.socket("AF_INET", kind)
        out = s.call("bind", [lab.NODE4, next(_ports)])
        assert out.ok, out
        s.call("settimeout", timeout)
        return s

    def ask(self, data=None, s=None):
        """The agent asks; -> its socket and where the answer must go."""
        s = s or self.asker()
        out = s.call("sendto", (data or query(LLM)).decode("latin1"), [self.address, 53])
        assert out.ok, out
        seen, peer = self.query()
        assert seen == (data or query(LLM))
        return s, peer

    def exchange(self, replies, data=None, expect=None, sender=None):
        """The agent asks, each of `replies` is sent. -> what its socket has received. expect: how many come through."""
        s, peer = self.ask(data)
        for reply in replies:
            (sender or self.udp).sendto(reply, peer)
        got = []
        s.call("settimeout", 0.02 if expect == 0 else 1.0 if expect else 0.15)
        while not expect or len(got) < expect:
            out = s.call("recv", 4096)
            if not out.ok:
                break
            got.append(out.detail.encode("latin1"))
        s.call("close")
        return got

    def denied(self, reason):
        return self.world.daemon.api.get("/v1/stats")["deniedByReason"].get(reason, 0)

    def learnt(self):
        """Addresses that answers have taught the agent."""
        return {a for a, sources in resolved(self.world).items() if "answer" in sources}

    def close(self):
        self.udp.close()
        self.tcp.close()
