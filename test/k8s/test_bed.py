"""The bed proves itself: what the tests of casad take for granted of the server, and of what is done to it, is so."""
import json
import subprocess
import time

import jwt
import pytest

from access import CACHE_SECONDS, ServiceAccount, in_cluster, kubeconfig, rule, rules_of_casad
from client import ApiError, who
from cluster import ADDRESS6, BINARIES
from harness import kube, nodenet
from harness.objects import policy
from harness.world import until
from node import ClusterNode
import things
from things import slow

SECONDS_OF_DARKNESS = 2.0


def is_of(kind, name=None):
    return lambda event: event["type"] == kind and (name is None or event["object"]["metadata"]["name"] == name)


def refused(code, call, *arguments, **options):
    with pytest.raises(ApiError) as e:
        call(*arguments, **options)
    assert e.value.code == code, e.value
    return e.value


def config_maps(namespace, count):
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": f"c{i:03}"}} for i in range(count)]


def made_of_each_kind(namespace):
    backend = things.pod(f"{namespace}/backend", ["10.244.0.5", "fd00:244::5"], labels={"app": "backend"}, containers=[kube.container(ports=[8080])])
    service = kube.Service(f"{namespace}/backend", {"app": "backend"}, [kube.ServicePort(80, 8080)])
    service.ips = [nodenet.SERVICE4.format(77), nodenet.SERVICE6.format(77)]
    return [backend, *things.of_service(service), policy(f"{namespace}/agent", f"{namespace}/backend:80"),
            things.system(f"{namespace}/team", agent="agent", backend="mcp_server")]


# -- objects


@pytest.mark.parametrize("kind", ["Pod", "Service", "CASAPolicy", "MultiAgentSystem", "EndpointSlice"])
def test_made_changed_and_deleted_is_watched(api, namespace, watch, kind):
    pod, service, *_, wanted_policy, system = made_of_each_kind(namespace)
    told = api.put(pod)
    found = kube.Service(f"{namespace}/backend", {"app": "backend"}, [kube.ServicePort(80, 8080)], [nodenet.SERVICE4.format(78)])
    found.pods = [things.member(told)]
    thing = {"Pod": things.pod(f"{namespace}/other", ["10.244.0.6"]), "Service": service, "CASAPolicy": wanted_policy, "MultiAgentSystem": system,
             "EndpointSlice": things.of_service(found)[1]}[kind]
    events = watch(kind, namespace)
    made = api.put(thing)
    assert events.until(is_of("ADDED", made["metadata"]["name"]))["object"]["metadata"]["uid"] == made["metadata"]["uid"]
    api.patch(kind, who(made), {"metadata": {"labels": {"changed": "yes"}}})
    events.until(lambda e: e["type"] == "MODIFIED" and e["object"]["metadata"].get("labels", {}).get("changed") == "yes")
    api.delete(kind, who(made))
    events.until(is_of("DELETED", made["metadata"]["name"]))
    assert api.find(kind, who(made)) is None


def test_a_pod_keeps_what_kubelet_tells(api, namespace):
    owner = kube.Owner("Deployment", "agent")
    made = api.put(things.pod(f"{namespace}/agent", ["10.244.0.7", "fd00:244::7"], owner=owner, labels={"app": "agent"}))
    found = api.get("Pod", who(made))
    assert [row["ip"] for row in found["status"]["podIPs"]] == ["10.244.0.7", "fd00:244::7"] and found["status"]["phase"] == "Running"
    assert found["metadata"]["ownerReferences"][0]["name"] == f"agent-{owner.hash}" and found["spec"]["nodeName"] == kube.NODE_NAME
    again = api.put({**made, "status": {**found["status"], "phase": "Succeeded"}})
    assert again["metadata"]["uid"] == found["metadata"]["uid"] and again["status"]["phase"] == "Succeeded"


