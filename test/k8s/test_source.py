"""casad with an API server as its source: what the server has is what is in force, and what happens to the server is told, opens nothing
and closes nothing."""
import json
import time

import pytest

from access import CACHE_SECONDS, ServiceAccount, in_cluster, kubeconfig, rules_of_casad, without
from cluster import ADDRESS4
from cluster import PORT as PORT_OF_SERVER
from harness import kube
from harness.kernel_maps import Addresses, key_of
from harness.objects import namespace as namespace_object
from harness.objects import policy
from harness.world import until
from node import ClusterNode
import lab
import things
from things import slow

SHOWN = 5.0  # s, from a write to the answer of casad's API: an idle machine takes 0.1
NOTICED = 30.0  # s of silence, after which casad says that the server is away
BACK = 45.0  # s, from the server's return to casad's being up to date: the longest pause between attempts, and a list
STATUS = 20.0  # s, to what a policy's status says: the nodes take turns
STORM = 30.0  # s, from the last write of a storm
SLACK = 5.0  # s, for a machine with other work
PORT, OTHER_PORT = 8080, 8081
UNKNOWN = 4  # CASA_ID_UNKNOWN (casa/abi/types.h)


@pytest.fixture
def new_node(cluster, account, tmp_path):
    """A function that makes a node whose casad logs in in the given way (kubeconfig()'s arguments; a token of the account)."""
    made = []

    def make(**access):
        file = kubeconfig(tmp_path / f"kubeconfig-{len(made)}", cluster.url, cluster.pki.ca, **(access or {"token": account.token()}))
        made.append(ClusterNode(cluster, file))
        return made[-1]

    yield make
    cluster.mend()
    for one in made:
        one.close()


@pytest.fixture
def node(new_node):
    return new_node().start()


def ask(node, target):
    return node.daemon.api.get(target)


def policies(node, namespace, workload=None):
    """name: row, of the first 500"""
    only = f"&workload={namespace}/{workload}" if workload else ""
    return {item["name"]: item for item in ask(node, f"/v1/policies?namespace={namespace}&limit=500{only}")["items"]}


def addresses(node, workload):
    namespace, name = workload.split("/")
    rows = ask(node, f"/v1/workloads?namespace={namespace}&workload={name}")["items"]
    return sorted(a for row in rows for a in row["addresses"])


def endpoint(node, workload):
    """(state, its IPv4 addresses) of the one endpoint of that namespace and name"""
    namespace, name = workload.split("/")
    rows = [r for r in ask(node, f"/v1/endpoints?namespace={namespace}")["items"] if r.get("name") == name]
    return (rows[0]["state"], sorted(a for a in rows[0]["addresses"] if "[" not in a)) if rows else None


def verdict(node, origin, to):
    """None: casad does not know one of the two yet."""
    code, _, body = node.daemon.api.request(f"/v1/explain?from={origin}&to={to}")[:3]
    return None if code == 404 else json.loads(body)["verdict"]


def problems(node):
    return ask(node, "/v1/status")["problems"]


def server(node):
    return next(s for s in ask(node, "/v1/status")["sources"] if s["kind"] == "kubernetes")


def problem_of_server(node):
    return server(node).get("problem")


def states(node):
    """Of what the server is asked for, by its name."""
    return {r["name"]: r["state"] for r in server(node)["resources"]}


def shows(condition, what, timeout=SHOWN):
    return until(condition, timeout, what, 0.02)


def told_away(node, since, timeout=NOTICED + SLACK):
    """Of the source itself: a status that could not be written is a problem, too, and says so earlier."""
    shows(lambda: problem_of_server(node), "a problem with the server", timeout - (time.monotonic() - since))
    assert problem_of_server(node) in " ".join(problems(node))


def well(node, timeout=BACK):
    shows(lambda: not problems(node), "no problem any more", timeout)


def metric(node, line_start):
    text = node.daemon.api.request("/metrics")[2].decode()
    return [line for line in text.splitlines() if line.startswith(line_start)]


def serve(api, who, port=PORT, **options):
    """A Service of the pods that have the label app with its name."""
    name = who.split("/")[1]
    return api.put(things.of_service(kube.Service(who, {"app": name}, [kube.ServicePort(port)], **options))[0])


# -- each kind, from its making to its end


