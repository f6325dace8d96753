#!/usr/bin/env python3
"""Every reason word of include/casa/abi/types.h has its heading in docs/reasons.md, under the right part, and no other
word has one; numbers and words are unique, and allow reasons lie below CASA_REASON_FIRST_DENY."""
import re

from cases import TOP, Cases

cases = Cases("reasons")
types = (TOP / "include/casa/abi/types.h").read_text()
reasons = [(int(n), name, word) for n, name, word in re.findall(r'^\s*X\((\d+), (\w+), "(\w+)"\)', types, re.M)]
first_deny = int(re.search(r"#define CASA_REASON_FIRST_DENY (\d+)", types).group(1))
count = int(re.search(r"#define CASA_REASON_COUNT (\d+)", types).group(1))

problems = [] if reasons else ["no reason found: this check has lost its subject"]
for what, values in (("number", [r[0] for r in reasons]), ("word", [r[2] for r in reasons])):
    problems += [f"{what} {v} stands twice" for v in sorted(set(values)) if values.count(v) > 1]
problems += [f"{word}: number {n} is not below CASA_REASON_COUNT ({count})" for n, _, word in reasons if n >= count]
problems += [f"{word}: the name is {name}" for _, name, word in reasons if name.lower() != word]
cases.case("list", problems)

papers = (TOP / "docs/reasons.md")
parts, part = {}, None
for line in papers.read_text().splitlines() if papers.exists() else []:
    if line.startswith("## "):
        part = line[3:].strip().lower()
    heading = re.fullmatch(r"### `(\w+)`", line.strip())
    if heading:
        parts.setdefault(heading.group(1), []).append(part)
for number, _, word in reasons:
    if word == "none":
        continue
    wanted = "denied" if number >= first_deny else "allowed"
    found = parts.pop(word, [])
    problems = [] if found else [f"docs/reasons.md has no heading ### `{word}`"]
    if len(found) > 1:
        problems.append(f"docs/reasons.md explains {word} {len(found)} times")
    if found and found[0] != wanted:
        problems.append(f"{word} stands under '{found[0]}', it belongs under '{wanted}'")
    cases.case(word, problems)
cases.case("no others", [f"docs/reasons.md explains {word}, which is no reason" for word in parts])
cases.end()
