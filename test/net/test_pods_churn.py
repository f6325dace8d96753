"""Many pods, and pods that come and go: whatever happens at the same time, the first packets of each are under its policy, what is allowed
gets through, and what is not leaks nowhere. CASAD_TEST_CHURN_SECONDS says how long pods come and go (10; a minute in a thorough run)."""
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.kube import Owner
from harness.objects import policy
from harness.world import until
from podcast import HTTP, UDP, WEB, PodCast, cast_of_pods, known, located, serve, settled

AT_ONCE = 200
PER_SECOND, SECONDS = 20, float(os.environ.get("CASAD_TEST_CHURN_SECONDS", "10"))
# From a pod's object to its container, and from there to its end: a scheduler and a kubelet take longer.
AHEAD, LIFE = 1.0, 2.0
GUESTS_WAIT = 3.0  # s, of a guest's call that nobody answers
PATIENCE = 60  # s, for the last answers of all


class Recycled:
    """As the node's CNI; the networks of pods that are gone are used again, address and all, for the pods that come next: making one costs
    more than all else of a pod."""

    def __init__(self, cni, count):
        self.cni = cni
        self.free = deque(cni.add() for _ in range(count))
        self.made = list(self.free)

    def add(self):
        return self.free.popleft()

    def remove(self, namespace, number):
        self.free.append((namespace, number))

    def close(self):
        for namespace, _ in self.made:
            namespace.close()


class CastWithRogue(PodCast):
    def __init__(self, node):
        node.put("rogue.yaml", policy("team/rogue"))
        super().__init__(node)


@pytest.fixture
def cast(outside):
    yield from cast_of_pods(cast=CastWithRogue)


# What the first container of a pod does at once, and what must become of each attempt.
ROLES = {
    "team/agent": lambda c: [(("tcp", c.vault_service.ips[0], WEB), "EPERM"), (("tcp", c.vault.ip6, HTTP), "EPERM"),
                             (("udp", c.vault_service.ips[1], UDP), "EPERM"), (("tcp", c.mcp_service.ips[0], WEB), "ok"),
                             (("tcp", c.mcp.ip6, HTTP), "ok"), (("udp", c.mcp_service.ips[1], UDP), "ok")],
    "team/rogue": lambda c: [(("tcp", c.mcp_service.ips[0], WEB), "EPERM"), (("tcp", c.mcp.ip6, HTTP), "EPERM"),
                             (("udp", c.mcp.ip, UDP), "EPERM"), (("tcp", c.neighbour.ip, HTTP), "EPERM")],
    # Nobody holds it back; the called pods know it by its address, which was an agent's a moment ago.
    "free/guest": lambda c: [(("tcp", c.neighbour.ip, HTTP), "ok"), (("tcp", c.mcp.ip, HTTP), "timeout")],
}


class Pods:
    """Pods of the three roles, their first attempts, and the account of all."""

    def __init__(self, cast, fleet):
        self.cast, self.fleet, self.owners = cast, fleet, {who: Owner("Deployment", who.split("/")[1]) for who in ROLES}
        self.expected, self.wrong, self.done = {who: make(cast) for who, make in ROLES.items()}, [], 0
        self.known = set()
        serve(cast.neighbour)
        self.before = self.leaks()

    def leaks(self):
        report = self.cast.vault_served.report()
        return report["tcp"] + report["udp"]

    def plan(self, number):
        who = ("team/agent", "team/agent", "team/rogue", "free/guest")[number % 4]
        pod = self.cast.node.pod(who, self.owners[who])
        pod.who = who
        return pod.tell(phase="Pending", told=False)

    def is_known(self, pod):
        """casad has its object and its addresses. One look is for all pods."""
        if pod.uid not in self.known:
            rows = self.cast.node.daemon.api.get("/v1/workloads?limit=500")["items"]
            told = {address for row in rows for address in row["addresses"]}
            places = " ".join(c for row in rows for c in row["declaredCgroups"])
            self.known |= {p.uid for p in self.cast.node.pods if p.uid.replace("-", "_") in places and set(p.ips) <= told}
        return pod.uid in self.known

    def start(self, pod):
        return pod, self.fleet.start(pod, *(attempt for attempt, _ in self.expected[pod.who]))

    def judge(self, pod, future):
        self.done += 1
        for (attempt, wanted), found in zip(self.expected[pod.who], future.result(PATIENCE), strict=True):
            if found["result"] != wanted:
                self.wrong.append((pod.who, pod.ip, attempt, f"wanted {wanted}", found))

    def check(self, count):
        assert self.wrong == [], self.wrong[:10]
        assert self.done == count
        assert self.leaks() == self.before, "packets of a denied call arrived"
        status = self.cast.node.status()
        assert status["problems"] == [] and status["phase"] == "enforcing"


