"""The search for each product's precision: measured here, or by a table recorded on the device class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from cloud_service.compression.config import TuningConfig
from cloud_service.compression.judging import Judgement
from cloud_service.compression.quantization.menu import Choice
from cloud_service.compression.quantization.plan import (
    BLOCK_BITS,
    Precision,
    PrecisionPlan,
    Scheme,
    is_table,
    product_names,
)
from cloud_service.compression.quantization.smoothing import ALPHA
from cloud_service.compression.quantizing import Bench, MenuRecord
from cloud_service.compression.tuning.finals import settle
from cloud_service.compression.tuning.goal import Goal, Objective, Outcome
from cloud_service.compression.tuning.journal import Journal
from cloud_service.compression.tuning.predict import LatencyPredictor
from cloud_service.compression.tuning.products import products_of
from cloud_service.compression.tuning.result import TuningResult
from cloud_service.compression.tuning.search import tune
from cloud_service.compression.tuning.space import Plan, SearchSpace
from cloud_service.compression.tuning.trials import Budget
from shared.clock import SystemClock
from shared.errors import ConfigurationError, MeasurementError
from shared.latency_table import read_latency_table

POINTS = 100.0
FP32 = Precision(Scheme.FP32)
OFFERED = (
    FP32,
    Precision(Scheme.INT8_DYNAMIC),
    Precision(Scheme.INT8_STATIC),
    Precision(Scheme.INT8_BLOCKS, 128),
    Precision(Scheme.INT8_BLOCKS, 32),
    Precision(Scheme.INT4_BLOCKS, 32),
)
SLOWEST_FOR_OFFLOAD = 1.25
OFFLOAD_ALPHA = 0.05
JOURNAL_NAME = "trials.jsonl"


@dataclass(frozen=True)
class Tuned:
    """What the search chose: the choice to build, and how it went. `smoothed` says whether weights were balanced."""

    choice: Choice
    result: TuningResult
    smoothed: bool


def check_tuning(config: TuningConfig) -> None:
    """See that the search will be able to begin, before hours of training.

    Raises:
        ConfigurationError: the configuration names a precision that does not exist.
        MeasurementError: the latency table cannot be read.
    """
    offered_precisions(config)
    if config.latency_table is not None:
        read_latency_table(config.latency_table)


def search_precisions(bench: Bench, menu: MenuRecord) -> Tuned:
    """Find the plan that serves the configuration's goal best; trials of an earlier run are not run again.

    Where latency is measured here, the best few are timed in turns in the end, and that decides.

    Raises:
        ConfigurationError: the configuration names a precision that does not exist.
        CheckpointError: the journal of trials is damaged.
        MeasurementError: the latency table cannot be read.
    """
    config = bench.workshop.config.tuning
    smoothed = _smoothing_helps(menu)
    space, latency = _space(bench, config), _latency_by_table(bench, config)
    goal = _goal(config, _quickest_ms(menu, space, latency))
    with Journal(bench.folder / JOURNAL_NAME, subject=_subject(bench, smoothed)) as journal:
        result = _search(bench, space, goal, smoothed, latency, journal)
        if latency is None:
            result = settle(space, goal, result, _ThisMachine(bench, smoothed), journal)
    return Tuned(_choice("tuned", result.best.plan, smoothed), result, smoothed)


def offload_at_risk(logits: np.ndarray, right: np.ndarray, alpha: float = OFFLOAD_ALPHA) -> float:
    """The least share of texts to send on so that of the kept ones at most `alpha` are wrong, surest first.

    `logits` [texts, labels], `right` bool [texts]. A figure to compare plans by, not a certificate.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    sureness = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    wrong = np.cumsum(~right[np.argsort(-sureness, kind="stable")])
    kept = np.arange(1, len(wrong) + 1)
    allowed = np.nonzero(wrong <= alpha * kept)[0]
    return 1.0 - (int(allowed[-1]) + 1) / len(wrong) if len(allowed) else 1.0


def _search(
    bench: Bench, space: SearchSpace, goal: Goal, smoothed: bool, latency: _TableLatency | None, journal: Journal
) -> TuningResult:
    config, report = bench.workshop.config.tuning, bench.workshop.report
    bar = report.start("tuning precisions", config.max_trials)

    def evaluate(plan: Plan) -> Outcome:
        found = bench.try_out(_choice("trial", plan, smoothed))
        return _outcome(found, found.latency_ms if latency is None else latency.ms(plan))

    budget = Budget(trials=config.max_trials, seconds=config.max_minutes * 60.0)
    result = tune(
        space,
        goal,
        budget,
        evaluate,
        SystemClock(),
        seed=bench.workshop.config.seed,
        record=journal,
        on_trial=lambda _: report.step(bar),
    )
    report.finish(bar)
    return result


