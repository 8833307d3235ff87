"""How a graph does on the validation part: what it answers, how long a text takes, how many bytes it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cloud_service.compression.graphs.session import GraphSession, TimedSession, median_latencies_ms
from cloud_service.compression.graphs.writer import GraphFiles

LATENCY_ROUNDS = 60
LATENCY_TEXTS = 60
FINAL_ROUNDS = 200


@dataclass(frozen=True)
class Judgement:
    """One graph's answers, float32 [texts, labels], and cost.

    `latency_ms`: median of a text, scaled by the reference's own drift. `divergence_nats`: mean
    Kullback-Leibler divergence of the answers from the reference's.
    """

    logits: NDArray[np.float32]
    right: NDArray[np.bool_]
    latency_ms: float
    size_bytes: int
    divergence_nats: float

    @property
    def accuracy(self) -> float:
        """Share of texts answered right."""
        return float(self.right.mean())


class GraphJudge:
    """Judges graphs of one network against its FP32 graph, each text alone as on a device."""

    def __init__(
        self,
        reference: Path,
        sequences: list[list[int]],
        label_ids: tuple[int, ...],
        threads: int,
        on_text: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_text` hears how many more texts the reference has answered.

        Raises:
            ExportError: ONNX Runtime does not take the reference.
        """
        self._sequences = sequences
        self._label_ids = np.asarray(label_ids)
        self._threads = threads
        self._reference_graph = reference
        self._reference = GraphSession(reference, threads)
        self._timed = _of_typical_length(sequences)
        self._reference_logits = self._reference.run_each(sequences, on_text)
        self._reference_ms = median_latencies_ms([self._reference], self._timed, LATENCY_ROUNDS)[0]

    def judge(self, files: GraphFiles) -> Judgement:
        """Run every text through the graph, and time it side by side with the reference.

        Raises:
            ExportError: ONNX Runtime does not take the graph.
        """
        session = GraphSession(files.graph, self._threads)
        logits = session.run_each(self._sequences)
        return Judgement(
            logits=logits,
            right=logits.argmax(axis=1) == self._label_ids,
            latency_ms=self.latency_ms(session),
            size_bytes=size_of(files),
            divergence_nats=_mean_divergence(self._reference_logits, logits),
        )

    def latency_ms(self, session: TimedSession) -> float:
        """Median time of a text, taken in turns with the reference and scaled by the reference's own drift."""
        reference_ms, own_ms = median_latencies_ms([self._reference, session], self._timed, LATENCY_ROUNDS)
        return self._reference_ms * own_ms / reference_ms

    def latencies_ms(
        self, graphs: Sequence[Path], random: np.random.Generator, on_round: Callable[[], None] = lambda: None
    ) -> list[float]:
        """Median time of a text by each of `graphs`, which take turns, scaled as `Judgement.latency_ms` is.

        Raises:
            ExportError: ONNX Runtime does not take a graph.
        """
        sessions = [
            self._reference if graph == self._reference_graph else GraphSession(graph, self._threads)
            for graph in graphs
        ]
        timed = [self._reference, *sessions]
        reference_ms, *own_ms = median_latencies_ms(timed, self._timed, FINAL_ROUNDS, random, on_round)
        return [self._reference_ms * one_ms / reference_ms for one_ms in own_ms]


def size_of(files: GraphFiles) -> int:
    """Bytes on disk of graph and weights."""
    return files.graph.stat().st_size + files.weights.stat().st_size


def _of_typical_length(sequences: list[list[int]]) -> list[list[int]]:
    """Texts around the median length, so that few of them stand for all."""
    by_length = sorted(sequences, key=len)
    first = max(0, (len(by_length) - LATENCY_TEXTS) // 2)
    return by_length[first : first + LATENCY_TEXTS]


def _mean_divergence(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    wanted, found = special.log_softmax(reference, axis=1), special.log_softmax(other, axis=1)
    return float((np.exp(wanted) * (wanted - found)).sum(axis=1).mean())
