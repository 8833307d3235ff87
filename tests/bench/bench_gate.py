"""The gate: whether its promise holds, what it costs in offload, and how fast it is.

1,000 calibration sets of 1,500 are drawn with replacement from what the demo's edge bundle says of BANKING77's test
file, so that the kept risk on the whole file is the true one, and calibrated as `cloud-service gate calibrate` does it.
Beside it stands MAPIE's BinaryClassificationController, whose p-value is the smaller one of Hoeffding's and the exact
binomial tail: with its default (Bonferroni-Holm over 100 thresholds) and with fixed-sequence testing, on the same split
with the same score, and with fixed-sequence testing on all 1,500 with the largest probability, which needs no split.
Every mean stands with two standard errors on either side.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mapie
import numpy as np
from mapie.risk_control import BinaryClassificationController, precision
from mapie.risk_control._base_controller import ltt_procedure
from numpy.typing import NDArray

from cloud_service.calibration.learn_then_test import certify
from cloud_service.calibration.output_calibration import CalibrationRequest, calibrate_outputs, tuning_count
from cloud_service.calibration.predictions import Judged, Predictions
from cloud_service.calibration.risk_curve import FloatArray, ScoredSample, candidate_thresholds, measure
from cloud_service.calibration.score_choice import choose_score, fit_temperature, least_offload, least_score
from cloud_service.calibration.starts import SmoothSample, choose_start, smooth_chances
from cloud_service.compression.dataset import dataset_folder, read_rows
from cloud_service.serving.onnxruntime_backend import OnnxRuntimeBackend
from shared.bundle import read_bundle
from shared.gate import GateKeeper, Risk, Score, score_values
from shared.text import TextEncoder
from tests.bench.report import Figure, finish
from tests.support.tiny_bundle import tiny_gate

BUNDLES = Path(__file__).parents[2] / "deploy" / "demo" / "bundles"
SETS, SET_SIZE = 1000, 1500
ALPHAS, DELTAS = (0.01, 0.02, 0.05, 0.10), (0.05, 0.10)
CHECKED, FOR_HINDSIGHT = 10, 200
LABELS, SAMPLES, CALLS, ROUNDS = 77, 100_000, 2000, 15
ERROR = Risk.KEPT_ERROR

Results = dict[str, list[tuple[float, bool]]]
"""For each method and each set: offload on the whole file, and whether the kept risk there is over alpha."""


@dataclass(frozen=True)
class Draw:
    """One calibration set, split; scores of the whole file by the temperature that this set fixes."""

    predictions: Predictions
    tuning: NDArray[np.int64]
    certifying: NDArray[np.int64]
    temperature: float

    @classmethod
    def of(cls, whole: Predictions, rows: NDArray[np.int64], seed: int) -> Draw:
        order = np.random.default_rng(seed).permutation(len(rows))
        count = tuning_count(len(rows))
        tuning = rows[order[:count]]
        temperature = fit_temperature(whole.edge_logits[tuning], whole.label_ids[tuning])
        return cls(whole, tuning, rows[order[count:]], temperature)


def main() -> None:
    finish([*speed(), *promise(test_predictions())], __doc__ or "")


def speed() -> Iterator[Figure]:
    """CPU time of one decision, and of one calibration."""
    row = np.random.default_rng(0).normal(0, 3, LABELS).astype(np.float32)
    for score in Score:
        keeper = GateKeeper(replace(tiny_gate("0" * 64, 0.9), score=score, temperature=1.3))
        took = [_seconds_of_calls(keeper, row) * 1e6 / CALLS for _ in range(ROUNDS)]
        yield Figure.of(f"one decision over {LABELS} logits, by {score.value}", took, "µs", "≤ 20")
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (SAMPLES, LABELS)).astype(np.float32)
    labels = np.where(random.uniform(size=SAMPLES) < 0.9, logits.argmax(axis=1), random.integers(0, LABELS, SAMPLES))
    request = CalibrationRequest(ERROR, (0.05, 0.01, 0.02, 0.1, 0.2), 0.1)
    took = []
    for _ in range(3):
        begin = time.process_time()
        calibrate_outputs(Predictions(logits, labels, labels), request)
        took.append(time.process_time() - begin)
    yield Figure.of(f"calibration of {SAMPLES:,} samples of {LABELS} labels at 5 alphas", took, "s", "< 2")


def _seconds_of_calls(keeper: GateKeeper, row: NDArray[np.float32]) -> float:
    begin = time.thread_time()
    for _ in range(CALLS):
        keeper.judge(row)
    return time.thread_time() - begin


def test_predictions() -> Predictions:
    """What the shipped edge bundle says of BANKING77's test file, each text alone."""
    bundle = read_bundle(BUNDLES / "banking77-edge")
    encoder, backend = TextEncoder.of(bundle), OnnxRuntimeBackend(bundle, 1, ("CPUExecutionProvider",))
    rows = read_rows(dataset_folder("banking77") / "test.csv")
    logits = np.concatenate([backend.run([encoder.encode(text)]) for text, _ in rows])
    labels = np.array([bundle.manifest.labels.index(label) for _, label in rows])
    return Predictions(logits, labels, labels)


