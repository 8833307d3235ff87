"""A gateway process before a backend of known cost: 10 ms a batch and 0.5 ms a text, asleep.

Run as `python -m tests.bench.paced_gateway FOLDER [asyncio]`, on uvloop as the service where asyncio is not asked for.
Says its port, then answers each line on standard input with the
CPU seconds that the process and its backend have used so far; ends with the input.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import uvloop

from cloud_service.config import GatewaySettings
from cloud_service.gateway.server import Gateway
from shared.clock import SystemClock
from tests.support.gateway_parts import tiny_model
from tests.support.scripted_backend import ScriptedBackend

BATCH_S, ITEM_S, MAX_BATCH = 0.010, 0.0005, 16


class PacedGateway:
    """`with PacedGateway(folder) as gateway:` serves model "tiny" on `gateway.port`."""

    def __init__(self, folder: Path, *loop: str) -> None:
        command = [sys.executable, "-m", "tests.bench.paced_gateway", str(folder), *loop]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._ask(None))

    def service_cpu_s(self) -> float:
        """CPU seconds so far, the backend's own apart."""
        return float(self._ask("cpu"))

    def __enter__(self) -> PacedGateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)

    def _ask(self, line: str | None) -> str:
        assert self._process.stdin and self._process.stdout
        if line is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer: object = json.loads(self._process.stdout.readline())
        return str(answer)


async def serve(folder: Path) -> None:
    """Serve until the input ends."""
    backend = ScriptedBackend(batch_s=BATCH_S, item_s=ITEM_S)
    gateway = Gateway(GatewaySettings(port=0, max_batch=MAX_BATCH), [tiny_model(folder, backend)], SystemClock())
    await gateway.start()
    print(json.dumps(gateway.port), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        backend_cpu_s = gateway.metrics.registry.get_sample_value("tandem_backend_cpu_seconds_total", {"model": "tiny"})
        print(json.dumps(time.process_time() - (backend_cpu_s or 0.0)), flush=True)
    await gateway.stop()


def main(arguments: Sequence[str]) -> None:
    """Serve on the loop that was asked for."""
    work = serve(Path(arguments[0]))
    if "asyncio" in arguments:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main(sys.argv[1:])
