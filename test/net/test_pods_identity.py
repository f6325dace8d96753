"""Which workload a pod is: by the uid in its cgroup's path and the object of that uid, from its first packet to its cgroup's end. Runs for
both cgroup drivers."""
import pytest

from harness.kube import Owner, ServicePort
from harness.objects import policy
from harness.world import until
from podcast import HTTP, WEB, known, located, serve, settled

QUALITIES = ["guaranteed", "burstable", "besteffort"]
FIRST_SECONDS = 10  # for a container to start and make its first attempts, on a machine with other work


@pytest.fixture
def cast(node_of_driver):
    with node_of_driver.act() as there:
        yield there


def planned(cast, who, owner=None, **options):
    """As the scheduler leaves it: casad knows the object, and nothing of the pod is on the node."""
    pod = cast.node.pod(who, owner, **options)
    pod.tell(phase="Pending", told=False)
    return known(cast.node, pod)


def first_attempts(cast, fleet, pod, *more):
    """The results of what the pod's first container does at once: a call of the vault, one of tools/mcp, and more."""
    if not pod.netns:
        pod.make_network()
    pod.tell()
    settled(cast.node)
    return results(fleet, pod, ("tcp", cast.vault_service.ips[0], WEB), ("tcp", cast.mcp_service.ips[0], WEB), *more)


def results(fleet, pod, *attempts):
    return [a["result"] for a in fleet.start(pod, *attempts).result(FIRST_SECONDS)]


# -- the kinds of owners, the qualities of service


@pytest.mark.parametrize("qos", QUALITIES)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Pod"])
def test_the_first_packet_of_a_pod_is_under_its_policy(cast, fleet, kind, qos):
    """The object was there first, so enforcement begins with the mkdir of the cgroup; only then is there a process, and no time between
    its start and its first packet."""
    name = f"{kind.lower()}-{qos}"
    cast.node.put("more.yaml", policy(f"team/{name}", f"tools/mcp:{WEB}", kind=kind))
    pod = planned(cast, f"team/{name}", None if kind == "Pod" else Owner(kind, name), qos=qos)
    served = cast.vault_served.report()["tcp"]
    assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
    assert cast.vault_served.report()["tcp"] == served
    cast.node.wait_flow(verdict="DENIED", src_workload=name, src_kind=kind, reason="peer_not_allowed", dst_address=cast.vault_service.ips[0])


def test_a_pod_whose_address_nobody_knows_yet(cast, fleet):
    """Kubelet tells of it a moment after the pod has it. What the pod calls is held to its policy all the same; who is called cannot know
    it, and lets it in when kubelet has told."""
    pod = planned(cast, "team/agent", Owner("Deployment", "agent")).make_network()
    attempts = fleet.start(pod, ("tcp", cast.vault_service.ips[0], WEB), ("tcp-until", cast.mcp_service.ips[0], WEB))
    pod.tell()
    assert [a["result"] for a in attempts.result(FIRST_SECONDS)] == ["EPERM", "ok"]


def test_a_second_container_and_a_restarted_one(cast, fleet):
    pod = planned(cast, "team/agent", Owner("Deployment", "agent"))
    assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
    for container in ("beside", "app"):
        pod.ids.pop(container, None)  # a container that starts again is another one, with a cgroup of its own
        assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"], container


def test_a_pod_that_is_scheduled_anew(cast, fleet):
    """Other uid, other address, same workload; no policy was touched."""
    owner, policies = Owner("StatefulSet", "set"), cast.node.daemon.policy_dir / "more.yaml"
    cast.node.put("more.yaml", policy("team/set", f"tools/mcp:{WEB}", kind="StatefulSet"))
    written = policies.stat().st_mtime_ns
    seen = set()
    for _ in range(3):
        pod = planned(cast, "team/set", owner, name="set-0")
        assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
        seen.add((pod.uid, pod.ip))
        pod.remove()
    assert len(seen) == 3 and policies.stat().st_mtime_ns == written


def test_a_new_template(cast, fleet):
    """A rolling update: the pods of another ReplicaSet are the same Deployment's, beside those of the one before."""
    owner = Owner("Deployment", "agent")
    old = planned(cast, "team/agent", owner)
    assert first_attempts(cast, fleet, old) == ["EPERM", "ok"]
    new = planned(cast, "team/agent", owner.rolled())
    assert old.labels != new.labels
    assert first_attempts(cast, fleet, new) == ["EPERM", "ok"]
    assert first_attempts(cast, fleet, old) == ["EPERM", "ok"]


