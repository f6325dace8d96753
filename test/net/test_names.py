"""One LLM by its name, with the programs that people use: the name works, and nothing else at its address does."""
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from naming import LLM, OTHER, PORT, Names, resolved
from harness.world import until
import lab

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])
ADDRESS = {4: lab.OUTSIDE4, 6: lab.OUTSIDE6}
PYTHON = """
import http.client, socket, ssl, sys
host, name, family, version = sys.argv[1:]
context = ssl.create_default_context()
context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
kind = socket.AF_INET if family == "4" else socket.AF_INET6
s = socket.socket(kind)
s.settimeout(8)
s.connect(socket.getaddrinfo(host, 443, kind, socket.SOCK_STREAM)[0][4])
s = context.wrap_socket(s, server_hostname=name)
s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
print(s.version(), len(s.recv(4096)))
"""
NODE = """
const [host, name, family, version] = process.argv.slice(1);
require("https").get({host, servername: name, family: +family, minVersion: "TLSv" + version, maxVersion: "TLSv" + version, timeout: 8000},
  r => { console.log(r.statusCode); r.resume(); }).on("error", e => { console.log(e.code, e.message); process.exit(1); });
"""


@pytest.fixture(scope="module")
def names(shared_world):
    n = shared_world.keep(Names(shared_world))
    n.wait_resolved()
    n.wait_resolved(lab.OUTSIDE6)
    return n


def clients(host, name, family, version):
    """Each client's command line for `name` at `host`, which is the name itself or an address."""
    at = f"[{host}]" if ":" in host else host
    there = ["--connect-to", f"::{at}:{PORT}"] if host != name else []
    version_flag = {"1.2": "-tls1_2", "1.3": "-tls1_3"}[version]
    s_client = ["openssl", "s_client", f"-{family}", version_flag, "-connect", f"{at}:{PORT}", "-servername", name, "-brief"]
    return {
        "curl": ["curl", "-sS", "-m", "8", f"-{family}", "--tlsv" + version, "--tls-max", version, *there, f"https://{name}/"],
        "python": ["/usr/bin/python3", "-c", PYTHON, host, name, family, version],
        "node": ["node", "-e", NODE, "--", host, name, family, version],
        "s_client": ["sh", "-c", f"exec {shlex.join(s_client)} </dev/null"],
    }


@VERSIONS
@FAMILIES
@pytest.mark.parametrize("program", ["curl", "python", "node", "s_client"])
def test_the_name_works(names, program, family, version):
    since = time.time()
    status, output, _ = names.client.run(clients(LLM, LLM, family, version)[program])
    assert status == 0, output + names.world.daemon.log_tail(10)
    row = names.world.wait_flow(since - 0.05, verdict="ALLOWED", reason="llm_allowed", dst_port=PORT, dst_address=ADDRESS[family])
    assert row["dst_fqdn"] == LLM


@VERSIONS
@FAMILIES
@pytest.mark.parametrize("program", ["curl", "python", "node", "s_client"])
def test_another_name_on_the_same_address(names, program, family, version):
    since = time.time()
    status, output, seconds = names.client.run(clients(ADDRESS[family], OTHER, family, version)[program])
    assert status not in (0, "timeout"), output
    assert seconds < 5, f"a hang: {seconds} s"
    row = names.world.wait_flow(since - 0.05, verdict="DENIED", reason="sni_mismatch", dst_port=PORT)
    assert row["askedName"] == OTHER


def test_fetch(names):
    """node's fetch is another client than its https module."""
    script = f"fetch('https://{LLM}/').then(r => console.log(r.status), e => {{ console.log(e.cause); process.exit(1); }})"
    status, output, _ = names.client.run(["node", "-e", script])
    assert (status, output.strip()) == (0, "200")


def test_no_server_name(names):
    since = time.time()
    status, output, _ = names.client.run(["sh", "-c", f"exec openssl s_client -connect {lab.OUTSIDE4}:{PORT} -noservername </dev/null"])
    assert status not in (0, "timeout"), output
    names.world.wait_flow(since - 0.05, verdict="DENIED", reason="sni_missing", dst_port=PORT)


