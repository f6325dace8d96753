"""What the compromised agent of the demo tries: one row an attempt. `probe` is a name of probe.py's table; `reasons` are
those that casad may give, empty for what is allowed. The README and the summary table show `label`."""
from dataclasses import dataclass

import lab

AUTH, AUTH_ADMIN, STATSD, MCP = 8000, 8001, 8125, 8080
GATEWAY = "gateway.llm.example"  # the honest agent's LLM, behind a gateway that speaks HTTP in clear text
STOLEN = "agent-token"           # file in the demo's own directory: where the agent keeps its token
REFUSED = ("EPERM",)
HUNG = ("EPERM", "timeout", "ECONNABORTED", "ECONNRESET", "closed")


@dataclass
class Attempt:
    label: str
    probe: str
    to: tuple
    reasons: tuple = ()
    errors: tuple = REFUSED
    also: tuple = ()
    actor: str = "rogue-agent"  # whose cgroup it runs in; "host": outside every workload
    options: tuple = ()
    optional: bool = False      # the kernel may lack the protocol
    alert: str = ""             # the kind that casad must raise about it

    @property
    def expected(self):
        if self.alert and not self.reasons:
            return f"ALLOWED, and {self.alert}"
        return f"DENIED {self.reasons[0]}" if self.reasons else "ALLOWED"

    @property
    def told_port(self):
        """The destination port that the flow must tell; a refused socket() has none yet."""
        return None if self.reasons[0] in ("raw_socket", "protocol_not_allowed", "ip_options") else self.to[1]

    @property
    def told_source(self):
        """The workload that the flow must name as its source."""
        return self.actor if self.actor in ("agent", "rogue-agent") else None


def row(label, probe, host, port, *reasons, **more):
    return Attempt(label, probe, (host, port), reasons, **more)


V4, V6 = "127.0.0.1", "::1"
AUTH_TCP, AUTH_UDP = (V4, AUTH), (V4, STATSD)
LLM, RESOLVER = lab.PARTNER4, (V4, 53)

ATTEMPTS = [
    row("the auth service, as its policy allows", "tcp", V4, AUTH),
    row("the auth service over IPv6", "tcp", V6, AUTH),
    row("statsd at the auth service, UDP, allowed", "udp", V4, STATSD),
    row("another port of the allowed peer", "tcp", V4, AUTH_ADMIN, "port_not_allowed"),
    row("another workload: the MCP server", "tcp", V4, MCP, "peer_not_allowed"),
    row("the MCP server over IPv6", "tcp", V6, MCP, "peer_not_allowed"),
    row("the MCP server as ::ffff:127.0.0.1", "mapped", V4, MCP, "peer_not_allowed"),
    row("the MCP server over UDP", "udp", V4, MCP, "peer_not_allowed"),
    row("the MCP server by TCP Fast Open", "fastopen", V4, MCP, "peer_not_allowed"),
    row("the internet", "tcp", lab.OUTSIDE4, 443, "external_not_allowed"),
    row("the internet over IPv6", "tcp", lab.OUTSIDE6, 443, "external_not_allowed"),
    row("a DNS server somewhere, UDP", "udp", lab.OUTSIDE4, 53, "resolver_not_trusted"),
    row("its LLM, by name", "llm", LLM, 443, also=RESOLVER),
    row("another name at the LLM's address", "hello", LLM, 443, "sni_mismatch", errors=HUNG, options=("--name", "files.other.example")),
    row("clear text to the LLM's address", "tcp", LLM, 443, "not_tls", errors=HUNG),
    row("QUIC to the LLM", "udp", LLM, 443, "udp_not_allowed"),
    row("the other name, asked by DNS", "dns", V4, 53, "dns_name_not_allowed", options=("--name", "files.other.example")),
    row("a tunnel through DNS", "dns", V4, 53, "dns_name_not_allowed",
        options=("--name", "c2VjcmV0LWtleS1vZi10aGUtYWdlbnQ.tunnel.example")),
    row("ICMP by a raw socket", "raw-icmp", lab.OUTSIDE4, 0, "raw_socket"),
    row("ICMPv6 by a raw socket", "raw-icmp", lab.OUTSIDE6, 0, "raw_socket"),
    row("a hand-made TCP SYN", "raw-tcp", lab.OUTSIDE4, 443, "raw_socket"),
    row("a whole packet with a forged source", "raw-ip", lab.OUTSIDE4, 53, "raw_socket"),
    row("a ping socket", "ping", lab.OUTSIDE4, 0, "protocol_not_allowed"),
    row("MPTCP to the allowed peer", "mptcp", V4, AUTH, "protocol_not_allowed"),
    row("SCTP", "sctp", V4, MCP, "protocol_not_allowed", optional=True),
    row("UDP-Lite", "udplite", V4, STATSD, "protocol_not_allowed", optional=True),
    row("one UDP socket, allowed and denied in turn", "udp-alternate", lab.OUTSIDE4, 53, "resolver_not_trusted", also=AUTH_UDP),
    row("a connected UDP socket, sendto elsewhere", "udp-elsewhere", V4, MCP, "peer_not_allowed", also=AUTH_UDP),
    row("connect, disconnect, reconnect elsewhere", "reconnect", V4, MCP, "peer_not_allowed", also=AUTH_TCP),
    row("a loose source route around the allowed peer", "source-route-after", lab.OUTSIDE4, 0, "ip_options", also=AUTH_TCP,
        errors=HUNG, options=("--timeout", "1")),
    row("a cgroup of its own making", "child-cgroup", V4, MCP, "peer_not_allowed"),
    row("200 processes, forked", "storm", V4, MCP, "peer_not_allowed", options=("--count", "200")),
    row("thousands of sockets at once", "many-fds", lab.OUTSIDE4, 443, "external_not_allowed", options=("--count", "16000")),
    row("the agent is lured to the rogue's own port 8080", "tcp", "127.0.0.7", MCP, "peer_not_allowed", actor="agent"),
    row("the agent asks its LLM", "request", LLM, 80, actor="agent", also=RESOLVER,
        options=("--name", GATEWAY, "--path", "/v1/chat")),
    row("the agent is talked into sending its token there", "request", LLM, 80, "token_unexpected_destination", errors=HUNG,
        actor="agent", also=RESOLVER, options=("--name", GATEWAY, "--path", "/v1/chat", "--token-file", STOLEN),
        alert="token_unexpected_destination"),
    row("the rogue uses a token that it stole", "request", V4, AUTH, options=("--path", "/userinfo", "--token-file", STOLEN),
        alert="token_replay"),
    row("a process that nobody declared, in the slice", "tcp", V4, AUTH, "undeclared_cgroup", actor="stray"),
    row("the host calls the MCP server", "tcp", V4, MCP, "source_not_allowed", actor="host", errors=HUNG,
        options=("--timeout", "0.7")),
    row("the host calls the auth service, allowed", "tcp", V4, AUTH, actor="host"),
]
