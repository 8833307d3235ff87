"""The demo as its user starts it, with ways to look at it and to kill parts of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import tomllib

from deploy.demo.marks import marked, signal_marked
from deploy.demo.metrics import parse_counters

ROOT = Path(__file__).resolve().parent.parent.parent


class RunningDemo:
    """`with RunningDemo(tmp_path, "--headless", ...) as demo:`. Nothing of it is left after the block."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self._runs = folder / "runs"
        self._output = folder / "output.txt"
        self.report_file = folder / "report.json"
        demo = [sys.executable, "-m", "deploy.demo", "--runs", str(self._runs), "--report", str(self.report_file)]
        on_a_terminal = [sys.executable, str(ROOT / "tests" / "support" / "on_a_terminal.py")]
        self._command = [*(on_a_terminal if terminal else []), *demo, *arguments]

    def __enter__(self) -> RunningDemo:
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for run in self._runs.glob("demo-*"):
            signal_marked(run.name, signal.SIGKILL)

    @property
    def folder(self) -> Path:
        """The run's folder, once it is there."""
        wait_for(lambda: any(self._runs.glob("demo-*")), "the run's folder")
        return next(self._runs.glob("demo-*"))

    def wait_until_started(self) -> None:
        """Return when the operator page's address has been printed."""
        self.wait_for_text("Operator page:")

    def wait_for_text(self, text: str, within_s: float = 90.0) -> None:
        """Return when this has been printed."""
        wait_for(lambda: text in self.output() or self.process.poll() is not None, text, within_s)
        assert text in self.output(), self.output()

    def output(self) -> str:
        """All that was printed so far."""
        return self._output.read_text(encoding="utf-8")

    def wait_for_report(self, within_s: float = 120.0) -> dict[str, Any]:
        """The report of a headless demo, after it ended well."""
        assert self.wait(within_s) == 0, self.output()
        report: dict[str, Any] = json.loads(self.report_file.read_text(encoding="utf-8"))
        return report

    def wait(self, within_s: float = 30.0) -> int:
        """The demo's exit code."""
        return self.process.wait(within_s)

    def interrupt(self) -> int:
        """Ctrl-C, as a terminal sends it; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def parts(self, name: str = "") -> list[psutil.Process]:
        """The processes of one part ("broker", "cloud", "device-1"), or of the whole run."""
        return marked(f"{self.folder.name}/{name}".rstrip("/"))

    def role(self, role: str) -> psutil.Process:
        """One of the cloud's own processes: gateway, fleet or web."""
        return next(part for part in self.parts("cloud") if role in part.cmdline())

    def kill(self, name: str) -> None:
        """`kill -9` of all that belongs to a part, at one moment."""
        for process in self.parts(name):
            process.send_signal(signal.SIGKILL)

    def pages(self) -> dict[str, str]:
        """The addresses of all metrics pages: each device's, the gateway's, the fleet service's."""
        cloud = tomllib.loads((self.folder / "cloud" / "cloud.toml").read_text(encoding="utf-8"))
        ports = {"gateway": cloud["gateway"]["metrics_port"], "fleet": cloud["fleet"]["metrics_port"]}
        for file in self.folder.glob("device-*/agent.toml"):
            ports[file.parent.name] = tomllib.loads(file.read_text(encoding="utf-8"))["http"]["port"]
        return {name: f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}

    def metric(self, part: str, pattern: str) -> float | None:
        """The value of the first line on a metrics page that begins as the pattern says; None without one."""
        try:
            page = httpx.get(self.pages()[part], timeout=5, trust_env=False).text
        except httpx.HTTPError:
            return None
        found = re.search(rf"^{pattern}\S* (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else None

    def outcomes(self) -> dict[str, float]:
        """What all devices together have counted since their start."""
        totals: dict[str, float] = {}
        for name, address in self.pages().items():
            if name.startswith("device-"):
                counters = parse_counters(httpx.get(address, timeout=5, trust_env=False).text)
                for series, value in counters.items():
                    if series.name == "tandem_requests_total":
                        totals[series.label("outcome")] = totals.get(series.label("outcome"), 0.0) + value
        return totals


def wait_for(condition: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Return when `condition` holds; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain for {what}"
        time.sleep(0.1)


def nothing_left(demo: RunningDemo, within_s: float = 8.0) -> bool:
    """Whether all processes of the run end within a moment."""
    deadline = time.monotonic() + within_s
    while demo.parts() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not demo.parts() and not is_running(demo.process.pid)


def is_running(pid: int) -> bool:
    """Whether this process is there, and not as a zombie."""
    try:
        return os.getpid() != pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
