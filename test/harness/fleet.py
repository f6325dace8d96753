"""The test's side of fleet_program.py: containers by the hundred, each with its first attempts."""
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

PROGRAM = Path(__file__).with_name("fleet_program.py")


class Fleet:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-B", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._waiting, self._lock, self._next = {}, threading.Lock(), 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, pod, *attempts):
        """A container of the pod that makes these attempts, (kind, host, port), at once; a Future of [{result, ms}, ...]."""
        future = Future()
        with self._lock:
            self._next += 1
            self._waiting[self._next] = future
            request = {"id": self._next, "cgroup": str(pod.container().path), "netns": pod.netns.path, "attempts": attempts}
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return future

    def _read(self):
        for line in self.process.stdout:
            reply = json.loads(line)
            future = self._waiting.pop(reply["id"])
            if "error" in reply:
                future.set_exception(RuntimeError(reply["error"]))
            else:
                future.set_result(reply["attempts"])

    def close(self):
        """The containers end with their cgroups, which is the pods' affair, and the reader with the last of them."""
        self.process.stdin.close()
        self.process.wait(5)
        self._reader.join(5)
        self.process.stdout.close()