def test_a_policy(api, node, namespace):
    made = f"{namespace}/agent"
    api.apply(policy(made, f"{namespace}/tool:{PORT}"))
    row = shows(lambda: policies(node, namespace).get("agent"), "the policy")
    assert row["origin"] == f"kubernetes:CASAPolicy/{made}" and row["allowedEndpoints"] == [f"{namespace}/tool:{PORT}"]
    assert node.daemon.api.is_ready() and metric(node, "casad_ready ") == ["casad_ready 1"]
    api.apply(policy(made, f"{namespace}/tool:{OTHER_PORT}"))
    shows(lambda: policies(node, namespace)["agent"]["allowedEndpoints"] == [f"{namespace}/tool:{OTHER_PORT}"], "the change")
    api.delete("CASAPolicy", made)
    shows(lambda: not policies(node, namespace), "the policy's end")


def test_a_policy_that_was_there_before(api, new_node, namespace):
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:{PORT}"))
    assert "agent" in policies(new_node().start(), namespace), "ready means that all kinds were listed"


def test_a_policy_with_an_error_fails_and_opens_nothing(api, node, namespace):
    """What the definition's schema lets through, casad still judges: here it has no keys to check signatures with."""
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:{PORT}", tokens={"requireValidSignature": "drop"}))
    assert shows(lambda: policies(node, namespace).get("agent"), "the policy")["phase"] == "Failed"
    api.put(policy(f"{namespace}/agent", f"{namespace}/tool:{PORT}"))  # an apply leaves null for the field, which 1.20 then refuses
    shows(lambda: policies(node, namespace)["agent"]["phase"] != "Failed", "the policy mended")


def test_pods(api, node, namespace):
    owner, labels = kube.Owner("Deployment", "agent"), {"app": "agent"}
    api.apply(policy(f"{namespace}/agent"))
    first = api.put(things.pod(f"{namespace}/agent", ["10.244.1.30", "fd00:244:0:1::30"], "node-b", owner, labels))
    shows(lambda: addresses(node, f"{namespace}/agent") == ["10.244.1.30", "fd00:244:0:1::30"], "the pod's addresses")
    second = api.put(things.pod(f"{namespace}/agent", ["10.244.1.31"], "node-b", owner, labels))
    shows(lambda: "10.244.1.31" in addresses(node, f"{namespace}/agent"), "the second pod")
    api.patch("Pod", f"{namespace}/{second['metadata']['name']}", {"status": {"phase": "Succeeded"}}, part="status")
    shows(lambda: "10.244.1.31" not in addresses(node, f"{namespace}/agent"), "it is done, and its address free")
    api.delete("Pod", f"{namespace}/{first['metadata']['name']}")
    shows(lambda: not addresses(node, f"{namespace}/agent"), "no pod")


def made(node, how):
    """How often casad has made what is in force "anew", or has "followed" what changed."""
    return int(metric(node, f'casad_generations_total{{made="{how}"}}')[0].split()[-1])


