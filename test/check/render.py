#!/usr/bin/env python3
"""`casad render`: what it prints is YAML, fits the documented structure of CiliumNetworkPolicy and NetworkPolicy, and means what the policies
mean. The meaning is asked of the rendered objects by a small evaluator: for each pair of Pods, port and protocol whether both ends let the
call pass, against a table; and which names may be asked for."""
import ipaddress
import itertools
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from cases import BUILD, Cases
from crd_schema import errors

cases = Cases("render")
BINARY = next((p for p in (BUILD / "casad", BUILD / "src/casad") if p.exists()), None)
if BINARY is None:
    cases.fail("all", f"no casad in {BUILD}: run `make` first")
    cases.end()

WORLD = """
apiVersion: v1
kind: Namespace
metadata: {name: quiet, labels: {casa.io/injection: enabled}}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: team-a}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints:
    - {name: tools, namespace: team-a, port: 80}
    - {name: auth, namespace: platform, port: 8000}
    - {name: outside, namespace: platform, port: 5432}
  llmEndpoint: {fqdn: api.llm.example, port: 443}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: plain, namespace: team-a}
spec:
  targetRef: {kind: StatefulSet, name: plain}
  llmEndpoint: {fqdn: plain.llm.example, port: 80}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: tools, namespace: team-a}
spec:
  targetRef: {kind: Deployment, name: tools}
  allowedSources:
    - {namespace: monitoring, name: prometheus, port: 9090}
    - {cidr: 10.20.0.0/16}
    - {host: true, port: 9091}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, namespace: team-a}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent, tier: x}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tools, namespace: team-a}
spec:
  selector: {matchLabels: {app: tools}}
  template:
    metadata: {labels: {app: tools}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: plain, namespace: team-a}
spec:
  selector: {matchLabels: {app: plain}}
  serviceName: plain
  template: {metadata: {labels: {app: plain}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: free, namespace: team-a, labels: {app: free}, annotations: {casa.io/enforcement: disabled}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: prometheus-0, namespace: monitoring, labels: {app: prometheus, controller-revision-hash: x}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: prometheus, uid: u, controller: true}]}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: tools, namespace: team-a}
spec: {selector: {app: tools}, clusterIP: 10.96.0.5, ports: [{name: web, port: 80, targetPort: http}, {name: other, port: 81, targetPort: 8081}]}
---
apiVersion: v1
kind: Service
metadata: {name: auth, namespace: platform}
spec: {selector: {app: auth}, ports: [{port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: platform}
spec: {ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, namespace: platform, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.9]}]
ports: [{port: 5433}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.20.5.0/24]}
"""
# Pods, as (namespace, labels); "net:" and "node" are peers outside.
PODS = {"agent": ("team-a", {"app": "agent", "tier": "x", "pod-template-hash": "1"}), "tools": ("team-a", {"app": "tools", "pod-template-hash": "2"}),
        "plain": ("team-a", {"app": "plain"}), "free": ("team-a", {"app": "free"}), "new": ("team-a", {"app": "new"}), "quiet": ("quiet", {"app": "tools"}),
        "prometheus": ("monitoring", {"app": "prometheus"}), "auth": ("platform", {"app": "auth"}), "other": ("platform", {"app": "agent"})}
OUTSIDE = ["net:10.20.1.1", "net:10.20.5.1", "net:192.0.2.9", "net:8.8.8.8", "node"]
POD_NETWORK = "10.20.5.0/24"  # in Cilium a Pod's address is a Pod, and of no network
PORTS = [(p, k) for p in (53, 80, 81, 443, 5432, 5433, 8000, 8080, 8081, 9090, 9091) for k in ("TCP", "UDP")]
ANY = {(p, k) for p, k in PORTS}
FREE = {"prometheus", "auth", "other"}  # in no namespace under enforcement
# What may pass, beyond what two free ends (`FREE`, and the exempt Pod `free`) do.
ALLOWED = {("agent", "tools"): {(8080, "TCP")}, ("agent", "auth"): {(8000, "TCP")}, ("agent", "net:192.0.2.9"): {(5433, "TCP")},
           ("prometheus", "tools"): {(9090, "TCP"), (9090, "UDP")}, ("net:10.20.1.1", "tools"): ANY, ("node", "tools"): {(9091, "TCP"), (9091, "UDP")}}

text, listed = {"type": "string"}, lambda items: {"type": "array", "items": items}


def thing(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required)}


