#!/usr/bin/env python3
"""The CustomResourceDefinitions of kubernetes/crds: they have upstream's fields, one for one, with casad's own beside them, all optional; they
are structural schemas; and they judge objects as `casad check` does, over some hundreds of generated ones, but for differences that
are listed with their reasons."""
import copy
import itertools
import subprocess
import tempfile
from pathlib import Path

import yaml

from cases import BUILD, TOP, Cases
from crd_schema import errors, faults

cases = Cases("crds")
CRDS = {d["spec"]["names"]["kind"]: d for d in (yaml.safe_load((TOP / "kubernetes/crds" / f"{n}.yaml").read_text()) for n in ("casapolicies", "multiagentsystems"))}

# Upstream's fields: path -> (type, required, enum). Lists of objects end in [].
PORT, TEXT = ("integer", True, None), ("string", True, None)
UPSTREAM = {
    "CASAPolicy": {
        "spec.targetRef": ("object", True, None),
        "spec.targetRef.kind": ("string", True, ["Deployment", "StatefulSet", "Pod"]),
        "spec.targetRef.name": TEXT,
        "spec.allowedProtocols": ("array", False, None),
        "spec.allowedProtocols[]": ("string", False, ["mcp", "a2a", "http"]),
        "spec.allowedEndpoints": ("array", False, None),
        "spec.allowedEndpoints[]": ("object", False, None),
        "spec.allowedEndpoints[].name": TEXT,
        "spec.allowedEndpoints[].namespace": TEXT,
        "spec.allowedEndpoints[].port": PORT,
        "spec.llmEndpoint": ("object", False, None),
        "spec.llmEndpoint.fqdn": TEXT,
        "spec.llmEndpoint.port": PORT,
        "status": ("object", False, None),
        "status.phase": ("string", False, ["Pending", "Active", "Failed"]),
        "status.lastSyncTime": ("string", False, None),
        "status.message": ("string", False, None),
    },
    "MultiAgentSystem": {
        "spec.name": TEXT,
        "spec.enabledToolChecks": ("array", False, None),
        "spec.enabledToolChecks[]": ("string", False, None),
        "spec.llm_host": ("string", False, None),
        "spec.apps": ("array", False, None),
        "spec.apps[]": ("object", False, None),
        "spec.apps[].name": TEXT,
        "spec.apps[].type": ("string", True, ["agent", "client", "mcp_server"]),
        "spec.apps[].kubernetesWorkloadName": TEXT,
        "spec.apps[].baseUrl": ("object", True, None),
        "spec.apps[].baseUrl.host": TEXT,
        "spec.apps[].baseUrl.scheme": TEXT,
        "spec.apps[].httpRequestSchema": ("object", False, None),
        "spec.apps[].httpRequestSchema.promptFieldJsonPath": TEXT,
        "status": ("object", False, None),
        "status.phase": ("string", False, ["Pending", "Active", "Failed"]),
        "status.lastSyncTime": ("string", False, None),
        "status.message": ("string", False, None),
        "status.appsReady": (None, False, None),
    },
}
OURS = {"CASAPolicy": {"spec.allowedSources", "spec.enforcement", "spec.tokens"}, "MultiAgentSystem": set()}
NAMES = {"CASAPolicy": ("casapolicies", "casap"), "MultiAgentSystem": ("multiagentsystems", "mas")}
COLUMNS = {"CASAPolicy": [("Workload", ".spec.targetRef.name"), ("Phase", ".status.phase"), ("Age", ".metadata.creationTimestamp")],
           "MultiAgentSystem": [("Phase", ".status.phase"), ("Age", ".metadata.creationTimestamp")]}


def version_of(kind):
    return CRDS[kind]["spec"]["versions"][0]


def schema_of(kind):
    return version_of(kind)["schema"]["openAPIV3Schema"]


def fields(schema, path="", required=False):
    """-> (path, schema, required) of every field below"""
    if path:
        yield path, schema, required
    for name, child in schema.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}" if path else name, name in schema.get("required", []))
    if "items" in schema:
        yield from fields(schema["items"], path + "[]")


