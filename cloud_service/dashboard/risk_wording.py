"""How the page of risks writes its own things. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cloud_service.dashboard.risk_chart import Scale
from cloud_service.dashboard.risk_choices import RISK_NAMES, Figures, Slider
from cloud_service.dashboard.risk_order import policy_words
from cloud_service.dashboard.wording import count, percent
from shared.gate import Certificate, Guarantee, LabelRule, Risk


def risk_name(risk: Risk) -> str:
    """As a heading."""
    return RISK_NAMES[risk]


def threshold_words(threshold: float | None) -> str:
    """Four digits, or what it means that there is none."""
    return "none: all is escalated" if threshold is None else f"{threshold:.4g}"


def cloud_words(figures: Figures) -> str:
    """How many of a thousand requests go to the cloud."""
    return count(round(figures.cloud_per_thousand))


def rule_words(rule: LabelRule) -> str:
    """A critical label's own rule."""
    if rule.certified is None:
        return "critical: always escalated"
    if rule.certified.threshold is None:
        return f"critical, at most {percent(rule.certified.alpha)}: no threshold reaches it, always escalated"
    return f"critical, at most {percent(rule.certified.alpha)}: kept from {rule.certified.threshold:.4g} on"


def guarantee_words(certificate: Certificate) -> str:
    """How sure the certificate's steps are."""
    if certificate.guarantee is Guarantee.EXPECTATION:
        return "on average over calibration data"
    return f"with probability at least {percent(1.0 - certificate.delta)} all of it holds at once"


def choices_json(slider: Slider, scale: Scale) -> str:
    """For the page's script: each certified choice with its figures in words, strict to loose."""
    choices = [
        {
            "alpha": str(choice.step.alpha),
            "words": percent(choice.step.alpha),
            "threshold": choice.step.threshold,
            "left": scale.left(choice.figures.offload),
            "figures": {
                "threshold": threshold_words(choice.step.threshold),
                "offload": percent(choice.figures.offload),
                "agreement": percent(choice.figures.agreement),
                "kept_right": percent(choice.figures.kept_right),
                "cloud": cloud_words(choice.figures),
            },
        }
        for choice in slider.certified
    ]
    return json.dumps(choices, ensure_ascii=False, separators=(",", ":"))


FILTERS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        risk_name,
        threshold_words,
        cloud_words,
        rule_words,
        guarantee_words,
        choices_json,
        policy_words,
    )
}
