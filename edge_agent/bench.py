"""Measures a bundle on this device: how long texts of several lengths take, loading, and memory."""

from __future__ import annotations

import dataclasses
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from shared.clock import Clock
from shared.errors import MeasurementError
from shared.latency_table import LatencyTable
from shared.probes import INDEX_NAME

_WARM_UP_ROUNDS = 3
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class LengthFigures:
    """Times of one text of `tokens` tokens, from token ids to the gate's decision."""

    tokens: int
    median_ms: float
    p90_ms: float


@dataclass(frozen=True)
class BundleFigures:
    """A bundle on this device. `load_ms`: verify, load, and answer once.

    Memory is this process's peak, before loading and at the end.
    """

    model: str
    version: str
    engine: str
    threads: int
    rounds: int
    load_ms: float
    before_bytes: int
    peak_bytes: int
    lengths: tuple[LengthFigures, ...]

    def to_json(self) -> dict[str, object]:
        """The figures for programs."""
        return dataclasses.asdict(self)


def measure_bundle(folder: Path, threads: int, rounds: int, tokens: Sequence[int], clock: Clock) -> BundleFigures:
    """Load the bundle in `folder` and time it; lengths take turns within every round; blocks.

    A length beyond what the bundle takes becomes the longest that it takes.

    Raises:
        BundleError, EngineError: see `load_model` and `EdgeModel.predict`.
        MeasurementError: the folder holds a probe kit.
    """
    if (folder / INDEX_NAME).is_file():
        raise MeasurementError(f"{folder} holds probes, not a bundle; to time them say --record TABLE.json")
    before_bytes, began_s = peak_memory_bytes(), clock.monotonic_s()
    model = load_model(folder, threads)
    load_ms = (clock.monotonic_s() - began_s) * 1e3
    lengths = _time(model, _texts(model, tokens), rounds, clock)
    return BundleFigures(
        model=model.identity.name,
        version=model.identity.version,
        engine=model.engine_description,
        threads=threads,
        rounds=rounds,
        load_ms=load_ms,
        before_bytes=before_bytes,
        peak_bytes=peak_memory_bytes(),
        lengths=lengths,
    )


def render_figures(figures: BundleFigures) -> str:
    """The figures for people."""
    lines = [
        f"{figures.model} {figures.version}, {figures.engine}, {figures.threads or 'all'} threads",
        f"load {figures.load_ms:.0f} ms, peak memory {figures.peak_bytes / 1e6:.0f} MB "
        f"({figures.before_bytes / 1e6:.0f} MB before loading)",
        f"{'tokens':>8}{'median ms':>12}{'p90 ms':>10}   of {figures.rounds} rounds",
    ]
    lines += [f"{one.tokens:>8}{one.median_ms:>12.3f}{one.p90_ms:>10.3f}" for one in figures.lengths]
    return "\n".join(lines)


def render_table(table: LatencyTable, path: Path) -> str:
    """What was recorded, for people."""
    lines = [
        f"{len(table.timings)} timings of {table.network} on {table.device.cpu}, {table.device.threads} threads, "
        f"median of {table.rounds} rounds; a run's overhead is {table.overhead_ms * 1e3:.0f} µs",
        *(f"unsupported: {entry.product}: {entry.reason}" for entry in table.unsupported),
        f"written to {path}",
    ]
    return "\n".join(lines)


def peak_memory_bytes() -> int:
    """The most memory that this process has held; the kernel's own count begins anew with every program."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _texts(model: EdgeModel, tokens: Sequence[int]) -> list[NDArray[np.int64]]:
    """Token ids of each length, taken from the golden texts over and over."""
    most = model.bundle.manifest.preprocessing.max_tokens
    golden = [model.encode(item.text) for item in model.bundle.golden.items]
    ids = np.concatenate(golden) if golden else np.zeros(1, np.int64)
    return [np.resize(ids, length) for length in sorted({min(length, most) for length in tokens})]


def _time(model: EdgeModel, texts: Sequence[NDArray[np.int64]], rounds: int, clock: Clock) -> tuple[LengthFigures, ...]:
    times_ms = np.zeros((rounds, len(texts)))
    for number in range(-_WARM_UP_ROUNDS, rounds):
        for column, ids in enumerate(texts):
            began_s = clock.monotonic_s()
            model.predict(ids, 1)
            if number >= 0:
                times_ms[number, column] = (clock.monotonic_s() - began_s) * 1e3
    medians, tails = np.median(times_ms, axis=0), np.quantile(times_ms, 0.9, axis=0)
    return tuple(
        LengthFigures(len(ids), float(median), float(tail))
        for ids, median, tail in zip(texts, medians, tails, strict=True)
    )