def check_upstream(kind):
    problems, own = [], OURS[kind]
    there = {p: (s, r) for p, s, r in fields(schema_of(kind)) if p.split(".")[0] in ("spec", "status") and p != "spec"}
    for path, (type_, required, enum) in UPSTREAM[kind].items():
        if path not in there:
            problems.append(f"{path} is missing")
            continue
        schema, is_required = there[path]
        if (schema.get("type"), is_required) != (type_, required):
            problems.append(f"{path} is {schema.get('type')}, required {is_required}; upstream has {type_}, {required}")
        if enum and schema.get("enum") != enum:
            problems.append(f"{path} takes {schema.get('enum')}; upstream takes {enum}")
    for path, (_, required) in there.items():
        ours = any(path == o or path.startswith((o + ".", o + "[")) for o in own)
        if path not in UPSTREAM[kind] and not ours:
            problems.append(f"{path} is neither upstream's nor listed as ours")
        if path in own and required:
            problems.append(f"{path} is ours and required: an object of upstream's would be refused")
    problems += [f"{o} is missing" for o in own if o not in there]
    cases.case(f"{kind} fields", problems)


def check_frame(kind):
    crd, problems = CRDS[kind], []
    plural, short = NAMES[kind]
    names = crd["spec"]["names"]
    if (crd["metadata"]["name"], names["plural"], names["shortNames"], names["kind"]) != (f"{plural}.casa.io", plural, [short], kind):
        problems.append(f"the names are {crd['metadata']['name']}, {names}")
    if crd["spec"]["scope"] != "Namespaced" or crd["spec"]["group"] != "casa.io" or version_of(kind)["name"] != "v1alpha1":
        problems.append("scope, group or version are not those of upstream")
    if version_of(kind).get("subresources") != {"status": {}}:
        problems.append("no status subresource")
    columns = [(c["name"], c["jsonPath"]) for c in version_of(kind)["additionalPrinterColumns"]]
    if columns != COLUMNS[kind]:
        problems.append(f"the printer columns are {columns}")
    cases.case(f"{kind} frame", problems)
    cases.case(f"{kind} structural", faults(schema_of(kind)))


# Both judge these, and the reader in C++ is the truth: wherever they differ on purpose, the reason stands here.
DIFFERENCES = {
    "bits behind a network's prefix": "needs CEL's cidr(), which clusters before 1.31 refuse; casad makes the policy Failed",
    "loopback as a network": "the same",
    "baseUrl as one URL": "a schema cannot say text or object; files only",
}

POLICY = {"targetRef": {"kind": "Deployment", "name": "agent"}, "allowedProtocols": ["mcp"],
          "allowedEndpoints": [{"name": "auth", "namespace": "team-a", "port": 8000}],
          "allowedSources": [{"host": True}, {"namespace": "team-b", "name": "caller", "port": 9090}, {"cidr": "10.0.0.0/8"}],
          "llmEndpoint": {"fqdn": "api.example.com", "port": 443}, "enforcement": "audit",
          "tokens": {"exfiltration": "drop", "requireValidSignature": "alert", "tlsObserver": "auto"}}
SYSTEM = {"name": "Travel", "enabledToolChecks": ["AI_POWERED_TOOL_MATCH"], "llm_host": "api.example.com",
          "apps": [{"name": "a", "type": "agent", "kubernetesWorkloadName": "a", "baseUrl": {"host": "a:8000/x", "scheme": "http"},
                    "httpRequestSchema": {"promptFieldJsonPath": "$.p"}},
                   {"name": "b", "type": "mcp_server", "kubernetesWorkloadName": "b.v2", "baseUrl": {"host": "b", "scheme": "https"}}]}
