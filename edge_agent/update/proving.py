"""Whether a new bundle answers on this very device as it must: right, quickly, and without too much memory."""

from __future__ import annotations

import statistics
from contextlib import AbstractContextManager
from dataclasses import dataclass

from edge_agent.model import EdgeModel
from shared.clock import Clock
from shared.errors import EngineError, ProvingFailed

_MOST_TEXTS = 16
_ROUNDS = 3
_NOTICEABLE_MS = 1.0
"""Models that take less than this longer are as fast, whatever the ratio: callers do not notice."""


@dataclass(frozen=True)
class ProvingBounds:
    """What is allowed: times the running model's median latency, and times the memory that its size lets expect."""

    latency_ratio: float = 1.5
    memory_ratio: float = 1.5


def prove_answers(candidate: EdgeModel, pace: AbstractContextManager[None]) -> None:
    """Blocks. Raises: ProvingFailed: a golden answer is not the one that the bundle promises."""
    try:
        candidate.check_golden_set(pace)
    except EngineError as error:
        raise ProvingFailed(str(error)) from error


def prove_memory(taken_bytes: int, expected_bytes: int, bounds: ProvingBounds) -> None:
    """Raises: ProvingFailed: loading the candidate took far more than its size lets expect."""
    if taken_bytes > bounds.memory_ratio * expected_bytes:
        raise ProvingFailed(
            f"loading it took {taken_bytes / 1e6:.0f} MB of memory, {expected_bytes / 1e6:.0f} MB were expected"
        )


def prove_latency(candidate_ms: float, running_ms: float, bounds: ProvingBounds) -> None:
    """Raises: ProvingFailed: the candidate's median is noticeably above what the running model's allows."""
    if candidate_ms > max(bounds.latency_ratio * running_ms, running_ms + _NOTICEABLE_MS):
        raise ProvingFailed(
            f"a golden text takes {candidate_ms:.1f} ms, the running model takes {running_ms:.1f} ms for it; "
            f"{bounds.latency_ratio:g} times that is allowed"
        )


def golden_medians_ms(
    models: tuple[EdgeModel, ...], texts_of: EdgeModel, clock: Clock, pace: AbstractContextManager[None]
) -> tuple[float, ...]:
    """Each model's median time for the golden texts of `texts_of`, in ms; blocks.

    Models take turns text by text, so that a slow spell of the device slows all alike.

    Raises:
        ProvingFailed: a model failed on a text.
    """
    times_ms: list[list[float]] = [[] for _ in models]
    texts = [item.text for item in texts_of.bundle.golden.items[:_MOST_TEXTS]]
    for _ in range(_ROUNDS):
        for text in texts:
            for model, taken_ms in zip(models, times_ms, strict=True):
                with pace:
                    taken_ms.append(_time_ms(model, text, clock))
    return tuple(statistics.median(taken_ms) if taken_ms else 0.0 for taken_ms in times_ms)


def _time_ms(model: EdgeModel, text: str, clock: Clock) -> float:
    try:
        token_ids = model.encode(text)
        began_s = clock.monotonic_s()
        model.predict(token_ids, 1)
        return (clock.monotonic_s() - began_s) * 1e3
    except EngineError as error:
        raise ProvingFailed(f"golden text {text!r}: {error}") from error
