#!/usr/bin/env python3
"""What the kernel's verifier walked for each program stays under the budget, so that the next kernel's stricter verifier
does not refuse one. The numbers are those of this kernel; they need the right to load programs."""
import json
import os
import sys

from cases import BUILD, Cases, run

BUDGET = 400_000
cases = Cases("budget")
binary = next((p for p in (BUILD / "casad", BUILD / "src/casad") if p.exists()), None)
if binary is None:
    cases.fail("all", f"no casad in {BUILD}: run `make` first")
    cases.end()
if os.geteuid() != 0:
    cases.skip("all", "only root can load programs")
    sys.exit(0)
doctor = run([binary, "doctor", "--json"])
try:
    programs = json.loads(doctor.stdout)["programs"]
except (ValueError, KeyError):
    cases.fail("all", f"`casad doctor --json` said: {(doctor.stdout + doctor.stderr).strip()[:300]}")
    cases.end()
if not programs:
    cases.fail("all", f"no program could be loaded: {doctor.stdout[:300]}")
for program in programs:
    cost, name = program["verifiedInstructions"], program["name"]
    if cost > BUDGET:
        cases.fail(name, f"{cost} instructions verified, the budget is {BUDGET}")
    elif cost == 0:
        cases.fail(name, "the verifier's statistics were not found")
    else:
        cases.passed(name, f"{cost} of {BUDGET}")
cases.end()
