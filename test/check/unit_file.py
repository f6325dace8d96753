#!/usr/bin/env python3
"""systemd takes the unit as it is: `systemd-analyze verify` has nothing to say (it returns 0 on unknown keys, so any line
counts), and what the unit could do at worst stays small (`systemd-analyze security`, exposure at most 3.0)."""
import re
import shutil
import sys
import tempfile
from pathlib import Path

from cases import BUILD, TOP, Cases, run

EXPOSURE_MAX = 3.0
cases = Cases("unit_file")
unit = BUILD / "systemd/casad.service"
if not shutil.which("systemd-analyze"):
    cases.skip("all", "systemd-analyze is not installed")
    sys.exit(0)
if not unit.exists():
    cases.fail("all", f"{unit} is not there: run `make` first")
    cases.end()

# A root of its own, with the units that ours refers to, so that this machine's are not looked at.
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    units = root / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", units, symlinks=True)
    shutil.copy(unit, units / "casad.service")
    (root / "bin").mkdir()
    shutil.copy("/bin/true", root / "bin/mkdir")
    program = re.search(r"^ExecStart=(\S+)", unit.read_text(), re.M).group(1)
    binary = root / program.lstrip("/")
    binary.parent.mkdir(parents=True, exist_ok=True)
    built = BUILD / "casad"
    binary.write_bytes(built.read_bytes() if built.exists() else b"#!/bin/sh\n")
    binary.chmod(0o755)
    verify = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", f"--root={root}", units / "casad.service"])
    said = [line for line in (verify.stderr + verify.stdout).splitlines() if line.strip()]
    cases.case("verify", said or ([f"exit status {verify.returncode}"] if verify.returncode else []))

security = run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit])
level = re.search(r"exposure level for \S+: ([0-9.]+)", security.stdout)
if not level:
    cases.fail("security", f"no exposure level: {security.stderr.strip() or security.stdout.strip()[-200:]}")
else:
    cases.case("security", [f"exposure {level.group(1)} is over {EXPOSURE_MAX}"] if float(level.group(1)) > EXPOSURE_MAX else [])

# What makes enforcement outlive the daemon, and must not be "hardened" away.
text = unit.read_text()
needed = {"Type=notify": "readiness means: the first generation is in the kernel", "Restart=always": "it comes back",
          "AssertPathIsMountPoint=/sys/fs/bpf": "no pins without bpffs", "ReadWritePaths=-/sys/fs/bpf/casad": "pins",
          "ExecStartPre=+/bin/mkdir -p -m 0700 /sys/fs/bpf/casad": "what is to be writable must exist"}
problems = [f"{line} is missing ({why})" for line, why in needed.items() if line not in text.splitlines()]
for line in text.splitlines():
    if re.match(r"(PrivateNetwork|PrivateUsers|DynamicUser)=(yes|true|1)", line) or re.match(r"Exec(Stop|StopPost)=", line):
        problems.append(f"{line} must not be there")
cases.case("promises", problems)

# The commented example names every key that the daemon knows, and no other.
config = TOP / "src/app/config.cpp"
known = set(re.findall(r'"(\w+)"', "".join(re.findall(r"k(?:Limit|Dns|Token|Signature|Kubernetes)?Keys = \{([^}]*)\}", config.read_text()))))
shown = set(re.findall(r"^#?\s*(\w+):(?:\s|$)", (TOP / "systemd/casad.yaml").read_text().replace("# /etc", "# etc"), re.M))
problems = [f"casad.yaml does not show {k}" for k in sorted(known - shown)] if known else ["no key found in src/app/config.cpp"]
problems += [f"casad.yaml shows {k}, which the daemon does not know" for k in sorted(shown - known)]
macros = dict(re.findall(r"#define CASA_MAX_(\w+) (\d+)", (TOP / "include/casa/abi/limits.h").read_text()))
names = {"cgroups": "CGROUPS", "workloads": "SUBJECTS", "policyEntries": "POLICY", "addresses": "ADDRESSES", "prefixes": "PREFIXES",
         "names": "NAMES"}
for key, macro in names.items():
    written = re.search(rf"^#  {key}: (\d+)$", (TOP / "systemd/casad.yaml").read_text(), re.M)
    if not written or written.group(1) != macros.get(macro):
        problems.append(f"casad.yaml shows another default of limits.{key} than CASA_MAX_{macro} ({macros.get(macro)})")
cases.case("example config", problems)
cases.end()