def promise(whole: Predictions) -> Iterator[Figure]:
    """For each alpha and delta: how often it is broken, and offload beside the best in hindsight and MAPIE's."""
    sets = np.random.default_rng(77).integers(0, len(whole), (SETS, SET_SIZE))
    draws = [Draw.of(whole, rows, seed) for seed, rows in enumerate(sets)]
    _check_against_the_command(whole, sets, draws)
    for alpha in ALPHAS:
        best = _hindsight(whole, alpha)
        own = 100.0 * float(np.mean([_hindsight_of(draw, alpha) for draw in draws[:FOR_HINDSIGHT]]))
        results: dict[float, Results] = {delta: defaultdict(list) for delta in DELTAS}
        for draw in draws:
            _calibrate(draw, alpha, results)
        for delta, by_method in results.items():
            yield from _figures(alpha, delta, by_method)
        where = f"α = {alpha:.0%}: offload, best threshold in hindsight"
        yield Figure(f"{where}, of the sets' own scores", own, own, own, "%")
        yield Figure(f"{where}, of the best of all scores", best, best, best, "%")


def _hindsight(whole: Predictions, alpha: float) -> float:
    """With the temperature that the whole file fixes, in percent."""
    temperature = fit_temperature(whole.edge_logits, whole.label_ids)
    wrong = whole.wrong(ERROR)
    return 100.0 * min(least_offload(whole.edge_logits, wrong, score, temperature, alpha) for score in Score)


def _hindsight_of(draw: Draw, alpha: float) -> float:
    """With a set's own score and temperature."""
    whole, wrong = draw.predictions, draw.predictions.wrong(ERROR)
    score, _ = choose_score(whole.edge_logits[draw.tuning], wrong[draw.tuning], draw.temperature, (alpha,))
    return least_offload(whole.edge_logits, wrong, score, draw.temperature, alpha)


def _calibrate(draw: Draw, alpha: float, results: dict[float, Results]) -> None:
    whole = draw.predictions
    wrong = whole.wrong(ERROR)
    score, _ = choose_score(whole.edge_logits[draw.tuning], wrong[draw.tuning], draw.temperature, (alpha,))
    judged = Judged.of(whole, score, draw.temperature)
    largest = score_values(whole.edge_logits, Score.MAX_PROBABILITY, 1.0)
    everything = np.concatenate([draw.tuning, draw.certifying])
    for delta in DELTAS:
        found = {
            "Tandem": (judged.scores, tandem_threshold(draw, judged, score, alpha, delta)),
            "MAPIE, default": (judged.scores, _mapie(judged, wrong, draw, alpha, delta, "bonferroni_holm")),
            "MAPIE, fixed sequence": (judged.scores, _mapie(judged, wrong, draw, alpha, delta, "fixed_sequence")),
            "MAPIE, fixed sequence on all": (
                largest,
                _mapie_threshold(largest[everything], ~wrong[everything], _GRID, alpha, delta, "fixed_sequence"),
            ),
        }
        for method, (scores, threshold) in found.items():
            kept = scores >= (math.inf if threshold is None else threshold)
            broken = bool(kept.any()) and float(wrong[kept].mean()) > alpha
            results[delta][method].append((1.0 - float(kept.mean()), broken))


def tandem_threshold(draw: Draw, judged: Judged, score: Score, alpha: float, delta: float) -> float | None:
    """As `cloud-service gate calibrate` finds it, without what it says where it finds none."""
    wrong = judged.sample(ERROR).wrong
    thresholds = candidate_thresholds(judged.scores[draw.tuning], least_score(score, LABELS))
    curve = measure(ScoredSample(judged.scores[draw.certifying], wrong[draw.certifying]), thresholds)
    chances = smooth_chances(judged.doubts[draw.tuning], wrong[draw.tuning])
    start = choose_start(SmoothSample(judged.scores[draw.tuning], chances), thresholds, curve.n, alpha, delta)
    index = certify(curve, (alpha,), (start,), (delta,))[0].index
    return None if index is None else float(thresholds[index])


