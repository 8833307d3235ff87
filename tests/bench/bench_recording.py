"""What it costs the gateway to record comparisons: its own CPU a request, with recording on and off in turn."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from pathlib import Path

import grpc.aio

from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from shared.bundle import Tier
from shared.pb import inference_pb2
from tests.bench.bench_gateway import service_cpu_s
from tests.bench.report import Figure, finish
from tests.support.gateway_parts import question, stub_of
from tests.support.gateway_process import GatewayProcess, write_cloud_config
from tests.support.tiny_bundle import LABELS, write_tiny_bundle

ROUNDS, CALLS, CLIENTS = 5, 4000, 32
EDGE = inference_pb2.EdgeAnswer(
    label="loan", score=0.25, model_version="1.0.0", gate_score=0.5, gate_digest="a" * 64, kept=False
)


def main() -> None:
    """Measure and print the table."""
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    spent_ms: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for records in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                spent_ms[records].append(cpu_ms_a_request(Path(folder), records))
    added = [on - off for on, off in zip(spent_ms[True], spent_ms[False], strict=True)]
    figures = [
        Figure.of("gateway's own CPU a request, recording off", spent_ms[False], "ms"),
        Figure.of("gateway's own CPU a request, recording on, SQLite", spent_ms[True], "ms"),
        Figure.of("added by recording", added, "ms"),
    ]
    finish(figures, "recording benchmark")


def cpu_ms_a_request(folder: Path, records: bool) -> float:
    """Of a process of its own, that has written all comparisons when it is measured."""
    write_tiny_bundle(folder / "tiny", tier=Tier.FULL)
    engine = open_engine(f"sqlite:///{folder / 'tandem-cloud' / 'fleet.sqlite'}", writes=True)
    migrate(engine)
    engine.dispose()
    lines = f"record_comparisons = {str(records).lower()}\ncomparisons_queued = {CALLS}"
    with GatewayProcess(write_cloud_config(folder, folder / "tiny", lines)) as gateway:
        asyncio.run(ask(gateway.port, CALLS // 10))
        before_s = service_cpu_s(gateway, "tiny")
        asyncio.run(ask(gateway.port, CALLS))
        while records and gateway.metric("tandem_gateway_comparisons_waiting") > 0:
            time.sleep(0.2)
        return (service_cpu_s(gateway, "tiny") - before_s) * 1e3 / CALLS


async def ask(port: int, calls: int) -> None:
    """So many calls with edge answers by `CLIENTS` at once."""
    left = itertools.islice(itertools.cycle(LABELS), calls)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def client() -> None:
            for text in left:
                await stub_of(channel).Infer(question(text, edge_answer=EDGE), timeout=30)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    main()
