"""What the client saw of one request, and how answers on the wire become that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from shared.types import ModelIdentity, Outcome


class Pass(str, Enum):
    """Three ways through the same questions: as the gate decides, all on the devices, all in the cloud."""

    CASCADE = "cascade"
    EDGE_ONLY = "edge_only"
    CLOUD_ONLY = "cloud_only"


_OK = 200
ROUTE_OF_PASS: Mapping[Pass, str] = {Pass.CASCADE: "auto", Pass.EDGE_ONLY: "edge", Pass.CLOUD_ONLY: "cloud"}


@dataclass(frozen=True)
class Result:
    """One request as its caller saw it.

    `answered` is False where the connection gave no answer at all; its outcome then counts as failed.
    `latency_ms` is from sending the request to having read the answer.
    """

    question: int
    device: str
    outcome: Outcome
    latency_ms: float
    label: str = ""
    reason: str = ""
    model: ModelIdentity | None = None
    answered: bool = True


def parse_answer(question: int, device: str, latency_ms: float, status: int, body: object) -> Result:
    """Read what an agent sent back for one question. What is neither an answer nor a refusal counts as failed."""
    try:
        if not isinstance(body, dict):
            raise TypeError("the body is not an object")
        outcome = Outcome(body["outcome"])
        if status != _OK:
            return Result(question, device, outcome, latency_ms, reason=str(body["error"]["code"]))
        model = ModelIdentity(*(str(body["model"][part]) for part in ("name", "version", "digest")))
        return Result(question, device, outcome, latency_ms, str(body["label"]), str(body["reason"]), model)
    except (KeyError, TypeError, ValueError):
        return Result(question, device, Outcome.FAILED, latency_ms, reason=f"unreadable answer, status {status}")
