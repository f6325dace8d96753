"""A private place to play in: cgroups, network namespaces, and a casad that knows nothing else.

The demo and the integration tests share this file. It assumes root and a cgroup2 mount; everything it makes, it can remove
(a bpffs that it had to mount stays, as systemd would have mounted it), and it ends only processes inside cgroups that it made or that it started itself. Nothing here leaves the
machine: the "outside" is another network namespace behind a veth pair.
"""
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CLONE_NEWNET = 0x40000000
BPFFS = Path("/sys/fs/bpf")

# The laboratory's addresses (documentation ranges; all of them live on the veth pair or behind it).
NODE4, NODE6 = "192.0.2.1", "2001:db8:1::1"
GATEWAY4, GATEWAY6 = "192.0.2.2", "2001:db8:1::2"
OUTSIDE4, OUTSIDE6 = "203.0.113.10", "2001:db8:2::10"
PARTNER4, PARTNER6 = "198.51.100.10", "2001:db8:3::10"
# Fixed, so that the neighbours can be told: the link is to work from its first packet.
NODE_MAC, GATEWAY_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


class LabError(RuntimeError):
    """Something the laboratory needs is missing or broken; the text says what to do."""


def run(*argv, **kwargs):
    """A command that must succeed."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, **kwargs)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def find_cgroup2():
    """Where cgroup2 is mounted: alone (/sys/fs/cgroup) or beside v1 (/sys/fs/cgroup/unified)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        if tail.split()[0] == "cgroup2" and "rw" in fields.split()[5].split(","):
            return Path(fields.split()[4])
    raise LabError("no writable cgroup2 mount in /proc/self/mountinfo")


def ensure_bpffs():
    """Mounts a bpffs at its usual place where the machine has none, which is so without systemd as init. Returns whether it
    had to."""
    if os.path.ismount(BPFFS):
        return False
    run("mount", "-t", "bpf", "bpf", str(BPFFS))
    return True


def find_binary(checkout):
    """$CASAD, or what the build of this checkout made (stripped, or as meson links it)."""
    if "CASAD" in os.environ:
        return Path(os.environ["CASAD"])
    build = Path(checkout) / "build"
    return next((p for p in (build / "casad", build / "src" / "casad") if p.exists()), build / "casad")


