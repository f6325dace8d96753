"""What becomes of a policy is written into its status, by whichever node's turn it is, and once."""
import datetime
import json
import time

import pytest

from access import kubeconfig
from harness import kube
from harness.objects import policy
from harness.world import until
from node import ClusterNode
import lab
import things

STATUS = 25.0  # s, until it is written: the nodes take turns of 3 s, and a policy is written at most each 5 s
BETWEEN = 5.0  # s, the least time between two writes of a policy
PORT = 8080
NODES = ("node-a", "node-b")


@pytest.fixture
def nodes(cluster, account, tmp_path):
    """A casad on each of two nodes, both started."""
    made = []
    try:
        for name in NODES:
            file = kubeconfig(tmp_path / name, cluster.url, cluster.pki.ca, account.token())
            made.append(ClusterNode(cluster, file, node_name=name))
            made[-1].start()
        yield made
    finally:
        cluster.mend()
        for one in made:
            one.close()


@pytest.fixture
def written(api, namespace):
    """A function: the statuses that a policy of the namespace had so far, each once."""
    watch = api.watch("CASAPolicy", namespace, resourceVersion=api.list("CASAPolicy", namespace)["metadata"]["resourceVersion"])

    def of(name):
        while watch.next(0.05):
            pass
        rows = []
        for event in watch.seen:
            found = event["object"]
            if found["metadata"]["name"] == name and found.get("status") and (not rows or rows[-1] != found["status"]):
                rows.append(found["status"])
        return rows

    yield of
    watch.close()


def seconds(row):
    return datetime.datetime.fromisoformat(row["lastSyncTime"].replace("Z", "+00:00")).timestamp()


def status(api, who):
    return api.get("CASAPolicy", who).get("status", {})


def message(api, who):
    return status(api, who).get("message", "")


def agent(api, namespace, node, number):
    return api.put(things.pod(f"{namespace}/agent", [f"10.244.9.{number}"], node, kube.Owner("Deployment", "agent"), {"app": "agent"}))


def test_one_status_of_many_nodes(api, nodes, namespace, written):
    """Both nodes have a pod of the target and would say the same: it is said once, whoever says it."""
    made = f"{namespace}/agent"
    for number, node in enumerate(NODES, 10):
        agent(api, namespace, node, number)
    api.apply(policy(made, f"{namespace}/tool:{PORT}"))
    until(lambda: message(api, made), STATUS, "a status")
    told = status(api, made)
    assert told["phase"] == "Active" and told["lastSyncTime"].endswith("Z")
    until(lambda: message(api, made) == f"enforced on 2 nodes; endpoint {namespace}/tool:{PORT} is no Service of the cluster", STATUS, "both nodes")
    time.sleep(2 * BETWEEN)  # whoever is second in line would have written by now
    rows = [row["message"] for row in written("agent")]
    assert len(set(rows)) == len(rows) <= 3, "the same is not written twice"
    managers = api.get("CASAPolicy", made)["metadata"]["managedFields"]
    assert {m["manager"] for m in managers if "f:status" in m["fieldsV1"]} == {"casad"}


def test_changes_come_together(api, nodes, namespace, written):
    """Whatever happens, a policy's status is written at most each 5 s, and then it is the newest one."""
    made = f"{namespace}/agent"
    agent(api, namespace, NODES[0], 20)
    for i in range(12):
        api.apply(policy(made, *(f"{namespace}/tool-{j}:{PORT}" for j in range(i + 1))))
        time.sleep(0.5)
    until(lambda: f"tool-11:{PORT}" in message(api, made), STATUS, "the last change")
    times = [seconds(row) for row in written("agent")]
    assert len(times) >= 2 and all(b - a > BETWEEN - 1.1 for a, b in zip(times, times[1:])), f"{times}, in whole seconds"


def test_who_comes_after_takes_the_turn(api, nodes, namespace):
    """A node that the cluster takes for well, and that does not write: the next one does."""
    first, second = nodes
    first.daemon.kill9()
    for i in range(4):  # for some of them the dead node would be the first
        api.put(things.pod(f"{namespace}/app-{i}", [f"10.244.9.{30 + 2 * i}"], NODES[0], kube.Owner("Deployment", f"app-{i}")))
        api.put(things.pod(f"{namespace}/app-{i}", [f"10.244.9.{31 + 2 * i}"], NODES[1], kube.Owner("Deployment", f"app-{i}")))
        api.apply(policy(f"{namespace}/app-{i}"))
    for i in range(4):
        until(lambda i=i: message(api, f"{namespace}/app-{i}") == "enforced on 2 nodes", STATUS, f"the status of app-{i}")


def test_a_target_that_runs_nowhere(api, nodes, namespace):
    made = f"{namespace}/nobody"
    api.apply(policy(made))
    until(lambda: status(api, made).get("phase") == "Pending", STATUS, "the status")
    assert message(api, made) == "target Deployment/nobody has no Pod yet; it is enforced the moment one appears"


def test_who_runs_casad_is_seen_by_its_pods(api, nodes, namespace):
    """Where casad is a DaemonSet, a node whose casad is not ready is named."""
    made = f"{namespace}/agent"
    if api.find("Namespace", "casa-system") is None:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "casa-system"}})
    labels = {"app.kubernetes.io/name": "casad"}
    pods = [api.put(things.pod(f"casa-system/casad-{name}", [f"10.244.9.{60 + i}"], name, labels=labels)) for i, name in enumerate(NODES)]
    try:
        for pod, ready in zip(pods, ("True", "False")):
            who = f"casa-system/{pod['metadata']['name']}"
            api.patch("Pod", who, {"status": {"conditions": [{"type": "Ready", "status": ready}]}}, part="status")
        for number, node in enumerate(NODES, 70):
            agent(api, namespace, node, number)
        api.apply(policy(made))
        until(lambda: message(api, made) == "enforced on 1 of 2 nodes; no casad is ready on node-b", STATUS, "the node")
    finally:
        for pod in pods:
            api.delete("Pod", f"casa-system/{pod['metadata']['name']}")


def test_a_file_and_the_server_have_the_same_policy(api, nodes, namespace):
    """The server's is in force, the file's after it, and it is an alert."""
    node, made = nodes[0], f"{namespace}/agent"
    directory = node.daemon.policy_dir
    lab.write_file(directory / "local.json", json.dumps(policy(made, f"{namespace}/file:{PORT}")))

    def endpoints():
        rows = node.daemon.api.get(f"/v1/policies?namespace={namespace}")["items"]
        return rows[0]["allowedEndpoints"] if rows else None

    def alerts():
        return [a for a in node.daemon.api.get("/v1/alerts?kind=object_conflict")["items"] if made in a["message"]]
    until(lambda: endpoints() == [f"{namespace}/file:{PORT}"], STATUS, "the file's")
    assert not alerts()
    api.apply(policy(made, f"{namespace}/server:{PORT}"))
    until(lambda: endpoints() == [f"{namespace}/server:{PORT}"], STATUS, "the server's")
    assert "the API server's is in force" in until(alerts, STATUS, "the alert")[0]["message"]
    api.delete("CASAPolicy", made)
    until(lambda: endpoints() == [f"{namespace}/file:{PORT}"], STATUS, "the file's again")
    (directory / "local.json").unlink()
    until(lambda: endpoints() is None, STATUS, "none")
