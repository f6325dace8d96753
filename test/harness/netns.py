"""Network namespaces that a test holds by a descriptor: they have no name, and end with their last process, socket and descriptor, also when
the test is killed.
"""
import ctypes
import os
import socket
import subprocess
import threading

import lab

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number, what):
    if number != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


class Namespace:
    def __init__(self):
        self.fd = None

        def make():
            _call(_libc.unshare(lab.CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        _in_thread(make)

    @property
    def path(self):
        """As another process would open it."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def enter(self):
        return ["nsenter", f"--net={self.path}"]

    def popen(self, argv, **kwargs):
        return subprocess.Popen([*self.enter(), *map(str, argv)], start_new_session=True, **kwargs)

    def inside(self, function, *arguments):
        """function's result; a thread that went there runs it (also what it starts is there, and sockets that it makes stay there)."""
        def run():
            _call(_libc.setns(self.fd, lab.CLONE_NEWNET), "setns")
            return function(*arguments)

        return _in_thread(run)

    def batch(self, tool, text):
        """ip, or nft, with many commands; their output."""
        argv = {"ip": ["ip", "-batch", "-"], "nft": ["nft", "-f", "-"]}[tool]
        return self.inside(lambda: lab.run(*argv, input=text))

    def sysctl(self, **values):
        """ipv4__ip_forward=1 stands for net/ipv4/ip_forward."""
        def write():
            for name, value in values.items():
                with open("/proc/sys/net/" + name.replace("__", "/"), "w", encoding="ascii") as f:
                    f.write(str(value))

        self.inside(write)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        s = self.inside(socket.socket, family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return s

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def _in_thread(function):
    outcome = {}

    def run():
        try:
            outcome["result"] = function()
        except BaseException as e:  # the caller's, whatever it is
            outcome["error"] = e

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
