"""The gate: from a prediction's scores to *keep* or *escalate*, with the certificate that binds it.

Pure: no I/O and no clock. How thresholds are certified is the cloud's work; here they are only obeyed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from shared.documents import Document, DocumentError, canonical_json, format_of, read_document, sha256
from shared.errors import GateError, GateFormatTooNew
from shared.types import Reason

GATE_FORMAT = 2


class Score(str, Enum):
    """How sure a prediction is; each so that larger means surer."""

    MAX_PROBABILITY = "max_probability"
    MARGIN = "margin"
    ENTROPY = "entropy"
    ENERGY = "energy"


class Risk(str, Enum):
    """What is promised about the kept answers."""

    KEPT_ERROR = "kept-error"
    KEPT_DISAGREEMENT = "kept-disagreement"
    JOINT = "joint"


class Guarantee(str, Enum):
    """How a promise is meant: with probability 1 - delta over the calibration data, or on average over them."""

    PROBABILITY = "probability"
    EXPECTATION = "expectation"


@dataclass(frozen=True)
class Shortfall(Document):
    """What is to be had where no threshold reaches alpha.

    `smallest_alpha` is the smallest that these samples could certify (None: none below 1), `least_offload` the lower
    bound (μ − α) / (1 − α) on the offload of any gate at a risk of μ without one, `more_samples` how many samples more
    would likely do (None: not even ten million would).
    """

    smallest_alpha: float | None
    least_offload: float
    more_samples: int | None


@dataclass(frozen=True)
class CertifiedThreshold(Document):
    """One step of a certificate: keep where score ≥ `threshold` and the kept risk is at most `alpha`.

    `threshold` is None where no threshold reaches `alpha`; `reason` and `shortfall` then say why. `kept` and `errors`
    count the calibration samples that the threshold keeps and those wrong among them; `risk_bound` is
    the exact upper confidence bound on the kept risk; `expected_offload` is the share not kept.
    """

    alpha: float
    threshold: float | None
    kept: int
    errors: int
    risk_bound: float
    expected_offload: float
    reason: str = ""
    shortfall: Shortfall | None = None


@dataclass(frozen=True)
class LabelRule(Document):
    """A critical label: its answers are kept only where score ≥ the threshold of `certified`, and its own `delta`.

    `index` is the label's place among the logits. `certified`, for `Gate.label_risk`, None: its answers are always
    escalated.
    The gate's other certificates speak of the answers of all labels without a rule.
    """

    label: str
    index: int
    delta: float = 0.0
    certified: CertifiedThreshold | None = None

    @property
    def threshold(self) -> float:
        """Keep from here on; infinite where nothing is kept."""
        found = self.certified.threshold if self.certified else None
        return math.inf if found is None else found


@dataclass(frozen=True)
class ScoreHistogram(Document):
    """The calibration scores, to tell drift by: `counts` has one entry more than `edges`, which ascend.

    Bin i holds scores below `edges[i]` and at or above the edge before.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class CurvePoint(Document):
    """What a threshold, certified or not, keeps of the calibration samples, and the wrong among these."""

    threshold: float
    kept: int
    errors: int


@dataclass(frozen=True)
class Certificate(Document):
    """With probability at least 1 - `delta` over `n` calibration samples, every step's promise holds.

    Source: Learn then Test, arXiv 2110.01052. Where `guarantee` is of the expectation, each step's risk is at most
    its alpha on average over calibration data (Conformal risk control, arXiv 2208.02814), and `delta` is 1: no
    probability is promised. `data_digest` is the SHA-256 of the calibration data, `curve` runs from strict to loose.
    """

    risk: Risk
    delta: float
    n: int
    steps: tuple[CertifiedThreshold, ...]
    data: str
    data_digest: str
    code_version: str
    guarantee: Guarantee = Guarantee.PROBABILITY
    curve: tuple[CurvePoint, ...] = ()

    def step(self, alpha: float) -> CertifiedThreshold:
        """The step certified for `alpha`.

        Raises:
            GateError: `alpha` is not on the certified grid.
        """
        for step in self.steps:
            if math.isclose(step.alpha, alpha, rel_tol=1e-9):
                return step
        grid = ", ".join(f"{step.alpha:g}" for step in self.steps)
        raise GateError(f"alpha {alpha:g} is not certified for {self.risk.value}; choose one of {grid}")


