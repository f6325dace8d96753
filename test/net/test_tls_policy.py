"""spec.tokens.tlsObserver from the policy file to the API: what a policy asks for is observed, and not longer than it does."""
import subprocess
import time

import pytest

import tls_bed as tls
from harness import objects
from harness.world import until
import lab

PORT = 8443


@pytest.fixture
def https(new_world):
    """agents/agent, observed, may call the HTTPS server of tools/tool."""
    world = new_world()
    work = world.daemon.work
    key, certificate = work / "key.pem", work / "cert.pem"
    lab.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", str(key),
            "-out", str(certificate), "-subj", "/CN=localhost")
    world.agent = world.puppet("agents/agent").cgroup
    world.policy = objects.policy("agents/agent", f"tools/tool:{PORT}")
    world.policy["spec"]["tokens"] = {"tlsObserver": "auto"}
    tool = objects.policy("tools/tool")
    tool["spec"]["allowedSources"] = [{"name": "agent", "namespace": "agents"}]
    world.put("agent.yaml", world.policy)
    world.put("tool.yaml", tool)
    world.start()
    world.cgroup("tools/tool").popen(["/usr/bin/python3", "-c", tls.HTTPS_SERVER, str(PORT), str(certificate), str(key)],
                                     stdin=subprocess.DEVNULL)
    until(lambda: curl(world, "ready")[0] == 0, 10, "the server answers")
    return world


def curl(world, token):
    """-> exit status, process"""
    p = world.agent.popen(["curl", "-sk", "--http1.1", "-m", "5", "-o", "/dev/null", "-H", f"Authorization: Bearer {token}",
                           f"https://127.0.0.1:{PORT}/x/y?z=1"], stdin=subprocess.DEVNULL)
    return p.wait(10), p.pid


def ledger(world, token):
    try:
        return world.daemon.api.get("/v1/tokens/" + tls.sha256(token))
    except lab.LabError:
        return None


def probes_of(world):
    return tls.probes_of(world.daemon.process.pid)


def test_a_policy_has_its_workload_observed(https):
    keeper = https.agent.popen(["/usr/bin/python3", "-c", "import ssl, time; time.sleep(100)"], stdin=subprocess.DEVNULL)
    until(lambda: len(probes_of(https)) >= 10, 10, "libssl has its probes")
    token = tls.jwt("cG9saWN5")
    assert curl(https, token)[0] == 0
    row = until(lambda: ledger(https, token), what="the token is in the ledger")
    assert (row["shape"], row["counts"]["use"], row["firstPresenter"]["workload"]) == ("jwt", 1, "agent")
    assert "tls-uprobe" in https.workload_view("agents/agent")["tokenCoverage"]["kinds"]
    assert https.status()["features"]["tls observer"] == "on"
    # The callee is a managed workload as well, but its policy asks for nothing.
    assert "tls-uprobe" not in https.workload_view("tools/tool")["tokenCoverage"]["kinds"]

    del https.policy["spec"]["tokens"]
    https.put("agent.yaml", https.policy)
    until(lambda: not probes_of(https), 15, "no probe is left")
    other = tls.jwt("bm9ib2R5")
    assert curl(https, other)[0] == 0
    time.sleep(0.3)
    assert ledger(https, other) is None
    keeper.kill()
    keeper.wait()


def test_http2_inside_tls_is_covered(https):
    """What was read counts as HTTP/2, and nothing of it as unread."""
    keeper = https.agent.popen(["/usr/bin/python3", "-c", "import ssl, time; time.sleep(100)"], stdin=subprocess.DEVNULL)
    until(lambda: len(probes_of(https)) >= 10, 10, "libssl has its probes")
    work = https.daemon.work
    https.put("agent-h2.yaml", {**objects.policy("agents/agent", f"tools/tool:{PORT + 1}"), "metadata": {"namespace": "agents", "name": "agent-h2"}})
    https.cgroup("tools/tool").popen(["nghttpd", "-a", "127.0.0.1", "-d", str(work), str(PORT + 1), str(work / "key.pem"), str(work / "cert.pem")],
                                     stdin=subprocess.DEVNULL)
    token = tls.jwt("cG9saWN5Mg")
    url = f"https://127.0.0.1:{PORT + 1}"
    argv = ["curl", "-sk", "--http2", "-m", "5", "-H", f"Authorization: Bearer {token}", "-o", "/dev/null", f"{url}/x/y?z=1", "-o", "/dev/null", f"{url}/z"]
    until(lambda: https.agent.popen(argv, stdin=subprocess.DEVNULL).wait(10) == 0, 10, "the server answers")
    row = until(lambda: ledger(https, token), what="the token is in the ledger")
    until(lambda: ledger(https, token)["counts"]["use"] >= 2, what="both requests")
    assert {s["request"] for s in row["path"]} <= {"GET /x/y", "GET /z"} and {s["via"] for s in row["path"]} == {"tls"}
    coverage = https.workload_view("agents/agent")["tokenCoverage"]
    assert "tls-uprobe" in coverage["kinds"] and coverage["connections"]["http2"] >= 1 and coverage["connections"]["tls"] >= 1
    assert "wire-h2" not in coverage["kinds"] and not any(coverage["unread"].get(why) for why in ("truncated", "ambiguous", "start"))
    keeper.kill()
    keeper.wait()
