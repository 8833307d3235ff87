"""The fleet service and the operator's page as real processes, with the store between them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from cloud_service.dashboard.ranges import DEFAULT_RANGE, question
from cloud_service.fleet.reading import FleetReading
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_reader import FleetReader

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
_READY = {
    "delivery": re.compile(r"delivery ready on (\S+)"),
    "fleet": re.compile(r"fleet service ready, metrics on (\S+)"),
    "rollout": re.compile(r"(rollout) service ready"),
    "web": re.compile(r"operator's page ready on https?://(\S+)/"),
}


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Look again and again, for `patience_s` seconds at most."""
    until_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain: {what}"
        time.sleep(0.05)


def write_cloud_toml(folder: Path, broker_port: int, broker: str = "") -> Path:
    """A quick fleet service and page on ports of the system's choice."""
    file = folder / "cloud.toml"
    file.write_text(
        f'data_dir = "data"\n[broker]\nport = {broker_port}\n{broker}\n'
        "[fleet]\nmetrics_port = 0\ncommit_interval_ms = 100\noffline_after_ms = 60000\n"
        "[web]\nport = 0\nrefresh_ms = 200\n",
        encoding="utf-8",
    )
    return file


class CloudRole:
    """`with CloudRole(config, "fleet") as fleet:` is ready when the block begins; its log is in `log`."""

    def __init__(self, config: Path, role: str, environment: Mapping[str, str] | None = None) -> None:
        self.address = ""
        self.log: list[str] = []
        self._role = role
        self._ready = threading.Event()
        command = [sys.executable, "-m", "cloud_service", "serve", role, "--config", str(config)]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def __enter__(self) -> CloudRole:
        if not self._ready.wait(PATIENCE_S) or not self.address:
            self.kill()
            raise AssertionError("it did not get ready:\n" + "".join(self.log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://{self.address}/"

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.url + path, timeout=10.0) as answer:
            text: bytes = answer.read()
        return text.decode()

    def metric(self, name: str) -> float:
        """One figure; `name` with its labels, as the page writes it. 0 where it is not there."""
        lines = [line for line in self.get("metrics").splitlines() if line.startswith(name + " ")]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self._process.wait(PATIENCE_S)
        self._reader.join()
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stderr:
            self._process.stderr.close()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            found = _READY[self._role].search(line)
            if found:
                self.address = found[1]
                self._ready.set()
        self._ready.set()


class StoreWatch:
    """What the page would read from the store beside `config`."""

    def __init__(self, config: Path) -> None:
        self._reader = FleetReader(open_engine(f"sqlite:///{config.parent / 'data' / 'fleet.sqlite'}", writes=False))

    def read(self) -> FleetReading | None:
        return self._reader.read(question(DEFAULT_RANGE, int(time.time()), offline_after_s=60, device_limit=50))

    def wait_for(self, condition: Callable[[FleetReading], bool], what: str) -> FleetReading:
        """The first reading of which `condition` holds."""
        found: list[FleetReading] = []

        def looks_so() -> bool:
            reading = self.read()
            if reading is not None and condition(reading):
                found.append(reading)
            return bool(found)

        wait_until(looks_so, what)
        return found[0]
