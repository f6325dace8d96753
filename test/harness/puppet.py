"""The test's side of puppet_program.py: one process in one cgroup, as an object with methods."""
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

PROGRAM = Path(__file__).with_name("puppet_program.py")
PYTHON = sys.executable


class Outcome:
    """What became of one action inside a workload. `ok`: it got through."""

    def __init__(self, reply, who):
        self.ok = reply["ok"]
        self.error, self.stage = reply.get("error"), reply.get("stage")
        self.detail = reply.get("detail", reply.get("result"))
        self.ms, self.ended = reply.get("ms"), reply.get("ended")
        self.pid, self.comm = who.pid, who.comm

    def __repr__(self):
        state = f"got through: {self.detail}" if self.ok else f"{self.error} at {self.stage} ({self.detail})"
        return f"<{self.comm}[{self.pid}] {state} after {self.ms} ms>"


class Puppet:
    """start it in a cgroup (a lab.Cgroup), or with cgroup=None as a process of the host."""

    def __init__(self, cgroup, comm, outside=None):
        self.cgroup, self.comm = cgroup, comm
        argv = [PYTHON, "-I", "-S", "-B", str(PROGRAM), comm]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        if cgroup is not None:
            self.process = cgroup.popen(argv, outside=outside, **pipes)
        else:
            self.process = subprocess.Popen([*(outside.enter() if outside else []), *argv], **pipes)
        self._waiting, self._lock, self._next = {0: Future()}, threading.Lock(), 1
        hello = self._waiting[0]
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pid = hello.result(10)["result"]

    def _read(self):
        for line in self.process.stdout:
            reply = json.loads(line)
            self._waiting.pop(reply["id"]).set_result(reply)
        for future in list(self._waiting.values()):
            future.set_exception(RuntimeError(f"puppet {self.comm} ended"))

    def begin(self, op, background=True, **request):
        """-> a Future of the raw reply"""
        future = Future()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._waiting[number] = future
            self.process.stdin.write(json.dumps({"id": number, "op": op, "background": background, **request}) + "\n")
            self.process.stdin.flush()
        return future

    def ask(self, op, wait=90.0, **request):
        try:
            reply = self.begin(op, background=False, **request).result(wait)
        except FutureTimeout:
            raise AssertionError(f"puppet {self.comm}: {op} {request} gave no answer within {wait} s") from None
        if reply.get("stage") == "puppet":
            raise AssertionError(f"puppet {self.comm}: {op} {request}: {reply['error']}")
        return reply

    def attempt(self, attempt, to=None, also=None, **options):
        """One attempt of probe.py, by its name."""
        if self.cgroup is not None:
            options.setdefault("cgroup", str(self.cgroup.path))
        reply = self.ask("attempt", attempt=attempt, to=to, also=also, **options)
        return Outcome(reply["result"], self)

    def socket(self, family="AF_INET", kind="SOCK_STREAM", protocol=0):
        name = f"s{self._next}"
        reply = self.ask("socket", name=name, family=family, kind=kind, protocol=protocol)
        if not reply["ok"]:
            raise AssertionError(f"socket({family}, {kind}, {protocol}): {reply['error']}")
        return PuppetSocket(self, name)

    def serve(self, **options):
        """Echo on tcp=[...], udp=[...] (lists of (host, port)); returns a Served."""
        name = f"server{self._next}"
        reply = self.ask("serve", name=name, **options)
        assert reply["ok"], reply
        return Served(self, name)

    def load(self, kind, **options):
        name = f"load{self._next}"
        assert self.ask("load", name=name, kind=kind, **options)["ok"]
        return PuppetLoad(self, name)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self._reader.join(2)
        self.process.stdout.close()


class PuppetSocket:
    def __init__(self, puppet, name):
        self.puppet, self.name = puppet, name

    def call(self, method, *arguments, wait=20.0):
        return Outcome(self.puppet.ask("call", wait=wait, name=self.name, method=method, arguments=list(arguments)), self.puppet)

    def begin(self, method, *arguments):
        """Starts a call that may block; returns a function that waits for its Outcome."""
        future = self.puppet.begin("call", name=self.name, method=method, arguments=list(arguments))
        return lambda wait=10.0: Outcome(future.result(wait), self.puppet)

    def port(self):
        return self.call("getsockname").detail[1]


class Served:
    def __init__(self, puppet, name):
        self.puppet, self.name = puppet, name

    def report(self):
        return self.puppet.ask("served", name=self.name)["result"]


class PuppetLoad:
    def __init__(self, puppet, name):
        self.puppet, self.name = puppet, name

    def report(self):
        return self.puppet.ask("load_report", name=self.name)["result"]

    def stop(self):
        return self.puppet.ask("load_stop", name=self.name)["result"]
