"""A gate in plain words: what it promises, on what evidence, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from shared.gate import Certificate, CertifiedThreshold, Gate, Guarantee, LabelRule, Risk, Score, Shortfall

RISK_WORDS = {
    Risk.KEPT_ERROR: "wrong answers among those that the device keeps",
    Risk.KEPT_DISAGREEMENT: "answers among those that the device keeps with which the full model disagrees",
    Risk.JOINT: "answers of all that are kept and wrong",
}
SCORE_WORDS = {
    Score.MAX_PROBABILITY: "the largest probability",
    Score.MARGIN: "the largest probability less the second",
    Score.ENTROPY: "the negative entropy of the probabilities, in nats",
    Score.ENERGY: "the logits' energy",
}


def explain_gate(gate: Gate, model: str) -> Iterator[str]:
    """Line by line; `model` is how the model is called."""
    threshold = gate.threshold()
    yield f"The gate of {model} keeps an answer where its score is at least a threshold, and escalates the rest."
    yield f"Score: {gate.score.value}, {SCORE_WORDS[gate.score]}, at temperature {gate.temperature:.4g}."
    if threshold is None:
        yield "In force: no threshold; what is in force below could not be certified, so that everything is escalated."
    else:
        yield f"In force: threshold {threshold:.6g}, the strictest of what is in force below."
    for certificate in gate.certificates:
        yield ""
        yield from _certificate(certificate, gate.in_force.get(certificate.risk))
    for rule in gate.label_rules:
        yield ""
        yield from explain_rule(rule)


def promise_words(certificate: Certificate) -> str:
    """How the promise of a certificate is meant."""
    if certificate.guarantee is Guarantee.EXPECTATION:
        return "on average over draws of the calibration data"
    return f"with probability {1.0 - certificate.delta:.4g} over draws of the calibration data, for all alphas at once"


def _certificate(certificate: Certificate, in_force: float | None) -> Iterator[str]:
    yield f"Promised ({certificate.risk.value}), {promise_words(certificate)}:"
    yield f"at most a share alpha of {RISK_WORDS[certificate.risk]}, on traffic like the data."
    yield f"Data: {certificate.data} ({certificate.n} certify; SHA-256 {certificate.data_digest or 'unknown'})."
    yield "  alpha    threshold      kept  wrong  risk at most  expected offload"
    for step in certificate.steps:
        mark = "*" if step.alpha == in_force else " "
        yield f"{mark} {_row(step)}"
    yield "  * in force" if in_force is not None else "  none of them in force"


def _row(step: CertifiedThreshold) -> str:
    if step.threshold is None:
        return f"{step.alpha:<8g} none: {step.reason}{shortfall_words(step.shortfall)}"
    return (
        f"{step.alpha:<8g} {step.threshold:<13.6g} {step.kept:>5}  {step.errors:>5}  {step.risk_bound:>12.2%}  "
        f"{step.expected_offload:>16.1%}"
    )


def shortfall_words(shortfall: Shortfall | None) -> str:
    """What is to be had instead, as the end of a sentence; empty where nobody counted it."""
    if shortfall is None:
        return ""
    smallest = shortfall.smallest_alpha
    attainable = "no alpha below 1 is" if smallest is None else f"the smallest alpha is about {smallest:.3g}, which is"
    more = shortfall.more_samples
    remedy = (
        "not even ten million samples would likely do" if more is None else f"about {more} samples more would likely do"
    )
    return (
        f"; {attainable} within reach of these samples; any gate must offload at least {shortfall.least_offload:.1%}; "
        f"{remedy}"
    )


def explain_rule(rule: LabelRule) -> Iterator[str]:
    """A critical label's rule."""
    if rule.certified is None:
        yield f"Critical label {rule.label!r}: its answers are always escalated."
        return
    step = rule.certified
    yield f"Critical label {rule.label!r}, with a delta of {rule.delta:g} of its own (above are other labels' answers):"
    if step.threshold is None:
        yield f"  alpha {step.alpha:g} could not be certified, so its answers are always escalated:"
        yield f"  {step.reason}{shortfall_words(step.shortfall)}"
        return
    yield (
        f"  alpha {step.alpha:g}: kept from score {step.threshold:.6g} on; {step.errors} of {step.kept} kept were "
        f"wrong, a risk of at most {step.risk_bound:.2%}"
    )
