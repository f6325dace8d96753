"""The cast of a node with pods, and with the cluster's DNS (a pod of kube-system with a real resolver in it) and an LLM outside."""
import socket
import ssl
import threading
from functools import partial

from harness import kube, nodenet
from harness.kube import ServicePort, container
from harness.objects import namespace
from naming import LLM, OTHER, PORT, Resolver, certify, llm_policy
from podcast import PodCast
import lab

CLEAR, OTHER_PORT = 80, 8443
DNS_PORTS = [("dns", 53, "UDP"), ("dns-tcp", 53)]


class WebServer:
    """Any number of connections at a time, also such as never say anything: an HTTP answer for whatever comes, over TLS or in clear text
    (certified=None). `heard`: what the hellos named, or the first lines in clear text."""

    def __init__(self, outside, address, port, certified=None):
        self.certified, self.heard = certified, []
        self.listener = outside.socket()
        self.listener.bind((address, port))
        self.listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        connection.settimeout(5)
        try:
            if self.certified:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certified[1], self.certified[0])
                context.sni_callback = lambda _socket, name, _context: self.heard.append(name)
                connection = context.wrap_socket(connection, server_side=True)
            request = connection.recv(65536)
            if not self.certified and request:
                self.heard.append(request.split(b"\r\n")[0].decode("latin1"))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        except OSError:  # the caller's affair
            pass
        finally:
            connection.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class NamedPods(PodCast):
    """The agent may call the LLM by its name, too. The node's own resolv.conf names nobody, so what its addresses are is learnt from kube-dns's
    answers to pods, and from nowhere else."""

    def __init__(self, node):
        dns = node.run_pod("kube-system/coredns", kube.Owner("Deployment", "coredns"), labels={"k8s-app": "kube-dns"},
                           containers=[container("coredns", ports=DNS_PORTS)])
        self.dns, self.work = dns, node.daemon.work
        self.dns_service = node.service("kube-system/kube-dns", [dns], ServicePort(53, "dns", "dns", "UDP"), ServicePort(53, "dns-tcp", "dns-tcp"),
                                        number=10, selector={"k8s-app": "kube-dns"})
        assert self.dns_service.ips == [nodenet.DNS4, nodenet.DNS6]
        self.resolver = Resolver(self.work, {name: [lab.OUTSIDE4, lab.OUTSIDE6] for name in (LLM, OTHER)}, ",".join(dns.ips),
                                 popen=partial(dns.container("coredns").popen, outside=dns.entrance()), make_socket=dns.netns.socket)
        node.put("llm.yaml", namespace("team"), llm_policy("team/agent-llm", target="agent"))
        self.certified = certify(self.work, (LLM, OTHER))
        self.llm = WebServer(node.beyond, lab.OUTSIDE4, PORT, self.certified)
        self.other_port = WebServer(node.beyond, lab.OUTSIDE4, OTHER_PORT, self.certified)
        self.clear = WebServer(node.beyond, lab.OUTSIDE4, CLEAR)
        super().__init__(node)

    def close(self):
        for server in (self.llm, self.other_port, self.clear):
            server.close()
        self.resolver.close()

    def look_up(self, name, caller=None, at=nodenet.DNS4):
        return (caller or self.caller).attempt("dns", (at, 53), name=name, timeout=1.0)

    def call_llm(self, name=LLM, caller=None, to=lab.OUTSIDE4, at=nodenet.DNS4):
        return (caller or self.caller).attempt("llm", (to, PORT), (at, 53), name=name)