def test_a_pod_on_a_node_is_deleted_in_two_steps(api, namespace):
    made = api.put(things.pod(f"{namespace}/agent", ["10.244.0.8"]))
    api.delete("Pod", who(made), grace_seconds=None)
    assert "deletionTimestamp" in api.get("Pod", who(made))["metadata"]
    api.delete("Pod", who(made))
    assert api.find("Pod", who(made)) is None


def test_a_service_has_both_families(api, namespace):
    service = kube.Service(f"{namespace}/tool", {"app": "tool"}, [kube.ServicePort(80, 8080)], [nodenet.SERVICE4.format(79), nodenet.SERVICE6.format(79)])
    assert api.put(service.objects()[0])["spec"]["clusterIPs"] == service.ips


def test_a_status_is_written_apart(api, namespace):
    made = api.create(policy(f"{namespace}/agent"))
    api.patch("CASAPolicy", who(made), {"spec": {"mode": "lost"}, "status": {"phase": "Active"}}, part="status")
    found = api.get("CASAPolicy", who(made))
    assert found["status"]["phase"] == "Active" and "mode" not in found["spec"]
    assert found["metadata"]["generation"] == made["metadata"]["generation"]


def test_server_side_apply(api, namespace):
    first = api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:80"))
    second = api.apply(policy(f"{namespace}/agent", f"{namespace}/tool:81"))
    assert first["metadata"]["uid"] == second["metadata"]["uid"] and second["metadata"]["generation"] == 2
    assert second["spec"]["allowedEndpoints"][0]["port"] == 81


@pytest.fixture
def bed_node(api):
    api.put(kube.node_object([nodenet.NODE4, nodenet.NODE6], "bed-node"))
    yield "bed-node"
    api.delete("Node", "bed-node")


def test_nodes(api, bed_node):
    assert [a["address"] for a in api.get("Node", bed_node)["status"]["addresses"]] == [nodenet.NODE4, nodenet.NODE6, bed_node]


def many_pods(namespace, count):
    return [things.pod(f"{namespace}/p{i}", [f"10.245.{i // 250}.{i % 250 + 1}"]) for i in range(count)]


def test_hundreds_of_pods(api, namespace, watch):
    events = watch("Pod", namespace)
    made = api.put_all(many_pods(namespace, 300), connections=16)
    assert len({pod["metadata"]["uid"] for pod in made}) == 300 and all(pod["status"]["podIP"] for pod in made)
    for _ in range(600):
        assert events.next() is not None, "an event for each write"


@slow
def test_a_storm(api, cluster, namespace, watch):
    """As from the server itself: who lists and who watches cannot tell the difference."""
    pods, policies = watch("Pod", namespace), watch("CASAPolicy", namespace)
    wanted = many_pods(namespace, 10_000)
    cluster.store([policy(f"{namespace}/p{i}", f"{namespace}/tool:80") for i in range(1000)])
    cluster.store(wanted)
    seen = [pods.next(20) for _ in wanted]
    assert {e["type"] for e in seen} == {"ADDED"} and len({e["object"]["metadata"]["uid"] for e in seen}) == 10_000
    assert len({e["object"]["metadata"]["resourceVersion"] for e in seen}) == 10_000
    assert {policies.next()["type"] for _ in range(1000)} == {"ADDED"}
    by_hand = api.put(things.pod(f"{namespace}/by-hand", ["10.246.0.1"]))
    for made in (by_hand, api.get("Pod", f"{namespace}/p77")):
        api.patch("Pod", who(made), {"metadata": {"labels": {"changed": "yes"}}})
    page = api.list("Pod", namespace, limit=500)
    assert len(page["items"]) == 500 and page["metadata"]["remainingItemCount"] == 9501
    by_hand, stored = api.get("Pod", f"{namespace}/by-hand"), api.get("Pod", f"{namespace}/p77")
    # Defaults and all, but for a priority, which admission gives.
    assert {k: v for k, v in by_hand["spec"].items() if k not in ("priority", "preemptionPolicy")} == stored["spec"]
    cluster.unstore("Pod", namespace)
    cluster.unstore("CASAPolicy", namespace)
    for _ in range(10_001):
        pods.until(is_of("DELETED"), 20)
    assert not api.list("Pod", namespace)["items"] and not api.list("CASAPolicy", namespace)["items"]


