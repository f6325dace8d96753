"""What the checks of this folder share: a check prints one line for each case (`pass NAME`, `fail NAME: why`,
`skip NAME: why`) and exits 1 when one failed. Each takes the build directory as its only argument (default: build)."""
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "build")
if not BUILD.is_absolute():
    BUILD = TOP / BUILD


class Cases:
    def __init__(self, check):
        self.check, self.failed = check, False

    def passed(self, name, note=""):
        print(f"pass {self.check}/{name}" + (f" ({note})" if note else ""), flush=True)

    def fail(self, name, why):
        self.failed = True
        print(f"fail {self.check}/{name}: {why}", flush=True)

    def skip(self, name, why):
        print(f"skip {self.check}/{name}: {why}", flush=True)

    def case(self, name, problems):
        """One case that passes when `problems` (a list of sentences) is empty."""
        for problem in problems[:20]:
            print(f"  {problem}", flush=True)
        if problems:
            self.fail(name, f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, the first: {problems[0]}")
        else:
            self.passed(name)

    def end(self):
        sys.exit(1 if self.failed else 0)


def run(argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)


def files(*folders, suffixes):
    """Files of the project below these folders, build products and caches aside."""
    found = []
    for folder in folders:
        found += [p for p in (TOP / folder).rglob("*") if p.suffix in suffixes and p.is_file() and "__pycache__" not in p.parts]
    return sorted(found)


def relative(path):
    return str(path.relative_to(TOP))
