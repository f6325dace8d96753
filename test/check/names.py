#!/usr/bin/env python3
"""Sizes, headers and names: no C++ or C file over 500 lines (a note from 400 on), each starts with a comment (a .cpp may
leave that to the header of its name), file names in snake_case, no path of somebody's machine and no unfinished business,
names of BPF maps and programs that the kernel does not cut (15 characters)."""
import re

from cases import TOP, Cases, files, relative

LIMIT, NOTE, BPF_NAME_MAX = 500, 400, 15
cases = Cases("names")
sources = files("src", "bpf", "include", "skel", "test", suffixes={".h", ".cpp", ".c"})

problems = []
for path in sources:
    lines = path.read_text().count("\n")
    if lines > LIMIT:
        problems.append(f"{relative(path)} has {lines} lines; split it (limit {LIMIT})")
    elif lines > NOTE:
        print(f"  note: {relative(path)} has {lines} lines")
cases.case("sizes", problems)

problems = []
for path in sources:
    text = path.read_text()
    if path.suffix == ".cpp" and path.with_suffix(".h").exists():
        continue
    if not text.startswith(("//", "/*")):
        problems.append(f"{relative(path)} does not start with a comment that says what it is for")
    elif path.parts[-2] in ("bpf", "lib", "abi") and not re.search(r"\*\s+\w", "\n".join(text.splitlines()[1:6])):
        problems.append(f"{relative(path)} has a licence line but no comment that says what it is for")
cases.case("headers", problems)

cases.case("file names", [f"{relative(p)}: not snake_case" for p in sources if not re.fullmatch(r"[a-z0-9_]+(\.bpf)?", p.stem)])

# The words are put together here so that this file does not hold them; the checkout's own path is known at run time only.
unfinished = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
homes = re.compile(r"(?<![\w$}/.])/(home|Users|root|mnt)" + r"/\w")
# A folder that every machine has says nothing about one: a clone in /tmp must not turn each temporary file into a finding.
everywhere = {"/", "/tmp", "/var/tmp", "/opt", "/srv", "/usr/src"}
checkout = [str(TOP) + "/"] + ([str(TOP.parent) + "/"] if str(TOP.parent) not in everywhere else [])
text_files = sources + files("test", "tools", "systemd", "docs", "examples", "bpf", "src", "skel",
                             suffixes={".py", ".sh", ".md", ".yaml", ".build", ".in", ".service"})
text_files += [p for p in (TOP / n for n in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile",
                                             "meson.build", "meson.options", ".ci/run", "test/run", "examples/demo/run")) if p.exists()]
problems = []
for path in sorted(set(text_files)):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        where = f"{relative(path)}:{number}"
        if unfinished.search(line):
            problems.append(f"{where}: unfinished business: {line.strip()[:80]}")
        if homes.search(line) or any(c in line for c in checkout):
            problems.append(f"{where}: a path of somebody's machine: {line.strip()[:80]}")
cases.case("words", problems)

stray = [p for f in ("bpf", "src", "include", "skel", "test", "tools", "systemd", "docs", "examples") for p in (TOP / f).rglob("*")
         if p.name.endswith((".orig", ".rej", "~", ".swp", ".bak"))]
cases.case("nothing left behind", [f"{relative(p)}: an editor's or a patch's leftover" for p in stray])

problems, count = [], 0
for path in files("bpf", "test", suffixes={".h", ".c"}):
    text = path.read_text()
    names = re.findall(r'SEC\("[^"]+"\)\s*int\s+(?:BPF_PROG\()?(\w+)', text) + re.findall(r'^}\s*(\w+)\s+SEC\("\.maps"\)', text, re.M)
    count += len(names)
    for name in names:
        if len(name) > BPF_NAME_MAX:
            problems.append(f"{relative(path)}: {name} has {len(name)} characters, the kernel keeps {BPF_NAME_MAX}")
        if not name.startswith("casa_"):
            problems.append(f"{relative(path)}: {name} does not start with casa_")
if count == 0:
    problems.append("no map and no program found: this check has lost its subject")
cases.case("bpf names", problems)
cases.end()