def test_a_pod_whose_object_comes_late(cast, fleet):
    """Until then it is nobody's: it may call whom nobody guards. From then on it is held, although it runs."""
    served = serve(cast.neighbour, tcp=[7000], udp=[])
    pod = cast.node.pod("team/agent", Owner("Deployment", "agent")).make_network()
    caller = pod.puppet("early")
    assert caller.attempt("tcp", (cast.neighbour.ip, 7000)).ok
    pod.tell()
    until(lambda: caller.attempt("tcp", (cast.neighbour.ip, 7000)).error == "EPERM", what="the object is in force")
    located(cast.node, pod)
    assert caller.attempt("tcp", (cast.mcp_service.ips[0], WEB)).ok
    assert served.report()["tcp"] >= 1


# -- who it is not


def not_let_in(cast, caller, workload=None, host=None):
    """tools/mcp refuses the call of somebody whom nobody holds back: of that workload, or of none."""
    outcome = cast.node.denied(lambda: caller.attempt("tcp", (host or cast.mcp.ip, HTTP), timeout=0.5), "source_not_allowed", "timeout",
                               direction="ingress", src_pid=None, src_comm=None, src_workload=workload, dst_workload="mcp")
    assert outcome.row.get("src_workload") == workload

@pytest.mark.parametrize("kind", ["Job", "DaemonSet", "StatefulSet", "ReplicaSet"])
def test_another_owner_of_the_same_name_inherits_nothing(cast, fleet, kind):
    """team/agent is a Deployment, and its policy says so."""
    pod = planned(cast, "team/agent", Owner(kind, "agent"))
    assert first_attempts(cast, fleet, pod, ("tcp", cast.mcp.ip, HTTP)) == ["EPERM", "EPERM", "EPERM"]


def test_a_job_of_the_same_name_as_one_before(cast, fleet):
    """Neither of the two may do anything, and what one was does not come back with the other."""
    for _ in range(2):
        pod = planned(cast, "team/batch", Owner("Job", "batch"))
        assert first_attempts(cast, fleet, pod) == ["EPERM", "EPERM"]
        pod.remove()


def test_a_uid_that_comes_again_is_whose_object_says(cast, fleet):
    first = planned(cast, "team/agent", Owner("Deployment", "agent"))
    assert first_attempts(cast, fleet, first) == ["EPERM", "ok"]
    first.remove()
    until(lambda: not cast.node.root.path.joinpath(cast.node.pod_cgroup(first.qos, first.uid)).exists(), what="the cgroup's end")
    settled(cast.node)
    # Nobody's: it calls whom it likes as nobody, and is not let in where the agent was.
    second = cast.node.pod("team/other", Owner("Deployment", "other"), uid=first.uid).make_network()
    free = second.puppet("nobody")
    not_let_in(cast, free)
    # And with an object, that of a workload that may do nothing.
    known(cast.node, second.tell())
    cast.may_not(free, host=cast.mcp.ip, port=HTTP, reason="no_policy", src_workload="other")


# -- pods on their nodes' network


def test_a_pod_on_the_nodes_network(cast, fleet):
    """Its cgroup tells who it is, in the namespace of the node's own processes, which are held to nothing."""
    cast.node.put("more.yaml", policy("team/hosted", f"tools/mcp:{WEB}"))
    pod = planned(cast, "team/hosted", Owner("Deployment", "hosted"), host_network=True)
    assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
    caller = pod.puppet("hosted")
    cast.may(caller, src_workload="hosted", dst_address=cast.mcp_service.ips[0])
    cast.may_not(caller, src_workload="hosted", dst_address=cast.vault_service.ips[0])
    host = cast.node.node_puppet("bystander")
    serve(cast.neighbour, tcp=[7001], udp=[])
    assert host.attempt("tcp", (cast.neighbour.ip, 7001)).ok
    assert caller.attempt("tcp", (cast.neighbour.ip, 7001)).error == "EPERM"


# -- its end


def test_a_pod_that_is_being_deleted_keeps_its_policy(cast, fleet):
    """With its deletionTimestamp all of it; when the object is gone too, the cgroup is still the workload's, as long as it is there."""
    pod = planned(cast, "team/agent", Owner("Deployment", "agent"))
    assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
    caller = pod.puppet("leaving")
    pod.tell(deleting=True)
    settled(cast.node)
    cast.may(caller, src_workload="agent")
    cast.may_not(caller, src_workload="agent")
    pod.untell()
    settled(cast.node)
    cast.may_not(caller, src_workload="agent")
    pod.ids.clear()
    assert results(fleet, pod, ("tcp", cast.vault_service.ips[0], WEB)) == ["EPERM"], "a container that starts now"