def _outcome(found: Judgement, latency_ms: float) -> Outcome:
    return Outcome(
        quality=POINTS * found.accuracy,
        latency_ms=latency_ms,
        bytes=found.size_bytes,
        offload=offload_at_risk(found.logits, found.right),
        divergence=max(0.0, found.divergence_nats),
    )


def _space(bench: Bench, config: TuningConfig) -> SearchSpace:
    """Products may have any precision offered; the embedding table none that only changes arithmetic."""
    offered = [precision.name for precision in offered_precisions(config)]
    products = product_names(bench.learner.model.shape)
    tables = [name for name in (FP32.name, Scheme.INT8_DYNAMIC.value) if name in offered]
    choices = {name: tuple(tables if is_table(name) else offered) for name in products}
    return SearchSpace(choices, dict.fromkeys(products, FP32.name))


def offered_precisions(config: TuningConfig) -> tuple[Precision, ...]:
    """What products may be kept in, FP32 first.

    Raises:
        ConfigurationError: the configuration names a precision that does not exist.
    """
    known = {precision.name: precision for precision in OFFERED}
    if not config.choices:
        return OFFERED
    unknown = [name for name in config.choices if name not in known]
    if unknown:
        raise ConfigurationError(f"tuning.choices: no precision {', '.join(unknown)}; there are {', '.join(known)}")
    return (FP32, *(known[name] for name in config.choices if name != FP32.name))


def _goal(config: TuningConfig, quickest_ms: float | None) -> Goal:
    limit = None
    if config.objective == "offload" and quickest_ms is not None:
        limit = SLOWEST_FOR_OFFLOAD * quickest_ms
    return Goal(Objective(config.objective), POINTS * config.tolerance, None, limit, config.max_bytes)


def _quickest_ms(menu: MenuRecord, space: SearchSpace, latency: _TableLatency | None) -> float | None:
    """The least time of a whole network in one precision, on the machine that plans are timed on."""
    if latency is None:
        return min((row.latency_ms for row in menu.rows if row.latency_ms is not None), default=None)
    predicted_ms = []
    for plan in space.menu():
        with suppress(MeasurementError):
            predicted_ms.append(latency.ms(plan))
    return min(predicted_ms, default=None)


def _choice(name: str, plan: Plan, smoothed: bool) -> Choice:
    exceptions = {part: _precision(choice) for part, choice in plan.items()}
    return Choice(PrecisionPlan(name, FP32, exceptions), smoothing=ALPHA if smoothed else None)


def _precision(name: str) -> Precision:
    for scheme in Scheme:
        if name == scheme.value:
            return Precision(scheme)
        if scheme in BLOCK_BITS and name.startswith(f"{scheme.value}-"):
            return Precision(scheme, int(name.removeprefix(f"{scheme.value}-")))
    raise ConfigurationError(f"no precision is named {name}")


def _smoothing_helps(menu: MenuRecord) -> bool:
    dynamic = Choice(PrecisionPlan(Scheme.INT8_DYNAMIC.value, Precision(Scheme.INT8_DYNAMIC), {}))
    plain, balanced = menu.row(dynamic.name), menu.row(f"{dynamic.name}-smoothed")
    return plain is not None and balanced is not None and balanced.right > plain.right


def _subject(bench: Bench, smoothed: bool) -> str:
    """What outcomes depend on beside the plan."""
    table = bench.workshop.config.tuning.latency_table
    recorded = hashlib.sha256(table.read_bytes()).hexdigest() if table is not None and table.is_file() else "here"
    return f"{bench.folder.name} smoothed={smoothed} threads={bench.workshop.config.tuning.threads} latency={recorded}"


@dataclass(frozen=True)
class _ThisMachine:
    """The `Meter` of this machine."""

    bench: Bench
    smoothed: bool

    def latencies_ms(self, plans: Sequence[Plan]) -> Sequence[float]:
        """See `Meter`."""
        unchanged = _choice(FP32.name, {}, smoothed=False)
        return self.bench.latencies_ms(
            [
                unchanged if set(plan.values()) == {FP32.name} else _choice("finalist", plan, self.smoothed)
                for plan in plans
            ]
        )


@dataclass(frozen=True)
class _TableLatency:
    """Latency on the device class whose table was recorded, of the products alone and one run's overhead."""

    predictor: LatencyPredictor
    bench: Bench
    tokens: int

    def ms(self, plan: Plan) -> float:
        """Milliseconds of one text of typical length.

        Raises:
            MeasurementError: the table lacks a product.
        """
        labels = len(self.bench.workshop.splits.labels)
        products = products_of(self.bench.learner.model.shape, labels)
        return self.predictor.network_ms(products, plan, self.tokens)


def _latency_by_table(bench: Bench, config: TuningConfig) -> _TableLatency | None:
    if config.latency_table is None:
        return None
    sequences = bench.learner.encode(bench.workshop.splits.validation.texts)
    tokens = int(np.median([len(sequence) for sequence in sequences]))
    return _TableLatency(LatencyPredictor(read_latency_table(config.latency_table)), bench, tokens)