# Free-form maps are given their keys by hand: labels are checked for shape beside the schema.
LABELS = {"type": "object"}
SELECTOR = thing(matchLabels=LABELS)
META = thing(["name", "namespace"], name={"type": "string", "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}, namespace=text, labels=LABELS)


def frame(spec):
    return thing(["apiVersion", "kind", "metadata", "spec"], apiVersion=text, kind=text, metadata=META, spec=spec)


# After the CRD cilium.io/v2 as documented: docs.cilium.io, "Network Policy".
PORT_RULES = listed(thing(["ports"], ports={**listed(thing(["port"], port={"type": "string", "pattern": "^[0-9]{1,5}$"}, protocol={"type": "string", "enum": ["TCP", "UDP", "ANY"]})), "maxItems": 40},
                          serverNames=listed(text), rules=thing(dns=listed(thing(matchName=text, matchPattern=text)), http=listed(thing(host=text, method=text, path=text)))))
ENTITIES = listed({"type": "string", "enum": ["all", "world", "cluster", "host", "remote-node", "kube-apiserver"]})
CILIUM = frame(thing(["endpointSelector"], endpointSelector=SELECTOR,
                     ingress=listed(thing(fromEndpoints=listed(SELECTOR), fromCIDR=listed(text), fromEntities=ENTITIES, toPorts=PORT_RULES)),
                     egress=listed(thing(toEndpoints=listed(SELECTOR), toCIDR=listed(text), toEntities=ENTITIES, toFQDNs=listed(thing(matchName=text, matchPattern=text)), toPorts=PORT_RULES))))
PEERS = listed(thing(podSelector=SELECTOR, namespaceSelector=SELECTOR, ipBlock={**thing(["cidr"], cidr=text), "properties": {"cidr": text, "except": listed(text)}}))
PLAIN_PORTS = listed(thing(protocol={"type": "string", "enum": ["TCP", "UDP"]}, port={"type": "integer", "minimum": 1, "maximum": 65535}))
PLAIN = frame(thing(["podSelector", "policyTypes"], podSelector=SELECTOR, policyTypes=listed({"type": "string", "enum": ["Ingress", "Egress"]}),
                    ingress=listed({**thing(ports=PLAIN_PORTS), "properties": {"from": PEERS, "ports": PLAIN_PORTS}}), egress=listed(thing(to=PEERS, ports=PLAIN_PORTS))))


def render(kind, world, *flags):
    """-> exit status, objects, what stands on stderr"""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "world.yaml")
        file.write_text(world)
        done = subprocess.run([BINARY, "render", kind, *flags, file], capture_output=True, text=True, check=False)
        return done.returncode, [d for d in yaml.safe_load_all(done.stdout) if d], done.stderr.replace(folder + "/", "")


def contains(network, address):
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


class Cilium:
    namespace_label = "k8s:io.kubernetes.pod.namespace"

    @classmethod
    def selects(cls, selector, pod, namespace=None):
        labels = dict(selector.get("matchLabels") or {})
        wanted = labels.pop(cls.namespace_label, namespace)
        return pod in PODS and wanted == PODS[pod][0] and all(k.startswith("k8s:") and PODS[pod][1].get(k[4:]) == v for k, v in labels.items())

    @classmethod
    def rule_allows(cls, rule, way, peer, port, namespace):
        members = [m for m in rule if m.startswith(way) and m != "toPorts"]
        if len(members) != 1:
            return False  # an empty rule means nobody
        said = rule[members[0]]
        here = {"Endpoints": lambda: any(cls.selects(s, peer, namespace) for s in said), "CIDR": lambda: peer.startswith("net:") and not contains(POD_NETWORK, peer[4:]) and any(contains(c, peer[4:]) for c in said),
                "Entities": lambda: "all" in said or (peer == "node" and "host" in said), "FQDNs": lambda: False}[members[0][len(way):]]()
        if not here or "toPorts" not in rule:
            return here
        return any(p["port"] in ("0", str(port[0])) and p["protocol"] == port[1] for r in rule["toPorts"] for p in r["ports"])

    @classmethod
    def allows(cls, objects, pod, direction, peer, port):
        """None: no object selects the Pod"""
        way = {"ingress": "from", "egress": "to"}[direction]
        mine = [o for o in objects if cls.selects(o["spec"]["endpointSelector"], pod, o["metadata"]["namespace"]) and o["spec"].get(direction)]
        return None if not mine else any(cls.rule_allows(r, way, peer, port, o["metadata"]["namespace"]) for o in mine for r in o["spec"][direction])


class Plain:
    @staticmethod
    def labels_match(selector, labels):
        return all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())

    @classmethod
    def peer_allows(cls, said, peer, namespace):
        if "ipBlock" in said:
            block = said["ipBlock"]
            return peer.startswith("net:") and contains(block["cidr"], peer[4:]) and not any(contains(e, peer[4:]) for e in block.get("except", []))
        if peer not in PODS:
            return False
        at, labels = PODS[peer]
        there = cls.labels_match(said["namespaceSelector"], {"kubernetes.io/metadata.name": at}) if "namespaceSelector" in said else at == namespace
        return there and cls.labels_match(said.get("podSelector", {}), labels)

    @classmethod
    def allows(cls, objects, pod, direction, peer, port):
        way = {"ingress": "from", "egress": "to"}[direction]
        mine = [o for o in objects if PODS[pod][0] == o["metadata"]["namespace"] and cls.labels_match(o["spec"]["podSelector"], PODS[pod][1])]
        if not mine:
            return None
        for o in mine:
            for rule in o["spec"].get(direction, []):
                peer_ok = way not in rule or any(cls.peer_allows(p, peer, o["metadata"]["namespace"]) for p in rule[way])
                port_ok = "ports" not in rule or any(p["protocol"] == port[1] and p.get("port", port[0]) == port[0] for p in rule["ports"])
                if peer_ok and port_ok:
                    return True
        return False


