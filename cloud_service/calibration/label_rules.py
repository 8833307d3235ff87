"""Critical labels: their answers have a certificate of their own, or are never kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.certificates import Promise, certify_promise
from cloud_service.calibration.predictions import Judged
from shared.errors import ConfigurationError
from shared.gate import CertifiedThreshold, LabelRule, Risk

ESCALATE: Literal["escalate"] = "escalate"


@dataclass(frozen=True)
class CriticalLabel:
    """A label, its place among the logits, and the alpha of its answers; None: always escalate them."""

    label: str
    index: int
    alpha: float | None


def critical_labels(
    wanted: Mapping[str, float | Literal["escalate"]], labels: Sequence[str], largest: float
) -> tuple[CriticalLabel, ...]:
    """Find each label's place. `largest` is the least alpha in force: a label's may not be over it, as else the
    answers of all labels together would not keep it.

    Raises:
        ConfigurationError: a label that the model has not, or an alpha that is not between 0 and `largest`.
    """
    found = []
    for label, alpha in wanted.items():
        if label not in labels:
            raise ConfigurationError(f"critical label {label!r}: the model has no such label")
        if alpha != ESCALATE and not 0.0 < alpha <= largest:
            raise ConfigurationError(
                f"critical label {label!r}: its alpha {alpha:g} must be above 0 and at most {largest:g}, which is in "
                "force for all"
            )
        found.append(CriticalLabel(label, list(labels).index(label), None if alpha == ESCALATE else alpha))
    return tuple(found)


def label_rule(
    tuned: Judged, tested: Judged, critical: CriticalLabel, risk: Risk, delta: float, least: float
) -> LabelRule:
    """The rule of one label, certified with its own `delta` on the answers with this label alone."""
    if critical.alpha is None:
        return LabelRule(critical.label, critical.index)
    promise = Promise(risk, (critical.alpha,), delta, critical.alpha)
    mine = tested.where(tested.answers == critical.index)
    step = certify_promise(tuned.where(tuned.answers == critical.index), mine, promise, least).steps[0]
    if len(mine) == 0:
        step = replace(step, reason="no calibration sample was answered with this label")
    return LabelRule(critical.label, critical.index, delta, _in_all_samples(step, len(mine), len(tested)))


def _in_all_samples(step: CertifiedThreshold, of_label: int, of_all: int) -> CertifiedThreshold:
    """Of samples more, only some are answered with the label."""
    if step.shortfall is None or step.shortfall.more_samples is None or of_label == 0:
        return step
    more = math.ceil(step.shortfall.more_samples * of_all / of_label)
    return replace(step, shortfall=replace(step.shortfall, more_samples=more))


def with_label_rules(
    step: CertifiedThreshold, rules: Sequence[LabelRule], tested: Judged, ruled: NDArray[np.bool_]
) -> CertifiedThreshold:
    """A step whose expected offload counts all answers: those of labels with a rule (where `ruled`) obey both."""
    if step.threshold is None or not rules:
        return step
    limits = {rule.index: rule.threshold for rule in rules}
    answers, scores = tested.answers[ruled], tested.scores[ruled]
    bars = np.array([max(step.threshold, limits[int(answer)]) for answer in answers])
    kept = step.kept + int((scores >= bars).sum())
    return replace(step, expected_offload=1.0 - kept / len(tested))
