"""The networks of a simulated node, as a bridge CNI and kube-proxy make them: the node's own namespace with cni0, and one namespace beyond
it that is another node with its pods, the outside and the default gateway in one. Nothing here reaches the machine's own network.
"""
import itertools

from harness.netns import Namespace
import lab

NODE4, NODE6 = "172.18.0.2", "fd00:18::2"
BEYOND4, BEYOND6 = "172.18.0.3", "fd00:18::3"
GATEWAY4, GATEWAY6 = "10.244.0.1", "fd00:244::1"
# Told by the address: who gets a pod's address again is found where it was. The bridge's is fixed, or it would change with the pods.
MAC = "0a:58:0a:f4:00:{:02x}"
POD4, POD6 = "10.244.0.{}", "fd00:244::{:x}"
REMOTE4, REMOTE6 = "10.244.1.{}", "fd00:244:0:1::{:x}"  # pods of the other node
SERVICE4, SERVICE6 = "10.96.0.{}", "fd00:96::{:x}"
DNS4, DNS6 = "10.96.0.10", "fd00:96::a"
UPSTREAM4 = "198.51.100.53"
REMOTE_PODS = range(10, 20)
NEWLINE = "\n"


def make_node():
    """-> (the node's namespace, the one beyond)"""
    node, beyond = Namespace(), Namespace()
    values = {"ipv4__conf__all__rp_filter": 0, "ipv4__conf__default__rp_filter": 0, "ipv4__conf__all__send_redirects": 0,
              "ipv4__conf__default__send_redirects": 0, "ipv4__ip_forward": 1, "ipv6__conf__all__accept_dad": 0, "ipv6__conf__default__accept_dad": 0,
              "ipv6__conf__all__forwarding": 1,
              "ipv4__ip_local_port_range": "20000 60000", "ipv4__ping_group_range": "0 2147483647"}
    for ns in (node, beyond):
        ns.sysctl(**values)
    node.batch("ip", f"""
        link set lo up
        link add eth0 type veth peer name eth0 netns {beyond.path}
        address add {NODE4}/24 dev eth0
        address add {NODE6}/64 dev eth0 nodad
        link set eth0 up
        link add cni0 address {MAC.format(1)} type bridge forward_delay 0 mcast_snooping 0
        address add {GATEWAY4}/24 dev cni0
        address add {GATEWAY6}/64 dev cni0 nodad
        link set cni0 up
        route add default via {BEYOND4}
        route add default via {BEYOND6}
        """)
    there = [*(REMOTE4.format(i) for i in REMOTE_PODS), lab.OUTSIDE4, lab.PARTNER4, UPSTREAM4]
    there6 = [*(REMOTE6.format(i) for i in REMOTE_PODS), lab.OUTSIDE6, lab.PARTNER6]
    beyond.batch("ip", f"""
        link set lo up
        address add {BEYOND4}/24 dev eth0
        address add {BEYOND6}/64 dev eth0 nodad
        link set eth0 up
        route add 10.244.0.0/24 via {NODE4}
        route add fd00:244::/64 via {NODE6}
        """ + "".join(f"address add {a}/32 dev lo\n" for a in there) + "".join(f"address add {a}/128 dev lo nodad\n" for a in there6))
    return node, beyond


class Cni:
    """Gives pods their namespace, their veth pair and their addresses; an address that came back is given away again in turn."""

    def __init__(self, node):
        self.node, self.free, self.links = node, list(range(2, 255)), itertools.count(1)

    def add(self):
        """-> (namespace, number of the addresses)"""
        number, ns, link = self.free.pop(0), Namespace(), f"veth{next(self.links)}"
        ns.sysctl(ipv4__ping_group_range="0 2147483647", ipv4__ip_local_port_range="20000 60000",
                  ipv6__conf__all__accept_redirects=0, ipv6__conf__default__accept_redirects=0, ipv6__conf__all__accept_dad=0,
                  ipv6__conf__default__accept_dad=0)
        # The node routes between pods, also those of one bridge: what they send one another through a Service finds its way back.
        ns.batch("ip", f"""
            link set lo up
            link add eth0 address {MAC.format(number)} type veth peer name {link} netns {self.node.path}
            address add {POD4.format(number)}/32 dev eth0
            address add {POD6.format(number)}/128 dev eth0 nodad
            link set eth0 up
            route add {GATEWAY4} dev eth0
            route add default via {GATEWAY4}
            route add {GATEWAY6} dev eth0
            route add default via {GATEWAY6}
            """)
        # hairpinMode of the bridge plugin: where the bridge passes packets to iptables, a pod's call of its own Service goes back where it came from.
        self.node.batch("ip", f"link set {link} master cni0 up\nlink set {link} type bridge_slave hairpin on\n")
        return ns, number

    def remove(self, ns, number):
        """The link goes with the namespace, a little later."""
        ns.close()
        self.free.append(number)


def proxy_rules(services):
    """What kube-proxy makes of Services: the destination becomes one of the endpoints, for what comes from pods and for the node's own
    processes. What a pod sends to itself that way, and what pods send out of the cluster, gets the node's address."""
    text = ""
    for family, pods, cluster in (("ip", "10.244.0.0/24", "10.244.0.0/16"), ("ip6", "fd00:244::/64", "fd00:244::/32")):
        rules, hairpins = [], set()
        for service in services:
            for ip, port in itertools.product(service.ips, service.ports):
                there = service.backends(port, family == "ip6")
                if (":" in ip) != (family == "ip6") or not there:
                    continue
                choice = ", ".join(f"{i} : {a} . {n}" for i, (a, n) in enumerate(there))
                rules.append(f"{family} daddr {ip} {port.protocol.lower()} dport {port.port} "
                             f"dnat {family} to numgen random mod {len(there)} map {{ {choice} }}")
                hairpins |= {f"{family} saddr {a} {family} daddr {a} masquerade" for a, _ in there}
        text += f"""
            table {family} kube-proxy {{}}
            delete table {family} kube-proxy
            table {family} kube-proxy {{
              chain services {{
                {NEWLINE.join(rules)}
              }}
              chain prerouting {{ type nat hook prerouting priority -100; jump services; }}
              chain output {{ type nat hook output priority -100; jump services; }}
              chain postrouting {{
                type nat hook postrouting priority 100;
                {NEWLINE.join(sorted(hairpins))}
                {family} saddr {pods} {family} daddr != {cluster} masquerade
              }}
            }}
            """
    return text