def test_two_hundred_pods_at_once(cast, fleet):
    pods, started = Pods(cast, fleet), time.monotonic()
    made = [pods.plan(i) for i in range(AT_ONCE)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pod: pod.make_network(), made))
    for pod in made:
        pod.tell()
    told = time.monotonic()
    settled(cast.node)
    for pod in (made[0], made[-1]):
        known(cast.node, located(cast.node, pod))
    took, begun = time.monotonic() - told, time.monotonic()
    for pod, future in [pods.start(pod) for pod in made]:
        pods.judge(pod, future)
    print(f"{AT_ONCE} pods: made in {told - started:.1f} s; casad knew them {took:.2f} s later; first attempts in {time.monotonic() - begun:.1f} s")
    pods.check(AT_ONCE)
    rows = {row["name"]: row for row in cast.node.daemon.api.get("/v1/workloads?limit=500")["items"]}
    assert len(rows["agent"]["instances"]) == AT_ONCE // 2 + 1 and len(rows["rogue"]["instances"]) == AT_ONCE // 4


def test_pods_that_come_and_go(cast, fleet):
    """PER_SECOND new pods a second, each told AHEAD seconds before its first container (or more, where casad has not read it yet), and gone
    LIFE seconds after; their addresses go to pods of other workloads at once."""
    node, count = cast.node, int(PER_SECOND * SECONDS)
    before = instances(node)
    node.cni = Recycled(node.cni, int(PER_SECOND * (AHEAD + LIFE + GUESTS_WAIT)) + 20)
    pods, planned, running = Pods(cast, fleet), deque(), deque()
    began, made, last, slowest = time.monotonic(), 0, 0.0, 0.0
    while made < count or planned or running:
        now = time.monotonic()
        if made < count and now >= began + made / PER_SECOND:
            planned.append((now, pods.plan(made).make_network().tell()))
            made, last = made + 1, now - began
        elif planned and now >= planned[0][0] + AHEAD and pods.is_known(planned[0][1]):
            slowest = max(slowest, now - planned[0][0])
            running.append((now, *pods.start(planned.popleft()[1])))
        elif running and now >= running[0][0] + LIFE and (running[0][2].done() or now >= running[0][0] + PATIENCE):
            _, pod, future = running.popleft()
            pods.judge(pod, future)
            pod.remove()
        else:
            time.sleep(0.002)
    took = time.monotonic() - began
    print(f"{count} pods in {took:.1f} s, {count / last:.1f} a second; none was waited for more than {slowest:.2f} s")
    node.cni.close()
    pods.check(count)
    until(lambda: instances(node) == before, 10, "casad has forgotten all of them")


def instances(node):
    rows = node.daemon.api.get("/v1/workloads?limit=500")["items"]
    return {(row["namespace"], row["name"]): len(row["instances"]) for row in rows if row["instances"]}


# -- a rolling update of both ends, under traffic


def traffic(cast, caller):
    """Only short conversations: one that is open when its server's pod ends, ends with it."""
    services = cast.mcp_service.ips
    allowed = caller.load("allowed-short", tcp=[(ip, WEB) for ip in services], udp=[(ip, UDP) for ip in services], pause=0.01)
    denied = caller.load("denied", tcp=[(ip, WEB) for ip in cast.vault_service.ips], udp=[(ip, UDP) for ip in cast.vault_service.ips], pause=0.01)
    return allowed, denied


def harvest(loads):
    allowed, denied = (load.stop() for load in loads)
    assert allowed["failures"] == [] and allowed["retransmits"] == 0 and allowed["done"] > 20, allowed
    assert denied["failures"] == [] and denied["done"] > 20, denied
    return allowed["done"], denied["done"]


def replace(cast, pods, owner, who, containers=None, start=None):
    """One step of a Deployment's rolling update: a new pod, ready; then the end of the oldest."""
    new = cast.node.run_pod(who, owner, labels={"app": who.split("/")[1]}, containers=containers)
    located(cast.node, new)
    start(new)
    pods.append(new)
    return pods.pop(0)


def test_a_rolling_update_of_the_server_under_traffic(cast):
    node, owner, service = cast.node, cast.mcp.owner, cast.mcp_service
    # kube-proxy forgets the UDP conversations with an endpoint that is gone, so that a port which is used again is not led there.
    node.netns.sysctl(netfilter__nf_conntrack_udp_timeout=1, netfilter__nf_conntrack_udp_timeout_stream=1)
    before = cast.vault_served.report()
    loads, pods = traffic(cast, cast.caller), [cast.mcp]
    for _ in range(4):
        owner = owner.rolled()
        old = replace(cast, pods, owner, "tools/mcp", cast.mcp.containers, serve)
        service.pods = list(pods)
        old.tell(deleting=True)
        node.sync(service)
        time.sleep(1.0)  # as a preStop hook does: those who have the old endpoint finish
        old.remove()
    print("allowed, denied:", harvest(loads))
    assert cast.vault_served.report() == before


def test_a_rolling_update_of_the_caller_under_traffic(cast):
    """Each new pod calls from its first moment, and until it is ended."""
    owner = cast.agent.owner
    before = cast.vault_served.report()
    pods, loads = [cast.agent], {cast.agent: traffic(cast, cast.caller)}

    def start(pod):
        loads[pod] = traffic(cast, pod.puppet("agent"))
    for _ in range(4):
        owner = owner.rolled()
        old = replace(cast, pods, owner, "team/agent", start=start)
        old.tell(deleting=True)
        time.sleep(0.5)
        harvest(loads.pop(old))
        old.remove()
    harvest(loads.popitem()[1])
    assert cast.vault_served.report() == before
