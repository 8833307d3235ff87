"""The gateway: what it adds to an escalation, how well it batches, and the CPU that it costs by itself.

Clients, gateway and offline session never share a process, and what is compared takes turns on the same machine.
"""

from __future__ import annotations

import csv
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.config import ServedModelSettings
from cloud_service.serving.model import FullModel, load_model
from tests.bench.gateway_clients import Load, Round, run_round
from tests.bench.paced_gateway import BATCH_S, ITEM_S, MAX_BATCH, PacedGateway
from tests.bench.report import Figure, finish
from tests.support.gateway_process import ROOT, GatewayProcess, write_cloud_config

FULL_BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-full"
QUESTIONS = ROOT / "deploy" / "demo" / "traffic" / "bank_questions.csv"
ROUNDS, SECONDS, CLIENTS = 7, 2.0, 64
BATCH_SIZES = (1, 2, 4, 8, 16)
_PACED_TEXTS = ("card", "cash", "loan")
_CPU = "process_cpu_seconds_total"
_BACKEND_CPU = 'tandem_backend_cpu_seconds_total{{model="{}"}}'


def main() -> None:
    """Measure all, print the table."""
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    figures = paced_figures()
    if (FULL_BUNDLE / "bundle.json").exists() and QUESTIONS.exists():
        figures += real_figures()
    else:
        print(f"skipped: {FULL_BUNDLE} is not built, so nothing here is measured with the real model")
    finish(figures, "gateway benchmark")


def paced_figures() -> list[Figure]:
    """Behind a backend of known cost."""
    best_per_s = MAX_BATCH / (BATCH_S + MAX_BATCH * ITEM_S)
    many, one, cpu_ms = [], [], []
    with tempfile.TemporaryDirectory() as folder, PacedGateway(Path(folder) / "tiny") as gateway:
        for _ in range(ROUNDS):
            before_s = gateway.service_cpu_s()
            many.append(run_round(Load(gateway.port, "tiny", CLIENTS, SECONDS, _PACED_TEXTS, warm_up_s=0.0)))
            cpu_ms.append((gateway.service_cpu_s() - before_s) * 1e3 / len(many[-1].call_ms))
            one.append(run_round(Load(gateway.port, "tiny", 1, SECONDS / 2, _PACED_TEXTS)))
    show_batches(f"{CLIENTS} clients, 10 ms a batch and 0.5 ms a text", many)
    ratios = [each.per_s / best_per_s for each in many]
    return [
        Figure.of(f"{CLIENTS} clients, throughput / best possible ({best_per_s:.0f}/s)", ratios, "", "≥ 0.85"),
        Figure.of(f"{CLIENTS} clients, mean batch", [statistics.fmean(each.batch_size) for each in many], "texts"),
        Figure.of(f"{CLIENTS} clients, p99", [percentile(each.call_ms, 99) for each in many], "ms"),
        Figure.of("one client, p50 of queue time", [percentile(each.queue_ms, 50) for each in one], "ms", "≈ 0"),
        Figure.of("one client, p99 of queue time", [percentile(each.queue_ms, 99) for each in one], "ms"),
        Figure.of("service's own CPU a request, batches of 16", cpu_ms, "ms"),
    ]


