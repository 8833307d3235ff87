"""What the sliders offer: a gate's certified steps, each with what it would cost and give. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud_service.dashboard.risk_chart import place_at
from shared.gate import CertifiedThreshold, Gate, Risk

RISK_WORDS: Mapping[Risk, str] = {
    Risk.KEPT_ERROR: "error among kept answers",
    Risk.KEPT_DISAGREEMENT: "disagreement with the full model among kept answers",
    Risk.JOINT: "answers that are kept and wrong, of all",
}
RISK_NAMES: Mapping[Risk, str] = {
    Risk.KEPT_ERROR: "Kept error",
    Risk.KEPT_DISAGREEMENT: "Kept disagreement",
    Risk.JOINT: "Kept and wrong",
}


@dataclass(frozen=True)
class Figures:
    """What a threshold gives by the calibration samples; None where the certificates do not tell.

    `agreement` is the share of all answers that agree with the full model, what is escalated agreeing by definition;
    `kept_right` the share of right ones among the kept. `cloud_per_thousand` counts the requests to the cloud of a
    thousand, audits included; `audits_per_thousand` those audits alone.
    """

    threshold: float | None
    offload: float
    agreement: float | None
    kept_right: float | None
    cloud_per_thousand: float
    audits_per_thousand: float


@dataclass(frozen=True)
class Choice:
    """One place of a slider. `figures` are those of this step's own threshold."""

    step: CertifiedThreshold
    figures: Figures

    @property
    def is_certified(self) -> bool:
        """Whether there is a threshold to choose."""
        return self.step.threshold is not None


@dataclass(frozen=True)
class Slider:
    """The choices for one risk, strict to loose; `chosen` and `today` are indices (None: not promised)."""

    risk: Risk
    choices: tuple[Choice, ...]
    chosen: int
    today: int | None

    @property
    def alpha(self) -> float:
        """The alpha chosen."""
        return self.choices[self.chosen].step.alpha

    @property
    def certified(self) -> tuple[Choice, ...]:
        """The choices that have a threshold."""
        return tuple(choice for choice in self.choices if choice.is_certified)


def figures_at(gate: Gate, threshold: float | None, audit_share: float) -> Figures:
    """What keeping from `threshold` on gives; None keeps nothing."""
    if threshold is None:
        return Figures(None, 1.0, 1.0 if _has(gate, Risk.KEPT_DISAGREEMENT) else None, None, 1000.0, 0.0)
    kept_share = _kept_share(gate, threshold)
    audits = 1000.0 * audit_share * kept_share
    return Figures(
        threshold=threshold,
        offload=1.0 - kept_share,
        agreement=_agreement(gate, threshold),
        kept_right=_kept_right(gate, threshold),
        cloud_per_thousand=1000.0 * (1.0 - kept_share) + audits,
        audits_per_thousand=audits,
    )


def sliders_of(
    gate: Gate, in_force: Mapping[Risk, float], chosen: Mapping[Risk, float], audit_share: float
) -> tuple[Slider, ...]:
    """One slider for each risk that the gate promises; `chosen` where it is certified, else what is in force."""
    made = (_slider(gate, risk, in_force, chosen, audit_share) for risk in gate.in_force)
    return tuple(sorted((each for each in made if each is not None), key=lambda each: each.risk.value))


def strictest(sliders: Sequence[Slider]) -> float | None:
    """The threshold that all sliders together choose; None where one of them has none."""
    thresholds = [slider.choices[slider.chosen].step.threshold for slider in sliders]
    known = [each for each in thresholds if each is not None]
    return max(known) if known and len(known) == len(thresholds) else None


def alphas_of(in_force: Mapping[str, float]) -> dict[Risk, float]:
    """By risk, as reports and policies write it; what no certificate can be of is left out."""
    return {Risk(name): alpha for name, alpha in in_force.items() if name in {risk.value for risk in Risk}}


def threshold_of(gate: Gate, in_force: Mapping[Risk, float]) -> float | None:
    """The strictest threshold that these alphas choose; None where one has none.

    Raises:
        GateError: an alpha is not on the certified grid.
    """
    steps = [gate.certificate(risk).step(alpha) for risk, alpha in in_force.items()]
    known = [step.threshold for step in steps if step.threshold is not None]
    return max(known) if known and len(known) == len(steps) else None


def _slider(
    gate: Gate, risk: Risk, in_force: Mapping[Risk, float], chosen: Mapping[Risk, float], audit_share: float
) -> Slider | None:
    steps = sorted(gate.certificate(risk).steps, key=lambda step: step.alpha)
    if not any(step.threshold is not None for step in steps):
        return None
    choices = tuple(Choice(step, figures_at(gate, step.threshold, audit_share)) for step in steps)
    today = _index_of(choices, in_force.get(risk))
    wanted = _index_of(choices, chosen.get(risk))
    if wanted is None or not choices[wanted].is_certified:
        wanted = today if today is not None and choices[today].is_certified else None
    first = next(index for index, choice in enumerate(choices) if choice.is_certified)
    return Slider(risk, choices, first if wanted is None else wanted, today)


def _index_of(choices: Sequence[Choice], alpha: float | None) -> int | None:
    if alpha is None:
        return None
    return next(
        (index for index, each in enumerate(choices) if math.isclose(each.step.alpha, alpha, rel_tol=1e-9)), None
    )


def _has(gate: Gate, risk: Risk) -> bool:
    return any(certificate.risk is risk for certificate in gate.certificates)


def _kept_share(gate: Gate, threshold: float) -> float:
    """By the certificate that tells of the loosest place at or above the threshold."""
    shares = [
        place.kept / max(1, certificate.n)
        for certificate in gate.certificates
        if (place := place_at(certificate, threshold)) is not None
    ]
    return max(shares, default=0.0)


def _agreement(gate: Gate, threshold: float) -> float | None:
    if not _has(gate, Risk.KEPT_DISAGREEMENT):
        return None
    certificate = gate.certificate(Risk.KEPT_DISAGREEMENT)
    place = place_at(certificate, threshold)
    return None if place is None else 1.0 - place.errors / max(1, certificate.n)


def _kept_right(gate: Gate, threshold: float) -> float | None:
    if not _has(gate, Risk.KEPT_ERROR):
        return None
    place = place_at(gate.certificate(Risk.KEPT_ERROR), threshold)
    return None if place is None or not place.kept else 1.0 - place.risk