def test_quic_falls_back_at_once(names):
    """A client that tries UDP first is told at once, and goes on by TCP."""
    since = time.time()
    for address in ADDRESS.values():
        s = names.agent.socket("AF_INET6" if ":" in address else "AF_INET", "SOCK_DGRAM")
        out = s.call("sendto", "\xc0\0\0\0\1" + "q" * 1195, [address, PORT])
        assert (out.ok, out.error) == (False, "EPERM") and out.ms < 100, out
        row = names.world.wait_flow(since - 0.05, verdict="DENIED", reason="udp_not_allowed", protocol="udp")
        assert row["dst_fqdn"] == LLM
        connected = names.agent.socket("AF_INET6" if ":" in address else "AF_INET", "SOCK_DGRAM")
        connected.call("connect", [address, PORT])
        out = connected.call("send", "\xc0\0\0\0\1" + "q" * 1195)
        assert (out.ok, out.error) == (False, "EPERM") and out.ms < 100, out


def test_what_is_allowed_leaves_no_denial(names):
    """Looking a name up and calling it, as a C library does it: connect() of UDP sockets puts the addresses in order."""
    before = names.world.daemon.api.get("/v1/stats")["deniedByReason"]
    for argv in (["getent", "ahosts", LLM], ["curl", "-sS", "-m", "8", f"https://{LLM}/"], ["node", "-e", NODE, "--", LLM, LLM, "4", "1.3"]):
        assert names.client.run(argv)[0] == 0
    assert names.world.daemon.api.get("/v1/stats")["deniedByReason"] == before


def test_another_port_of_the_address(names):
    out = names.world.denied(lambda: names.agent.attempt("tcp", (lab.OUTSIDE4, 8443)), "port_not_allowed", dst_port=8443)
    assert out.row["dst_fqdn"] == LLM


NGINX = """
daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/nginx.err;
events {{ }}
http {{
  access_log {work}/nginx.log; client_body_temp_path {work}/n1; proxy_temp_path {work}/n2; fastcgi_temp_path {work}/n3;
  uwsgi_temp_path {work}/n4; scgi_temp_path {work}/n5;
  ssl_certificate {certificate}; ssl_certificate_key {key};
  server {{ listen {address}:443 ssl http2; server_name {llm}; return 200 "llm\\n"; }}
  server {{ listen {address}:443 ssl http2; server_name {other}; return 200 "files\\n"; }}
}}
"""


def test_nginx_with_two_names(names):
    """A real virtual host: whoever is not held to a policy reaches both names, the agent reaches one."""
    work, conf = names.work, Path(names.work) / "nginx.conf"
    conf.write_text(NGINX.format(work=work, certificate=names.servers[0].certificate, key=names.servers[0].key,
                                 address=lab.PARTNER4, llm=LLM, other=OTHER))
    names.resolver.set({n: [lab.OUTSIDE4, lab.OUTSIDE6, lab.PARTNER4] for n in (LLM, OTHER)})
    nginx = names.world.outside.popen([shutil.which("nginx") or "/usr/sbin/nginx", "-p", work, "-c", conf],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    there = ["--connect-to", f"::{lab.PARTNER4}:{PORT}", "--cacert", names.servers[0].certificate]
    free = lambda name: subprocess.run(["curl", "-sS", "-m", "5", "--noproxy", "*", *map(str, there), f"https://{name}/"],  # noqa: E731
                                       stdout=subprocess.PIPE, text=True, check=False).stdout
    try:
        until(lambda: free(OTHER) == "files\n", what="nginx answers")
        until(lambda: knows_partner(names), what="the agent's lookup teaches nginx's address")
        assert names.client.curl(f"https://{LLM}/", *there)[:2] == (0, "llm\n")
        before = (Path(work) / "nginx.log").read_text().count("\n")
        for http in ("--http1.1", "--http2"):
            status, output, _ = names.client.curl(f"https://{OTHER}/", *there, http)
            assert status != 0 and "files" not in output
        assert (Path(work) / "nginx.log").read_text().count("\n") == before
    finally:
        nginx.kill()
        nginx.wait()


def knows_partner(names):
    names.client.run(["getent", "ahostsv4", LLM])
    return lab.PARTNER4 in resolved(names.world)