# -- lists and watches


def test_a_list_in_pages(api, namespace):
    api.put_all(config_maps(namespace, 25))
    names, going_on, pages = [], None, 0
    while pages < 10:
        page = api.list("ConfigMap", namespace, limit=10, **{"continue": going_on})
        names += [item["metadata"]["name"] for item in page["items"]]
        pages, going_on = pages + 1, page["metadata"].get("continue")
        if not going_on:
            break
    assert pages == 3 and names == [f"c{i:03}" for i in range(25)]


def test_an_expired_continue_is_410(api, cluster, namespace):
    api.put_all(config_maps(namespace, 25))
    page = api.list("ConfigMap", namespace, limit=10)
    api.delete("ConfigMap", f"{namespace}/c020")  # so that there is a later revision to be compacted to
    cluster.compact()
    error = refused(410, api.list, "ConfigMap", namespace, limit=10, **{"continue": page["metadata"]["continue"]})
    assert error.reason == "Expired"


def test_a_watch_from_a_forgotten_version_gets_an_error_event(api, cluster, namespace, watch):
    old = api.create(policy(f"{namespace}/agent"))["metadata"]["resourceVersion"]
    cluster.forget()
    events = watch("CASAPolicy", namespace, resourceVersion=old)
    assert events.next()["object"] | {"message": ""} == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "",
                                                         "reason": "Expired", "code": 410}
    assert events.ended.wait(5)
    assert api.get("CASAPolicy", f"{namespace}/agent")


def test_a_watch_goes_on_over_a_compaction(api, cluster, namespace, watch):
    events = watch("ConfigMap", namespace)
    cluster.compact()
    api.put_all(config_maps(namespace, 1))
    events.until(is_of("ADDED", "c000"))


