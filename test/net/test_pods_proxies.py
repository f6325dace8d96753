"""Other ways of a kube-proxy than rules of NAT: eBPF, which changes what connect() was told, and IPVS, for which the node has the Services'
addresses itself. Whether casad sees the Service or the endpoint, the verdict is the same."""
import time
from pathlib import Path

import pytest

from harness.kube import ServicePort
from harness.rewriter import Rewriter
from podcast import ADMIN, ADMIN_WEB, HTTP, WEB, cast_of_pods, settled
import lab


@pytest.mark.parametrize("when", ["before casad", "after casad", "below casad"])
def test_connect_is_rewritten(outside, when):
    """Attached before casad, it hands the endpoint to casad's program; attached after it, casad judges the Service at connect() and the
    endpoint at the first packet. No rules of NAT know these Services' addresses."""
    made = cast_of_pods()
    rewriters = []
    allowed, other_workload, other_port, crooked = ("10.97.0.1", "10.97.0.2", "10.97.0.3", "10.97.0.4")

    def rewrite(cast):
        root = cast.node.root.path / "kubepods.slice" if when == "below casad" else cast.node.root.path
        for address, pod, port in ((allowed, cast.mcp, HTTP), (other_workload, cast.vault, HTTP), (other_port, cast.mcp, ADMIN),
                                   (crooked, cast.vault, HTTP)):
            rewriters.append(Rewriter(root, (address, WEB), (pod.ip, port)))
    try:
        cast = next(made)
        if when == "before casad":
            cast.node.daemon.stop()
            assert cast.node.daemon.detach().returncode == 0
            rewrite(cast)
            cast.node.start()
        else:
            rewrite(cast)
        for service, address in ((cast.mcp_service, allowed), (cast.mcp_service, crooked), (cast.vault_service, other_workload)):
            service.ips.append(address)
            cast.node.put(f"service-{service.namespace}-{service.name}.yaml", *service.objects())
        settled(cast.node)
        served = cast.vault_served.report()["tcp"]
        assert cast.caller.attempt("tcp", (allowed, WEB)).ok
        for address in (other_workload, other_port):
            outcome = cast.caller.attempt("tcp", (address, WEB), timeout=1.0)
            assert outcome.error == "EPERM", (address, outcome)
        # A Service that may be called, and a rewriter that leads elsewhere.
        outcome = cast.caller.attempt("tcp", (crooked, WEB), timeout=1.0)
        assert outcome.error == ("timeout" if when == "after casad" else "EPERM"), outcome
        refused = cast.neighbour.puppet("neighbour")
        assert refused.attempt("tcp", (allowed, WEB), timeout=0.5).error == "timeout", "the callee's own refusal"
        assert cast.vault_served.report()["tcp"] == served
    finally:
        for rewriter in rewriters:
            rewriter.close()
        made.close()


def addresses_of_services(cast):
    """What an IPVS kube-proxy gives the node: an interface with the addresses of all Services (a dummy; not every kernel has that kind)."""
    ips = [ip for service in cast.node.services for ip in service.ips]
    cast.node.netns.batch("ip", "link add kube-ipvs0 type bridge\n" +
                          "".join(f"address add {ip}/{128 if ':' in ip else 32} dev kube-ipvs0 {'nodad' if ':' in ip else ''}\n" for ip in ips))


def balance(cast):
    """IPVS itself, in the place of the rules of NAT."""
    services, cast.node.services = cast.node.services, []
    cast.node.proxy()
    for service, ip, port in ((s, ip, port) for s in services for ip in s.ips for port in s.ports):
        flag, at = "-t" if port.protocol == "TCP" else "-u", (f"[{ip}]" if ":" in ip else ip) + f":{port.port}"
        lab.run(*cast.node.netns.enter(), "ipvsadm", "-A", flag, at, "-s", "rr")
        for address, number in service.backends(port, ":" in ip):
            lab.run(*cast.node.netns.enter(), "ipvsadm", "-a", flag, at, "-m", "-r", (f"[{address}]" if ":" in address else address) + f":{number}")


@pytest.mark.parametrize("way", ["addresses", "ipvs"])
@pytest.mark.parametrize("v", [0, 1], ids=["ipv4", "ipv6"])
def test_the_node_has_the_services_addresses(outside, way, v):
    """They are the node's own then, and still the Services': neither is a Service taken for the node, nor the node for a Service."""
    if way == "ipvs" and not Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has no ip_vs")
    made = cast_of_pods()
    try:
        cast = next(made)
        addresses_of_services(cast)
        if way == "ipvs":
            balance(cast)
        settled(cast.node)
        time.sleep(1.0)  # casad reads the node's addresses when they change
        cast.may(host=cast.mcp_service.ips[v], dst_service="mcp")
        cast.may_not(host=cast.mcp_service.ips[v], port=ADMIN_WEB, reason="port_not_allowed")
        cast.may_not(host=cast.vault_service.ips[v], dst_service="vault")
        assert cast.node.status()["problems"] == []
        # What the node itself serves there is not the Service's.
        port = cast.node.port()
        cast.node.node_puppet("node").serve(tcp=[(cast.mcp_service.ips[v], port)])
        assert cast.caller.attempt("tcp", (cast.mcp_service.ips[v], port)).error == "EPERM"
    finally:
        made.close()
