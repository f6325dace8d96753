#!/usr/bin/env python3
"""The layout of every struct of include/casa/abi: what clang -target bpf makes of it (read from BTF), what gcc makes of it,
and what was agreed (abi.golden) are the same. A wanted change: raise CASA_ABI_VERSION, then test/check/abi.py --update."""
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

update = "--update" in sys.argv
if update:
    sys.argv.remove("--update")
from cases import TOP, Cases, run  # noqa: E402

GOLDEN = Path(__file__).with_name("abi.golden")
cases = Cases("abi")
headers = sorted((TOP / "include/casa/abi").glob("*.h"))
text = "".join(h.read_text() for h in headers)
structs = sorted(set(re.findall(r"^struct (casa_\w+) \{", text, re.M)))
version = re.search(r"#define CASA_ABI_VERSION (\d+)", text).group(1)
include = "".join(f'#include "casa/abi/{h.name}"\n' for h in headers)
bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
clang = os.environ.get("CC") if "clang" in os.environ.get("CC", "") else "clang-19"


def bpf_layout(work):
    """-> {struct: (size, [(field, offset)])} as BTF says"""
    source, object_file = work / "abi.c", work / "abi.o"
    source.write_text(include + "".join(f"struct {s} use_{s};\n" for s in structs))
    made = run([clang, "-target", "bpf", "-g", "-O2", "-I", TOP / "include", "-c", source, "-o", object_file])
    if made.returncode:
        raise RuntimeError(made.stderr)
    dump = run([bpftool, "btf", "dump", "file", object_file, "-j"])
    if dump.returncode:
        raise RuntimeError(dump.stderr)
    types = json.loads(dump.stdout)["types"]
    return {t["name"]: (t["size"], [(m["name"], m["bits_offset"] // 8) for m in t["members"]])
            for t in types if t["kind"] == "STRUCT" and t["name"] in structs}


def gcc_layout(work, fields):
    source, program = work / "host.c", work / "host"
    lines = [include, "#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n"]
    for name, (_, members) in fields.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));\n')
        lines += [f'printf("{name}.{m} %zu\\n", offsetof(struct {name}, {m}));\n' for m, _ in members]
    source.write_text("".join(lines) + "return 0; }\n")
    made = run(["gcc", "-I", TOP / "include", source, "-o", program])
    if made.returncode:
        raise RuntimeError(made.stderr)
    return run([program]).stdout


def as_text(layout):
    lines = []
    for name in sorted(layout):
        size, members = layout[name]
        lines.append(f"{name} {size}")
        lines += [f"{name}.{m} {offset}" for m, offset in members]
    return "\n".join(lines) + "\n"


with tempfile.TemporaryDirectory() as folder:
    layout = bpf_layout(Path(folder))
    cases.case("found", [f"struct {s} is not in the BTF" for s in structs if s not in layout] if structs else ["no struct found"])
    bpf, gcc = as_text(layout), gcc_layout(Path(folder), {n: layout[n] for n in sorted(layout)})
agreed = f"CASA_ABI_VERSION {version}\n" + bpf
if update:
    GOLDEN.write_text(agreed)
golden = GOLDEN.read_text() if GOLDEN.exists() else ""
for name in structs:
    def of(layout_text):
        return [line for line in layout_text.splitlines() if re.match(rf"{name}[. ]", line)]
    problems = []
    if of(bpf) != of(gcc):
        problems.append(f"{name}: clang -target bpf and gcc differ: {sorted(set(of(bpf)) ^ set(of(gcc)))}")
    if of(bpf) != of(golden):
        problems.append(f"{name} is not what abi.golden says: {sorted(set(of(bpf)) ^ set(of(golden)))}")
    cases.case(name, problems)
gone = sorted({line.split()[0] for line in golden.splitlines()[1:] if "." not in line} - set(structs))
cases.case("none gone", [f"struct {name} is gone; abi.golden still has it" for name in gone])
stale = golden.splitlines()[:1] != [f"CASA_ABI_VERSION {version}"]
cases.case("version", ["abi.golden is of another CASA_ABI_VERSION: test/check/abi.py --update"] if stale else [])
cases.end()
