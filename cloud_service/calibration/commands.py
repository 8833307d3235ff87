"""What the `gate` commands do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from cloud_service.calibration.bundle_calibration import calibrate_bundle, check_pair, read_calibration_data
from cloud_service.calibration.cli import DEFAULT_GRID
from cloud_service.calibration.explanation import RISK_WORDS, explain_gate, promise_words, shortfall_words
from cloud_service.calibration.gate_maker import GatePlan
from cloud_service.calibration.label_rules import ESCALATE, critical_labels
from cloud_service.calibration.output_calibration import (
    CalibrationRequest,
    OutputCalibration,
    calibrate_outputs,
    check_alphas,
)
from cloud_service.calibration.picture import html_page, points_of, text_picture
from cloud_service.calibration.scores_file import read_scores
from shared.bundle import Bundle, read_bundle, replace_gate
from shared.errors import ConfigurationError
from shared.gate import CertifiedThreshold, Gate, Guarantee, Risk


def calibrate(options: argparse.Namespace) -> int:
    """`gate calibrate`: of a file of outputs or of a bundle."""
    return _calibrate_scores(options) if options.scores is not None else _calibrate_bundle(options)


def _calibrate_scores(options: argparse.Namespace) -> int:
    if options.full or options.data or options.tuning_data or options.critical:
        raise ConfigurationError("--full, --data, --tuning-data and --critical go with --bundle")
    risks = options.risk or [Risk.KEPT_ERROR]
    if len(risks) > 1:
        raise ConfigurationError("--scores takes one --risk")
    request = CalibrationRequest(risks[0], _alphas(options, ()), options.delta, options.seed, options.guarantee)
    found = calibrate_outputs(read_scores(options.scores, request.risk), request)
    _say(json.dumps(_summary(found, request), indent=1) if options.json else "\n".join(_words(found, request)))
    return 0


def _alphas(options: argparse.Namespace, default: tuple[float, ...]) -> tuple[float, ...]:
    alphas = tuple(alpha for group in options.alpha or () for alpha in group) or default
    if not alphas:
        raise ConfigurationError("--scores needs --alpha")
    check_alphas(alphas, options.delta)
    if options.seed < 0:
        raise ConfigurationError("--seed must not be negative")
    return alphas


def _summary(found: OutputCalibration, request: CalibrationRequest) -> dict[str, Any]:
    gate = found.gate
    common = {
        "score": gate.score.value,
        "temperature": gate.temperature,
        "risk": request.risk.value,
        "guarantee": request.guarantee.value,
        "delta": request.delta,
        "n": found.tuning + found.certifying,
        "n_tuning": found.tuning,
        "n_certifying": found.certifying,
        "data_digest": gate.certificate(request.risk).data_digest,
    }
    steps = [asdict(step) for step in found.steps]
    return {**steps[0], **common, **({"steps": steps} if len(steps) > 1 else {})}


def _words(found: OutputCalibration, request: CalibrationRequest) -> Iterator[str]:
    gate = found.gate
    certificate = gate.certificate(request.risk)
    yield f"Score {gate.score.value} at temperature {gate.temperature!r}, fixed on {found.tuning} samples;"
    yield f"{found.certifying} others certify {promise_words(certificate)}:"
    yield f"at most a share alpha of {RISK_WORDS[request.risk]}."
    for step in found.steps:
        yield from _step_words(step)


def _step_words(step: CertifiedThreshold) -> Iterator[str]:
    if step.threshold is None:
        yield f"alpha {step.alpha:g}: no threshold, everything is escalated: {step.reason}"
        yield f"  {shortfall_words(step.shortfall).removeprefix('; ')}."
        return
    yield f"alpha {step.alpha:g}: keep from threshold {step.threshold!r} on;"
    yield f"  {step.errors} of {step.kept} kept were wrong, a risk of at most {step.risk_bound:.3%};"
    yield f"  expected offload {step.expected_offload:.1%}."


def _calibrate_bundle(options: argparse.Namespace) -> int:
    if options.full is None or options.data is None:
        raise ConfigurationError("--bundle needs --full and --data")
    edge, full = read_bundle(options.bundle), read_bundle(options.full)
    check_pair(edge, full)
    plan = _plan(options, edge.manifest.labels)
    data = read_calibration_data(options.data, options.tuning_data, edge.manifest.labels, options.seed)
    gate = calibrate_bundle(edge, full, data, plan)
    replace_gate(edge, gate)
    if options.json:
        _say(json.dumps(asdict(gate), indent=1))
    else:
        _say("\n".join(explain_gate(gate, _name(edge))))
    return 0


def _plan(options: argparse.Namespace, labels: Sequence[str]) -> GatePlan:
    alphas = _alphas(options, DEFAULT_GRID)
    risks = options.risk or [Risk.KEPT_ERROR, Risk.KEPT_DISAGREEMENT]
    if options.guarantee is Guarantee.EXPECTATION and Risk.JOINT not in risks:
        raise ConfigurationError("a guarantee of the expectation is only for --risk joint")
    critical = critical_labels(_critical(options.critical), labels, alphas[0])
    in_force = dict.fromkeys(risks, alphas[0])
    return GatePlan(tuple(sorted(alphas)), options.delta, in_force, critical, options.guarantee)


def _critical(entries: Sequence[str]) -> dict[str, float | Literal["escalate"]]:
    found: dict[str, float | Literal["escalate"]] = {}
    for entry in entries:
        label, separator, alpha = entry.rpartition("=")
        try:
            found[label] = ESCALATE if alpha == ESCALATE else float(alpha)
        except ValueError:
            separator = ""
        if not separator:
            raise ConfigurationError(f"--critical {entry}: say LABEL=ALPHA or LABEL={ESCALATE}")
    return found


def explain(options: argparse.Namespace) -> int:
    """`gate explain`: words, and pictures of what was seen on the calibration data."""
    bundle = read_bundle(options.bundle)
    if bundle.gate is None:
        raise ConfigurationError(f"{options.bundle}: this bundle has no gate; edge bundles have one")
    _say("\n".join(explain_gate(bundle.gate, _name(bundle))))
    for line in _pictures(bundle.gate):
        _say(line)
    if options.html is not None:
        try:
            options.html.write_text(html_page(bundle.gate, _name(bundle)), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{options.html}: cannot be written: {error}") from error
    return 0


def _pictures(gate: Gate) -> Iterator[str]:
    for certificate in gate.certificates:
        if certificate.curve:
            yield f"\n{certificate.risk.value}: risk over offload, as seen on the calibration data"
            yield from text_picture(points_of(certificate, gate.in_force.get(certificate.risk)))


def _name(bundle: Bundle) -> str:
    return f"{bundle.identity.name} {bundle.identity.version}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
