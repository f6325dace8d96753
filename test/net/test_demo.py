"""The demo, once through: it is a test of its own, and must leave nothing behind."""
import os
import subprocess
import sys

from harness import DEMO
from harness.world import binary
import lab


def leftovers():
    return [p for folder in (lab.find_cgroup2(), lab.BPFFS) for p in folder.glob("casad-demo-*")]


def test_demo_once(tmp_path):
    assert binary().exists(), f"{binary()} does not exist"
    before = leftovers()
    environment = {**os.environ, "DEMO_ONCE": "1", "CASAD": str(binary()), "CASAD_SOCKET": str(tmp_path / "api" / "casad.sock")}
    done = subprocess.run([sys.executable, str(DEMO / "run")], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=240)
    assert done.returncode == 0, done.stdout
    assert "BAD" not in done.stdout
    assert leftovers() == before
    assert not (tmp_path / "api").exists()
