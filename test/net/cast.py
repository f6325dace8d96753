"""Who there is, what policy says, who serves what: the standing cast of the attempts (played twice, first without
enforcement), and a small cast for tests of change and state."""
import os
import time

from harness.objects import endpoint_slice, namespace, pod, policy, service
from harness.sniffer import Sniffer
from harness.world import until
import lab

LOOP = ("127.0.0.1", "::1")
NODE = (lab.NODE4, lab.NODE6)
OUTSIDE = (lab.OUTSIDE4, lab.OUTSIDE6)
PARTNER = (lab.PARTNER4, lab.PARTNER6)
CYCLES = int(os.environ.get("CASAD_TEST_CYCLES", "200"))
TCP_PORT, UDP_PORT, AUTH_PORT, PARTNER_PORT, BOX_PORT = 8080, 9090, 8000, 7443, 6000

POLICIES = {
    "agents.yaml": (
        policy("agents/agent", f"tools/mcp-server:{TCP_PORT}", f"tools/mcp-udp:{UDP_PORT}", "tools/auth:80",
               f"partners/api:{PARTNER_PORT}", f"boxes/one:{BOX_PORT}"),
        policy("agents/rogue", "tools/auth:80"),
        policy("team-a/worker", f"tools/mcp-server:{TCP_PORT}"),
    ),
    "tools.yaml": (
        namespace("tools"),
        pod("tools/mcp-server", "tools.slice/mcp-server.service", {"app": "mcp"}),
        service("tools/mcp-udp", {"app": "mcp"}, (UDP_PORT, UDP_PORT, "UDP")),
        pod("tools/auth-0", "tools.slice/auth.service", {"app": "auth"}),
        service("tools/auth", {"app": "auth"}, (80, AUTH_PORT, "TCP")),
        policy("tools/mcp-server", kind="Pod"),
        policy("tools/auth-0", kind="Pod"),
        policy("tools/vault", kind="Pod"),
        pod("tools/forgotten", "tools.slice/forgotten.service"),
    ),
    "boxes.yaml": (pod("boxes/one", "deep/er/box-one"), policy("boxes/one", kind="Pod")),
    "partners.yaml": (
        service("partners/api", None, (PARTNER_PORT, PARTNER_PORT, "TCP"), (PARTNER_PORT, PARTNER_PORT, "UDP")),
        *(endpoint_slice("partners/api", [address], PARTNER_PORT, protocol, f"p{PARTNER_PORT}-{protocol.lower()}")
          for address in PARTNER for protocol in ("TCP", "UDP")),
    ),
}


class Cast:
    def __init__(self, world):
        self.world = world
        for file, things in POLICIES.items():
            world.put(file, *things)
        self.agent = world.puppet("agents/agent")
        self.rogue = world.puppet("agents/rogue")
        self.worker = world.puppet("team-a/worker")
        self.mcp = world.puppet("tools/mcp-server")
        self.auth = world.puppet("tools/auth")
        self.vault = world.puppet("tools/vault")
        self.forgotten = world.puppet("tools/forgotten")
        self.stray = world.puppet("agents/stray")
        self.box = world.puppet("/deep/er/box-one")
        self.host = world.host_puppet("host-proc")
        self.far = world.host_puppet("far-proc", outside=True)
        self.far_wire = Sniffer("far0", world.outside)
        self.loop_wire = Sniffer("lo")
        # Sockets that are older than the policy and than the daemon.
        self.old_raw = self.agent.socket("AF_INET", "SOCK_RAW", 1)
        self.old_raw6 = self.agent.socket("AF_INET6", "SOCK_RAW", 58)
        self.old_tcp = self.agent.socket("AF_INET", "SOCK_STREAM")
        self.old_udp = self.agent.socket("AF_INET", "SOCK_DGRAM")
        self.old_port = world.port()
        self.old_listener = self.vault.serve(tcp=self.at(LOOP, self.old_port), udp=self.at(LOOP, self.old_port))
        self.old_mptcp = self.agent.socket("AF_INET", "SOCK_STREAM", 262)
        world.start()
        self.mcp_served = self.mcp.serve(tcp=self.at(LOOP + NODE, TCP_PORT), udp=self.at(LOOP + NODE, UDP_PORT), fastopen=True)
        self.auth.serve(tcp=self.at(LOOP, AUTH_PORT))
        self.box.serve(tcp=self.at(LOOP, BOX_PORT))
        self.far.serve(tcp=self.at(PARTNER, PARTNER_PORT), udp=self.at(PARTNER, PARTNER_PORT))
        if world.enforced:
            until(lambda: all(world.workload_view(w) for w in ("agents/agent", "tools/mcp-server", "tools/vault")),
                  what="workloads in the API")

    @staticmethod
    def at(hosts, port):
        return [(h, port) for h in hosts]

    def serve(self, puppet, hosts=LOOP, **options):
        """A server on a port of its own: (port, Served), TCP and UDP."""
        port = self.world.port()
        return port, puppet.serve(tcp=self.at(hosts, port), udp=self.at(hosts, port), **options)

    def close(self):
        self.far_wire.close()
        self.loop_wire.close()


