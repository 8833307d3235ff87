"""Measures one graph in this process: `python -m cloud_service.compression.assessment.measure < job > figures`.

Job and figures are JSON. The process imports NumPy and ONNX Runtime and nothing heavier, so that its peak
memory is a device's and not a training's.

Job:     {"graph": path, "lengths": [tokens], "repeats": n, "warm_up": n, "threads": n, "batch": texts,
          "token_limit": n, "seed": n, "meter_root": path or null}
Figures: {"load_ms": ms, "baseline_bytes": VmHWM before loading, "peak_bytes": VmHWM at the end, "meter": name or null,
          "lengths": [{"tokens": n, "median_ms": ms, "p90_ms": ms, "millijoules": a batch or null}]}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TypedDict

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cloud_service.compression.assessment.energy import EnergyMeter, find_meter

Feed = dict[str, NDArray[np.int64]]


class Job(TypedDict):
    """What to measure; see the module."""

    graph: str
    lengths: list[int]
    repeats: int
    warm_up: int
    threads: int
    batch: int
    token_limit: int
    seed: int
    meter_root: str | None


class LengthFigures(TypedDict):
    """Times of one batch of texts of `tokens` each."""

    tokens: int
    median_ms: float
    p90_ms: float
    millijoules: float | None


class Figures(TypedDict):
    """What was measured; see the module."""

    load_ms: float
    baseline_bytes: int
    peak_bytes: int
    meter: str | None
    lengths: list[LengthFigures]


def measure(job: Job) -> Figures:
    """Load the graph, run it on random tokens of every length, and say what that took."""
    meter = find_meter(Path(job["meter_root"])) if job["meter_root"] is not None else None
    baseline_bytes = peak_memory_bytes()
    began = time.perf_counter()
    session = _load(job)
    load_ms = (time.perf_counter() - began) * 1e3
    generator = np.random.default_rng(job["seed"])
    lengths = [_measure_length(session, job, tokens, generator, meter) for tokens in job["lengths"]]
    return Figures(
        load_ms=load_ms,
        baseline_bytes=baseline_bytes,
        peak_bytes=peak_memory_bytes(),
        meter=None if meter is None else meter.name,
        lengths=lengths,
    )


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """This process's highest resident memory, VmHWM of proc(5); unlike getrusage's, it starts anew with the program.

    Raises:
        LookupError: the kernel does not say.
    """
    for line in status.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{status} tells no VmHWM")


def _load(job: Job) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as on a device
    return onnxruntime.InferenceSession(job["graph"], options, providers=["CPUExecutionProvider"])


def _measure_length(
    session: onnxruntime.InferenceSession,
    job: Job,
    tokens: int,
    generator: np.random.Generator,
    meter: EnergyMeter | None,
) -> LengthFigures:
    size = (job["batch"], tokens)
    feed: Feed = {
        "input_ids": generator.integers(0, job["token_limit"], size, dtype=np.int64),
        "attention_mask": np.ones(size, dtype=np.int64),
    }
    for _ in range(job["warm_up"]):
        session.run(["logits"], feed)
    running = meter.start() if meter is not None else None
    taken_ms = [_run_ms(session, feed) for _ in range(job["repeats"])]
    millijoules = None if running is None else running.stop().joules * 1e3 / job["repeats"]
    median_ms, p90_ms = (float(each) for each in np.percentile(taken_ms, (50, 90)))
    return LengthFigures(tokens=tokens, median_ms=median_ms, p90_ms=p90_ms, millijoules=millijoules)


def _run_ms(session: onnxruntime.InferenceSession, feed: Feed) -> float:
    began = time.perf_counter()
    session.run(["logits"], feed)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Read the job, measure, write the figures."""
    job: Job = json.load(sys.stdin)
    json.dump(measure(job), sys.stdout)


if __name__ == "__main__":
    main()
