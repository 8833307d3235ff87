"""Runs measurements one after the other, each in a fresh process: `make bench` or `make bench ARGS="agent models"`.

Without names it runs all but `models`, which takes hours, and `peers`, which compiles other engines for minutes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.report import machine

NAMED_ONLY = ("bench_models", "bench_peers")
HERE = Path(__file__).parent
OUT = HERE.parents[1] / "runs" / "bench"


def main(wanted: list[str]) -> int:
    """Run those named (without "bench_"), or all but `NAMED_ONLY`; their JSON lies in runs/bench afterwards."""
    OUT.mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in HERE.glob("bench_*.py"))
    if wanted:
        chosen = [name for name in names if name.removeprefix("bench_").replace("_", "-") in wanted]
    else:
        chosen = [name for name in names if name not in NAMED_ONLY]
    print(f"machine: {machine()}\n", flush=True)
    failed = 0
    for name in chosen:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.bench.{name}", "--json", str(OUT / f"{name}.json")]
        failed += bool(subprocess.run(command, check=False).returncode)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