def check_meaning(name, evaluator, objects, allowed):
    problems, asked = [], 0
    everybody = [*PODS, *OUTSIDE]
    for a, b in itertools.permutations(everybody, 2):
        for port in PORTS:
            if a not in PODS and b not in PODS:
                continue
            ends = [evaluator.allows(objects, a, "egress", b, port) if a in PODS else None, evaluator.allows(objects, b, "ingress", a, port) if b in PODS else None]
            passes = all(e in (None, True) for e in ends)
            free = all(x in FREE or x == "free" or x not in PODS for x in (a, b))
            wanted = port in allowed.get((a, b), set()) or free
            asked += 1
            if passes != wanted:
                problems.append(f"{a} to {b} on {port}: {'passes' if passes else 'does not pass'}")
    if asked < 2000:
        problems.append(f"only {asked} questions were asked")
    cases.case(f"{name}: {asked} calls", problems)


def check_structure(name, schema, kind, objects):
    problems = [e for o in objects for e in errors(schema, o, o["metadata"]["name"])]
    problems += [f"{o['kind']} instead of {kind}" for o in objects if o["kind"] != kind]
    keys = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in objects]
    problems += [f"{k} stands there twice" for k in set(keys) if keys.count(k) > 1]
    label = re.compile(r"(k8s:)?([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
    for o in objects:
        for selector in find(o, "matchLabels"):
            problems += [f"{k}: {v} is no label" for k, v in selector.items() if not label.fullmatch(k) or not isinstance(v, str)]
    cases.case(f"{name}: structure", problems)


def find(value, key):
    if isinstance(value, dict):
        for k, v in value.items():
            if k == key:
                yield v
            yield from find(v, key)
    elif isinstance(value, list):
        for v in value:
            yield from find(v, key)


def object_of(objects, name):
    return next((o for o in objects if o["metadata"]["name"] == name), {"spec": {}})


def expect(name, *claims):
    """claims: (what, whether it holds)"""
    cases.case(name, [what for what, good in claims if not good])


status, objects, said = render("cilium", WORLD)
expect("cilium exit", (f"exit status {status}: {said}", status == 0), (f"warnings: {said}", said == ""))
check_structure("cilium", CILIUM, "CiliumNetworkPolicy", objects)
check_meaning("cilium", Cilium, objects, ALLOWED)
egress = object_of(objects, "casa-deployment-agent")["spec"].get("egress", [])
outside = [r for r in egress if "toFQDNs" in r]
names = {n["matchName"] for r in egress for p in r.get("toPorts", []) for n in p.get("rules", {}).get("dns", [])}
dns = [r for r in egress if any("dns" in p.get("rules", {}) for p in r.get("toPorts", []))]
expect("cilium names",
       ("one rule for the LLM", outside == [{"toFQDNs": [{"matchName": "api.llm.example"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}], "serverNames": ["api.llm.example"]}]}]),
       ("one DNS rule, to the resolver", len(dns) == 1 and dns[0]["toEndpoints"] == [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}]),
       ("no pattern anywhere", not list(find(objects, "matchPattern"))),
       (f"names that are needed: {sorted(names)}", {"api.llm.example", "api.llm.example.team-a.svc.cluster.local", "tools", "tools.team-a.svc.cluster.local", "auth.platform",
                                                   "5.0.96.10.in-addr.arpa"} <= names),
       ("no other name", all(re.match(r"(api\.llm\.example|tools|auth\.platform|outside\.platform|5\.0\.96\.10\.in-addr)\b", n) for n in names)),
       ("not the short name of another namespace's Service", "auth" not in names))
