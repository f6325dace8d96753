"""A world for one test or one module: an enforcement root of its own, a policy directory, workloads, and (when enforced)
a casad over them. Without enforcement the same attempts run and must get through: only then does a denial mean anything.
"""
import contextlib
import itertools
import os
import subprocess
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlencode

from harness import TOP, objects
from harness.puppet import Puppet
import lab

_numbers = itertools.count(1)


def binary():
    return lab.find_binary(TOP)


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def slice_path(namespace):
    """systemd's real path: a-b.slice lives in a.slice."""
    parts = namespace.split("-")
    return "/".join("-".join(parts[:i + 1]) + ".slice" for i in range(len(parts)))


def cgroup_of(who):
    """'namespace/name' -> path below the root by the systemd convention"""
    namespace, name = who.split("/")
    return f"{slice_path(namespace)}/{name}.service"


def flat(row):
    """A row of /v1/flows as one level: verdict, reason, src_workload, src_pid, dst_port, ..."""
    result = {k: v for k, v in row.items() if not isinstance(v, dict)}
    result["id"] = int(result["id"])  # strings on the wire: JSON numbers lose what is above 2^53
    for end, prefix in (("source", "src_"), ("destination", "dst_")):
        party = row.get(end) or {}
        process = party.get("process") or {}
        result.update({prefix + k: v for k, v in party.items() if k != "process"})
        result.update({prefix + k: v for k, v in process.items()})
    return result


def matches(row, wanted):
    for key, value in wanted.items():
        seen = row.get(key)
        if seen not in value if isinstance(value, (set, frozenset)) else seen != value:
            return False
    return True


