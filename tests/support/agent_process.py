"""A real `edge-agent run` process, as an operator starts it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_READY = re.compile(r"ready after ([0-9.]+) s at (\S+)")
_START_TIMEOUT_S = 30.0


def run_edge_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one `edge-agent` command to its end."""
    command = [sys.executable, "-m", "edge_agent", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


class AgentProcess:
    """`with AgentProcess(config) as agent:` is ready to be asked at `agent.url`; its log is in `log`."""

    def __init__(self, config: Path) -> None:
        self.url = ""
        self.ready_after_s = 0.0
        self.log: list[str] = []
        self._ready = threading.Event()
        self._began_s = time.monotonic()
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def __enter__(self) -> AgentProcess:
        if not self._ready.wait(_START_TIMEOUT_S) or not self.url:
            self.kill()
            raise AssertionError("the agent did not get ready:\n" + "".join(self.log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def post(self, body: object, timeout_s: float = 10.0) -> tuple[int, Any]:
        """The status and the parsed body that `/v1/infer` gives for `body`."""
        return self.post_to("/v1/infer", body, timeout_s)

    def post_to(self, path: str, body: object, timeout_s: float = 10.0) -> tuple[int, Any]:
        """The status and the parsed body that `path` gives for `body`."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path: str) -> str:
        """The text at `path`, whatever the status."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10.0) as response:
                text: bytes = response.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        return text.decode()

    def metric(self, name: str) -> float:
        """One metric's value; `name` with its labels, as the page writes it."""
        line = next(line for line in self.get("/metrics").splitlines() if line.startswith(name + " "))
        return float(line.rsplit(" ", 1)[1])

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15.0)
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
            found = _READY.search(line)
            if found:
                self.ready_after_s = time.monotonic() - self._began_s
                self.url = found[2]
                self._ready.set()
        self._ready.set()