@dataclass(frozen=True)
class GateDecision:
    """What the gate says of one prediction. `threshold` is None where everything is escalated."""

    keep: bool
    score: float
    threshold: float | None
    reason: Reason


@dataclass(frozen=True)
class Gate(Document):
    """A score, its temperature, and certified thresholds of which `in_force` chooses by risk and alpha.

    `model_digest` and `full_model_digest` name the models it was calibrated for and against.
    """

    model_digest: str
    full_model_digest: str
    score: Score
    temperature: float
    in_force: dict[Risk, float]
    certificates: tuple[Certificate, ...]
    label_rules: tuple[LabelRule, ...] = ()
    score_histogram: ScoreHistogram | None = None
    format: int = GATE_FORMAT

    def certificate(self, risk: Risk) -> Certificate:
        """The certificate for `risk`.

        Raises:
            GateError: there is none.
        """
        for certificate in self.certificates:
            if certificate.risk is risk:
                return certificate
        raise GateError(f"the gate has no certificate for {risk.value}")

    def threshold(self) -> float | None:
        """The strictest of the thresholds in force; None where one of its risks has none that is certified."""
        steps = [self.certificate(risk).step(alpha) for risk, alpha in self.in_force.items()]
        thresholds = [step.threshold for step in steps if step.threshold is not None]
        if not steps or len(thresholds) < len(steps):
            return None
        return max(thresholds)

    def certified_thresholds(self) -> tuple[float, ...]:
        """Every threshold that some certificate holds, strict to loose: the steps that audits are counted by."""
        found = {step.threshold for certificate in self.certificates for step in certificate.steps}
        return tuple(sorted((each for each in found if each is not None), reverse=True))

    @property
    def label_risk(self) -> Risk:
        """The one risk that label rules are certified for: errors, unless the gate promises only disagreement."""
        promised = {certificate.risk for certificate in self.certificates}
        return Risk.KEPT_DISAGREEMENT if promised == {Risk.KEPT_DISAGREEMENT} else Risk.KEPT_ERROR

    @property
    def digest(self) -> str:
        """SHA-256 of the gate's document: what a policy names."""
        return sha256(gate_document(self))


def parse_gate(data: bytes) -> Gate:
    """Read `gate.json` and check that what is in force is certified.

    Raises:
        GateError: the document is malformed, of a newer format, has a temperature that is not positive,
            or puts an alpha in force that no certificate holds.
    """
    if (found := format_of(data)) > GATE_FORMAT:
        raise GateFormatTooNew(f"gate.json has format {found}, this program knows {GATE_FORMAT}: update Tandem")
    try:
        gate = read_document(Gate, data)
    except DocumentError as error:
        kind = GateFormatTooNew if error.unknown_field else GateError
        raise kind(f"gate.json: {error}") from error
    if gate.temperature <= 0:
        raise GateError(f"gate.json: temperature {gate.temperature} must be positive")
    gate.threshold()
    return gate


def gate_document(gate: Gate) -> bytes:
    """The text of `gate.json`."""
    return canonical_json(gate)


