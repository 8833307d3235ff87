"""The report of one compression as a document. Every section may be missing, so that a run cut short still reports."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.assessment.fresh_process import LengthLatency, RatioSummary
from cloud_service.compression.assessment.machine import Machine
from cloud_service.compression.assessment.reliability import Reliability
from cloud_service.compression.assessment.statistics import PairedDifference, Spread
from cloud_service.compression.report.choosing import Choice, Menu, Sensitivity, Tuning, Variant
from cloud_service.compression.report.making import (
    CostChange,
    DataSummary,
    Distillation,
    Part,
    PartShare,
    Pruning,
    Source,
    Step,
)
from shared.documents import Document

FORMAT = 1


@dataclass(frozen=True)
class GateSummary(Document):
    """The calibrated gate at the threshold that is packaged; `threshold` None sends every text on.

    `risk` is what `alpha` bounds, in words. Shares: `offload` of all texts, `kept_error` of kept ones,
    `cascade_accuracy` of all when the rest goes to the full model.
    """

    score: str
    risk: str
    alpha: float
    temperature: float
    threshold: float | None
    offload: PartShare
    kept_error: PartShare | None = None
    cascade_accuracy: PartShare | None = None


@dataclass(frozen=True)
class ModelEvaluation(Document):
    """One graph in the end. `seeds`: accuracy of runs that differ in nothing but their seed.

    `latency_ratios`: by the evaluation's first model, round by round; `own_latency_ratios`: by the same network in
    FP32. Energy is in `latencies`, where metered.
    """

    name: str
    accuracy: PartShare | None = None
    seeds: Spread | None = None
    perplexity: float | None = None
    reliability: Reliability | None = None
    file_bytes: int | None = None
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    latencies: tuple[LengthLatency, ...] = ()
    latency_ratios: tuple[RatioSummary, ...] = ()
    own_latency_ratios: tuple[RatioSummary, ...] = ()
    failure: str | None = None


@dataclass(frozen=True)
class Comparison(Document):
    """Accuracy of `second` minus that of `first`, on the same texts of `part`."""

    first: str
    second: str
    part: Part
    difference: PairedDifference


@dataclass(frozen=True)
class Evaluation(Document):
    """The models in the end. `energy_meter`: None where this machine has none. `threads`: of the latencies."""

    part: Part
    models: tuple[ModelEvaluation, ...]
    comparisons: tuple[Comparison, ...] = ()
    energy_meter: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Report(Document):
    """Everything known of one compression."""

    name: str
    seed: int
    format: int = FORMAT
    machine: Machine | None = None
    source: Source | None = None
    data: DataSummary | None = None
    steps: tuple[Step, ...] = ()
    cost: CostChange | None = None
    pruning: Pruning | None = None
    distillation: Distillation | None = None
    menu: Menu | None = None
    sensitivity: Sensitivity | None = None
    tuning: Tuning | None = None
    choice: Choice | None = None
    gate: GateSummary | None = None
    evaluation: Evaluation | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def forecast_for(self) -> str | None:
        """The device class that the latencies of plans are forecasts for; see `Tuning`."""
        return self.tuning.forecast_for if self.tuning is not None else None

    def variants(self) -> tuple[Variant, ...]:
        """All of the menu, then all that tuning tried."""
        menu = self.menu.rows if self.menu is not None else ()
        trials = self.tuning.trials if self.tuning is not None else ()
        return menu + tuple(trial.variant for trial in trials)