plain = [r for r in object_of(objects, "casa-statefulset-plain")["spec"].get("egress", []) if "toFQDNs" in r]
expect("cilium port 80", ("held to its Host", [p["rules"] for r in plain for p in r["toPorts"]] == [{"http": [{"host": "plain[.]llm[.]example"}]}]))

status, objects, said = render("networkpolicy", WORLD)
expect("networkpolicy exit", (f"exit status {status}", status == 0), ("says that names are left out", said.count("knows no names") == 2), ("and DNS", said.count("cannot hold DNS") == 2),
       ("and the node", "no word for the node" in said), ("with places", re.search(r"^world.yaml:\d+:\d+: warning: ", said, re.M) is not None))
check_structure("networkpolicy", PLAIN, "NetworkPolicy", objects)
# Kubernetes itself lets a Pod's own node in.
check_meaning("networkpolicy", Plain, objects, {k: v for k, v in ALLOWED.items() if k[0] != "node"})
expect("networkpolicy DNS", ("none by itself", not any(p.get("port") == 53 for ps in find(objects, "ports") for p in ps)),
       ("all names when asked for", sum(p.get("port") == 53 for ps in find(render("networkpolicy", WORLD, "--any-dns-name")[1], "ports") for p in ps) == 4))

BARE = "apiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: p, namespace: a}\nspec:\n  targetRef: {kind: Deployment, name: w}\n"
DEPLOYMENT = ("---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: a}\nspec:\n  selector: {matchLabels: {app: %s}}\n"
              "  template: {metadata: {labels: {app: %s}}, spec: {hostNetwork: %s, containers: [{name: c, image: i}]}}\n")
W = DEPLOYMENT % ("w", "w", "w", "false")
# (world, flags, exit status, what stderr says, names of the objects)
ROWS = {
    "no labels": (BARE, (), 0, "no file tells the labels of Deployment a/w", ["casa-default-deny"]),
    "shared labels": (BARE + W + DEPLOYMENT % ("x", "w", "w", "false"), (), 0, "also mean Deployment a/x", ["casa-default-deny"]),
    "node's network": (BARE + DEPLOYMENT % ("w", "w", "w", "true"), (), 1, "uses its node's network", []),
    "node's network beside casad": (BARE + DEPLOYMENT % ("w", "w", "w", "true"), ("--beside-casad",), 0, "it is left to casad", ["casa-default-deny"]),
    "no Service": (BARE + "  allowedEndpoints: [{name: s, namespace: b, port: 1}]\n" + W, (), 0, "no file tells of Service b/s", ["casa-default-deny", "casa-deployment-w"]),
    "audit": (BARE + "  enforcement: audit\n" + W, (), 0, "audit cannot be said", ["casa-default-deny", "casa-deployment-w"]),
    "tokens that drop": (BARE + "  tokens: {exfiltration: drop}\n" + W, (), 1, "spec.tokens.exfiltration: drop cannot be said", []),
    "tokens beside casad": (BARE + "  tokens: {exfiltration: drop}\n" + W, ("--beside-casad",), 0, "", ["casa-default-deny", "casa-deployment-w"]),
    "unknown target port": (BARE + "  allowedEndpoints: [{name: s, namespace: a, port: 1}]\n" + W + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\n"
                            "spec: {selector: {app: s}, ports: [{port: 1, targetPort: web}]}\n", (), 0, 'goes to the Pods\' port "web", which no file gives a number', ["casa-default-deny", "casa-deployment-w"]),
    "a port that is not there": (BARE + "  allowedEndpoints: [{name: s, namespace: a, port: 2}]\n" + W + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\n"
                                 "spec: {selector: {app: s}, ports: [{port: 1}]}\n", (), 0, "has no port 2", ["casa-default-deny", "casa-deployment-w"]),
    "invalid": (BARE.replace("Deployment", "Deploymnet"), (), 1, "did you mean Deployment", []),
    "exempt namespace": (BARE + W + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {casa.io/enforcement: disabled}}\n", (), 0, "is exempt", []),
}
for name, (world, flags, wanted, words, made) in ROWS.items():
    for kind in ("cilium", "networkpolicy"):
        status, objects, said = render(kind, world, *flags)
        got = [o["metadata"]["name"] for o in objects]
        expect(f"{kind}, {name}", (f"exit status {status}", status == wanted), (f"says: {said}", words in said and (words or not said)), (f"objects {got}", got == made))
missing = subprocess.run([BINARY, "render", "cilium", "/nonexistent.yaml"], capture_output=True, text=True, check=False)
expect("a path that is not there", (f"exit status {missing.returncode}", missing.returncode == 2 and not missing.stdout and "No such file" in missing.stderr))
cases.end()
