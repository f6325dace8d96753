"""State: what outlives the daemon, and what restarts, reloads and bad files must not do. The load tests count every packet
of an allowed flow that was lost, and every one of a denied flow that got through: both must be none."""
import os
import signal
import subprocess
import time

import pytest

from cast import CYCLES, LOOP, SmallCast, TCP_PORT, UDP_PORT, UnderLoad, small_policies
from harness.objects import policy, text
from harness.world import until
import lab


@pytest.fixture
def cast(new_world):
    return SmallCast(new_world()).start()


def hold(puppet, host=LOOP[0]):
    s = puppet.socket("AF_INET6" if ":" in host else "AF_INET")
    assert s.call("connect", [host, TCP_PORT]).ok
    return s


def alive(s):
    return s.call("sendall", "x").ok and s.call("recv", 10).detail == "x"


def enforced(cast, refusal=("EPERM",)):
    """Allowed goes, denied does not; asked of the kernel alone. refusal: with a listener older than casad's maps the packet
    is dropped and the socket ended, since connect() cannot know whose the listener is."""
    assert cast.may().ok and cast.may(port=UDP_PORT).ok and cast.may(host=LOOP[1]).ok
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error in refusal
    assert cast.agent.attempt("udp", (LOOP[1], cast.VAULT_PORT)).error == "EPERM"
    return True


# -- the daemon ends -----------------------------------------------------------------------------------------------------

def test_sigterm_keeps_enforcement(cast):
    s = hold(cast.agent)
    status, seconds = cast.world.daemon.stop()
    assert status == 0 and seconds < 2.0
    assert enforced(cast) and alive(s)


def test_kill_9_keeps_enforcement(cast):
    s = hold(cast.agent)
    cast.world.daemon.kill9()
    assert enforced(cast) and alive(s)


def test_restart_adopts_and_keeps_flows(cast):
    held = [hold(cast.agent, h) for h in LOOP]
    before = cast.world.status()
    assert not before["adopted"]
    for end in (cast.world.daemon.stop, cast.world.daemon.kill9):
        end()
        cast.world.start()
        now = cast.world.status()
        assert now["adopted"] and now["ready"]
        assert now["policyDigest"] == before["policyDigest"]
        assert enforced(cast) and all(map(alive, held))
    cast.may_not()


def test_identities_survive_a_restart(cast):
    before = cast.world.workload_view("agents/agent")["identity"]
    cast.world.daemon.kill9()
    cast.world.put("aaa.yaml", policy("aaa/first", f"tools/mcp:{TCP_PORT}"))
    cast.world.start()
    assert cast.world.workload_view("agents/agent")["identity"] == before
    assert enforced(cast)


