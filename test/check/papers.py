#!/usr/bin/env python3
"""Links between the documents lead somewhere, and every `make` target and script that they name exists."""
import re

from cases import TOP, Cases, relative

cases = Cases("papers")
papers = sorted(TOP.glob("*.md")) + sorted((TOP / "docs").glob("*.md"))
targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.M))
for paper in papers:
    text, problems = paper.read_text(), []
    anchors = {p: {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", p.read_text(), re.M)}
               for p in papers}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (paper.parent / path).resolve() if path else paper
        if not other.exists():
            problems.append(f"{target}: no such file")
        elif anchor and other in anchors and anchor not in anchors[other]:
            problems.append(f"{target}: no such heading")
    problems += [f"`make {t}`: no such target" for t in re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z-]+)`", text) if t not in targets]
    for script in re.findall(r"`((?:tools|test|examples|src|bpf|include|systemd|docs)/[\w./-]+)", text):
        if not (TOP / script).exists():
            problems.append(f"{script}: no such file")
    cases.case(relative(paper), problems)
wanted = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/policy.md", "docs/reasons.md", "docs/threat-model.md",
          "docs/operations.md"]
cases.case("all there", [f"{w} is missing" for w in wanted if not (TOP / w).exists()])
cases.end()
