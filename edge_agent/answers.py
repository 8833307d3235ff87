"""What the agent answers, as types and as JSON-ready dicts."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import (
    DeadlineExpired,
    EngineError,
    InputError,
    LabelContradicted,
    NotReady,
    Overloaded,
    RequestTooLarge,
    TandemError,
    UnknownModel,
    UnknownRequest,
)
from shared.gate import GateDecision
from shared.types import LabelScore, ModelIdentity, Outcome, Reason, RequestedRoute

Json = dict[str, object]


@dataclass(frozen=True)
class InferenceRequest:
    """One text to answer. `model` None means the device's first; `deadline_ms` None the configured default.

    `key`: whose it is, a customer or a session; while an A/B test splits requests, one bundle answers all of a key.
    None means that the request id stands for it.
    """

    text: str
    model: str | None = None
    request_id: str | None = None
    route: RequestedRoute = RequestedRoute.AUTO
    deadline_ms: int | None = None
    top_k: int = 3
    key: str | None = None


@dataclass(frozen=True)
class Timings:
    """Where one answer's time went, in ms; the cloud's are None where it did not answer.

    `cloud` is the round trip as the device saw it, also where it ended without an answer.
    """

    total: float
    preprocess: float
    queue: float
    inference: float
    cloud: float | None = None
    cloud_queue: float | None = None
    cloud_compute: float | None = None


@dataclass(frozen=True)
class InferenceAnswer:
    """One answer. `confidence` is the probability of the label; `gate` is what the device's gate said."""

    request_id: str
    outcome: Outcome
    reason: Reason
    model: ModelIdentity
    top: tuple[LabelScore, ...]
    gate_score: str
    gate: GateDecision
    timings: Timings

    def to_json(self) -> Json:
        """The answer as `/v1/infer` gives it."""
        best = self.top[0]
        return {
            "request_id": self.request_id,
            "outcome": self.outcome.value,
            "route": "cloud" if self.outcome is Outcome.CLOUD else "edge",
            "label": best.label,
            "confidence": round(best.score, 6),
            "top": [{"label": item.label, "score": round(item.score, 6)} for item in self.top],
            "reason": self.reason.value,
            "model": {"name": self.model.name, "version": self.model.version, "digest": self.model.digest},
            "gate": {"name": self.gate_score, "score": round(self.gate.score, 6), "threshold": self.gate.threshold},
            "timings_ms": _timings_json(self.timings),
        }


@dataclass(frozen=True)
class Refusal:
    """How an error is told: HTTP `status`, a `code` for programs, and how it was accounted."""

    status: int
    code: str
    outcome: Outcome
    reason: Reason


_REFUSALS: tuple[tuple[type[TandemError], Refusal], ...] = (
    (UnknownModel, Refusal(404, "unknown_model", Outcome.REJECTED, Reason.BAD_INPUT)),
    (UnknownRequest, Refusal(404, "unknown_request", Outcome.REJECTED, Reason.BAD_INPUT)),
    (LabelContradicted, Refusal(409, "label_differs", Outcome.REJECTED, Reason.BAD_INPUT)),
    (RequestTooLarge, Refusal(413, "too_large", Outcome.REJECTED, Reason.BAD_INPUT)),
    (InputError, Refusal(422, "bad_input", Outcome.REJECTED, Reason.BAD_INPUT)),
    (Overloaded, Refusal(429, "overloaded", Outcome.REJECTED, Reason.OVERLOADED)),
    (NotReady, Refusal(503, "not_ready", Outcome.REJECTED, Reason.NOT_READY)),
    (DeadlineExpired, Refusal(504, "deadline", Outcome.FAILED, Reason.DEADLINE)),
    (EngineError, Refusal(500, "engine_failed", Outcome.FAILED, Reason.ENGINE_FAILED)),
)


def refusal_of(error: TandemError) -> Refusal:
    """How `error` is told to the caller and accounted."""
    for kind, refusal in _REFUSALS:
        if isinstance(error, kind):
            return refusal
    return _REFUSALS[-1][1]


def error_json(error: TandemError, request_id: str | None) -> Json:
    """The body that tells of `error`."""
    refusal = refusal_of(error)
    fault: Json = {"code": refusal.code, "message": str(error)}
    if isinstance(error, Overloaded):
        fault["retry_after_ms"] = round(error.retry_after_s * 1e3)
    return {"request_id": request_id, "outcome": refusal.outcome.value, "error": fault}


def _timings_json(timings: Timings) -> Json:
    parts = {
        "total": timings.total,
        "preprocess": timings.preprocess,
        "queue": timings.queue,
        "inference": timings.inference,
        "cloud": timings.cloud,
        "cloud_queue": timings.cloud_queue,
        "cloud_compute": timings.cloud_compute,
    }
    return {name: round(value, 3) for name, value in parts.items() if value is not None}