def test_second_run_refuses(cast):
    other = lab.Casad(cast.world.daemon.binary, cast.world.root.path, cast.world.daemon.work, cast.world.daemon.bpffs,
                      api_socket=cast.world.daemon.work / "second.sock")
    done = subprocess.run(other.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert "already" in done.stdout.lower() or "another" in done.stdout.lower(), done.stdout
    assert cast.world.status()["ready"] and enforced(cast)


def test_detach_ends_enforcement(cast):
    cast.world.daemon.stop()
    done = cast.world.daemon.detach()
    assert done.returncode == 0, done.stdout
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok
    leftovers = [p for p in cast.world.daemon.bpffs.rglob("*") if not p.is_dir()]
    assert leftovers == []
    cast.world.start()
    assert enforced(cast, refusal=("EPERM", "ECONNABORTED"))


def test_detach_while_the_daemon_runs(cast):
    """Either it refuses, and enforcement stays, or it ends enforcement for good; never something in between."""
    done = cast.world.daemon.detach()
    if done.returncode == 0:
        assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok
    else:
        assert done.stdout.strip() and enforced(cast)


def test_cgroups_made_while_the_daemon_is_dead(cast):
    """A slice and its cgroups vanish and come back, a declared cgroup appears for the first time: the kernel alone knows."""
    cast.world.change("late.yaml", policy("agents/late", f"tools/mcp:{TCP_PORT}"))
    cast.world.daemon.kill9()
    cast.world.end(cast.agent)
    lab.Cgroup(cast.world.root.path / "agents.slice").remove()
    cast.agent = cast.world.puppet("agents/agent")
    enforced(cast)
    late, stray = cast.world.puppet("agents/late"), cast.world.puppet("agents/stray")
    assert cast.may(late).ok
    assert late.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM"
    assert stray.attempt("tcp", (LOOP[0], TCP_PORT)).error == "EPERM"
    cast.world.start()
    enforced(cast)
    cast.may_not(late, src_workload="late")
    instances = until(lambda: cast.world.workload_view("agents/agent")["instances"], what="the instance")
    assert [i["cgroupId"] for i in instances] == [str(cast.agent.cgroup.id())]


def test_policy_changed_while_the_daemon_is_dead(cast):
    s = hold(cast.agent)
    cast.world.daemon.kill9()
    cast.world.put("base.yaml", *small_policies(endpoints=["tools/vault:7001"]))
    assert enforced(cast) and alive(s), "the old generation holds until a daemon says otherwise"
    cast.world.start()
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok
    assert cast.may().error == "EPERM"
    s.call("settimeout", 0.3)
    until(lambda: not alive(s), 2, "the old connection ends")


def test_half_removed_pins_are_repaired(cast):
    """A crash between two steps leaves some pins without the others."""
    cast.world.daemon.kill9()
    pins = sorted(p for p in cast.world.daemon.bpffs.rglob("*") if not p.is_dir())
    assert pins
    link = next((p for p in pins if "connect4" in p.name), pins[0])
    link.unlink()
    cast.world.start()
    assert link.exists(), sorted(p.name for p in pins)
    assert enforced(cast)


# -- under load ----------------------------------------------------------------------------------------------------------

def test_kill_9_and_restart_under_load(cast):
    load = UnderLoad(cast)
    started = time.monotonic()
    for _ in range(CYCLES):
        cast.world.daemon.kill9()
        cast.world.start()
    seconds = time.monotonic() - started
    print(f"{CYCLES} cycles of kill -9 and restart: {seconds / CYCLES * 1000:.0f} ms each")
    load.finish()
    assert cast.world.status()["adopted"]


def test_kill_9_before_it_is_ready_under_load(cast):
    """Killed at any moment of its start: whatever half of the work is done, enforcement holds."""
    load = UnderLoad(cast)
    for cycle in range(min(CYCLES, 60)):
        cast.world.daemon.kill9()
        cast.world.daemon.start(wait=False)
        time.sleep((cycle % 20) * 0.004)
    cast.world.daemon.kill9()
    cast.world.start()
    load.finish()


def test_policy_reloads_under_load(cast):
    load = UnderLoad(cast)
    variants = [(policy("agents/unrelated", f"tools/mcp:{TCP_PORT}"),),
                (policy("agents/unrelated", "tools/vault:7001"), policy("other/thing", f"tools/mcp:{UDP_PORT}"))]
    first = cast.world.status()["generation"]
    for cycle in range(CYCLES):
        cast.world.change("unrelated.yaml", *variants[cycle % 2])
    assert cast.world.status()["generation"] - first >= CYCLES
    load.finish()


# -- files ---------------------------------------------------------------------------------------------------------------

def problems(cast):
    return " ".join(cast.world.status()["problems"])


def test_half_written_file_keeps_the_last_good(cast):
    whole = text(*small_policies(endpoints=["tools/vault:7001"]))
    for end in (len(whole) // 2, len(whole) // 3, 1):
        cast.world.put("base.yaml", whole[:end] + "\n  broken: [unclosed, {\n")
        until(lambda: "base.yaml" in problems(cast), what="the problem is told")
        assert enforced(cast)
    cast.world.put("base.yaml", *small_policies())
    until(lambda: "base.yaml" not in problems(cast), what="the problem is gone")
    assert enforced(cast)


def test_half_written_file_after_a_restart(cast):
    """There is no last good state in memory: nothing that was denied may open."""
    cast.world.daemon.stop()
    whole = text(*small_policies())
    cast.world.put("base.yaml", whole[:len(whole) // 2] + "\n  broken: [unclosed, {\n")
    cast.world.start()
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).error == "EPERM"
    assert problems(cast)


def test_one_bad_file_among_good_ones(cast):
    cast.world.put("bad.yaml", "apiVersion: casa.io/v1alpha1\nkind: CASAPolicie\nmetadata: {name: x, namespace: agents}\n")
    cast.world.change("good.yaml", policy("agents/second", f"tools/mcp:{TCP_PORT}"))
    until(lambda: "bad.yaml" in problems(cast), what="the problem is told")
    assert "CASAPolicy" in problems(cast), "the nearest kind is suggested"
    second = cast.world.puppet("agents/second")
    assert cast.may(second).ok and enforced(cast)


def test_editor_leftovers_are_ignored(cast):
    before = cast.world.status()
    for name in (".hidden.yaml", "base.yaml~", "base.yaml.swp", "#base.yaml#", "notes.txt"):
        (cast.world.daemon.policy_dir / name).write_text(text(policy("agents/agent", "tools/vault:7001")))
    time.sleep(0.5)
    assert cast.world.status()["policyDigest"] == before["policyDigest"]
    assert enforced(cast)


def test_policy_directory_vanishes_and_comes_back(cast):
    folder = cast.world.daemon.policy_dir
    folder.rename(folder.with_name("away"))
    until(lambda: cast.world.status()["problems"], what="the problem is told")
    assert enforced(cast)
    folder.with_name("away").rename(folder)
    until(lambda: not cast.world.status()["problems"], what="the problem is gone")
    assert enforced(cast)


def test_config_map_symlink_swap(new_world):
    """Kubernetes swaps a whole directory by one rename of the symbolic link `..data`."""
    world = new_world()
    folder = world.daemon.policy_dir
    cast = SmallCast(world)
    (folder / "base.yaml").unlink()

    def publish(version, **options):
        target = folder / f"..{version}"
        target.mkdir()
        (target / "base.yaml").write_text(text(*small_policies(**options)))
        (folder / "..data_tmp").symlink_to(target.name)
        (folder / "..data_tmp").rename(folder / "..data")

    publish("one")
    (folder / "base.yaml").symlink_to("..data/base.yaml")
    cast.start()
    assert enforced(cast)
    before = world.status()["generation"]
    publish("two", endpoints=["tools/vault:7001"])
    until(lambda: world.status()["generation"] != before, what="the swap is seen")
    assert cast.agent.attempt("tcp", (LOOP[0], cast.VAULT_PORT)).ok and cast.may().error == "EPERM"


def test_invalid_policy_denies_all(cast):
    bad = policy("agents/agent", f"tools/mcp:{TCP_PORT}")
    bad["spec"]["allowedEndpoints"][0]["port"] = 99999
    cast.world.change("base.yaml", *small_policies()[1:], bad)
    cast.world.denied(lambda: cast.agent.attempt("tcp", (LOOP[0], TCP_PORT)), "policy_invalid", dst_port=TCP_PORT,
                      src_workload="agent")
    view = cast.world.policy_view("agents/agent")
    assert view["phase"] == "Failed" and "port" in view["message"]
    cast.world.change("base.yaml", *small_policies())
    assert enforced(cast)


def test_removed_policy_leaves_no_hole(cast):
    """The namespace is still a MAS namespace by its other policy: the agent is now undeclared or without policy."""
    cast.world.change("other.yaml", policy("agents/other", f"tools/mcp:{TCP_PORT}"))
    cast.world.change("base.yaml", *small_policies()[1:])
    assert cast.may().error == "EPERM"
    cast.world.wait_flow(verdict="DENIED", reason={"undeclared_cgroup", "no_policy"}, dst_port=TCP_PORT, src_pid=cast.agent.pid)


def test_policy_states(cast):
    cast.world.change("more.yaml", policy("agents/absent", f"tools/mcp:{TCP_PORT}"),
                      policy("agents/agent2", "nowhere/nothing:1", target="agent"))
    assert cast.world.policy_view("agents/agent")["phase"] == "Active"
    assert cast.world.policy_view("agents/absent")["phase"] == "Pending"
    unresolved = cast.world.policy_view("agents/agent2")
    assert unresolved["phase"] == "Active" and "nothing" in unresolved["message"]


def test_a_generation_that_does_not_fit(new_world):
    """Refused before anything changes: the old generation stays in force, and status says why."""
    cast = SmallCast(new_world(config="limits: {cgroups: 16}\n")).start()
    assert enforced(cast)
    before = cast.world.status()
    many = [policy(f"agents/w{i}", f"tools/mcp:{TCP_PORT}") for i in range(40)]
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "agents", "name": f"w{i}", "annotations": {
        "casa.io/cgroup": f"agents.slice/w{i}.service"}}} for i in range(40)]
    for i in range(40):
        cast.world.cgroup(f"agents/w{i}")
    cast.world.put("many.yaml", *many, *pods)
    until(lambda: "fit" in problems(cast) or "limit" in problems(cast) or "full" in problems(cast), what="the problem is told")
    now = cast.world.status()
    assert (now["generation"], now["policyDigest"]) == (before["generation"], before["policyDigest"])
    assert enforced(cast)
    cast.world.remove_file("many.yaml")
    until(lambda: not cast.world.status()["problems"], what="the problem is gone")
    assert enforced(cast)


def test_nothing_is_left(new_world):
    """After a test's world has closed there is no pin, no cgroup and no process of it."""
    world = new_world()
    cast = SmallCast(world).start()
    assert enforced(cast)
    pids, root, pins = [p.pid for p in world.puppets], world.root.path, world.daemon.bpffs
    world.close()
    assert not root.exists() and not pins.exists() and pins.parent == lab.BPFFS
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    world.close()  # closing twice is fine
