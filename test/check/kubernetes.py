#!/usr/bin/env python3
"""kubernetes/: everything parses; the DaemonSet, as it is and with each overlay, has the rights that it needs and no others; the cluster role is
what the source asks for; every flag that the manifests use is one of the program's; tools/image.sh makes an archive that engines load;
and, as root, the program runs in what the DaemonSet gives it: that root, those mounts, those capabilities."""
import copy
import ctypes
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import yaml

from cases import BUILD, TOP, Cases, run

cases = Cases("kubernetes")
KUBERNETES = TOP / "kubernetes"
BINARY = next((p for p in (BUILD / "casad", BUILD / "src/casad") if p.exists()), None)
if BINARY is None:
    cases.fail("all", f"no casad in {BUILD}: run `make` first")
    cases.end()

# What the daemon may do, and why (docs/kubernetes.md says the same in words).
READ = {"get", "list", "watch"}
RULES = {("", "namespaces"): READ, ("", "nodes"): READ, ("", "pods"): READ, ("", "services"): READ, ("discovery.k8s.io", "endpointslices"): READ,
         ("casa.io", "casapolicies"): READ, ("casa.io", "multiagentsystems"): READ, ("casa.io", "casapolicies/status"): {"patch"},
         ("", "events"): {"create"}}
CAPABILITIES = {"base": ["BPF", "NET_ADMIN", "PERFMON"], "kernel-5.10": ["BPF", "NET_ADMIN", "PERFMON", "SYS_RESOURCE"],
                "tls-observers": ["BPF", "NET_ADMIN", "PERFMON", "SYS_PTRACE"], "selinux": ["BPF", "NET_ADMIN", "PERFMON"]}
# Where each volume of the Pod is, what it is, and whether it is read only.
CONFIG = {"configMap": {"name": "casad", "optional": True}}


def host_path(path, kind="DirectoryOrCreate"):
    return {"hostPath": {"path": path, "type": kind}}


MOUNTS = {"/host/cgroup": (host_path("/sys/fs/cgroup", "Directory"), True), "/host/bpf": (host_path("/sys/fs/bpf/casad"), False),
          "/run/casad": (host_path("/run/casad"), False), "/var/lib/casad": (host_path("/var/lib/casad"), False),
          "/etc/casad": (CONFIG, True), "/policies": ({"emptyDir": {"sizeLimit": "1Mi"}}, True)}
IMAGE_LIMIT = 20_000_000
CAPABILITY_NUMBERS = {"NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_RESOURCE": 24, "PERFMON": 38, "BPF": 39}


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d is not None]


