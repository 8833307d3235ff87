"""From a gate's certificates to the geometry of the risk–offload picture. Pure.

Offload runs from left (0) to right (`reach`), kept risk from the foot (0) to the top (`ceiling`). Lines are drawn in a
field 1000 wide and 100 high, y downwards, which the page stretches; all else is placed in percent of the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_service.dashboard.chart import Shape, Tick
from cloud_service.dashboard.wording import percent
from shared.gate import Certificate, CertifiedThreshold, Gate

_CEILINGS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
_REACHES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_ROOM = 1.05


@dataclass(frozen=True)
class Scale:
    """The offload at the right edge and the risk at the top."""

    reach: float
    ceiling: float

    def left(self, offload: float) -> float:
        """Where an offload stands, in percent from the left."""
        return round(100.0 * min(1.0, offload / self.reach), 2)

    def top(self, risk: float) -> float:
        """Where a risk stands, in percent from the top."""
        return round(100.0 * (1.0 - min(1.0, risk / self.ceiling)), 2)

    def point(self, offload: float, risk: float) -> str:
        """In the field's own units; what lies beyond its right edge stays there."""
        return f"{1000 * offload / self.reach:.1f} {self.top(risk):.2f}"


@dataclass(frozen=True)
class Place:
    """One threshold on a curve: the share of samples that it does not keep, and the risk among those kept."""

    threshold: float
    offload: float
    kept: int
    errors: int

    @property
    def risk(self) -> float:
        """The share of errors among those kept; 0 where none is kept."""
        return self.errors / self.kept if self.kept else 0.0


@dataclass(frozen=True)
class Measured:
    """What a ring shows today: an estimate in [`lower`, `upper`] at its offload ratio."""

    key: str
    words: str
    offload: float
    risk: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Mark:
    """A point in percent of the field, from the left and from the top, with words for who points at it.

    `upper` and `lower` end its interval, in percent from the top; `is_cut` says that it goes on above the field.
    """

    kind: str
    key: str
    left: float
    top: float
    upper: float
    lower: float
    words: str
    is_cut: bool = False


@dataclass(frozen=True)
class RiskChart:
    """All that the page draws."""

    shapes: tuple[Shape, ...]
    steps: tuple[Mark, ...]
    today: tuple[Mark, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    scale: Scale


def places_of(certificate: Certificate) -> tuple[Place, ...]:
    """All thresholds that a certificate tells counts of, strict to loose."""
    counted = {each.threshold: (each.kept, each.errors) for each in certificate.curve}
    for step in certificate.steps:
        if step.threshold is not None:
            counted[step.threshold] = (step.kept, step.errors)
    return tuple(
        Place(threshold, 1.0 - kept / max(1, certificate.n), kept, errors)
        for threshold, (kept, errors) in sorted(counted.items(), reverse=True)
    )


def place_at(certificate: Certificate, threshold: float) -> Place | None:
    """The loosest place that is no looser than `threshold`; None where the certificate tells of none."""
    stricter = [place for place in places_of(certificate) if place.threshold >= threshold]
    return stricter[-1] if stricter else None


def risk_chart(gate: Gate, measured: Sequence[Measured]) -> RiskChart:
    """The curves of a gate's certificates, what they certify, and what is measured today."""
    scale = _scale(gate, measured)
    regions = [Shape(f"region {each.risk.value}", _region(each, scale)) for each in gate.certificates]
    curves = [Shape(f"curve {each.risk.value}", _curve(places_of(each), scale)) for each in gate.certificates]
    return RiskChart(
        shapes=(*regions, *curves),
        steps=tuple(_step_mark(each, step, scale) for each in gate.certificates for step in certified_steps(each)),
        today=tuple(_today_mark(each, scale) for each in measured),
        y_ticks=tuple(Tick((1 - share) * 100, percent(scale.ceiling * share)) for share in (1.0, 0.5)),
        x_ticks=tuple(Tick(share * 100.0, f"{scale.reach * share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        scale=scale,
    )


def certified_steps(certificate: Certificate) -> list[CertifiedThreshold]:
    """One step for each threshold, under its smallest alpha, strict to loose."""
    steps: dict[float, CertifiedThreshold] = {}
    for step in sorted(certificate.steps, key=lambda each: each.alpha):
        if step.threshold is not None:
            steps.setdefault(step.threshold, step)
    return [steps[threshold] for threshold in sorted(steps, reverse=True)]


def _scale(gate: Gate, measured: Sequence[Measured]) -> Scale:
    steps = [step for certificate in gate.certificates for step in certified_steps(certificate)]
    offload = max([*(step.expected_offload for step in steps), *(each.offload for each in measured)], default=1.0)
    reach = next((each for each in _REACHES if each >= offload * _ROOM), 1.0)
    places = [place for certificate in gate.certificates for place in places_of(certificate) if place.offload <= reach]
    risks = [*(place.risk for place in places), *(step.risk_bound for step in steps), *(each.risk for each in measured)]
    highest = max(risks, default=1.0)
    return Scale(reach, next((each for each in _CEILINGS if each >= highest * _ROOM), 1.0))


def _curve(places: Sequence[Place], scale: Scale) -> str:
    if not places:
        return ""
    return "M" + "L".join(scale.point(place.offload, place.risk) for place in places)


def _region(certificate: Certificate, scale: Scale) -> str:
    """Stairs under the bounds: from each certified threshold on to the right, up to the next stricter one."""
    steps = certified_steps(certificate)
    if not steps:
        return ""
    track = [(steps[0].expected_offload, 0.0)]
    for step, looser in zip(steps, [*steps[1:], None], strict=True):
        track.append((step.expected_offload, step.risk_bound))
        if looser is not None:
            track.append((step.expected_offload, looser.risk_bound))
    track.append((steps[-1].expected_offload, 0.0))
    return "M" + "L".join(scale.point(offload, risk) for offload, risk in track) + "Z"


def _step_mark(certificate: Certificate, step: CertifiedThreshold, scale: Scale) -> Mark:
    risk = step.errors / step.kept if step.kept else 0.0
    words = (
        f"{certificate.risk.value}: at most {percent(step.risk_bound)} at {percent(step.expected_offload)} offload; "
        f"{step.errors} of {step.kept} kept samples were wrong"
    )
    return Mark(
        kind=certificate.risk.value,
        key=f"{certificate.risk.value}-{step.alpha:g}",
        left=scale.left(step.expected_offload),
        top=scale.top(step.risk_bound),
        upper=scale.top(step.risk_bound),
        lower=scale.top(risk),
        words=words,
    )


def _today_mark(measured: Measured, scale: Scale) -> Mark:
    return Mark(
        kind="today",
        key=measured.key,
        left=scale.left(measured.offload),
        top=scale.top(measured.risk),
        upper=scale.top(measured.upper),
        lower=scale.top(measured.lower),
        words=measured.words,
        is_cut=measured.upper > scale.ceiling,
    )