def test_changes_of_pods_are_followed(api, node, namespace):
    """What Pods go through day by day makes nothing anew; what contradicts does, and opens nothing meanwhile."""
    tool, callers = f"{namespace}/tool", f"{namespace}/agent"
    kernel = Addresses(node.daemon.bpffs)
    api.apply(policy(callers, f"{namespace}/front:80"))
    options = {"node": "node-b", "labels": {"app": "tool"}, "containers": [kube.container(ports=[PORT])]}
    service = kube.Service(f"{namespace}/front", {"app": "tool"}, [kube.ServicePort(80, PORT)], ["10.96.0.91"])
    api.put(things.of_service(service)[0])
    shows(lambda: endpoint(node, f"{namespace}/front"), "the endpoint")
    api.put(things.pod(callers, ["10.244.1.60"], "node-b"))
    shows(lambda: kernel.identity(key_of("10.244.1.60")), "the caller")
    time.sleep(1)
    anew, followed = made(node, "anew"), made(node, "followed")
    pod = api.put(things.pod(tool, ["10.244.1.50"], **options))
    shows(lambda: kernel.identity(key_of("10.244.1.50")), "its address in the kernel")
    assert shows(lambda: verdict(node, callers, f"{namespace}/front:80") == "ALLOWED", "the Service's first endpoint")
    api.patch("Pod", tool, {"status": {"podIP": "10.244.1.51", "podIPs": [{"ip": "10.244.1.51"}]}}, part="status")
    shows(lambda: kernel.identity(key_of("10.244.1.51")) and not kernel.identity(key_of("10.244.1.50")), "its other address")
    shows(lambda: endpoint(node, f"{namespace}/front")[1] == [f"10.244.1.51:{PORT}", "10.96.0.91:80"], "what is told of it")
    other = api.put(things.pod(f"{namespace}/other", ["10.244.1.50"], "node-b"))
    shows(lambda: kernel.identity(key_of("10.244.1.50")), "the address of another pod now")
    assert kernel.identity(key_of("10.244.1.50")) != kernel.identity(key_of("10.244.1.51"))
    assert made(node, "anew") == anew and made(node, "followed") > followed
    # Two that claim one address: it is nobody's, until one of them gives it up.
    api.patch("Pod", f"{namespace}/other", {"status": {"podIP": "10.244.1.51", "podIPs": [{"ip": "10.244.1.51"}]}}, part="status")
    shows(lambda: kernel.identity(key_of("10.244.1.51")) == UNKNOWN, "a contested address")
    assert any("10.244.1.51" in p for p in problems(node)) and made(node, "anew") > anew
    api.delete("Pod", f"{namespace}/{other['metadata']['name']}")
    shows(lambda: kernel.identity(key_of("10.244.1.51")) not in (0, UNKNOWN), "it is the first one's again")
    api.delete("Pod", f"{namespace}/{pod['metadata']['name']}")
    shows(lambda: not kernel.identity(key_of("10.244.1.51")), "nobody's")
    shows(lambda: endpoint(node, f"{namespace}/front")[0] != "resolved", "no endpoint")


def test_services_and_slices(api, node, namespace):
    pod = api.put(things.pod(f"{namespace}/tool", ["10.244.1.40"], "node-b", labels={"app": "tool"}, containers=[kube.container(ports=[PORT])]))
    service = kube.Service(f"{namespace}/front", {"app": "tool"}, [kube.ServicePort(80, PORT)], ["10.96.0.81"])
    api.apply(policy(f"{namespace}/agent", f"{namespace}/front:80"))
    assert shows(lambda: endpoint(node, f"{namespace}/front"), "the endpoint")[0] != "resolved"
    service.pods = [things.member(pod)]
    told = [api.put(o) for o in things.of_service(service)]
    shows(lambda: endpoint(node, f"{namespace}/front") == ("resolved", [f"10.244.1.40:{PORT}", "10.96.0.81:80"]), "its addresses")
    assert ask(node, f"/v1/endpoints?namespace={namespace}&workload=tool")["items"][0]["pods"] == [f"{namespace}/tool"]
    service.pods = [things.member(pod, ["10.244.1.41"])]
    api.put({**told[1], "endpoints": things.of_service(service)[1]["endpoints"]})
    api.patch("Pod", f"{namespace}/tool", {"status": {"podIP": "10.244.1.41", "podIPs": [{"ip": "10.244.1.41"}]}}, part="status")
    shows(lambda: endpoint(node, f"{namespace}/front") == ("resolved", [f"10.244.1.41:{PORT}", "10.96.0.81:80"]), "its new address")
    for one in reversed(told):
        api.delete(one["kind"], f"{namespace}/{one['metadata']['name']}")
    shows(lambda: endpoint(node, f"{namespace}/front")[0] != "resolved", "its end")


def test_a_namespace(api, node, new_namespace):
    """Its label puts it under enforcement, where who has no policy may do nothing."""
    namespace = new_namespace(mas=False)
    for name, number in (("agent", 50), ("tool", 51)):
        api.put(things.pod(f"{namespace}/{name}", [f"10.244.1.{number}"], "node-b"))
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "ALLOWED", "no enforcement")
    api.patch("Namespace", namespace, namespace_object(namespace))
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "DENIED", "enforcement")
    api.patch("Namespace", namespace, {"metadata": {"labels": {"casa.io/injection": None}}})
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "ALLOWED", "no enforcement again")


