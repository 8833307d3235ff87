"""Runs an exported graph with ONNX Runtime on the CPU, as a device will: one thread, one text at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cloud_service.compression.encoding import TokenBatch, pad_batch
from cloud_service.compression.errors import ExportError

WARM_UP_RUNS = 10


class TimedSession(Protocol):
    """What can be timed beside others."""

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Logits, float32 [batch, labels]."""
        ...


def open_session(graph: Path, threads: int = 1, denormals_as_zero: bool = False) -> onnxruntime.InferenceSession:
    """Load a graph.

    `denormals_as_zero` is how devices and the cloud compute: what attention masks would else end as denormals, which
    are slow. ONNX Runtime sets it for the calling thread too, and for good, so not where torch trains.

    Raises:
        ExportError: ONNX Runtime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", str(int(denormals_as_zero)))
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        raise ExportError(f"{graph}: ONNX Runtime does not load it: {error}") from error


class GraphSession:
    """One graph, loaded."""

    def __init__(self, graph: Path, threads: int = 1, denormals_as_zero: bool = False) -> None:
        """Raises: ExportError: ONNX Runtime does not take the graph. See `open_session`."""
        self._session = open_session(graph, threads, denormals_as_zero)

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Logits, float32 [batch, labels]."""
        feed = {"input_ids": batch.input_ids.numpy(), "attention_mask": batch.attention_mask().numpy()}
        return cast("NDArray[np.float32]", self._session.run(["logits"], feed)[0])

    def run_each(
        self, sequences: Sequence[Sequence[int]], on_text: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """Logits of each sequence run alone, float32 [sequences, labels]."""
        rows = []
        for sequence in sequences:
            rows.append(self.run(pad_batch([sequence])))
            on_text(1)
        return np.concatenate(rows)


def median_latencies_ms(
    sessions: Sequence[TimedSession],
    sequences: Sequence[Sequence[int]],
    rounds: int,
    random: np.random.Generator | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> list[float]:
    """Median time of one text in each session, milliseconds; sessions take turns within every round.

    `random` gives each round an order of its own, so that none always finds the caches as the same other leaves them.
    """
    batches = [pad_batch([sequence]) for sequence in sequences]
    times: list[list[float]] = [[] for _ in sessions]
    for round_number in range(-WARM_UP_RUNS, rounds):
        batch = batches[round_number % len(batches)]
        for index in range(len(sessions)) if random is None else random.permutation(len(sessions)):
            begin = time.perf_counter()
            sessions[index].run(batch)
            if round_number >= 0:
                times[index].append((time.perf_counter() - begin) * 1e3)
        if round_number >= 0:
            on_round()
    return [float(np.median(taken)) for taken in times]
