#!/usr/bin/env python3
"""A room includes, and links, only rooms before it (the list stands in src/meson.build); no header includes itself in a
circle; libbpf is called by datapath only; include/casa/abi knows nothing of src, and bpf/ only the ABI."""
import re

from cases import TOP, Cases, files, relative

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)
cases = Cases("layering")


def includes(path):
    return INCLUDE.findall(path.read_text())


meson = (TOP / "src/meson.build").read_text()
rooms = re.findall(r"'(\w+)'", re.search(r"foreach room : \[([^\]]+)\]", meson).group(1))
position = {room: i for i, room in enumerate(rooms)}

for folder in sorted(p for p in (TOP / "src").iterdir() if p.is_dir()):
    room, problems = folder.name, []
    if room not in position:
        cases.fail(room, "this folder is no room: src/meson.build does not list it")
        continue
    for path in files(folder.relative_to(TOP), suffixes={".h", ".cpp"}):
        for kind, name in includes(path):
            first = name.split("/")[0]
            if kind == '"' and "/" in name and first in position and position[first] > position[room]:
                problems.append(f"{relative(path)} includes {name}: {first} comes after {room}")
            if kind == '"' and "/" in name and first not in position and not name.startswith("casa/abi/"):
                problems.append(f"{relative(path)} includes {name}: neither a room nor the ABI")
            if name.startswith("bpf/") and room != "datapath":
                problems.append(f"{relative(path)} includes <{name}>: only datapath speaks to libbpf")
    build = folder / "meson.build"
    for other in re.findall(r"\b(\w+)_dep\b", build.read_text()) if build.exists() else []:
        if other in position and position[other] > position[room]:
            problems.append(f"{relative(build)} names {other}_dep: {other} comes after {room}")
    cases.case(room, problems)


def find_circle():
    """-> the files of one include circle, or nothing"""
    graph = {}
    for path in files("src", suffixes={".h", ".cpp"}):
        graph[relative(path)] = ["src/" + n for k, n in includes(path) if k == '"' and (TOP / "src" / n).exists()]
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node):] + [node]
        if node in done:
            return None
        way.append(node)
        for other in graph.get(node, []):
            circle = visit(other)
            if circle:
                return circle
        way.pop()
        done.add(node)
        return None

    for node in graph:
        circle = visit(node)
        if circle:
            return circle
    return None


circle = find_circle()
cases.case("no circle", [" -> ".join(circle)] if circle else [])

problems = []
for path in files("include", suffixes={".h"}):
    for kind, name in includes(path):
        if not (kind == '"' and (path.parent / name).exists()) and name != "cstdint":
            problems.append(f"{relative(path)} includes {name}: the ABI includes only itself")
cases.case("abi", problems)

problems = []
for path in files("bpf", suffixes={".h", ".c"}):
    for kind, name in includes(path):
        made = name.endswith("_table.h") and (TOP / "bpf/gen" / name.replace("_table.h", ".py")).exists()
        own = kind == '"' and ((path.parent / name).exists() or name.startswith("casa/abi/") or made)
        if not own and not (kind == "<" and name.startswith(("linux/", "bpf/"))):
            problems.append(f"{relative(path)} includes {name}: bpf/ knows itself, what bpf/gen makes, the ABI, <linux/> and <bpf/> only")
cases.case("bpf", problems)
cases.end()