def test_a_multi_agent_system(api, node, namespace):
    for name, number in (("agent", 60), ("tool", 61)):
        api.put(things.pod(f"{namespace}/{name}", [f"10.244.1.{number}"], "node-b", kube.Owner("Deployment", name), labels={"app": name},
                           containers=[kube.container(ports=[PORT])]))
    serve(api, f"{namespace}/tool", ips=["10.96.0.82"])
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "DENIED", "no policy, no system")
    api.apply(things.system(f"{namespace}/team", agent="agent", tool="mcp_server"))
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "ALLOWED", "the system's default")
    api.apply(things.system(f"{namespace}/team", agent="mcp_server", tool="mcp_server"))
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "DENIED", "an agent no more")
    api.delete("MultiAgentSystem", f"{namespace}/team")
    shows(lambda: verdict(node, f"{namespace}/agent", f"{namespace}/tool:{PORT}") == "DENIED", "no system")


def test_a_status_is_written(api, node, namespace):
    """And an Event, when a policy cannot be held."""
    made = f"{namespace}/agent"
    api.put(things.pod(f"{namespace}/agent", ["10.244.1.70"], kube.NODE_NAME, kube.Owner("Deployment", "agent")))

    def phase():
        return api.get("CASAPolicy", made).get("status", {}).get("phase")
    api.apply(policy(made))
    shows(lambda: phase() == "Active", "the status", STATUS)
    api.apply(policy(made, tokens={"requireValidSignature": "drop"}))
    shows(lambda: phase() == "Failed", "the failure", STATUS)
    def events():
        involved = [e["involvedObject"] for e in api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]]
        return [o for o in involved if (o["kind"], o["name"]) == ("CASAPolicy", "agent")]
    assert len(shows(events, "the Event", STATUS)) == 1


