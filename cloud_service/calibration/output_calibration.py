"""Calibrates a gate on any model's outputs, with no bundle: one set of predictions, split in two."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloud_service.calibration.gate_maker import GatePlan, Provenance, make_gate
from cloud_service.calibration.predictions import Predictions
from shared import __version__
from shared.errors import ConfigurationError
from shared.gate import CertifiedThreshold, Gate, Guarantee, Risk

TUNING_SHARE, ENOUGH_TO_TUNE, MOST_TUNING_SHARE = 0.1, 100, 0.3
"""Of the samples, so many fix temperature, score and starts, and the others certify; of few samples a larger share."""


def tuning_count(samples: int) -> int:
    """How many of so many samples tune; what was measured is in docs/adr/0017."""
    return round(max(TUNING_SHARE * samples, min(ENOUGH_TO_TUNE, MOST_TUNING_SHARE * samples)))


@dataclass(frozen=True)
class CalibrationRequest:
    """What to promise. The first alpha gets all of `delta` where it is alone, half where there are more."""

    risk: Risk
    alphas: tuple[float, ...]
    delta: float
    seed: int = 0
    guarantee: Guarantee = Guarantee.PROBABILITY

    def __post_init__(self) -> None:
        check_alphas(self.alphas, self.delta)
        if self.guarantee is Guarantee.EXPECTATION and self.risk is not Risk.JOINT:
            raise ConfigurationError(
                f"a guarantee of the expectation is only for the risk {Risk.JOINT.value}: {self.risk.value} may rise "
                "where the threshold does"
            )


def check_alphas(alphas: Sequence[float], delta: float) -> None:
    """Raises: ConfigurationError: an alpha or delta is not between 0 and 1, or an alpha is named twice, or none is."""
    if not alphas:
        raise ConfigurationError("name at least one alpha")
    for name, value in (*(("alpha", alpha) for alpha in alphas), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise ConfigurationError(f"{name} {value:g} must lie between 0 and 1")
    if any(math.isclose(one, other, rel_tol=1e-9) for one, other in itertools.combinations(alphas, 2)):
        raise ConfigurationError("an alpha is named twice")


@dataclass(frozen=True)
class OutputCalibration:
    """The gate, its steps in the order of the alphas asked for, and how many samples did what."""

    gate: Gate
    steps: tuple[CertifiedThreshold, ...]
    tuning: int
    certifying: int


def calibrate_outputs(predictions: Predictions, request: CalibrationRequest) -> OutputCalibration:
    """Split by the seed, plan on the smaller part and certify on the larger."""
    order = np.random.default_rng(request.seed).permutation(len(predictions))
    tuning = tuning_count(len(predictions))
    plan = GatePlan(request.alphas, request.delta, {request.risk: request.alphas[0]}, joint_guarantee=request.guarantee)
    digest = outputs_digest(predictions)
    provenance = Provenance("", "", f"{len(predictions)} outputs, seed {request.seed}", digest, __version__)
    gate = make_gate(predictions.take(order[:tuning]), predictions.take(order[tuning:]), plan, provenance)
    certifying = len(predictions) - tuning
    steps = gate.certificate(request.risk).steps
    return OutputCalibration(gate, tuple(_with_tuning(step, tuning, certifying) for step in steps), tuning, certifying)


def _with_tuning(step: CertifiedThreshold, tuning: int, certifying: int) -> CertifiedThreshold:
    """Of samples more, some would tune and not certify."""
    if step.shortfall is None or step.shortfall.more_samples is None:
        return step
    wanted = certifying + step.shortfall.more_samples
    with_enough = max(wanted / (1.0 - TUNING_SHARE), wanted + ENOUGH_TO_TUNE)
    more = math.ceil(min(wanted / (1.0 - MOST_TUNING_SHARE), with_enough)) - tuning - certifying
    return replace(step, shortfall=replace(step.shortfall, more_samples=more))


def outputs_digest(predictions: Predictions) -> str:
    """SHA-256 over logits, labels and the full model's answers, hexadecimal."""
    state = hashlib.sha256(str(predictions.edge_logits.shape).encode())
    for array in (predictions.edge_logits, predictions.label_ids, predictions.full_answers):
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()