class GateKeeper:
    """A gate ready for the hot path: its thresholds looked up once.

    It may be made stricter than the certificate and never looser: `least_threshold` raises the threshold, and
    `escalates_all` keeps nothing.
    """

    def __init__(self, gate: Gate, *, least_threshold: float = -math.inf, escalates_all: bool = False) -> None:
        self._score = _ROW_SCORES[gate.score]
        self._temperature = gate.temperature
        certified = None if escalates_all else gate.threshold()
        self.threshold = None if certified is None else max(certified, least_threshold)
        self._label_thresholds = {rule.index: rule.threshold for rule in gate.label_rules}

    def decide(self, logits: NDArray[np.float32]) -> GateDecision:
        """Keep or escalate one prediction from its logits [labels]. NaN never passes."""
        return self.judge(logits)[1]

    def judge(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], GateDecision]:
        """The probabilities [labels] of one prediction from its logits [labels], and whether to keep it."""
        scaled = logits.astype(np.float64)
        scaled /= self._temperature
        top = np.maximum.reduce(scaled)
        scaled -= top
        chances: NDArray[np.float64] = np.exp(scaled, out=scaled)
        total = np.add.reduce(chances)
        chances /= total
        score = float(self._score(chances, self._temperature, top, total))
        threshold = self.threshold
        if threshold is None:
            return chances, GateDecision(False, score, None, Reason.UNCERTIFIED)
        if self._label_thresholds:
            threshold = max(threshold, self._label_thresholds.get(int(logits.argmax()), threshold))
        keep = score >= threshold
        reason = Reason.CONFIDENT if keep else Reason.UNCERTAIN
        return chances, GateDecision(keep, score, threshold if threshold < math.inf else None, reason)


def probabilities(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Softmax of `logits` [n, labels] divided by `temperature`; float64, rows sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    exponentials: NDArray[np.float64] = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    normalized: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalized


def score_values(logits: NDArray[np.floating], score: Score, temperature: float) -> NDArray[np.float64]:
    """How sure each prediction is, from logits [n, labels] to float64 [n]; larger is surer.

    max_probability: the largest probability. margin: the largest less the second. entropy: the negative
    entropy in nats. energy: temperature · logsumexp(logits / temperature) (Liu et al. 2020, negated).
    """
    return SCORE_FUNCTIONS[score](logits, temperature, probabilities(logits, temperature))


_Matrix = NDArray[np.float64]


def _max_probability(logits: NDArray[np.floating], temperature: float, p: _Matrix) -> _Matrix:
    best: _Matrix = p.max(axis=1)
    return best


def _margin(logits: NDArray[np.floating], temperature: float, p: _Matrix) -> _Matrix:
    best_two = np.partition(p, -2, axis=1)[:, -2:]
    margin: _Matrix = best_two[:, 1] - best_two[:, 0]
    return margin


def _entropy(logits: NDArray[np.floating], temperature: float, p: _Matrix) -> _Matrix:
    negative: _Matrix = np.sum(p * np.log(np.maximum(p, np.finfo(np.float64).tiny)), axis=1)
    return negative


def _energy(logits: NDArray[np.floating], temperature: float, p: _Matrix) -> _Matrix:
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    energy: _Matrix = temperature * (top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1)))
    return energy


SCORE_FUNCTIONS: Mapping[Score, Callable[[NDArray[np.floating], float, _Matrix], _Matrix]] = {
    Score.MAX_PROBABILITY: _max_probability,
    Score.MARGIN: _margin,
    Score.ENTROPY: _entropy,
    Score.ENERGY: _energy,
}

_Row = NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny
_RowScore = Callable[[_Row, float, np.float64, np.float64], np.float64]


def _row_max_probability(p: _Row, temperature: float, top: np.float64, total: np.float64) -> np.float64:
    best: np.float64 = np.maximum.reduce(p)
    return best


def _row_margin(p: _Row, temperature: float, top: np.float64, total: np.float64) -> np.float64:
    ordered = p.copy()
    ordered.partition(-2)
    margin: np.float64 = ordered[-1] - ordered[-2]
    return margin


def _row_entropy(p: _Row, temperature: float, top: np.float64, total: np.float64) -> np.float64:
    terms = np.maximum(p, _TINY)
    np.log(terms, out=terms)
    terms *= p
    negative: np.float64 = np.add.reduce(terms)
    return negative


def _row_energy(p: _Row, temperature: float, top: np.float64, total: np.float64) -> np.float64:
    energy: np.float64 = temperature * (top + np.log(total))
    return energy


_ROW_SCORES: Mapping[Score, _RowScore] = {
    Score.MAX_PROBABILITY: _row_max_probability,
    Score.MARGIN: _row_margin,
    Score.ENTROPY: _row_entropy,
    Score.ENERGY: _row_energy,
}
"""The same for one prediction on the hot path, from its probabilities, its scaled logits' maximum and the sum of their
exponentials, that maximum taken off."""
