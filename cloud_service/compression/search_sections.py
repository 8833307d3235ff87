"""What the search for precisions tried and chose, as sections of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud_service.compression.assessment.statistics import proportion
from cloud_service.compression.config import CompressConfig
from cloud_service.compression.precision_search import POINTS, Tuned
from cloud_service.compression.report.choosing import (
    Choice,
    FinalTime,
    LayerSensitivity,
    Sensitivity,
    Trial,
    Tuning,
    Variant,
)
from cloud_service.compression.report.making import Part, PartShare
from cloud_service.compression.tuning.space import Plan, PlanKey, plan_key
from cloud_service.compression.tuning.trials import Trial as TuningTrial
from shared.latency_table import DeviceClass


@dataclass(frozen=True)
class SearchSections:
    """Writes the sections. `products` in the order of the graph; `texts` is how many the validation part has."""

    config: CompressConfig
    tuned: Tuned
    products: Sequence[str]
    texts: int

    def tuning(self) -> Tuning:
        """Every trial, and the last comparison."""
        trials = tuple(self._trial(number, trial) for number, trial in enumerate(self.tuned.result.trials, start=1))
        device = self.tuned.device
        return Tuning(self._method(), trials, self._finals(), None if device is None else _in_words(device))

    def choice(self) -> Choice:
        """What was chosen and why."""
        result = self.tuned.result
        return Choice(
            name=_trial_name(self._numbers()[result.best.key]),
            plan=self._in_order(result.best.plan),
            reason=result.explanation,
            tolerance=self.config.tuning.tolerance,
            is_tolerance_met=result.met,
            evidence=f"{self.texts} texts of the validation part",
        )

    def sensitivity(self) -> Sensitivity:
        """The divergence of every change that was tried alone, in the order of the graph."""
        result = self.tuned.result
        outcomes = {trial.key: trial.outcome for trial in result.trials if trial.outcome is not None}
        base = next((trial.plan for trial in result.trials), {})
        places = {name: place for place, name in enumerate(self.products)}
        layers = []
        for one in sorted(result.sensitivity, key=lambda found: places[found.part]):
            outcome = outcomes.get(plan_key({**base, one.part: one.choice}))
            divergence = outcome.divergence if outcome is not None else None
            layers.append(LayerSensitivity(one.part, one.choice, divergence_nats=divergence))
        return Sensitivity(Part.VALIDATION, self.texts, tuple(layers), result.parts)

    def _method(self) -> str:
        tuning = self.config.tuning
        latency = "a table recorded on the device" if self.tuned.device is not None else "this machine"
        balanced = "; weights balanced against activations first (SmoothQuant)" if self.tuned.smoothed else ""
        return (
            f"each part alone first, then exchanges by benefit per loss, for least {tuning.objective}, losing at most "
            f"{tuning.tolerance:.2%} of accuracy; latency of {latency}{balanced}"
        )

    def _numbers(self) -> Mapping[PlanKey, int]:
        return {trial.key: number for number, trial in enumerate(self.tuned.result.trials, start=1)}

    def _finals(self) -> tuple[FinalTime, ...]:
        finals, numbers = self.tuned.result.finals, self._numbers()
        if finals is None:
            return ()
        timed = zip(finals.plans, finals.latencies_ms, strict=True)
        return tuple(FinalTime(_trial_name(numbers[plan_key(plan)]), latency_ms) for plan, latency_ms in timed)

    def _trial(self, number: int, trial: TuningTrial) -> Trial:
        plan, outcome = self._in_order(trial.plan), trial.outcome
        if outcome is None:
            return Trial(number, plan, Variant(_trial_name(number), failure=trial.failure))
        variant = Variant(
            name=_trial_name(number),
            accuracy=PartShare(Part.VALIDATION, proportion(round(outcome.quality / POINTS * self.texts), self.texts)),
            file_bytes=outcome.bytes,
            latency_ms=outcome.latency_ms,
            note=(f"least offload at {100 * self.config.calibration.error_alpha:g}% kept error: {outcome.offload:.1%}"),
        )
        return Trial(number, plan, variant)

    def _in_order(self, plan: Plan) -> dict[str, str]:
        """As the graph has the products; a plan from the journal is sorted as text."""
        return {name: plan[name] for name in self.products}


def _trial_name(number: int) -> str:
    return f"trial {number}"


def _in_words(device: DeviceClass) -> str:
    return f"{device.cpu} ({device.architecture}), {device.threads} of {device.cores} cores"
