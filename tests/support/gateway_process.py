"""A real `cloud-service serve` process, as an operator starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parents[2]
_READY = re.compile(r"gateway ready on \S+:(\d+), metrics on (\S+:\d+),")
_START_TIMEOUT_S = 30.0


def run_cloud_service(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one `cloud-service` command to its end."""
    command = [sys.executable, "-m", "cloud_service", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def write_cloud_config(folder: Path, bundle: Path, gateway: str = "", threads: int = 1, privacy: str = "") -> Path:
    """A cloud.toml whose listeners have ports of the system's choice; `gateway`, `privacy`: more lines of those."""
    file = folder / "cloud.toml"
    model = f'[[gateway.models]]\nbundle = "{bundle}"\nthreads = {threads}\n'
    listeners = f"[gateway]\nport = 0\nmetrics_port = 0\n{gateway}\n"
    others = f"[fleet]\nmetrics_port = 0\n[web]\nport = 0\n[privacy]\n{privacy}\n"
    file.write_text(listeners + model + others, encoding="utf-8")
    return file


class GatewayProcess:
    """`with GatewayProcess(config) as gateway:` serves on `gateway.port`; its log is in `log`.

    `role` "" starts gateway, fleet and web under their supervisor.
    """

    def __init__(self, config: Path, role: str = "gateway") -> None:
        self.port = 0
        self.log: list[str] = []
        self._metrics = ""
        self._starts = threading.Semaphore(0)
        command = [sys.executable, "-m", "cloud_service", "serve", *([role] if role else []), "--config", str(config)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def __enter__(self) -> GatewayProcess:
        try:
            self.wait_for_a_start()
        except AssertionError:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_for_a_start(self) -> None:
        """Wait until the gateway is ready; called again, until it is ready anew."""
        began = self._starts.acquire(timeout=_START_TIMEOUT_S)
        if not began or self.process.poll() is not None:
            raise AssertionError("the gateway did not get ready:\n" + "".join(self.log))

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=5) as page:
            text: str = page.read().decode()
        return text

    def metric(self, name: str) -> float:
        """One metric's value; `name` with its labels, as the page writes it."""
        line = next(line for line in self.metrics().splitlines() if line.startswith(name + " "))
        return float(line.rsplit(" ", 1)[1])

    def wait_until_accepted(self, model: str, calls: int) -> None:
        """Wait until `calls` calls were answered, wait in the line or, one of them, are being computed."""
        until_s = time.monotonic() + _START_TIMEOUT_S
        answered = f'tandem_gateway_requests_total{{code="OK",model="{model}"}}'
        queued = f'tandem_gateway_queued{{model="{model}"}}'
        while self.metric(answered) + self.metric(queued) < calls - 1:
            assert time.monotonic() < until_s, f"the gateway did not get {calls} calls"
            time.sleep(0.01)

    def children(self) -> list[psutil.Process]:
        """Processes that this one started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def terminate(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := _READY.search(line):
                self.port, self._metrics = int(found[1]), found[2]
                self._starts.release()
        self._starts.release()
