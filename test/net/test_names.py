"""One LLM by its name: what is learnt from DNS, and what the first bytes must say. Real resolver, servers and clients."""
import pytest

from naming import LLM, OTHER, PORT, RESOLVER, Client, Resolver, TlsServer, llm_policy, name_endpoint
from harness.world import until
import lab


class Names:
    def __init__(self, world):
        self.world = world
        self.work = world.daemon.work
        self.resolver = Resolver(self.work, {LLM: [lab.OUTSIDE4], OTHER: [lab.OUTSIDE4]})
        world.daemon.resolv_conf.write_text(f"nameserver {RESOLVER}\n")
        self.server = TlsServer(self.work, world.outside, lab.OUTSIDE4)
        world.put("agent.yaml", llm_policy("agents/agent"))
        self.agent = world.puppet("agents/agent")
        self.client = Client(self.agent.cgroup, self.work, certificate=self.server.certificate)
        world.start()

    def close(self):
        self.server.close()
        self.resolver.close()


@pytest.fixture
def names(new_world):
    n = Names(new_world())
    yield n
    n.close()


def test_curl_reaches_the_name(names):
    status, output, _ = names.client.curl(f"https://{LLM}/")
    print(output, names.world.daemon.log_tail(20))
    assert status == 0
    row = names.world.wait_flow(verdict="ALLOWED", reason="llm_allowed", dst_port=PORT)
    assert row["dst_fqdn"] == LLM
