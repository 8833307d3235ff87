"""The device's answers, remembered until they are written, so that a true label finds its answer."""

from __future__ import annotations

from dataclasses import dataclass

from shared.types import TrueLabel

AnswerKey = tuple[str, str]
"""Model and request id."""


@dataclass(frozen=True, slots=True)
class RememberedAnswer:
    """What the device itself answered. `kept`: it was given out because the gate was confident, and no budget."""

    request_id: str
    model: str
    model_version: str
    gate_digest: str
    label: str
    confidence: float
    gate_score: float
    kept: bool
    answered_at_unix_ms: int

    @property
    def key(self) -> AnswerKey:
        """What a true label names it by."""
        return self.model, self.request_id

    def with_true_label(self, label: str) -> TrueLabel:
        """What the cloud is told."""
        return TrueLabel(
            request_id=self.request_id,
            model=self.model,
            label=label,
            edge_label=self.label,
            edge_score=self.confidence,
            edge_model_version=self.model_version,
            gate_score=self.gate_score,
            gate_digest=self.gate_digest,
            kept=self.kept,
            answered_at_unix_ms=self.answered_at_unix_ms,
        )


class UnsavedAnswers:
    """Answers not yet written: at most `capacity`, the oldest go. The first answer to a request id stands."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._answers: dict[AnswerKey, RememberedAnswer] = {}
        self._models: set[str] = set()

    def remember(self, answer: RememberedAnswer) -> None:
        """Keep an answer until it is written."""
        self._answers.setdefault((answer.model, answer.request_id), answer)
        self._models.add(answer.model)
        if len(self._answers) > self._capacity:
            del self._answers[next(iter(self._answers))]

    def find(self, request_id: str, model: str | None) -> tuple[RememberedAnswer, ...]:
        """The unwritten answers to a request, of one model or (None) of all."""
        models = self._models if model is None else {model}
        found = (self._answers.get((each, request_id)) for each in models)
        return tuple(answer for answer in found if answer is not None)

    def all(self) -> tuple[RememberedAnswer, ...]:
        """In the order in which they were given."""
        return tuple(self._answers.values())

    def written(self, answers: tuple[RememberedAnswer, ...]) -> None:
        """These need no longer be kept here."""
        for answer in answers:
            self._answers.pop(answer.key, None)