def test_bookmarks(api, namespace, watch):
    """Two seconds before a watch's time is over, where anything of the kind was ever written; else once a minute."""
    start = api.list("CASAPolicy", namespace)["metadata"]["resourceVersion"]
    events = watch("CASAPolicy", namespace, resourceVersion=start, allowWatchBookmarks="true", timeoutSeconds=5)
    made = api.create(policy(f"{namespace}/agent"))
    told = events.until(is_of("BOOKMARK"), 8)["object"]
    assert int(told["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
    assert events.ended.wait(8)


# -- who may do what


def test_an_account_may_read_what_its_rules_say(cluster, namespace, account, watch):
    client = cluster.linked_client(token=account.token())
    assert client.list("Pod", namespace)["items"] == []
    assert client.list("CASAPolicy", namespace)["items"] == []
    watch("Pod", client=client).close()
    refused(403, client.list, "ConfigMap", namespace)
    refused(403, client.create, policy(f"{namespace}/agent"))
    account.allow([rule("", "pods")])

    def denied():
        try:
            client.list("CASAPolicy")
        except ApiError as e:
            return e.code == 403
        return False
    until(denied, what="the new rules hold")
    assert client.list("Pod", namespace)["items"] == []


def test_nobody_is_refused(cluster):
    refused(401, cluster.client(token="nonsense").list, "Pod")
    refused(403, cluster.client().list, "Pod")


@slow
def test_a_token_expires_and_another_takes_its_place(cluster, account, tmp_path):
    """The client reads its token for each request from the directory that kubelet would mount and write anew."""
    directory = in_cluster(tmp_path / "account", cluster.pki.ca, account.short_token(3), account.namespace)
    client = cluster.client(token=lambda: (directory / "token").read_text())
    client.list("Pod")

    def expired():
        try:
            client.list("Pod")
        except ApiError as e:
            return e.code == 401
        return False
    began = time.monotonic()
    until(expired, CACHE_SECONDS + 6, "the token expires", 0.2)
    assert time.monotonic() - began > 1.5
    in_cluster(directory, cluster.pki.ca, account.token(), account.namespace)
    client.list("Pod")
    assert sorted(p.name for p in directory.iterdir()) == ["ca.crt", "namespace", "token"]


def test_a_token_of_the_server_lasts_at_least_ten_minutes(account):
    refused(422, account.token, 599)
    claims = jwt.decode(account.token(600), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 600 and claims["sub"] == f"system:serviceaccount:{account.namespace}:casad"


def test_a_removed_account_is_unknown(cluster, namespace):
    account = ServiceAccount(cluster, f"{namespace}/other", rules_of_casad())
    client = cluster.client(token=account.token())
    account.remove()
    refused(401, client.list, "Pod")


@pytest.mark.parametrize("way", ["token", "token_file", "certificate", "embedded"])
def test_kubectl_takes_the_kubeconfigs(cluster, account, tmp_path, way):
    """kubectl is the judge of what a kubeconfig is; it goes through the link, as casad does."""
    (tmp_path / "token").write_text(account.token())
    certificate = cluster.pki.client(f"system:serviceaccount:{account.namespace}:casad")
    access = {"token": {"token": account.token()}, "token_file": {"token_file": tmp_path / "token"}, "certificate": {"certificate": certificate},
              "embedded": {"certificate": certificate, "embed": True}}[way]
    file = kubeconfig(tmp_path / "kubeconfig", cluster.url, cluster.pki.ca, **access)
    done = subprocess.run([BINARIES / "kubectl", f"--kubeconfig={file}", f"--cache-dir={tmp_path}", "get", "--all-namespaces", "-o", "json", "casap"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["items"] == []
    done = subprocess.run([BINARIES / "kubectl", f"--kubeconfig={file}", f"--cache-dir={tmp_path}", "get", "secrets"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode != 0 and "Forbidden" in done.stdout and f"system:serviceaccount:{account.namespace}:casad" in done.stdout


def test_over_ipv6(cluster, account):
    assert cluster.linked_client(ADDRESS6, token=account.token()).list("Pod", account.namespace)["items"] == []


# -- what becomes of the server


def test_killed_and_restarted_it_keeps_the_objects(api, cluster, namespace, watch):
    made = api.create(policy(f"{namespace}/agent"))
    events = watch("CASAPolicy", namespace)
    events.until(is_of("ADDED", "agent"))
    cluster.kill()
    assert events.ended.wait(5)
    with pytest.raises(OSError):
        cluster.linked_client().list("Pod")
    cluster.restart()
    assert api.get("CASAPolicy", who(made)) == made
    watch("CASAPolicy", namespace, resourceVersion=made["metadata"]["resourceVersion"])


def test_frozen_it_takes_connections_and_says_nothing(api, cluster, account, watch):
    client = cluster.linked_client(token=account.token(), timeout=1.0)
    events = watch("Pod", account.namespace, client=client)
    cluster.freeze()
    cluster.linked_client().dial((client.address, client.port), 2.0).close()  # the kernel answers
    with pytest.raises(TimeoutError):
        client.list("Pod")
    assert events.next(0.2) is None and not events.ended.is_set()
    cluster.thaw()
    api.put(things.pod(f"{account.namespace}/late", ["10.244.0.9"]))
    events.until(is_of("ADDED", "late"))


def test_dark_nothing_is_heard_and_the_connections_stay(api, cluster, account, watch):
    client = cluster.linked_client(token=account.token(), timeout=1.0)
    events = watch("Pod", account.namespace, client=client)
    client.list("Pod")
    cluster.darken()
    with pytest.raises(TimeoutError):
        client.list("Pod")
    with pytest.raises(TimeoutError):
        client.dial((client.address, client.port), 1.0)
    api.put(things.pod(f"{account.namespace}/unheard", ["10.244.0.10"]))  # the bed's own way is not dark
    assert events.next(SECONDS_OF_DARKNESS) is None and not events.ended.is_set()
    cluster.lighten()
    events.until(is_of("ADDED", "unheard"), 20)


def test_without_etcd_it_answers_that_it_cannot(api, cluster, namespace):
    cluster.etcd.kill()
    with pytest.raises((ApiError, TimeoutError)):
        cluster.client(certificate=cluster.admin_certificate, timeout=2.0).create(policy(f"{namespace}/agent"))
    assert not cluster.is_ready() and cluster.server.runs()
    cluster.etcd.start()
    cluster.wait_ready()
    api.create(policy(f"{namespace}/agent"))


# -- controllers


def test_controllers_make_pods_and_slices(api, cluster, namespace, bed_node):
    """A Deployment becomes pods; placed and told ready, as by a scheduler and a kubelet, they become the endpoints of a Service."""
    cluster.start_controllers()
    api.create(things.deployment(f"{namespace}/tool", 2, {"app": "tool"}))
    service = kube.Service(f"{namespace}/tool", {"app": "tool"}, [kube.ServicePort(80, 8080)], [nodenet.SERVICE4.format(80)])
    api.create(service.objects()[0])

    def pods():
        return api.list("Pod", namespace)["items"]
    until(lambda: len(pods()) == 2, 60, "two pods", 0.2)
    for i, pod in enumerate(pods()):
        assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
        name = f"{namespace}/{pod['metadata']['name']}"
        api.place(name, bed_node)
        ready = {"phase": "Running", "podIP": f"10.244.0.{20 + i}", "podIPs": [{"ip": f"10.244.0.{20 + i}"}],
                 "conditions": [{"type": "Ready", "status": "True"}]}
        api.patch("Pod", name, {"status": ready}, part="status")

    def addresses():
        slices = api.list("EndpointSlice", namespace, labelSelector="kubernetes.io/service-name=tool")["items"]
        return {a for s in slices if s["addressType"] == "IPv4" for e in s["endpoints"] or [] for a in e["addresses"]} == {"10.244.0.20", "10.244.0.21"}
    until(addresses, 30, "the endpoints", 0.2)


# -- the simulated node


def test_a_simulated_node_has_the_servers_pods(api, cluster, namespace, outside):
    """What runs on it is in the cgroup of the uid that the server gave, and has the address that the server tells."""
    node = ClusterNode(cluster, None, enforced=False)
    try:
        tool = node.run_pod(f"{namespace}/tool", labels={"app": "tool"}, containers=[kube.container(ports=[8080])])
        agent = node.run_pod(f"{namespace}/agent", kube.Owner("Deployment", "agent"))
        service = node.service(f"{namespace}/tool", [tool], kube.ServicePort(80, 8080))
        told = api.get("Pod", f"{namespace}/tool")
        assert told["metadata"]["uid"].replace("-", "_") in str(tool.cgroup.path) and tool.cgroup.path.is_dir()
        assert [row["ip"] for row in told["status"]["podIPs"]] == tool.ips
        assert api.get("Node", kube.NODE_NAME)
        assert {e["targetRef"]["uid"] for s in api.list("EndpointSlice", namespace)["items"] for e in s["endpoints"]} == {tool.uid}
        tool.puppet().serve(tcp=[("0.0.0.0", 8080)])
        assert agent.puppet().attempt("tcp", (service.ips[0], 80)).ok
        # casad runs in the node's namespace: the server must be there for it.
        done = node.netns.inside(lambda: cluster.linked_client(certificate=cluster.admin_certificate).list("Pod", namespace))
        assert len(done["items"]) == 2
        tool.remove()
        assert api.find("Pod", f"{namespace}/tool") is None
    finally:
        node.close()
    assert api.find("Node", kube.NODE_NAME) is None and not api.list("Pod", namespace)["items"]