class Cgroup:
    """One directory below the cgroup2 mount."""

    def __init__(self, path):
        self.path = Path(path)

    def make(self):
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def child(self, name):
        return Cgroup(self.path / name)

    def id(self):
        return self.path.stat().st_ino

    def popen(self, argv, outside=None, **kwargs):
        """Starts argv inside this cgroup; the shell moves itself, then becomes argv. outside: in that namespace."""
        enter = ["sh", "-c", 'echo 0 >"$0"/cgroup.procs && exec "$@"', str(self.path)]
        kwargs.setdefault("start_new_session", True)  # a Ctrl-C is for the one who started us all
        return subprocess.Popen([*enter, *(outside.enter() if outside else []), *map(str, argv)], **kwargs)

    def kill(self):
        """Ends every process in this cgroup and below."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:  # kernels before 5.14
            for procs in self.path.rglob("cgroup.procs"):
                for pid in procs.read_text().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    def remove(self):
        """Ends what runs in it, then removes it with all its children."""
        if not self.path.exists():
            return
        self.kill()
        directories = [self.path, *(p for p in self.path.rglob("*") if p.is_dir())]
        until = time.monotonic() + 5
        for path in sorted(directories, key=lambda p: -len(p.parts)):
            while True:
                try:
                    path.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:  # processes need a moment to leave
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)


class Outside:
    """A network namespace behind a veth pair that stands for the rest of the world; nothing is behind it."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "86400"], start_new_session=True)
        own = os.readlink("/proc/self/ns/net")
        until = time.monotonic() + 5
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == own:
            if time.monotonic() > until:
                raise LabError("unshare --net did not make a network namespace")
            time.sleep(0.005)

    def enter(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def popen(self, argv, **kwargs):
        return subprocess.Popen([*self.enter(), *map(str, argv)], start_new_session=True, **kwargs)

    def close(self):
        self.holder.kill()
        self.holder.wait()


def enter_private_network():
    """Moves this process into a new network namespace with loopback and an Outside behind `out0`; returns the Outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise LabError(f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}; root is needed")
    outside = Outside()
    try:
        run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "far0", "netns", str(outside.holder.pid))
        here = f"""
            sysctl -qw net.ipv4.ip_local_port_range='20000 60000' net.ipv4.ping_group_range='0 2147483647' \
                       net.ipv4.tcp_fastopen=3 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
            ip link set lo up
            ip addr add {NODE4}/24 dev out0
            ip -6 addr add {NODE6}/64 dev out0 nodad
            ip link set out0 address {NODE_MAC} up
            ip neigh add {GATEWAY4} lladdr {GATEWAY_MAC} dev out0 nud permanent
            ip neigh add {GATEWAY6} lladdr {GATEWAY_MAC} dev out0 nud permanent
            ip route add default via {GATEWAY4}
            ip -6 route add default via {GATEWAY6}"""
        there = f"""
            sysctl -qw net.ipv4.tcp_fastopen=3 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.accept_source_route=1
            ip link set lo up
            ip addr add {GATEWAY4}/24 dev far0
            ip -6 addr add {GATEWAY6}/64 dev far0 nodad
            ip link set far0 address {GATEWAY_MAC} up
            ip neigh add {NODE4} lladdr {NODE_MAC} dev far0 nud permanent
            ip neigh add {NODE6} lladdr {NODE_MAC} dev far0 nud permanent
            for a in {OUTSIDE4} {PARTNER4}; do ip addr add $a/32 dev lo; done
            for a in {OUTSIDE6} {PARTNER6}; do ip -6 addr add $a/128 dev lo; done"""
        run(*outside.enter(), "sh", "-ec", there)
        run("sh", "-ec", here)
    except BaseException:
        outside.close()
        raise
    return outside


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """The REST API behind its Unix socket."""

    def __init__(self, path):
        self.path = path

    def request(self, target, timeout=5.0, method="GET"):
        """-> (status, headers, body bytes)"""
        connection = UnixConnection(self.path, timeout)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, target, timeout=5.0):
        status, _, body = self.request(target, timeout)
        if status != 200:
            raise LabError(f"GET {target}: {status}: {body.decode(errors='replace')}")
        return json.loads(body)

    def is_ready(self):
        try:
            return self.request("/readyz", timeout=2.0)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class Casad:
    """One `casad run`, its directories, and the way to end it."""

    def __init__(self, binary, cgroup_root, work, bpffs, api_socket=None, policy_dir=None, config=None, arguments=(), enter=()):
        """enter: what goes before the command, to run it in another network namespace."""
        self.binary, self.cgroup_root = Path(binary), Cgroup(cgroup_root)
        self.work, self.bpffs = Path(work), Path(bpffs)
        self.api_socket = Path(api_socket or self.work / "casad.sock")
        self.policy_dir = Path(policy_dir or self.work / "policies.d")
        self.config, self.arguments, self.enter = config, tuple(arguments), tuple(enter)
        self.log_path = self.work / "casad.log"
        self.process, self.was_started = None, False
        self.api = Api(self.api_socket)
        for path in (self.policy_dir, self.work / "state", self.bpffs, self.api_socket.parent):
            path.mkdir(parents=True, exist_ok=True)
        # Its own: what the machine's resolvers are is nothing to a laboratory.
        self.resolv_conf = self.work / "resolv.conf"
        if not self.resolv_conf.exists():
            self.resolv_conf.write_text("# no resolver\n")

    def command(self):
        config = ["--config", str(self.config)] if self.config else []
        return [str(self.binary), "run", "--policy-dir", str(self.policy_dir), "--api-socket", str(self.api_socket),
                "--cgroup-root", str(self.cgroup_root.path), "--bpffs", str(self.bpffs),
                "--state-dir", str(self.work / "state"), "--resolv-conf", str(self.resolv_conf), *config, *self.arguments]

    def log_tail(self, lines=30):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def start(self, timeout=15.0, wait=True):
        self.was_started = True
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.enter, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        if wait:
            self.wait_ready(timeout)

    def wait_ready(self, timeout=15.0):
        until = time.monotonic() + timeout
        while not self.api.is_ready():
            if self.process.poll() is not None:
                raise LabError(f"casad ended with {self.process.returncode} before it was ready:\n{self.log_tail()}")
            if time.monotonic() > until:
                raise LabError(f"casad was not ready within {timeout} s:\n{self.log_tail()}")
            time.sleep(0.003)

    def stop(self, timeout=5.0):
        """SIGTERM; returns (exit status, seconds it took)."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise LabError(f"casad did not end within {timeout} s of SIGTERM:\n{self.log_tail()}") from None
        self.process = None
        return status, time.monotonic() - started

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def detach(self):
        return subprocess.run([str(self.binary), "detach", "--bpffs", str(self.bpffs)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=20)

    def close(self):
        """Ends the daemon and enforcement, removes what both left."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        done = self.detach() if self.was_started else None
        shutil.rmtree(self.bpffs, ignore_errors=True)  # the last resort: a pin removed is a link ended
        self.api_socket.unlink(missing_ok=True)
        if done and done.returncode != 0:
            raise LabError(f"casad detach: exit {done.returncode}: {done.stdout}")


def write_file(path, text):
    """Complete or not at all: a temporary file beside it, then rename."""
    path = Path(path)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix="." + path.name + ".")
    with os.fdopen(fd, "w") as f:
        f.write(text)
    os.rename(temporary, path)