def real_figures() -> list[Figure]:
    """Behind the demo's full model."""
    texts = questions()
    model = load_model(ServedModelSettings(bundle=FULL_BUNDLE))
    encoded = [model.encoder.encode(text) for text in texts]
    size = best_batch_size(model, encoded)
    by_length = sorted(encoded, key=len)
    served, offline_per_s, sorted_per_s, alone, cpu_ms = [], [], [], [], []
    with serving_process() as gateway:
        name = model.identity.name
        run_round(Load(gateway.port, name, 1, 0.5, texts))
        for _ in range(ROUNDS):
            offline_per_s.append(offline(model, encoded, size))
            began_s, counted = service_cpu_s(gateway, name), gateway.metric(ok_calls(name))
            served.append(run_round(Load(gateway.port, name, CLIENTS, SECONDS, texts)))
            calls = gateway.metric(ok_calls(name)) - counted
            cpu_ms.append((service_cpu_s(gateway, name) - began_s) * 1e3 / calls)
            sorted_per_s.append(offline(model, by_length, size))
            alone.append(run_round(Load(gateway.port, name, 1, SECONDS, texts)))
    show_batches(f"{CLIENTS} clients, {name}", served)
    added = [[call - batch for call, batch in zip(each.call_ms, each.batch_ms, strict=True)] for each in alone]
    return [
        Figure.of("escalation over loopback, p50 over the model's time", [percentile(each, 50) for each in added],
                  "ms", "≤ 3 ms"),
        Figure.of("the same, p99", [percentile(each, 99) for each in added], "ms"),
        Figure.of("model's time, one text, p50", [percentile(each.batch_ms, 50) for each in alone], "ms"),
        Figure.of(f"throughput / offline in batches of {size}", ratio(served, offline_per_s), "", "≥ 0.85"),
        Figure.of(f"throughput / offline in batches of {size}, texts sorted by length",
                  ratio(served, sorted_per_s), ""),
        Figure.of(f"{CLIENTS} clients, throughput", [each.per_s for each in served], "/s"),
        Figure.of(f"{CLIENTS} clients, p99", [percentile(each.call_ms, 99) for each in served], "ms"),
        Figure.of("service's own CPU a request, real model", cpu_ms, "ms"),
    ]  # fmt: skip


def questions() -> tuple[str, ...]:
    """The demo's questions, in the file's order."""
    with QUESTIONS.open(encoding="utf-8", newline="") as file:
        return tuple(row["text"] for row in csv.DictReader(file))


@contextmanager
def serving_process() -> Iterator[GatewayProcess]:
    """The real service before the full model, all cores its own, as it is by default."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_cloud_config(Path(folder), FULL_BUNDLE, threads=0)
        with GatewayProcess(config) as gateway:
            yield gateway


def service_cpu_s(gateway: GatewayProcess, model: str) -> float:
    """CPU seconds of the gateway's process, the engine's apart."""
    return gateway.metric(_CPU) - gateway.metric(_BACKEND_CPU.format(model))


def ok_calls(model: str) -> str:
    """The counter of answered calls."""
    return f'tandem_gateway_requests_total{{code="OK",model="{model}"}}'


def best_batch_size(model: FullModel, encoded: Sequence[NDArray[np.int64]]) -> int:
    """The size at which the session alone is fastest: median of rounds in which the sizes take turns."""
    rounds = [[offline(model, encoded, size, SECONDS / 4) for size in BATCH_SIZES] for _ in range(ROUNDS)]
    speeds = dict(zip(BATCH_SIZES, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    print("offline: " + ", ".join(f"{speed:.0f}/s in batches of {size}" for size, speed in speeds.items()))
    return max(speeds, key=lambda size: speeds[size])


def offline(model: FullModel, encoded: Sequence[NDArray[np.int64]], size: int, seconds: float = SECONDS) -> float:
    """Texts a second of the session alone, in batches of `size`, padded as the service pads."""
    done, began_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - began_s) < seconds:
        start = done % len(encoded)
        batch = encoded[start : start + size]
        model.backend.run(batch)
        done += len(batch)
    return done / elapsed_s


def ratio(served: Sequence[Round], offline_per_s: Sequence[float]) -> list[float]:
    """Each round's throughput over that of the session alone, measured beside it."""
    return [each.per_s / alone for each, alone in zip(served, offline_per_s, strict=True)]


def percentile(values: Sequence[float], rank: float) -> float:
    """The `rank`-th percentile."""
    return float(np.percentile(values, rank))


def show_batches(what: str, rounds: Sequence[Round]) -> None:
    """Print the histogram of batch sizes, weighted by batches, and the latencies."""
    answers = Counter(size for each in rounds for size in each.batch_size)
    batches = {size: count / size for size, count in sorted(answers.items())}
    total = sum(batches.values())
    print(f"\n{what}: {total:.0f} batches")
    for size, count in batches.items():
        print(f"  {size:3d} {count / total:6.1%} {'#' * round(60 * count / total)}")
    calls = [call for each in rounds for call in each.call_ms]
    print("  calls: " + ", ".join(f"p{rank} {percentile(calls, rank):.1f} ms" for rank in (50, 95, 99)) + "\n")


if __name__ == "__main__":
    main()
