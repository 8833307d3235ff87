"""One answer of a device held against the full model's, and one whose true label came back."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.types import EscalationAnswer, EscalationRequest, Priority, TrueLabel

LABEL_CHARACTERS = 200
TEXT_CHARACTERS = 10_000
_VERSION_CHARACTERS = 64
_NUL = "\0"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A device's answer beside the full model's. `at_s`: seconds since 1970-01-01 UTC, by the gateway's clock.

    `kept` is what the device's gate said; `text` is None unless texts may be kept.
    """

    at_s: int
    device_id: str
    request_id: str
    model: str
    full_version: str
    full_digest: str
    edge_version: str
    gate_digest: str
    priority: str
    reason: str
    kept: bool
    edge_label: str
    edge_score: float
    gate_score: float
    full_label: str
    full_score: float
    text: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether both models gave one label."""
        return self.edge_label == self.full_label


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """A device's answer whose true label came back. `source` says by which way: a device, or an import."""

    answered_s: int
    received_s: int
    device_id: str
    request_id: str
    model: str
    edge_version: str
    gate_digest: str
    kept: bool
    edge_label: str
    edge_score: float
    gate_score: float
    true_label: str
    source: str


FROM_DEVICE = "device"
FROM_IMPORT = "import"


def comparison_of(
    device_id: str, request: EscalationRequest, answer: EscalationAnswer, at_s: int, *, keeps_text: bool
) -> Comparison | None:
    """The comparison that an answered request makes; None where it brings no edge answer, or one that is no number.

    Nothing of the text goes into it unless `keeps_text`.
    """
    if not request.edge_label or not answer.top or not math.isfinite(request.edge_score):
        return None
    best = answer.top[0]
    return Comparison(
        at_s,
        device_id,
        request.request_id,
        request.model,
        answer.model.version[:_VERSION_CHARACTERS],
        answer.model.digest[:_VERSION_CHARACTERS],
        request.edge_model_version[:_VERSION_CHARACTERS],
        request.gate_digest,
        priority_word(request.priority),
        request.reason.value,
        request.kept,
        request.edge_label[:LABEL_CHARACTERS],
        request.edge_score,
        request.gate_score,
        best.label[:LABEL_CHARACTERS],
        best.score,
        request.text[:TEXT_CHARACTERS] if keeps_text else None,
    )


def labelled_of(device_id: str, label: TrueLabel, received_s: int) -> LabelledAnswer:
    """A true label that a device reported, as it is kept."""
    return LabelledAnswer(
        answered_s=label.answered_at_unix_ms // 1000,
        received_s=received_s,
        device_id=device_id,
        request_id=label.request_id,
        model=label.model,
        edge_version=label.edge_model_version[:_VERSION_CHARACTERS],
        gate_digest=label.gate_digest,
        kept=label.kept,
        edge_label=label.edge_label[:LABEL_CHARACTERS],
        edge_score=label.edge_score if math.isfinite(label.edge_score) else 0.0,
        gate_score=label.gate_score,
        true_label=label.label[:LABEL_CHARACTERS],
        source=FROM_DEVICE,
    )


def labelled_by_import(found: Comparison, true_label: str, received_s: int) -> LabelledAnswer:
    """A true label that an operator brought for a request that was compared before."""
    return LabelledAnswer(
        found.at_s, received_s, found.device_id, found.request_id, found.model, found.edge_version, found.gate_digest,
        found.kept, found.edge_label, found.edge_score, found.gate_score, true_label[:LABEL_CHARACTERS], FROM_IMPORT,
    )  # fmt: skip


def priority_word(priority: Priority) -> str:
    """How a priority is written in the store."""
    return priority.name.lower()


def storable(text: str) -> str:
    """`text` as every database takes it: PostgreSQL knows no NUL, and UTF-8 no lone surrogates."""
    return text.replace(_NUL, "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
