"""The search for each product's precision: measured here, or by a table recorded on the device class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

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
from cloud_service.compression.workshop import DIGEST_CHARACTERS
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.latency_table import DeviceClass, read_latency_table

POINTS = 100.0
ROUNDING = 1e-9
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
"""Where little offload is asked for, a plan may take so much longer than the quickest whole-network precision."""


@dataclass(frozen=True)
class Tuned:
    """What the search chose: the choice to build, and how it went. `smoothed` says whether weights were balanced.

    `journal`: where the trials are. `device`: the device class by whose table latencies were forecast; None
    where they were measured here.
    """

    choice: Choice
    result: TuningResult
    smoothed: bool
    journal: Path
    device: DeviceClass | None = None


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
    space, latency, goal = _space(bench, config), _latency_by_table(bench, config), _goal(config)
    subject = _subject(bench, smoothed)
    path = _journal_path(bench, subject)
    with Journal(path, subject) as journal:
        result = _search(bench, space, goal, smoothed, latency, journal)
        if latency is None:
            result = settle(space, goal, result, _ThisMachine(bench, smoothed), journal)
    device = latency.device if latency is not None else None
    return Tuned(_choice("tuned", result.best.plan, smoothed), result, smoothed, path, device)


def _journal_path(bench: Bench, subject: str) -> Path:
    """Where trials of `subject` are kept: those of another number of threads or another table lie beside them."""
    digest = hashlib.sha256(subject.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return bench.folder / f"trials-{digest}.jsonl"


def offload_at_risk(logits: np.ndarray, right: np.ndarray, alpha: float) -> float:
    """The least share of texts to send on so that of the kept ones at most `alpha` are wrong, surest first.

    Texts alike in sureness are kept or sent on together, as by a threshold. `logits` [texts, labels], `right`
    bool [texts], at least one text. A figure to compare plans by, not a certificate.
    """
    sureness = special.softmax(logits.astype(np.float64), axis=1).max(axis=1)
    order = np.argsort(-sureness, kind="stable")
    ends = np.append(np.diff(sureness[order]) < 0, True)
    wrong, kept = np.cumsum(~right[order]), np.arange(1, len(order) + 1)
    allowed = kept[ends & (wrong <= alpha * kept + ROUNDING)]
    return 1.0 - int(allowed.max(initial=0)) / len(order)


def _search(
    bench: Bench, space: SearchSpace, goal: Goal, smoothed: bool, latency: _TableLatency | None, journal: Journal
) -> TuningResult:
    config, report = bench.workshop.config.tuning, bench.workshop.report
    kept_error = bench.workshop.config.calibration.error_alpha
    bar = report.start("tuning precisions", config.max_trials)

    def evaluate(plan: Plan) -> Outcome:
        found = bench.try_out(_choice("trial", plan, smoothed))
        return _outcome(found, found.latency_ms if latency is None else latency.ms(plan), kept_error)

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


def _outcome(found: Judgement, latency_ms: float, kept_error: float) -> Outcome:
    return Outcome(
        quality=POINTS * found.accuracy,
        latency_ms=latency_ms,
        bytes=found.size_bytes,
        offload=offload_at_risk(found.logits, found.right, kept_error),
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


def _goal(config: TuningConfig) -> Goal:
    return Goal(
        Objective(config.objective),
        POINTS * config.tolerance,
        bytes_limit=config.max_bytes,
        latency_ratio_limit=SLOWEST_FOR_OFFLOAD if config.objective == "offload" else None,
    )


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
    config = bench.workshop.config
    table, alpha = config.tuning.latency_table, config.calibration.error_alpha
    recorded = hashlib.sha256(table.read_bytes()).hexdigest() if table is not None and table.is_file() else "here"
    return (
        f"{bench.folder.name} smoothed={smoothed} threads={config.tuning.threads} latency={recorded} "
        f"kept_error={alpha:g}"
    )


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
    device: DeviceClass
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
    table = read_latency_table(config.latency_table)
    return _TableLatency(LatencyPredictor(table), table.device, bench, bench.typical_tokens())
