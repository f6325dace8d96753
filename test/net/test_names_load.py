"""No name is falsely denied because its address changed: lookups whose answer is a new address each time, each followed at once by a
connect, with the daemon alive, killed half way, and restarting in a loop. CASAD_TEST_LOOKUPS: how many (default 10000), in thirds."""
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lookups
from naming import llm_policy
from harness.world import until
import lab

COUNT = int(os.environ.get("CASAD_TEST_LOOKUPS", "10000"))
RESTARTS = 4
PROGRAM = Path(lookups.__file__)


class Lookups:
    """One client process in the agent's cgroup, and what it told so far."""

    def __init__(self, cgroup, count):
        self.process = cgroup.popen([sys.executable, "-I", "-S", "-B", PROGRAM, "client", lab.OUTSIDE4, count],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.totals = {"lookups": 0}
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.totals = json.loads(line)

    def at(self, number):
        until(lambda: self.totals["lookups"] >= number or self.process.poll() is not None, 250, f"{number} lookups", pause=0.05)

    def finish(self):
        """Lets it do its number, and no more."""
        self.process.stdin.close()
        self.thread.join(280)
        assert self.process.wait(5) == 0
        assert self.totals.get("done"), self.totals
        return self.totals


@pytest.fixture
def load(new_world):
    world = new_world()
    address = ["ip", "addr", "add", lookups.RANGE, "dev", "lo"]
    lab.run(*world.outside.enter(), *address)
    resolver = world.outside.popen([sys.executable, "-I", "-S", "-B", PROGRAM, "resolver", lab.OUTSIDE4], stdout=subprocess.PIPE, text=True)
    try:
        assert resolver.stdout.readline() == "ready\n"
        world.daemon.resolv_conf.write_text(f"nameserver {lab.OUTSIDE4}\n")
        world.put("agent.yaml", llm_policy("agents/agent"))
        world.agent_cgroup = world.cgroup("agents/agent")
        yield world.start()
    finally:
        resolver.kill()
        resolver.wait()
        resolver.stdout.close()
        lab.run(*world.outside.enter(), *(a if a != "add" else "del" for a in address))


def check(phase, count, totals):
    print(f"{phase}: {json.dumps(totals)}")
    assert totals["lookups"] >= count
    assert totals["denied"] == {} and totals["query_errors"] == {}, totals


def test_every_lookup_is_followed_by_a_connect(load):
    count = COUNT // 3
    check("daemon alive", count, Lookups(load.agent_cgroup, count).finish())
    stats = load.daemon.api.get("/v1/stats")["counters"]
    assert stats["dnsAddressesLearnt"] >= count, stats
    # Not everything passes: an address that no answer gave is refused.
    out = load.puppet("agents/agent").attempt("tcp", ("198.19.255.254", 443), timeout=1.0)
    assert (out.ok, out.error) == (False, "EPERM"), out

    client = Lookups(load.agent_cgroup, count)
    client.at(count // 2)
    load.daemon.kill9()
    check("daemon killed half way", count, client.finish())

    client, restarts = Lookups(load.agent_cgroup, count), 0
    while restarts < RESTARTS or client.totals["lookups"] < count:
        assert client.process.poll() is None
        load.daemon.start()
        restarts += 1
        time.sleep(0.2)
        if restarts % 2:
            load.daemon.kill9()
        else:
            load.daemon.stop()
    totals = client.finish()
    check(f"daemon restarted {restarts} times", count, totals)
    load.start()
