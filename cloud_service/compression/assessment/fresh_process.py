"""Time and memory of graphs, each measured in a process of its own. A graph that crashes is a recorded failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shared.documents import Document, DocumentError, read_document

_MODULE = "cloud_service.compression.assessment.measure"
_CODE = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Conditions:
    """How graphs are measured. `batch`: texts at a time. `token_limit`: ids are drawn below it, so at most the
    vocabulary's size. `timeout_s`: one process, start to end. `meter_root`: where /sys is; None meters no energy."""

    repeats: int = 30
    warm_up: int = 5
    threads: int = 1
    batch: int = 1
    token_limit: int = 100
    seed: int = 0
    timeout_s: float = 120.0
    meter_root: Path | None = Path("/")


@dataclass(frozen=True)
class LengthLatency(Document):
    """Time of one batch of texts of `tokens` each, milliseconds; energy of it where metered, else None."""

    tokens: int
    median_ms: float
    p90_ms: float
    millijoules: float | None


@dataclass(frozen=True)
class Measurement(Document):
    """One process's figures. Memory is VmHWM: `baseline_bytes` before the graph was loaded, `peak_bytes` at the end."""

    load_ms: float
    baseline_bytes: int
    peak_bytes: int
    meter: str | None
    lengths: tuple[LengthLatency, ...]


@dataclass(frozen=True)
class Failure(Document):
    """Why a graph could not be measured."""

    reason: str


@dataclass(frozen=True)
class RatioSummary(Document):
    """Over rounds: a graph's median latency by the first graph's of the same round."""

    tokens: int
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Compared(Document):
    """One graph beside others: medians over `rounds` processes, the greatest `peak_bytes`; or why it has none.

    `ratios`: against the first graph; empty where that one failed. `by_round`: one process's figures each.
    """

    graph: str
    rounds: int
    measurement: Measurement | None
    ratios: tuple[RatioSummary, ...]
    failure: str | None
    by_round: tuple[Measurement, ...] = ()


def measure_graph(
    graph: Path,
    lengths: Sequence[int],
    conditions: Conditions = Conditions(),
) -> Measurement | Failure:
    """Figures of `graph` in a new process, for texts of each of `lengths` tokens.

    The graph takes `input_ids` and `attention_mask`, int64 [batch, tokens], and gives `logits`.
    """
    job = {**asdict(conditions), "graph": str(graph.resolve()), "lengths": list(lengths)}
    job["meter_root"] = None if conditions.meter_root is None else str(conditions.meter_root)
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=conditions.timeout_s,
            env=_environment(conditions.threads),
        )
    except subprocess.TimeoutExpired:
        return Failure(f"no figures within {conditions.timeout_s:g} s")
    except OSError as error:
        return Failure(f"the measuring process does not start: {error}")
    return _figures(done)


def compare(
    graphs: Sequence[Path],
    lengths: Sequence[int],
    rounds: int,
    conditions: Conditions = Conditions(),
    on_process: Callable[[Path], None] = lambda _: None,
) -> list[Compared]:
    """Measure `graphs` side by side, in their order.

    Every round starts one process for each graph, every other round in the reverse order; so a machine that
    slows down or warms up weighs on all alike, and ratios are taken within a round. A graph that failed
    once is not tried again. `on_process` hears each graph before its process starts.

    Raises:
        ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds measure nothing")
    found: list[list[Measurement]] = [[] for _ in graphs]
    failures: dict[int, str] = {}
    for round_number in range(rounds):
        order = range(len(graphs)) if round_number % 2 == 0 else range(len(graphs) - 1, -1, -1)
        for place in (each for each in order if each not in failures):
            on_process(graphs[place])
            figures = measure_graph(graphs[place], lengths, conditions)
            if isinstance(figures, Failure):
                failures[place] = figures.reason
            else:
                found[place].append(figures)
    return _compared(graphs, rounds, found, failures)


def _figures(done: subprocess.CompletedProcess[bytes]) -> Measurement | Failure:
    if done.returncode != 0:
        return Failure(_last_words(done))
    try:
        return read_document(Measurement, done.stdout)
    except DocumentError as error:
        return Failure(f"the measuring process wrote no figures: {error}")


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    said = lines[-1].strip() if lines else "it said nothing"
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}: {said}"
    return said


def _compared(
    graphs: Sequence[Path], rounds: int, found: Sequence[Sequence[Measurement]], failures: Mapping[int, str]
) -> list[Compared]:
    firsts = found[0] if found and 0 not in failures else []
    return [
        Compared(str(graph), rounds, None, (), failures[place])
        if place in failures
        else Compared(
            str(graph), rounds, _middle(found[place]), ratios_of(firsts, found[place]), None, tuple(found[place])
        )
        for place, graph in enumerate(graphs)
    ]


def _environment(threads: int) -> dict[str, str]:
    """Ours, with the number of threads for libraries that read it there, and this code where it can be found."""
    paths = [str(_CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}


def _middle(rounds: Sequence[Measurement]) -> Measurement:
    """Medians over rounds; the highest of peaks."""
    return Measurement(
        load_ms=_median([each.load_ms for each in rounds]),
        baseline_bytes=max(each.baseline_bytes for each in rounds),
        peak_bytes=max(each.peak_bytes for each in rounds),
        meter=rounds[0].meter,
        lengths=tuple(
            LengthLatency(
                same[0].tokens,
                _median([each.median_ms for each in same]),
                _median([each.p90_ms for each in same]),
                _median_or_none([each.millijoules for each in same]),
            )
            for same in zip(*(each.lengths for each in rounds), strict=True)
        ),
    )


def ratios_of(firsts: Sequence[Measurement], others: Sequence[Measurement]) -> tuple[RatioSummary, ...]:
    """`others` by `firsts`, round by round, for each length; nothing where either has no figures."""
    if not firsts or not others:
        return ()
    summaries = []
    for place, length in enumerate(firsts[0].lengths):
        ratios = [
            other.lengths[place].median_ms / first.lengths[place].median_ms
            for first, other in zip(firsts, others, strict=True)
        ]
        summaries.append(RatioSummary(length.tokens, _median(ratios), min(ratios), max(ratios)))
    return tuple(summaries)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _median_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _median(known) if known else None