LONG = "a" * 63
SUBDOMAINS = ["a", "a-b", "a.b", LONG, LONG + "." + LONG, "0a", "", "A", "-a", "a-", "a..b", "a_b", LONG + "a", ".a", "a.", "ä", ".".join([LONG] * 4)]
HOSTS = ["api.example.com", "API.Example.COM", "api.example.com.", "a.b", "xn--a.de", "1.a2", "a.1a", "a", "", "a..b", "*.b.c", "-a.b", "a-.b", "a_b.c",
         "https://a.b", "a.b/c", "a.b:443", "10.0.0.1", "a.b.1", "a.b.1.", "::1", "[::1]", "ä.de", LONG + ".b", LONG + "a.b", ".a.b", "a b.c",
         ".".join([LONG] * 3 + ["b" * 61]), ".".join([LONG] * 3 + ["b" * 61]) + ".", ".".join([LONG] * 3 + ["b" * 62]), ".".join([LONG] * 4)]
AUTHORITIES = ["a", "a:80", "a.b:8080/x", "a/x@y", "A:1", "a.", "a?q", "a#f", "a:65535", "a:65536", "a:0", "a:", "a:x", "u@a", "http://a", "a/http://b", "[::1]:80",
               "::1", "10.0.0.1:80", "1", "a.1", "a..b", "-a", "", "/x", ":80", "a:80:81", "a_b", LONG + ":1", LONG + "a:1", "a:99999", "a.b.c.d:443/"]
# What a value may be replaced with, by its path; what is not listed gets the plain wrong ones.
TEXTS = {"targetRef.name": SUBDOMAINS, "allowedSources[].name": SUBDOMAINS, "apps[].kubernetesWorkloadName": SUBDOMAINS,
         "allowedEndpoints[].name": SUBDOMAINS, "allowedEndpoints[].namespace": SUBDOMAINS, "allowedSources[].namespace": SUBDOMAINS,
         "llmEndpoint.fqdn": HOSTS, "llm_host": HOSTS, "apps[].baseUrl.host": AUTHORITIES,
         "allowedSources[].cidr": ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "192.0.2.1/32", "2001:db8::1/128", "::ffff:10.0.0.0/104", "10.0.0.0", "10.0.0.0/33",
                                   "10.0.0.0/08", "fd00::/129", "10.0.0/8", "*", "a/8", "10.0.0.0/", "", "/8", "10.0.0.0/-1", "10.0.0.0/8/8"],
         "targetRef.kind": ["StatefulSet", "Pod", "DaemonSet", "deployment", ""], "enforcement": ["enforce", "Audit", ""],
         "tokens.exfiltration": ["alert", "drop", "block"], "tokens.requireValidSignature": ["alert", "drop", ""],
         "tokens.tlsObserver": ["openssl", "node", "go", "auto", "rustls"], "allowedProtocols[]": ["mcp", "a2a", "http", "grpc", "MCP"],
         "apps[].type": ["agent", "client", "mcp_server", "mcp"], "apps[].baseUrl.scheme": ["http", "https", "HTTP", "ws"],
         "enabledToolChecks[]": ["DETERMINISTIC_TOOL_SELECTED", "DETERMINISTIC_LLM_SELECTED_TOOLS", "NONE"], "apps[].name": ["x", "", "any text"], "name": ["", "x"]}
NUMBERS = [1, 80, 65535, 0, -1, 65536, 1 << 40]
WRONG = [7, 1.5, True, "text", ["x"], {"x": "y"}]


def places(value, path="", way=()):
    """-> (path of the field, way to it) of every value below"""
    if way:
        yield path, way
    if isinstance(value, dict):
        for name, child in value.items():
            yield from places(child, f"{path}.{name}" if path else name, way + (name,))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from places(child, path + "[]", way + (i,))


def changed(spec, way, change):
    out = copy.deepcopy(spec)
    at = out
    for step in way[:-1]:
        at = at[step]
    change(at, way[-1])
    return out


def put(value):
    return lambda at, key: at.__setitem__(key, value)


