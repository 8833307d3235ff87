"""An engine in its own process, as the measurement sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bench.peers.peer import THREADS

ROOT = Path(__file__).parents[3]
ANSWER_TIMEOUT_S = 1800.0
END_TIMEOUT_S = 30.0
REASON_CHARACTERS = 300


class AbsentError(Exception):
    """An engine is not there, does not run, or computes another network; says why."""


class RemotePeer:
    """A worker process; whatever it prints is added to `log`."""

    def __init__(self, python: Path, contestant: str, folder: Path, log: Path) -> None:
        """Raises: AbsentError: there is no such Python."""
        self._log = log
        command = [str(python), "-m", "tests.bench.peers.worker", contestant, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(ROOT)}
        try:
            with log.open("ab") as errors:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
                )
        except OSError as error:
            raise AbsentError(f"its process does not start: {error}") from error

    def __enter__(self) -> RemotePeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, **request: object) -> dict[str, Any]:
        """Send one request of `worker` and wait for its answer.

        Raises:
            AbsentError: the worker answers with an error, ends, or takes longer than `ANSWER_TIMEOUT_S`.
        """
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] and pipes[1]
        try:
            pipes[0].write(json.dumps(request).encode() + b"\n")
            pipes[0].flush()
        except BrokenPipeError:
            raise AbsentError(self._why_ended()) from None
        if not select.select([pipes[1]], [], [], ANSWER_TIMEOUT_S)[0]:
            self._process.kill()
            raise AbsentError(f"no answer in {ANSWER_TIMEOUT_S:.0f} s")
        line = pipes[1].readline()
        if not line:
            raise AbsentError(self._why_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise AbsentError(" ".join(answer["error"].split())[:REASON_CHARACTERS])
        return answer

    def close(self) -> None:
        """End the worker."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT_S)

    def _why_ended(self) -> str:
        status = self._process.wait(END_TIMEOUT_S)
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"ended with status {status}: {last[:REASON_CHARACTERS]}"
