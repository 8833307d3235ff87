"""Bars as a person sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
ON_A_TERMINAL = ROOT / "tests" / "support" / "on_a_terminal.py"
PROGRAM = """
import time
from cloud_service.compression.progress import progress_report
with progress_report() as report:
    bar = report.start("timing the best in turns", 8)
    for _ in range(8):
        time.sleep(0.2)
        report.step(bar)
    report.finish(bar)
    report.say("done")
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
TIMEOUT_S = 60


def shown(*command: str) -> str:
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], capture_output=True, timeout=TIMEOUT_S, env=environment)
    assert done.returncode == 0, done.stderr
    return ESCAPES.sub("", (done.stdout + done.stderr).decode())


def test_on_a_terminal_a_bar_tells_the_time_left() -> None:
    said = shown(str(ON_A_TERMINAL), sys.executable, "-c", PROGRAM)
    assert re.search(r"timing the best in turns \S+ [1-7]/8 0:00:0\d left 0:00:0\d", said)
    assert "done" in said


def test_where_there_is_no_terminal_no_bar_is_drawn() -> None:
    said = shown("-c", PROGRAM)
    assert said.strip() == "done"