def generate(spec):
    """-> (what it is, spec): valid and invalid ones, each one change away from `spec`"""
    yield "as it is", spec
    yield "an unknown field of spec", {**spec, "surprise": 1}
    for path, way in places(spec):
        value = spec
        for step in way:
            value = value[step]
        yield f"{path} removed", changed(spec, way, lambda at, key: at.pop(key))
        if isinstance(value, dict):
            yield f"{path} with an unknown field", changed(spec, way + ("surprise",), put(1))
            yield f"{path} empty", changed(spec, way, put({}))
        if isinstance(value, list):
            yield f"{path} empty", changed(spec, way, put([]))
        others = NUMBERS if isinstance(value, int) and not isinstance(value, bool) else TEXTS.get(path, [])
        for other in others:
            yield f"{path}: {other!r}", changed(spec, way, put(other))
        for wrong in WRONG:
            if type(wrong) is not type(value):
                yield f"{path}: {wrong!r} instead", changed(spec, way, put(wrong))


def sources():
    forms = {"host": True, "namespace": "team-b", "name": "caller", "cidr": "10.0.0.0/8", "port": 80}
    for chosen in itertools.chain.from_iterable(itertools.combinations(forms, n) for n in range(len(forms) + 1)):
        yield f"a source of {', '.join(chosen) or 'nothing'}", {"targetRef": POLICY["targetRef"], "allowedSources": [{k: forms[k] for k in chosen}]}
    yield "host: false", {"targetRef": POLICY["targetRef"], "allowedSources": [{"host": False}]}
    for text in ("10.0.0.1/8", "fd00::1/8"):
        yield "bits behind a network's prefix", {"targetRef": POLICY["targetRef"], "allowedSources": [{"cidr": text}]}
    for text in ("127.0.0.0/8", "::1/128"):
        yield "loopback as a network", {"targetRef": POLICY["targetRef"], "allowedSources": [{"cidr": text}]}


def systems():
    yield "baseUrl as one URL", changed(SYSTEM, ("apps", 0, "baseUrl"), put("http://a:8000/x"))
    yield "two apps of one name", changed(SYSTEM, ("apps", 1, "name"), put("a"))


def judged_by_casad(objects):
    """-> for each object whether `casad check` takes it"""
    binary = next((p for p in (BUILD / "casad", BUILD / "src/casad") if p.exists()), None)
    if binary is None:
        cases.fail("agreement", f"no casad in {BUILD}: run `make` first")
        cases.end()
    with tempfile.TemporaryDirectory() as folder:
        for i, made in enumerate(objects):
            # JSON's own words for what YAML would read otherwise.
            Path(folder, f"{i:05}.yaml").write_text(yaml.safe_dump(made, allow_unicode=True))
        said = subprocess.run([binary, "check", folder], capture_output=True, text=True, check=False).stdout
        bad = {int(Path(line.split(":")[0]).stem) for line in said.splitlines() if ": error:" in line}
    if f"{len(objects)} files" not in said:
        cases.fail("agreement", f"casad check did not read {len(objects)} files: {said[-300:]}")
    return [i not in bad for i in range(len(objects))]


def check_agreement(kind, examples):
    labels, objects = [], []
    for label, spec in examples:
        labels.append(label)
        objects.append({"apiVersion": "casa.io/v1alpha1", "kind": kind, "metadata": {"name": f"x{len(objects)}", "namespace": "team-a"}, "spec": spec})
    problems, taken, used = [], 0, set()
    for label, made, good in zip(labels, objects, judged_by_casad(objects)):
        found = errors(schema_of(kind), made)
        taken += good
        if label in DIFFERENCES:
            used.add(label)
            if good == (not found):
                problems.append(f"{label}: both judge alike by now; remove it from the differences")
        elif good != (not found):
            problems.append(f"{label}: casad {'takes' if good else 'refuses'} it, the schema says {found or 'nothing'}")
    if not 20 < taken < len(objects) - 20:
        problems.append(f"{taken} of {len(objects)} examples are valid: they have lost their subject")
    cases.case(f"{kind} agrees with casad check on {len(objects)} objects", problems)
    return used


for kind in CRDS:
    check_frame(kind)
    check_upstream(kind)
used = check_agreement("CASAPolicy", [*generate(POLICY), *sources()])
used |= check_agreement("MultiAgentSystem", [*generate(SYSTEM), *systems()])
cases.case("differences", [f"{d}: no example is left" for d in set(DIFFERENCES) - used])
cases.end()
