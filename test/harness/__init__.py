"""The harness of the integration tests: a laboratory of cgroups and network namespaces with a real casad in it.

It builds on examples/demo (probe.py: the attempts; lab.py: cgroups, namespaces, the daemon), so that demo and tests try
the same things in the same way. Every wait is bounded, and only processes that the harness started are ended.
"""
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DEMO = TOP / "examples" / "demo"
if str(DEMO) not in sys.path:
    sys.path.insert(0, str(DEMO))
