"""A bundle that answers a share of the requests beside the active one, for nobody to see."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from edge_agent.model import EdgeModel, EdgePrediction
from shared.clock import Clock
from shared.errors import TandemError
from shared.histogram import HistogramRecorder, quantile_ms
from shared.quiet_thread import QuietThread
from shared.update.report import TrialFigures

_log = logging.getLogger(__name__)
_MOST_WAITING = 4


class ShadowRun:
    """Computes in a thread of its own at low priority; what finds no room there is left out and counted."""

    def __init__(self, model: EdgeModel, share: float, uniform: Callable[[], float], clock: Clock) -> None:
        """`share` of the requests, drawn by `uniform` in [0, 1)."""
        self.model = model
        self.left_out = 0
        self._share = share
        self._uniform = uniform
        self._clock = clock
        self._thread = QuietThread("tandem-shadow")
        self._lock = threading.Lock()
        self._waiting = self._answered = self._failed = self._agreed = self._wanted = self._old_wanted = 0
        self._latency, self._old_latency = HistogramRecorder(), HistogramRecorder()

    def offer(self, text: str, prediction: EdgePrediction, compute_ms: float) -> None:
        """See `edge_agent.pipeline.Shadow`."""
        if self._uniform() >= self._share:
            return
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                self.left_out += 1
                return
            self._waiting += 1
        try:
            self._thread.executor.submit(partial(self._answer, text, prediction, compute_ms))
        except RuntimeError:  # closed
            self.left_out += 1

    def figures(self) -> TrialFigures:
        """The counts so far; both models' latencies are of their engines, for the same texts."""
        with self._lock:
            answered = max(1, self._answered - self._failed)
            return TrialFigures(
                requests=self._answered,
                failed=self._failed,
                latency_ms=quantile_ms(self._latency.snapshot().counts, 0.5) or 0.0,
                old_latency_ms=quantile_ms(self._old_latency.snapshot().counts, 0.5) or 0.0,
                offload=self._wanted / answered,
                old_offload=self._old_wanted / answered,
                compared=self._answered - self._failed,
                agreed=self._agreed,
            )

    def close(self) -> None:
        """Answer nothing more."""
        self._thread.close()

    def _answer(self, text: str, active: EdgePrediction, compute_ms: float) -> None:
        prediction: EdgePrediction | None = None
        try:
            token_ids = self.model.encode(text)
            began_s = self._clock.monotonic_s()
            prediction = self.model.predict(token_ids, 1)
            taken_ms = (self._clock.monotonic_s() - began_s) * 1e3
        except TandemError as error:
            _log.debug("the shadow failed: %s", error)
        with self._lock:
            self._waiting -= 1
            self._answered += 1
            if prediction is None:
                self._failed += 1
                return
            self._latency.add(taken_ms)
            self._old_latency.add(compute_ms)
            self._agreed += prediction.label == active.label
            self._wanted += not prediction.decision.keep
            self._old_wanted += not active.decision.keep