def merge(into, patch):
    """A strategic merge as far as these overlays need it: mappings are merged, containers by name, other lists replaced."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif key == "containers":
            for one in value:
                merge(next(c for c in into[key] if c["name"] == one["name"]), one)
        else:
            into[key] = value


def load(folder):
    """-> the objects of a kustomization"""
    top = documents(folder / "kustomization.yml")[0]
    found = []
    for name in top["resources"]:
        path = folder / name
        found += load(path) if path.is_dir() else documents(path)
    for patch in top.get("patches", []):
        for one in documents(folder / patch["path"]):
            merge(next(o for o in found if (o["kind"], o["metadata"]["name"]) == (one["kind"], one["metadata"]["name"])), one)
    return found


def of_kind(objects, kind):
    return next(o for o in objects if o["kind"] == kind)


def check_yaml():
    problems = []
    for path in sorted(KUBERNETES.rglob("*.y*ml")):
        try:
            problems += [f"{path.name}: no apiVersion or kind" for d in documents(path) if not {"apiVersion", "kind"} <= set(d)]
        except yaml.YAMLError as e:
            problems.append(f"{path.name}: {e}")
    listed = {(f.parent / r).resolve() for f in KUBERNETES.rglob("kustomization.yml") for d in documents(f) for r in d["resources"] + [p["path"] for p in d.get("patches", [])]}
    problems += [f"{p.relative_to(KUBERNETES)} is in no kustomization" for p in KUBERNETES.rglob("*.yaml") if p.resolve() not in listed]
    problems += [f"{p} is not there" for p in listed if not p.exists()]
    cases.case("YAML", problems)


def check_pod(name, daemonset):
    pod = daemonset["spec"]["template"]["spec"]
    container, = pod["containers"]
    security = container["securityContext"]
    claims = {
        "no privileged container": not security.get("privileged"), "no more rights than it starts with": security["allowPrivilegeEscalation"] is False,
        "a root that is read only": security["readOnlyRootFilesystem"] is True, "seccomp": pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
        "all capabilities dropped": security["capabilities"]["drop"] == ["ALL"], "hostPID for TLS observers only": pod.get("hostPID", False) == (name == "tls-observers"),
        "no host IPC": not pod.get("hostIPC"), "no init container": not pod.get("initContainers"), "the host's user namespace": pod.get("hostUsers", True),
        f"capabilities {security['capabilities']['add']}": security["capabilities"]["add"] == CAPABILITIES[name],
        "every node": pod["tolerations"] == [{"operator": "Exists"}], "never evicted for others": pod["priorityClassName"] == "system-node-critical",
        # A daemon that is gone leaves enforcement in force; two at once is what cannot be, and detaching is nobody's but an operator's.
        "one at a time": daemonset["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "no hook that ends enforcement": "lifecycle" not in container and "detach" not in json.dumps(pod),
        "the node's network": pod["hostNetwork"] and pod["dnsPolicy"] == "Default",
    }
    volumes = {v["name"]: {k: what for k, what in v.items() if k != "name"} for v in pod["volumes"]}
    mounts = {m["mountPath"]: (volumes.pop(m["name"]), m.get("readOnly", False)) for m in container["volumeMounts"]}
    claims[f"mounts {mounts}"] = mounts == MOUNTS
    claims[f"volumes that nobody mounts: {volumes}"] = not volumes
    cases.case(f"Pod, {name}", [f"not so: {what}" for what, good in claims.items() if not good])


def flags_of(*command):
    return set(re.findall(r"--[a-z-]+", run([BINARY, *command, "--help"]).stdout))


def check_flags(daemonset):
    container = daemonset["spec"]["template"]["spec"]["containers"][0]
    used = [("run", container["args"][1:])] + [(container[p]["exec"]["command"][1], container[p]["exec"]["command"][2:]) for p in ("readinessProbe", "livenessProbe")]
    missing = {(command, flag.split("=")[0]) for command, flags in used for flag in flags if flag.split("=")[0] not in flags_of(command)}
    if ("run", "--in-cluster") in missing and not (TOP / "src/source/kube_source.cpp").exists():
        missing.remove(("run", "--in-cluster"))
        cases.skip("flag --in-cluster", "this source has no Kubernetes API client")
    cases.case("flags", [f"casad {c} has no {f}" for c, f in sorted(missing)])


def check_roles(objects):
    role, binding, account = (of_kind(objects, k) for k in ("ClusterRole", "ClusterRoleBinding", "ServiceAccount"))
    granted, problems = {}, []
    for rule in role["rules"]:
        if set(rule) != {"apiGroups", "resources", "verbs"}:
            problems.append(f"a rule has {sorted(rule)}")
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    problems += [f"{k}: {sorted(granted.get(k, []))} is granted, {sorted(RULES.get(k, []))} is needed" for k in sorted(granted.keys() | RULES.keys())
                 if granted.get(k) != RULES.get(k)]
    problems += ["a wildcard" for k, verbs in granted.items() if "*" in {*k, *verbs}]
    who = [{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "casa-system"}]
    if binding["subjects"] != who or binding["roleRef"]["name"] != role["metadata"]["name"]:
        problems.append("the binding gives the role to somebody else")
    cases.case("cluster role", problems)
    # What the source asks the API server for: the paths in it.
    sources = [p for p in sorted((TOP / "src/source").glob("kube_*.cpp"))]
    asked = {(m[0] or "", m[1]) for p in sources for m in re.findall(r'"/apis?/(?:([a-z0-9.]+\.[a-z0-9.]+)/)?v[0-9a-z]+/([a-z]+)"', p.read_text())}
    if not asked:
        cases.skip("cluster role and source", "this source has no Kubernetes API client")
    else:
        readable = {k for k, verbs in RULES.items() if verbs == READ}
        cases.case("cluster role and source", [f"the source reads {k}, the role does not let it" for k in asked - readable] +
                   [f"the role lets it read {k}, which the source does not" for k in readable - asked])
    check_writes({k: verbs for k, verbs in RULES.items() if verbs != READ})


def check_writes(granted):
    """What the source sends with another method than GET: `.method = ...verb::patch, .target = fmt::format("<path>", ...`."""
    verbs, written = {"post": "create", "put": "update", "patch": "patch", "delete_": "delete"}, {}
    for path in sorted((TOP / "src/app").glob("*.cpp")):
        text = path.read_text()
        # A path that a function makes: its own text stands in the place of the first {}.
        made = re.search(r'std::string path_of\(.*?fmt::format\("([^"]+)"', text, re.S)
        for method, target in re.findall(r'\.method = [\w:]*verb::(\w+),\s*\.target = fmt::format\("([^"]+)"', text):
            if target.startswith("{}") and made:
                target = made.group(1) + target[2:]
            parts = target.split("?")[0].strip("/").split("/")
            group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
            rest = rest[2:] if rest[0] == "namespaces" else rest
            resource = rest[0] + ("/" + rest[2] if len(rest) > 2 else "")
            written.setdefault((group, resource), set()).add(verbs.get(method, method))
    if not written:
        return cases.skip("cluster role and writes", "this source writes nothing to an API server")
    cases.case("cluster role and writes", [f"{k}: the source does {sorted(written.get(k, []))}, the role allows {sorted(granted.get(k, []))}"
                                           for k in written.keys() | granted.keys() if written.get(k) != granted.get(k)])


def check_unit():
    """The two ways to deploy have the same rights."""
    unit = (TOP / "systemd/casad.service.in").read_text()
    bounded = sorted(c.removeprefix("CAP_") for c in re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M).group(1).split())
    cases.case("as the systemd unit", [] if bounded == CAPABILITIES["base"] else [f"the unit has {bounded}, the DaemonSet {CAPABILITIES['base']}"])


def check_kubectl():
    if not shutil.which("kubectl"):
        return cases.skip("kubectl kustomize", "kubectl is not installed")
    for folder in sorted({f.parent for f in KUBERNETES.rglob("kustomization.yml")}):
        built = run(["kubectl", "kustomize", folder])
        problems = [f"exit status {built.returncode}: {built.stderr.strip()[-300:]}"] if built.returncode else []
        if not problems:
            made = [d for d in yaml.safe_load_all(built.stdout) if d]
            wanted = load(folder)
            key = lambda o: (o["kind"], o["metadata"]["name"])  # noqa: E731
            for o in wanted:  # `images:` is kustomize's own
                if o["kind"] == "DaemonSet":
                    o["spec"]["template"]["spec"]["containers"][0]["image"] += ":latest"
            if sorted(made, key=key) != sorted(wanted, key=key):
                problems.append("kubectl makes something else of it than this check does")
        cases.case(f"kubectl kustomize {folder.relative_to(KUBERNETES)}", problems)


# -- the image

def blob(image, digest):
    data = image.extractfile(f"blobs/{digest.replace(':', '/')}").read()
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{digest} has another content")
    return data


def image_problems(path, name):
    problems = []
    with tarfile.open(path) as image:
        layout, index = (json.load(image.extractfile(n)) for n in ("oci-layout", "index.json"))
        entry, = index["manifests"]
        manifest = json.loads(blob(image, entry["digest"]))
        config, layer_row = json.loads(blob(image, manifest["config"]["digest"])), manifest["layers"][0]
        packed = blob(image, layer_row["digest"])
        layer = gzip.decompress(packed)
        docker, = json.load(image.extractfile("manifest.json"))
        sizes = [(entry["size"], len(blob(image, entry["digest"]))), (layer_row["size"], len(packed))]
    claims = {
        "layout": layout == {"imageLayoutVersion": "1.0.0"}, "sizes": all(a == b for a, b in sizes), "one layer": len(manifest["layers"]) == 1,
        "diff id": config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()],
        "docker's manifest": docker == {"Config": f"blobs/{manifest['config']['digest'].replace(':', '/')}", "RepoTags": [name],
                                        "Layers": [f"blobs/{layer_row['digest'].replace(':', '/')}"]},
        "containerd's name": entry["annotations"]["io.containerd.image.name"] == f"docker.io/library/{name}",
    }
    with tempfile.TemporaryFile() as file:
        file.write(layer)
        file.seek(0)
        with tarfile.open(fileobj=file) as root:
            members = root.getmembers()
            claims["only the program, root's"] = [(m.name, m.mode, m.uid, m.gid) for m in members] == [("casad", 0o755, 0, 0)]
            claims[f"at most {IMAGE_LIMIT} bytes"] = members[0].size <= IMAGE_LIMIT
            program = root.extractfile("casad").read()
    claims["static"] = b"/ld-linux" not in program[:4096]
    problems += [f"not so: {what}" for what, good in claims.items() if not good]
    told = dict(re.findall(r"^(FROM|COPY|USER|ENTRYPOINT|CMD) (.*)$", (KUBERNETES / "Containerfile").read_text(), re.M))
    same = {"FROM": "scratch", "COPY": "build/casad /casad", "USER": config["config"]["User"], "ENTRYPOINT": json.dumps(config["config"]["Entrypoint"]),
            "CMD": json.dumps(config["config"]["Cmd"])}
    if told != same:
        problems.append(f"Containerfile says {told}, the image {same}")
    return problems


def check_image(folder):
    first, second = folder / "a.tar", folder / "b.tar"
    made = [run([TOP / "tools/image.sh", "-o", out, "-t", "casad:test", BINARY.resolve()]) for out in (first, second)]
    if any(m.returncode for m in made):
        return cases.fail("image", f"tools/image.sh: exit status {made[0].returncode}: {made[0].stderr.strip()[-300:]}")
    cases.case("image", image_problems(first, "casad:test"))
    cases.case("image, the same bytes again", [] if first.read_bytes() == second.read_bytes() else ["two runs made two images"])
    large = folder / "large"
    shutil.copy(BINARY, large)
    with open(large, "ab") as file:
        file.truncate(IMAGE_LIMIT + 1)
    refused = {"too large": large, "a script": TOP / "tools/image.sh", "dynamic": Path("/bin/true"), "absent": folder / "none"}
    problems = []
    for what, binary in refused.items():
        # Without strip, which would take away what makes the first one large.
        done = run([TOP / "tools/image.sh", "-o", folder / "bad.tar", binary], env={**os.environ, "CASAD_STRIP": "true"})
        if done.returncode == 0 or (folder / "bad.tar").exists() or "image: " not in done.stderr:
            problems.append(f"{what}: exit status {done.returncode}, says: {done.stderr.strip()}")
    cases.case("image, refusals", problems)
    if not shutil.which("podman"):
        return cases.skip("image, loaded", "podman is not installed")
    loaded = run(["podman", "load", "-i", first])
    said = run(["podman", "run", "--rm", "localhost/casad:test", "version"])
    run(["podman", "rmi", "localhost/casad:test"])
    cases.case("image, loaded", [] if said.stdout.startswith("casad ") else [f"podman: {loaded.stderr} {said.stderr}"[:300]])


# -- the program, in what the DaemonSet gives it

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 0x20000, 24, 38


def enter(root, mounts, real, capabilities):
    """This process becomes one whose root is the image's, with the DaemonSet's mounts and rights.
    mounts: those of its container; real: what stands in the place of the node's directories that have to be of a special kind"""
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # Beside the image: what kubelet and the runtime give every Pod.
    lines = ["mount --make-rprivate /", f"mount -t tmpfs tmpfs {root}", f"cp {BINARY.resolve()} {root}/casad", f"mkdir -p {root}/proc {root}/etc",
             f"mount -t proc proc {root}/proc", f"touch {root}/etc/resolv.conf"]
    for mount in mounts:
        at = f"{root}{mount['mountPath']}"
        source = real.get(mount["mountPath"])
        lines += [f"mkdir -p {at}", f"mount --bind {source} {at}" if source else f"mount -t tmpfs tmpfs {at}"]
        if mount.get("readOnly"):
            lines.append(f"mount -o remount,bind,ro {at}")
    lines.append(f"mount -o remount,ro {root}")
    subprocess.run(["sh", "-ec", "\n".join(lines)], check=True)
    os.chroot(root)
    os.chdir("/")
    keep = {CAPABILITY_NUMBERS[c] for c in capabilities}
    for number in range(64):
        if number not in keep:
            LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def run_inside(args, probes):
    """-> problems; in a child of this process that has entered"""
    def ask(command):
        return subprocess.run(command, capture_output=True, text=True, check=False)
    daemon = subprocess.Popen(["/casad", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + 60
        while ask(probes[0]).returncode != 0:
            if daemon.poll() is not None or time.monotonic() > end:
                daemon.kill()
                return [f"it was not ready: {daemon.communicate()[0][-600:]}"]
            time.sleep(0.1)
        problems = [f"{p}: exit status {ask(p).returncode}" for p in probes if ask(p).returncode]
        status = json.loads(ask([*probes[0], "--json"]).stdout)
        problems += [f"it says: {p}" for p in status["problems"]]
    finally:
        daemon.terminate()
    begun = time.monotonic()
    daemon.wait(20)
    if time.monotonic() - begun > 4:
        problems.append("it took longer to end than the Pod has time for")
    if ask(probes[1]).returncode == 0:
        problems.append("the probe says that a daemon lives which has ended")
    return problems


def check_run(folder, daemonset):
    if os.geteuid() != 0:
        return cases.skip("runs with these rights", "only root can")
    mount = next((line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"), None)
    if mount is None or not os.path.ismount("/sys/fs/bpf"):
        return cases.skip("runs with these rights", "no cgroup2 or no /sys/fs/bpf here")
    pod = daemonset["spec"]["template"]["spec"]["containers"][0]
    # Files in the API server's place: there is none here.
    args = [a.replace("$(NODE_NAME)", "node-1") for a in pod["args"] if a != "--in-cluster"]
    probes = [pod[p]["exec"]["command"] for p in ("readinessProbe", "livenessProbe")]
    cgroup, pins, root = Path(mount, f"casad-check-{os.getpid()}"), Path(f"/sys/fs/bpf/casad-check-{os.getpid()}"), folder / "root"
    for made in (cgroup, pins, root):
        made.mkdir()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter(root, pod["volumeMounts"], {"/host/cgroup": cgroup, "/host/bpf": pins}, CAPABILITIES["base"])
            problems = run_inside(args, probes)
        except BaseException as e:  # noqa: BLE001: told to the parent, whatever it is
            problems = [repr(e)]
        os.write(write, json.dumps(problems).encode()[:60000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    kept = list(pins.glob("abi-*/links/*"))
    problems = json.loads(text) if text else ["the child said nothing"]
    problems += [] if kept else ["nothing is pinned any more: enforcement ended with the daemon"]
    detached = run([BINARY, "detach", "--bpffs", pins])
    problems += [f"casad detach: {detached.stderr}"] if detached.returncode else []
    cgroup.rmdir()
    cases.case("runs with these rights", problems)


base = load(KUBERNETES / "base")
check_yaml()
for name in CAPABILITIES:
    check_pod(name, of_kind(copy.deepcopy(base) if name == "base" else load(KUBERNETES / "overlays" / name), "DaemonSet"))
cases.case("overlays", [f"{p.name} is not looked at" for p in (KUBERNETES / "overlays").iterdir() if p.name not in CAPABILITIES])
check_flags(of_kind(base, "DaemonSet"))
check_roles(base)
check_unit()
check_kubectl()
with tempfile.TemporaryDirectory(prefix="casad-check-") as scratch:
    check_image(Path(scratch))
    check_run(Path(scratch), of_kind(base, "DaemonSet"))
sys.stdout.flush()
cases.end()
