"""A model is swapped every few seconds under half and full load, on a device and in the cloud.

`--minutes` says how long each of the four runs takes (the default is short), `--every-s` how often a swap begins,
`--load` which load alone, `--edge` and `--full` which bundles answer: by default the demo's. Half load is half of what
is answered without swaps in the slowest of some stretches.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import grpc.aio
import psutil

from edge_agent.agent import open_pipeline
from edge_agent.answers import InferenceRequest
from edge_agent.config import AgentSettings, HttpSettings, ModelSettings
from edge_agent.gate_control import GateControl
from edge_agent.update.host import PipelineHost
from shared.bundle import read_bundle
from shared.clock import SystemClock
from shared.types import RequestedRoute
from shared.update.report import InstalledRelease
from tests.bench.bench_gateway import FULL_BUNDLE, questions
from tests.bench.report import Figure, finish, options
from tests.bench.stalls import stalls
from tests.bench.swap_load import MOST_OPEN, Asking, Seen, another_version, capacity_per_s
from tests.support.agent_process import ROOT
from tests.support.gateway_parts import question, stub_of
from tests.support.gateway_process import GatewayProcess, write_cloud_config

EDGE_BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-edge"
LOADS = ("half", "full")
_SWAP_TIMEOUT_S = 60.0
Ask = Callable[[], Awaitable[object]]
Swap = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """Which bundles answer, under which loads ("half", "full"), for how long each, and how often a swap begins."""

    edge: Path
    full: Path
    loads: Sequence[str]
    seconds: float
    every_s: float


async def figures_under(plan: Plan, where: str, ask: Ask, swap: Swap, pid: int) -> list[Figure]:
    """A run under each load in turn."""
    half_per_s = await capacity_per_s(ask) / 2 if "half" in plan.loads else None
    figures = []
    for load in plan.loads:
        seen = await measured(plan, ask, swap, half_per_s if load == "half" else None, pid)
        figures += figures_of(f"{where}, {load} load", seen)
    return figures


async def measured(plan: Plan, ask: Ask, swap: Swap, per_s: float | None, pid: int) -> Seen:
    """One run: swap number 0, 1, 2 ... under load until its time is over."""
    seen, process = Seen(), psutil.Process(pid)
    async with Asking(ask, seen, per_s):
        until_s = time.perf_counter() + plan.seconds
        for number in itertools.count():
            await asyncio.sleep(plan.every_s)
            began_s = time.perf_counter()
            if began_s >= until_s:
                break
            await swap(number)
            seen.swaps.append((began_s, time.perf_counter()))
            seen.memory_bytes.append(process.memory_info().rss)
    return seen


async def on_device(plan: Plan, work: Path) -> list[Figure]:
    """The pipeline of an agent, asked in process; a swap is load, prove and switch."""
    folders = [work / "edge-a", work / "edge-b"]
    for number, folder in enumerate(folders):
        another_version(plan.edge, f"9.{number}.0", folder)
    settings = AgentSettings(
        device_id="bench",
        models=(ModelSettings(bundle=folders[1]),),
        http=HttpSettings(max_in_flight=MOST_OPEN),  # what comes in a stall of the machine waits, and is not refused
    )
    clock, texts = SystemClock(), itertools.cycle(questions())
    async with open_pipeline(settings, clock) as pipeline:
        (name,) = pipeline.lanes
        host = PipelineHost(pipeline, {name: 1}, GateControl, clock)
        gc.freeze()  # as the agent does once it is ready

        async def ask() -> None:
            await pipeline.answer(InferenceRequest(next(texts), route=RequestedRoute.EDGE))

        async def swap(number: int) -> None:
            bundle = read_bundle(folders[number % 2])
            gate = bundle.gate.digest if bundle.gate else ""
            release = InstalledRelease(bundle.manifest.version, bundle.manifest.model_digest, gate)
            candidate = await host.load(bundle.path, release)
            await host.prove(candidate)
            await host.switch(candidate)

        figures = await figures_under(plan, "device", ask, swap, os.getpid())
        host.close()
    return figures


async def in_cloud(plan: Plan, work: Path) -> list[Figure]:
    """A gateway process, asked over gRPC; a swap is SIGHUP after an exchange on the disk, until the new one answers."""
    folder, config_folder = work / "full", work / "gateway"
    config_folder.mkdir()
    another_version(plan.full, "9.0.0", folder)
    config = write_cloud_config(config_folder, folder, "watch_bundles_ms = 0", threads=0)
    model, texts, numbers = read_bundle(folder).manifest.model, itertools.cycle(questions()), itertools.count(1)
    with GatewayProcess(config) as gateway:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            stub = stub_of(channel)

            async def ask() -> None:
                request = question(next(texts))
                request.model = model
                await stub.Infer(request, timeout=30.0)

            async def swap(number: int) -> None:
                version = f"9.{next(numbers)}.0"
                await asyncio.to_thread(another_version, plan.full, version, folder)
                os.kill(gateway.process.pid, signal.SIGHUP)
                with anyio.fail_after(_SWAP_TIMEOUT_S):
                    while not any(f"{version} answers in place" in line for line in gateway.log[-20:]):  # noqa: ASYNC110
                        await anyio.sleep(0.01)

            return await figures_under(plan, "gateway", ask, swap, gateway.process.pid)


def figures_of(where: str, seen: Seen) -> list[Figure]:
    """One run's lines of the table."""
    (within_ms, between_ms), (failed_within, failed_between) = seen.percentile_ms(99), seen.failed()
    usual_within_ms, usual_between_ms = seen.percentile_ms(90)
    for problem, times in seen.problems.most_common(5):
        print(f"{where}: {times} times {problem}")
    asked = f"of {len(seen.ended_s) + len(seen.failed_s)} requests, {len(seen.swaps)} swaps"
    return [
        Figure.of(f"{where}: failed in swaps, {asked}", [failed_within], "", "0"),
        Figure.of(f"{where}: failed between swaps", [failed_between], "", "0"),
        Figure.of(f"{where}: p99 in swaps / between", [within_ms / between_ms], "", "≤ 1.5"),
        Figure.of(f"{where}: p99 between swaps", [between_ms], "ms"),
        Figure.of(f"{where}: p90 in swaps / between", [usual_within_ms / usual_between_ms], ""),
        Figure.of(f"{where}: p90 between swaps", [usual_between_ms], "ms"),
        Figure.of(f"{where}: a swap", [seen.swap_ms()], "ms"),
        Figure.of(f"{where}: memory, last quarter less second", [seen.growth_mb()], "MB", "flat"),
    ]  # fmt: skip


async def run(plan: Plan) -> list[Figure]:
    """All runs."""
    with tempfile.TemporaryDirectory() as work:
        return stalls() + await on_device(plan, Path(work)) + await in_cloud(plan, Path(work))


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=0.75)
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--edge", type=Path, default=EDGE_BUNDLE)
    parser.add_argument("--full", type=Path, default=FULL_BUNDLE)
    parser.add_argument("--load", choices=LOADS)
    asked = parser.parse_args()
    loads = (asked.load,) if asked.load else LOADS
    plan = Plan(asked.edge, asked.full, loads, asked.minutes * 60, asked.every_s)
    figures: list[Figure] = anyio.run(run, plan, backend_options={"use_uvloop": True})
    finish(figures, __doc__ or "", asked)


if __name__ == "__main__":
    main()