def _check_against_the_command(whole: Predictions, sets: NDArray[np.int64], draws: list[Draw]) -> None:
    for seed in range(CHECKED):
        found = calibrate_outputs(whole.take(sets[seed]), CalibrationRequest(ERROR, (0.05,), 0.1, seed))
        judged = Judged.of(whole, found.gate.score, draws[seed].temperature)
        assert tandem_threshold(draws[seed], judged, found.gate.score, 0.05, 0.1) == found.steps[0].threshold
        rows = draws[seed].certifying
        scores, right = judged.scores, ~whole.wrong(ERROR)
        for method, alpha in (("bonferroni_holm", 0.05), ("fixed_sequence", 0.02), ("fixed_sequence", 0.1)):
            given = (scores[rows], right[rows], _GRID, alpha, 0.1, method)
            one, other = _mapie_threshold(*given), mapie_by_its_class(*given)
            assert (one is None) == (other is None)
            assert one is None or other is None or ((scores >= one) == (scores >= other))[rows].all()


_GRID = np.linspace(0, 0.99, 100)  # MAPIE's own


def _mapie(
    judged: Judged, wrong: NDArray[np.bool_], draw: Draw, alpha: float, delta: float, method: str
) -> float | None:
    scores = judged.scores
    probabilities = scores.min() >= 0.0 and scores.max() <= 1.0
    grid = _GRID if probabilities else np.unique(np.quantile(scores[draw.tuning], _GRID))
    return _mapie_threshold(scores[draw.certifying], ~wrong[draw.certifying], grid, alpha, delta, method)


def _mapie_threshold(
    scores: FloatArray, right: NDArray[np.bool_], grid: FloatArray, alpha: float, delta: float, method: str
) -> float | None:
    """The loosest threshold that MAPIE's procedure finds valid, from counts: its class takes many times as long."""
    curve = measure(ScoredSample(scores, ~right), grid)
    right_share = (curve.kept - curve.errors) / np.maximum(curve.kept, 1)
    risk = np.where(curve.kept > 0, 1.0 - right_share, 1.0)  # its own arithmetic, which it rounds up to whole errors
    sizes = np.where(curve.kept > 0, curve.kept, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where no threshold is found, and of a risk that is not monotone
        # target and confidence as its class turns them round
        level, error = np.array([[1.0 - (1.0 - alpha)]]), 1.0 - (1.0 - delta)
        counts = sizes[np.newaxis].astype(np.float64)
        valid, _ = ltt_procedure(risk[np.newaxis], level, error, counts, True, fwer_method=method)
    return float(grid[min(valid[0])]) if valid[0] else None


def mapie_by_its_class(
    scores: FloatArray, right: NDArray[np.bool_], grid: FloatArray, alpha: float, delta: float, method: str
) -> float | None:
    """The same by MAPIE's class: the precision of the kept answers is at least 1 - alpha, by confidence 1 - delta."""
    controller = BinaryClassificationController(
        lambda rows: np.column_stack([1.0 - scores[rows], scores[rows]]),
        precision,
        1.0 - alpha,
        confidence_level=1.0 - delta,
        list_predict_params=grid,
        fwer_method=method,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(np.arange(len(scores)), right.astype(np.int64))
    found = controller.best_predict_param
    return None if found is None else float(found)


def _figures(alpha: float, delta: float, by_method: Results) -> Iterator[Figure]:
    where = f"α = {alpha:.0%}, δ = {delta:.0%}:"
    limit = 100 * (delta + 3 * math.sqrt(delta * (1 - delta) / SETS))
    broken = [100.0 * over for _, over in by_method["Tandem"]]
    yield _mean(f"{where} sets whose kept risk is over α", broken, f"≤ {limit:.1f}")
    aim = "≤ MAPIE's, and the best + 3" if alpha == 0.05 else "≤ MAPIE's"
    for method, outcomes in by_method.items():
        offload = [100.0 * share for share, _ in outcomes]
        none = sum(share == 1.0 for share, _ in outcomes) / len(outcomes)
        name = f"{method} {mapie.__version__}" if method == "MAPIE, default" else method
        yield _mean(f"{where} offload, {name} (no threshold in {none:.1%})", offload, aim if method == "Tandem" else "")


def _mean(what: str, values: list[float], aim: str) -> Figure:
    mean, error = float(np.mean(values)), 2.0 * float(np.std(values)) / math.sqrt(len(values))
    return Figure(what, mean, mean - error, mean + error, "%", aim)


if __name__ == "__main__":
    main()