def until(condition, timeout=5.0, what="condition", pause=0.01):
    """The first true value of condition(); fails the test with the last one."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s; last seen: {value!r}")
        time.sleep(pause)


class World:
    def __init__(self, outside, enforced=True, config=None, arguments=(), enter=()):
        self.enforced, self.outside = enforced, outside
        name = f"casad-test-{os.getpid()}-{next(_numbers)}"
        self._scratch = tempfile.TemporaryDirectory(prefix=name + "-")
        work = Path(self._scratch.name)
        self.root = lab.Cgroup(lab.find_cgroup2() / name).make()
        config_path = None
        if config is not None:
            config_path = work / "casad.yaml"
            config_path.write_text(config)
        self.daemon = lab.Casad(binary(), self.root.path, work, lab.BPFFS / name, config=config_path, arguments=arguments,
                                enter=enter)
        self.puppets, self.closed = [], False
        self._kept = contextlib.ExitStack()
        self._port = itertools.count(5000)

    # -- what there is

    def put(self, file, *things):
        """Writes a policy file by rename; objects, or one string as it is."""
        is_text = len(things) == 1 and isinstance(things[0], str)
        lab.write_file(self.daemon.policy_dir / file, things[0] if is_text else objects.text(*things))

    def remove_file(self, file):
        (self.daemon.policy_dir / file).unlink()

    def cgroup(self, path):
        """A cgroup below the root; 'namespace/name' means the systemd convention, a leading '/' a path as it is."""
        return lab.Cgroup(self.root.path / (path[1:] if path.startswith("/") else cgroup_of(path))).make()

    def puppet(self, who, comm=None):
        p = Puppet(self.cgroup(who), comm or who.rsplit("/", 1)[-1].split(".")[0][:15])
        self.puppets.append(p)
        return p

    def host_puppet(self, comm="host-proc", outside=False):
        """A process of this host outside the enforcement root; outside: in the other network namespace."""
        p = Puppet(None, comm, outside=self.outside if outside else None)
        self.puppets.append(p)
        return p

    def keep(self, thing):
        """A process, or what has a close(): it ends when the world does, however that comes about."""
        if isinstance(thing, subprocess.Popen):
            self._kept.callback(thing.wait)
            self._kept.callback(thing.kill)
        else:
            self._kept.callback(thing.close)
        return thing

    def end(self, puppet):
        puppet.close()
        self.puppets.remove(puppet)

    def port(self):
        """A port that no other test of this world uses: denials are added up per port."""
        return next(self._port)

    # -- the daemon

    def start(self):
        """Starts casad and waits until the policy directory as it is now is in force: one that adopted an earlier
        generation is ready (for that one) a moment before."""
        if self.enforced:
            self.daemon.start()
            until(lambda: self.status().get("policyDigest"), what="the policy directory is in force")
        return self

    def status(self):
        return self.daemon.api.get("/v1/status")

    def flows(self, since=None, **query):
        if since is not None:
            query["since"] = rfc3339(since)
        query.setdefault("limit", 500)
        return [flat(row) for row in self.daemon.api.get("/v1/flows?" + urlencode(query))["items"]]

    def find_flow(self, since=None, **match):
        return next((row for row in self.flows(since) if matches(row, match)), None)

    def wait_flow(self, since=None, timeout=5.0, **match):
        """The newest row that has every field=value (a set: one of); fails showing what is there."""
        end = time.monotonic() + timeout
        while True:
            rows = self.flows(since)
            for row in rows:
                if matches(row, match):
                    return row
            if time.monotonic() > end:
                shown = ("time", "count", "verdict", "reason", "direction", "protocol", "src_workload", "src_pid", "src_comm",
                         "src_address", "dst_workload", "dst_address", "dst_port", "policy")
                newest = "\n".join("  " + " ".join(f"{k}={r.get(k)}" for k in shown) for r in rows[:12])
                raise AssertionError(f"no flow with {match} within {timeout} s; {len(rows)} rows, newest:\n{newest}")
            time.sleep(0.02)

    def policy_view(self, who):
        namespace, name = who.split("/")
        return next((p for p in self.daemon.api.get("/v1/policies")["items"]
                     if (p.get("namespace"), p.get("name")) == (namespace, name)), None)

    def workload_view(self, who):
        namespace, name = who.split("/")
        return next((w for w in self.daemon.api.get("/v1/workloads")["items"]
                     if (w.get("namespace"), w.get("name")) == (namespace, name)), None)

    def change(self, file, *things, timeout=5.0):
        """put(), then waits until a new generation is in force; returns the moment it was seen."""
        before = self.status()["generation"]
        self.put(file, *things)
        until(lambda: self.status()["generation"] != before, timeout, "a new generation", pause=0.005)
        return time.monotonic()

    # -- what must become of an attempt

    def denied(self, attempt, reason, error="EPERM", flow=True, **match):
        """attempt() must fail with `error` (a set: one of) and be in /v1/flows; without enforcement it must get through.
        flow=False: no row is looked for. Returns the Outcome."""
        since = time.time() - 0.05
        outcome = attempt()
        if not self.enforced:
            assert outcome.ok or outcome.error == "unsupported", f"unenforced, and yet not through: {outcome}"
            return outcome
        assert not outcome.ok, f"got through: {outcome}"
        wanted = error if isinstance(error, (set, frozenset)) else {error}
        assert outcome.error in wanted, f"{outcome}: wanted {wanted}"
        if flow:
            match = {"verdict": "DENIED", "reason": reason, "src_pid": outcome.pid, "src_comm": outcome.comm, **match}
            outcome.row = self.wait_flow(since, **{k: v for k, v in match.items() if v is not None})
        return outcome

    def allowed(self, attempt, flow=True, **match):
        """attempt() must get through, and an ALLOWED row must tell of it (`flow=False`: no row is looked for)."""
        since = time.time() - 0.05
        outcome = attempt()
        assert outcome.ok, f"not through: {outcome}\n{self.daemon.log_tail(8) if self.enforced else ''}"
        if self.enforced and flow:
            match = {"verdict": "ALLOWED", "src_pid": outcome.pid, "src_comm": outcome.comm, **match}
            outcome.row = self.wait_flow(since, **{k: v for k, v in match.items() if v is not None})
        return outcome

    def close(self):
        if self.closed:
            return
        self.closed = True
        with contextlib.ExitStack() as ends:
            ends.callback(self._scratch.cleanup)
            ends.callback(self.root.remove)
            ends.callback(self.daemon.close)
            ends.push(self._kept)
            for p in self.puppets:
                p.close()
