"""An Istio-like sidecar: the redirects that istio-init, or istio-cni, makes in a pod's network namespace, and the proxy as another container
of the pod."""
import json
import subprocess
import sys
from pathlib import Path

from harness import kube

PROGRAM = Path(__file__).with_name("sidecar_program.py")
USER = 1337


def containers(*own):
    """The containers of an injected pod: its own, and the proxy."""
    return [*(own or [kube.container()]), kube.container("istio-proxy", ports=[("http-envoy-prom", 15090)], probe=15021)]


def rules(family):
    v6 = family == "ip6"
    local, one, passthrough = ("::1/128", "::1", "::6") if v6 else ("127.0.0.1/32", "127.0.0.1", "127.0.0.6")
    return f"""
        table {family} istio {{
          chain output {{
            type nat hook output priority -100;
            meta l4proto != tcp return
            oifname "lo" {family} saddr {passthrough} return
            oifname "lo" {family} daddr != {one} tcp dport != 15008 meta skuid {USER} redirect to :15006
            oifname "lo" meta skuid != {USER} return
            meta skuid {USER} return
            {family} daddr {local} return
            meta l4proto tcp redirect to :15001
          }}
          chain prerouting {{
            type nat hook prerouting priority -100;
            tcp dport {{ 15008, 15020, 15021, 15090 }} return
            meta l4proto tcp redirect to :15006
          }}
        }}
        """


class Sidecar:
    def __init__(self, pod, routes=None, originate=None):
        """routes: {"ip:port" of a Service: ["ip:port", ...]}; originate: (port, file of the authority), TLS for what is sent to port 80."""
        pod.netns.batch("ip", "address add ::6/128 dev lo nodad\n")
        pod.netns.batch("nft", rules("ip") + rules("ip6"))
        argv = [sys.executable, "-I", "-S", "-B", PROGRAM, "--user", USER, "--routes", json.dumps(routes or {})]
        if originate:
            argv += ["--originate", f"{originate[0]}:{originate[1]}"]
        self.process = pod.container("istio-proxy").popen(argv, outside=pod.entrance(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        assert line == b"ready\n", line

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