def test_a_pod_whose_object_goes_while_no_casad_runs(cast, fleet):
    """The kernel knows whose its cgroup is: a casad that starts then finds it there, and the pod keeps its policy."""
    pod = planned(cast, "team/agent", Owner("Deployment", "agent"))
    assert first_attempts(cast, fleet, pod) == ["EPERM", "ok"]
    caller = pod.puppet("left")
    cast.node.daemon.kill9()
    pod.untell()
    cast.node.start()
    settled(cast.node)
    cast.may_not(caller, src_workload="agent")
    pod.ids.clear()
    assert results(fleet, pod, ("tcp", cast.vault_service.ips[0], WEB)) == ["EPERM"], "a container that starts now"


# -- its address


def give_again(cast, pod):
    """The next pod gets this one's address."""
    number = pod.number
    pod.remove_cgroup()
    pod.remove_network()
    cast.node.cni.free.remove(number)
    cast.node.cni.free.insert(0, number)


@pytest.mark.parametrize("object_is", ["gone", "being deleted"])
def test_an_address_that_comes_again_is_not_the_caller_it_was(cast, fleet, object_is):
    """The one before was team/agent, which tools/mcp lets in."""
    before = planned(cast, "team/agent", Owner("Deployment", "agent"))
    assert first_attempts(cast, fleet, before) == ["EPERM", "ok"]
    located(cast.node, before)
    give_again(cast, before)
    before.untell() if object_is == "gone" else before.tell(deleting=True)
    settled(cast.node)
    after = cast.node.run_pod("free/other", Owner("Deployment", "other"))
    assert after.ips == before.ips
    located(cast.node, after)
    caller = after.puppet("heir")
    for host in cast.mcp.ips:
        not_let_in(cast, caller, "other", host)


def test_an_address_that_comes_again_is_nobodys_until_an_object_says(cast):
    before = cast.node.run_pod("team/agent", Owner("Deployment", "agent"))
    located(cast.node, before)
    give_again(cast, before)
    before.untell()
    settled(cast.node)
    after = cast.node.pod("free/other", Owner("Deployment", "other")).make_network()
    not_let_in(cast, after.puppet("heir"))


def test_an_address_that_comes_again_is_not_the_server_it_was(cast):
    """The one before was an endpoint of tools/mcp, which the agent may call."""
    extra = cast.run("tools/mcp", "Deployment", containers=cast.mcp.containers)
    served = serve(extra)
    cast.mcp_service.pods.append(extra)
    cast.node.sync(cast.mcp_service)
    located(cast.node, extra)
    cast.may(host=extra.ip, port=HTTP, dst_workload="mcp")
    assert served.report()["tcp"] == 1
    give_again(cast, extra)
    cast.mcp_service.pods.remove(extra)
    cast.node.sync(cast.mcp_service)
    extra.untell()
    settled(cast.node)
    after = cast.node.pod("free/other", Owner("Deployment", "other")).make_network()
    others = serve(after)
    cast.may_not(host=after.ip, port=HTTP, reason="external_not_allowed")
    located(cast.node, after.tell())
    cast.may_not(host=after.ip, port=HTTP, dst_workload="other")
    assert others.report()["tcp"] == 0


# -- --strict


def test_strict_denies_a_pod_that_no_object_tells_of(new_node, fleet):
    node = new_node(arguments=["--strict"])
    neighbour = node.run_pod("free/neighbour", Owner("Deployment", "neighbour"))
    node.put("policies.yaml", policy("team/agent", "free/neighbour:7000"))
    node.service("free/neighbour", [neighbour], ServicePort(7000))
    node.start()
    serve(neighbour, tcp=[7000], udp=[7000])
    located(node, neighbour)
    pod = node.pod("team/agent", Owner("Deployment", "agent")).make_network()
    calls = [(kind, host, 7000) for kind in ("tcp", "udp") for host in neighbour.ips]
    assert results(fleet, pod, *calls) == ["EPERM"] * 4
    caller = pod.puppet("early")
    outcome = node.denied(lambda: caller.attempt("tcp", (neighbour.ip, 7001)), "undeclared_cgroup")
    assert outcome.row.get("src_workload") is None
    # Nor may anybody call it.
    there = pod.puppet("server").serve(tcp=[("0.0.0.0", 7002)])
    assert neighbour.puppet("caller").attempt("tcp", (pod.ip, 7002), timeout=0.5).error == "timeout"
    assert there.report()["tcp"] == 0
    pod.tell()
    until(lambda: caller.attempt("tcp", (neighbour.ip, 7000)).ok, what="the object is in force")
    # A pod that is known and in no namespace under enforcement, is free.
    other = node.run_pod("free/other", Owner("Deployment", "other"))
    known(node, other)
    assert other.puppet("free").attempt("tcp", (neighbour.ip, 7000)).ok