def test_fields_that_the_definition_takes_out_are_told(api, node, namespace):
    """As kubectl leaves it: its annotation has what was written, the object what the definition knows."""
    written = policy(f"{namespace}/agent")
    written["spec"]["quarantine"] = True
    written["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(written)}
    for _ in range(2):
        api.put(written)
        shows(lambda: "agent" in policies(node, namespace), "the policy")
        written["spec"]["allowedEndpoints"] = [{"namespace": namespace, "name": "tool", "port": PORT}]
    shows(lambda: policies(node, namespace)["agent"]["allowedEndpoints"], "the second version")
    assert node.daemon.log_path.read_text(errors="replace").count("took out spec.quarantine") == 1


# -- in the kernel


def test_what_the_server_says_is_enforced(api, node, namespace):
    agent = node.run_pod(f"{namespace}/agent", kube.Owner("Deployment", "agent"), labels={"app": "agent"})
    tool = node.run_pod(f"{namespace}/tool", kube.Owner("Deployment", "tool"), labels={"app": "tool"}, containers=[kube.container(ports=[PORT])])
    api.apply(policy(f"{namespace}/tool"))
    for port, ip in ((PORT, "10.96.0.83"), (OTHER_PORT, "10.96.0.84")):
        api.put(kube.Service(f"{namespace}/tool-{port}", {"app": "tool"}, [kube.ServicePort(port)], [ip]).objects()[0])
    tool.puppet().serve(tcp=[("0.0.0.0", PORT)])
    caller = agent.puppet()
    shows(lambda: caller.attempt("tcp", (tool.ip, PORT)).error == "EPERM", "a namespace under enforcement")
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool-{PORT}:{PORT}"))
    shows(lambda: caller.attempt("tcp", (tool.ip, PORT)).ok, "the policy")
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool-{OTHER_PORT}:{OTHER_PORT}"))
    shows(lambda: caller.attempt("tcp", (tool.ip, PORT)).error == "EPERM", "another port")
    api.delete("CASAPolicy", f"{namespace}/agent")
    assert caller.attempt("tcp", (tool.ip, PORT)).error == "EPERM"


# -- what becomes of the server


def test_killed_and_restarted(api, cluster, node, namespace):
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:{PORT}"))
    shows(lambda: "agent" in policies(node, namespace), "the policy")
    digest = node.status()["policyDigest"]
    cluster.kill()
    told_away(node, time.monotonic(), SLACK + 5)
    assert node.daemon.api.is_ready() and node.status()["policyDigest"] == digest, "what is in force stays"
    cluster.restart()
    well(node)
    assert node.status()["policyDigest"] == digest
    api.apply(policy(f"{namespace}/second", f"{namespace}/tool:{PORT}"))
    shows(lambda: "second" in policies(node, namespace), "the watch goes on")


@slow
@pytest.mark.parametrize("way", ["freeze", "darken"])
def test_silent_is_noticed_and_made_up_for(api, cluster, node, namespace, way):
    """Neither a reset nor an end of file tells that a server is frozen, or the way to it cut."""
    api.apply(policy(f"{namespace}/stays"))
    api.apply(policy(f"{namespace}/goes"))
    shows(lambda: len(policies(node, namespace)) == 2, "the policies")
    began = time.monotonic()
    getattr(cluster, way)()
    if way == "darken":  # who is frozen takes no changes
        api.apply(policy(f"{namespace}/came"))
        api.delete("CASAPolicy", f"{namespace}/goes")
    told_away(node, began)
    assert node.daemon.api.is_ready() and {"stays", "goes"} <= set(policies(node, namespace))
    getattr(cluster, {"freeze": "thaw", "darken": "lighten"}[way])()
    if way == "freeze":
        api.apply(policy(f"{namespace}/came"))
        api.delete("CASAPolicy", f"{namespace}/goes")
    shows(lambda: set(policies(node, namespace)) == {"stays", "came"}, "what happened meanwhile", BACK)
    well(node)


def test_a_server_that_forgot(api, cluster, node, namespace):
    """Where a watch cannot go on (410), all is listed anew: also what is gone, of which no event tells."""
    api.apply(policy(f"{namespace}/stays"))
    api.apply(policy(f"{namespace}/goes"))
    shows(lambda: len(policies(node, namespace)) == 2, "the policies")

    def meanwhile():
        cluster.unstore("CASAPolicy", namespace, "goes")
        cluster.store([policy(f"{namespace}/came")])
    cluster.forget(meanwhile)
    shows(lambda: set(policies(node, namespace)) == {"stays", "came"}, "the new list", BACK)
    well(node)


def test_casad_starts_anew_while_the_server_is_away(api, cluster, node, namespace):
    """What is in the kernel stays in force, whoever is away."""
    agent = node.run_pod(f"{namespace}/agent", kube.Owner("Deployment", "agent"), labels={"app": "agent"})
    tool = node.run_pod(f"{namespace}/tool", kube.Owner("Deployment", "tool"), labels={"app": "tool"}, containers=[kube.container(ports=[PORT])])
    serve(api, f"{namespace}/tool", ips=["10.96.0.85"])
    api.apply(policy(f"{namespace}/tool"))
    api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:{PORT}"))
    tool.puppet().serve(tcp=[("0.0.0.0", PORT), ("0.0.0.0", OTHER_PORT)])
    caller = agent.puppet()

    def right():
        return caller.attempt("tcp", (tool.ip, PORT)).ok and caller.attempt("tcp", (tool.ip, OTHER_PORT)).error == "EPERM"
    shows(right, "the policy")
    node.daemon.kill9()
    cluster.kill()
    node.daemon.start(wait=False)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert right()
    cluster.restart()
    node.daemon.wait_ready(BACK)
    well(node)
    assert right()


# -- who casad is


@pytest.mark.parametrize("way", ["token", "token_file", "certificate", "embedded"])
def test_ways_to_log_in(api, cluster, account, namespace, new_node, tmp_path, way):
    lab.write_file(tmp_path / "token", account.token())
    certificate = cluster.pki.client(f"system:serviceaccount:{account.namespace}:casad")
    node = new_node(**{"token": {"token": account.token()}, "token_file": {"token_file": tmp_path / "token"},
                       "certificate": {"certificate": certificate}, "embedded": {"certificate": certificate, "embed": True}}[way]).start()
    api.apply(policy(f"{namespace}/agent"))
    shows(lambda: "agent" in policies(node, namespace), "the policy")


def test_as_a_pod(api, cluster, account, namespace, tmp_path):
    """With what kubelet gives a container of a DaemonSet: two variables and a directory of which the token is written anew."""
    directory = in_cluster(tmp_path / "account", cluster.pki.ca, account.token(), namespace)
    inside = f"""mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
                 mount --bind {directory} /run/secrets/kubernetes.io/serviceaccount && exec "$@" """
    node = ClusterNode(cluster, None)
    node.daemon.enter += ("unshare", "--mount", "env", f"KUBERNETES_SERVICE_HOST={ADDRESS4}", f"KUBERNETES_SERVICE_PORT={PORT_OF_SERVER}",
                          "sh", "-c", inside, "sh")
    try:
        node.start()
        api.apply(policy(f"{namespace}/agent"))
        shows(lambda: "agent" in policies(node, namespace), "the policy")
    finally:
        node.close()


@slow
def test_a_token_that_is_written_anew(api, cluster, account, namespace, new_node, tmp_path):
    """In time, and late: the first goes on, the second says what the server said to its old one, and then goes on, too."""
    seconds = 10
    files = [tmp_path / "in-time", tmp_path / "late"]
    for file in files:
        lab.write_file(file, account.short_token(seconds))
    began = time.monotonic()
    in_time, late = (new_node(token_file=file).start() for file in files)
    lab.write_file(files[0], account.token())
    time.sleep(max(0, began + seconds + CACHE_SECONDS + 1 - time.monotonic()))
    cluster.restart()  # watches outlive the token that they began with
    api.apply(policy(f"{namespace}/agent"))
    shows(lambda: "agent" in policies(in_time, namespace), "the new token", BACK)
    shows(lambda: "401" in " ".join(problems(late)), "the refusal", BACK)
    assert "agent" not in policies(late, namespace)
    token = account.token()
    lab.write_file(files[1], token)
    shows(lambda: "agent" in policies(late, namespace), "the late token", BACK)
    for node in (in_time, late):
        well(node)
        assert token not in node.daemon.log_path.read_text(errors="replace")


def test_an_account_without_a_right_is_told_which(cluster, namespace, new_node):
    """It cannot be known what the policies are: casad is not ready, rather than taking it that there are none."""
    poor = without(rules_of_casad(), "casapolicies")
    account = ServiceAccount(cluster, f"{namespace}/poor", poor)
    try:
        node = new_node(token=account.token())
        node.daemon.start(wait=False)
        until(node.daemon.api_socket.exists, 10, "casad's API")
        told = shows(lambda: [p for p in problems(node) if "casapolicies" in p], "the missing right", 15)
        assert len(told) == 1 and not node.daemon.api.is_ready()
        assert states(node)["CASAPolicies"] == "forbidden" and states(node)["MultiAgentSystems"] != "forbidden"
        account.allow(rules_of_casad())
        node.daemon.wait_ready(BACK)
        well(node)
        shows(lambda: set(states(node).values()) == {"watching"}, "each kind is watched")
        account.allow(poor)
        cluster.restart()  # rights are looked at when a request begins
        shows(lambda: any("casapolicies" in p for p in problems(node)), "the right taken away", BACK)
        assert node.daemon.api.is_ready(), "what was known stays in force"
    finally:
        cluster.mend()
        account.remove()


# -- many


def test_a_storm(api, cluster, node, namespace):
    """1,000 policies and 10,000 pods within a second or two; casad keeps up, and answers meanwhile."""
    owners = [kube.Owner("Deployment", f"app-{i}") for i in range(1000)]
    began = time.monotonic()
    cluster.store([policy(f"{namespace}/app-{i}", f"{namespace}/app-{(i + 1) % 1000}:{PORT}") for i in range(1000)])
    api.put(kube.Service(f"{namespace}/app-8", {"app": "app-8"}, [kube.ServicePort(PORT)], ["10.96.0.86"]).objects()[0])
    cluster.store([things.pod(f"{namespace}/x", [f"10.245.{i // 250}.{i % 250 + 1}"], "node-b", owners[i % 1000], {"app": f"app-{i % 1000}"}) for i in range(10_000)])
    written = time.monotonic()
    waits = []

    def done():
        asked = time.monotonic()
        there = len(addresses(node, f"{namespace}/app-999")) == 10 and node.status()["counts"]["policies"] >= 1000
        waits.append(time.monotonic() - asked)
        return there
    shows(done, "all of it", STORM)
    print(f"written in {written - began:.1f} s; casad was done {time.monotonic() - written:.1f} s later; its longest answer took {max(waits):.2f} s")
    assert max(waits) < 2
    assert verdict(node, f"{namespace}/app-7", f"{namespace}/app-8:{PORT}") == "ALLOWED"
    api.put(policy(f"{namespace}/app-7"))  # what the store was told is nobody's, and an apply would leave it
    shows(lambda: verdict(node, f"{namespace}/app-7", f"{namespace}/app-8:{PORT}") == "DENIED", "one change among many")
    cluster.unstore("CASAPolicy", namespace)
    cluster.unstore("Pod", namespace)
    shows(lambda: not policies(node, namespace) and not addresses(node, f"{namespace}/app-999"), "the end of all", STORM)