def small_policies(*more, endpoints=(f"tools/mcp:{TCP_PORT}", f"tools/mcp:{UDP_PORT}"), sources=()):
    """One agent that may call one MCP server (TCP and UDP), and a vault that nobody may."""
    return (
        policy("agents/agent", *endpoints),
        pod("tools/mcp-0", "tools.slice/mcp.service", {"app": "mcp"}),
        service("tools/mcp", {"app": "mcp"}, (TCP_PORT, TCP_PORT, "TCP"), (UDP_PORT, UDP_PORT, "UDP")),
        policy("tools/mcp-0", kind="Pod", sources=sources),
        policy("tools/vault", kind="Pod"),
        *more,
    )


class SmallCast:
    VAULT_PORT = 7001

    def __init__(self, world, **policies):
        self.world = world
        world.put("base.yaml", *small_policies(**policies))
        self.agent = world.puppet("agents/agent")
        self.mcp = world.puppet("tools/mcp")
        self.vault = world.puppet("tools/vault")

    def start(self):
        """The servers listen after the daemon is there, so that a caller gets its EPERM from connect() itself."""
        self.world.start()
        self.serve()
        return self

    def serve(self):
        self.mcp_served = self.mcp.serve(tcp=[(h, TCP_PORT) for h in LOOP + NODE], udp=[(h, UDP_PORT) for h in LOOP + NODE])
        self.vault_served = self.vault.serve(tcp=[(h, self.VAULT_PORT) for h in LOOP], udp=[(h, self.VAULT_PORT) for h in LOOP])

    def may(self, puppet=None, port=TCP_PORT, host=LOOP[0]):
        return (puppet or self.agent).attempt("udp" if port == UDP_PORT else "tcp", (host, port), timeout=1.0)

    def may_not(self, puppet=None, reason="peer_not_allowed", **match):
        """The vault stays closed."""
        p = puppet or self.agent
        return self.world.denied(lambda: p.attempt("tcp", (LOOP[0], self.VAULT_PORT)), reason, dst_port=self.VAULT_PORT,
                                 src_pid=None, src_comm=None, **match)


class UnderLoad:
    """Allowed and denied loops beside a changing daemon; ends with the verdict on both."""

    def __init__(self, cast):
        self.cast = cast
        tcp, udp = [(h, TCP_PORT) for h in LOOP], [(h, UDP_PORT) for h in LOOP]
        closed = [(h, cast.VAULT_PORT) for h in LOOP]
        self.helper = cast.world.puppet("agents/agent", "agent-denied")
        self.allowed = cast.agent.load("allowed", tcp=tcp, udp=udp, pause=0.005)
        self.denied = self.helper.load("denied", tcp=closed, udp=closed, pause=0.005)
        time.sleep(0.2)

    def finish(self):
        time.sleep(0.2)
        allowed, denied = self.allowed.stop(), self.denied.stop()
        served = self.cast.vault_served.report()
        print(f"allowed: {allowed['done']} operations, slowest {allowed['slowest_ms']} ms, {allowed['retransmits']} "
              f"retransmits; denied: {denied['done']} attempts")
        assert allowed["failures"] == [] and allowed["done"] > 200, allowed
        assert denied["failures"] == [] and denied["done"] > 200, denied
        assert (served["tcp"], served["udp"]) == (0, 0), "packets of a denied flow arrived"
        assert allowed["retransmits"] == 0, f"packets of an allowed flow were dropped: {allowed}"
