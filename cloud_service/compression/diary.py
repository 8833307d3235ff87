"""What a run did and found, section by section of its report; written after every step, so none is ever lost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from cloud_service.calibration.gate_maker import Predictions
from cloud_service.compression.assessment.machine import this_machine
from cloud_service.compression.assessment.statistics import accuracy_of, proportion
from cloud_service.compression.config import TuningConfig
from cloud_service.compression.costs import network_cost
from cloud_service.compression.figures import gate_figures, kept_texts
from cloud_service.compression.judging import size_of
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.package import ShippedPair, data_name
from cloud_service.compression.precision_search import Tuned
from cloud_service.compression.quantizing import Bench, MenuRecord
from cloud_service.compression.report.choosing import (
    Choice,
    FinalTime,
    LayerSensitivity,
    Menu,
    Sensitivity,
    Trial,
    Tuning,
    Variant,
)
from cloud_service.compression.report.document import Evaluation, GateSummary, Report
from cloud_service.compression.report.files import HTML_NAME, write_report
from cloud_service.compression.report.making import (
    Cost,
    CostChange,
    DataSummary,
    Distillation,
    Epoch,
    LayerKept,
    Part,
    PartShare,
    Pruning,
    RankingResult,
    Source,
    Step,
)
from cloud_service.compression.shrinking import TYPICAL_TOKENS, Pruned
from cloud_service.compression.tuning.result import TuningResult
from cloud_service.compression.tuning.space import PlanKey, plan_key
from cloud_service.compression.tuning.trials import Trial as TuningTrial
from cloud_service.compression.workshop import Learner, Workshop
from shared.gate import Gate, Risk

T = TypeVar("T")

FP32_BYTES = 4


class Diary:
    """Gathers the report of one run."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        splits = workshop.splits
        self._steps: dict[str, Step] = {}
        self._report = Report(
            name=workshop.config.name,
            seed=workshop.config.seed,
            machine=this_machine(),
            data=DataSummary(
                name=data_name(workshop),
                rows={
                    "train": len(splits.train),
                    "validation": len(splits.validation),
                    "calibration": len(splits.calibration),
                    "test": len(splits.test),
                    "unlabelled": len(splits.unlabelled),
                },
                labels=len(splits.labels),
                digest=splits.train.digest(),
                warnings=splits.notes,
            ),
        )

    @property
    def page(self) -> Path:
        """Where the report's page lies."""
        return self._workshop.config.work_dir / HTML_NAME

    def report(self) -> Report:
        """What is known so far."""
        return dataclasses.replace(self._report, steps=tuple(self._steps.values()))

    def write(self) -> None:
        """Write what is known so far into the work folder.

        Raises:
            OSError: the folder cannot be written.
        """
        write_report(self.report(), self._workshop.config.work_dir)

    def timed(self, name: str, step: Callable[[], T]) -> T:
        """Carry out a step and note how long it took; of one that an earlier run did, how long reading it took."""
        begin = time.monotonic()
        result = step()
        self._steps[name] = Step(name, round(time.monotonic() - begin, 3))
        return result

    def note(self, line: str) -> None:
        """A line that the report's reader should see."""
        self._add(notes=(*self._report.notes, line))

    def warn(self, line: str) -> None:
        """A line that the report's reader must not miss."""
        self._workshop.report.say(f"warning: {line}")
        self._add(warnings=(*self._report.warnings, line))

    def full_model(self, full: Learner) -> None:
        """The model that everything begins with."""
        plan, shape = self._workshop.config.full, full.model.shape
        name = Path(plan.checkpoint).name if plan.checkpoint is not None else "a new network, taught by the teacher"
        parameters = _parameters(full.model)
        self._add(source=Source(name, _in_words(shape), parameters, FP32_BYTES * parameters))
        limit = shape.max_text_length
        truncated = sum(len(sequence) >= limit for sequence in full.encode(self._workshop.splits.train.texts))
        if truncated:
            self.note(f"{truncated} of the train texts reach the limit of {limit} tokens; what lies beyond is cut off")

    def pruned(self, full: Learner, parent: Learner, pruned: Pruned) -> None:
        """What left, and what that cost at first."""
        record, total = pruned.record, len(self._workshop.splits.validation)
        used = self._workshop.config.prune.ranking
        rankings = tuple(
            RankingResult(name, _share(accuracy, total), name == used)
            for name, accuracy in record.accuracy_after.items()
        )
        layers = tuple(
            _layer_kept(parent.model.shape, pruned, index) for index in range(len(parent.model.shape.layers))
        )
        self._add(
            pruning=Pruning(layers, rankings, _share(record.accuracy_before, total)),
            cost=CostChange(TYPICAL_TOKENS, self._cost(full.model), self._cost(pruned.learner.model)),
        )
        self.note(f"pruned sizes: {record.reason}")
        if not record.met:
            self.warn(f"the pruning target could not be met: {record.reason}")

    def distilled(self, full: Learner, edge: Learner) -> None:
        """How the edge model learned back."""
        total = len(self._workshop.splits.validation)
        epochs = tuple(
            Epoch(number, loss, None, _share(accuracy, total))
            for number, (loss, accuracy) in enumerate(
                zip(edge.history.losses, edge.history.accuracies[1:], strict=False), start=1
            )
        )
        self._add(distillation=Distillation(full.name, epochs, _share(full.history.best, total)))

    def menu(self, menu: MenuRecord) -> None:
        """The whole network in each precision."""
        rows = tuple(
            Variant(
                name=row.name,
                accuracy=_counted(row.right, row.total) if row.failure is None else None,
                file_bytes=row.size_bytes,
                latency_ms=row.latency_ms,
                peak_memory_bytes=row.peak_bytes,
                failure=row.failure,
            )
            for row in menu.rows
        )
        self._add(menu=Menu(rows))

    def tuned(self, bench: Bench, tuned: Tuned) -> None:
        """What was tried, and what was chosen and why."""
        result, config = tuned.result, self._workshop.config.tuning
        total = len(self._workshop.splits.validation)
        trials = tuple(_trial(number, trial, total) for number, trial in enumerate(result.trials, start=1))
        numbers = {trial.key: number for number, trial in enumerate(result.trials, start=1)}
        self._add(
            tuning=Tuning(_method(config, tuned), trials, _finals(result, numbers)),
            sensitivity=_sensitivity(tuned, total),
            choice=Choice(
                name=_trial_name(numbers[result.best.key]),
                plan=dict(result.best.plan),
                reason=result.explanation,
                tolerance=config.tolerance,
                is_tolerance_met=result.met,
                evidence=f"{total} texts of the validation part",
            ),
        )
        if not result.met:
            self.warn(f"tuning: {result.explanation}; the best that was found is used")

    def evaluated(self, full: Learner, bench: Bench, pair: ShippedPair, evaluation: Evaluation) -> None:
        """The models in the end, on the test part."""
        after = dataclasses.replace(self._cost(bench.learner.model), file_bytes=size_of(pair.edge.files))
        self._add(evaluation=evaluation, cost=CostChange(TYPICAL_TOKENS, self._cost(full.model), after))

    def gated(self, gate: Gate, test: Predictions) -> None:
        """The gate that goes with the edge model, on the test part."""
        threshold, total = gate.threshold(), len(test.label_ids)
        figures, kept = gate_figures(test, gate, threshold), kept_texts(test, gate, threshold)
        wrong = int(test.wrong(Risk.KEPT_ERROR)[kept].sum())
        self._add(
            gate=GateSummary(
                score=gate.score.value,
                risk="error among the answers that the device keeps",
                alpha=gate.in_force[Risk.KEPT_ERROR],
                temperature=gate.temperature,
                threshold=threshold,
                offload=PartShare(Part.TEST, accuracy_of(~kept)),
                kept_error=PartShare(Part.TEST, proportion(wrong, int(kept.sum()))) if kept.any() else None,
                cascade_accuracy=PartShare(Part.TEST, proportion(round(figures.cascade_accuracy * total), total)),
            )
        )
        if threshold is None:
            self.warn("no threshold could be certified: the gate sends every text to the cloud")

    def _cost(self, model: TextClassifier) -> Cost:
        cost = network_cost(model.shape, model.label_count, TYPICAL_TOKENS)
        return Cost(_parameters(model), FP32_BYTES * _parameters(model), cost.multiply_accumulates)

    def _add(self, **sections: object) -> None:
        self._report = dataclasses.replace(self._report, **sections)  # type: ignore[arg-type]


def _parameters(model: TextClassifier) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _share(accuracy: float, total: int) -> PartShare:
    return _counted(round(accuracy * total), total)


def _counted(right: int, total: int) -> PartShare:
    return PartShare(Part.VALIDATION, proportion(right, total))


def _in_words(shape: NetworkShape) -> str:
    first = shape.layers[0]
    return (
        f"{shape.family.value}: {len(shape.layers)} layers of width {shape.hidden_size}, {first.attention_heads} heads "
        f"in {first.key_value_heads} groups, feed-forward {first.ffn_size}, {shape.vocabulary_size} pieces"
    )


def _layer_kept(before: NetworkShape, pruned: Pruned, index: int) -> LayerKept:
    layer = before.layers[index]
    kept = next((one for one in pruned.record.kept.layers if one.source == index), None)
    heads = kept.heads if kept is not None else ()
    return LayerKept(
        layer=f"layer {index}",
        heads_before=layer.attention_heads,
        heads_kept=len(heads),
        heads_removed=tuple(head for head in range(layer.attention_heads) if head not in heads),
        channels_before=layer.ffn_size,
        channels_kept=len(kept.channels) if kept is not None else 0,
    )


def _method(config: TuningConfig, tuned: Tuned) -> str:
    latency = "a table recorded on the device" if config.latency_table is not None else "this machine"
    balanced = "; weights balanced against activations first (SmoothQuant)" if tuned.smoothed else ""
    return (
        f"each part alone first, then exchanges by benefit per loss, for least {config.objective}, losing at most "
        f"{config.tolerance:.2%} of accuracy; latency of {latency}{balanced}"
    )


def _finals(result: TuningResult, numbers: Mapping[PlanKey, int]) -> tuple[FinalTime, ...]:
    if result.finals is None:
        return ()
    timed = zip(result.finals.plans, result.finals.latencies_ms, strict=True)
    return tuple(FinalTime(_trial_name(numbers[plan_key(plan)]), latency_ms) for plan, latency_ms in timed)


def _trial_name(number: int) -> str:
    return f"trial {number}"


def _trial(number: int, trial: TuningTrial, total: int) -> Trial:
    outcome = trial.outcome
    if outcome is None:
        return Trial(number, dict(trial.plan), Variant(_trial_name(number), failure=trial.failure), "failed")
    variant = Variant(
        name=_trial_name(number),
        accuracy=_share(outcome.quality / 100.0, total),
        file_bytes=outcome.bytes,
        latency_ms=outcome.latency_ms,
        note=f"least offload at 5% kept error: {outcome.offload:.1%}",
    )
    return Trial(number, dict(trial.plan), variant, "measured")


def _sensitivity(tuned: Tuned, total: int) -> Sensitivity:
    """The divergence of every change that was tried alone."""
    result = tuned.result
    outcomes = {trial.key: trial.outcome for trial in result.trials if trial.outcome is not None}
    base = next((trial.plan for trial in result.trials), {})
    layers = []
    for one in sorted(result.sensitivity, key=lambda found: found.part):
        outcome = outcomes.get(tuple(sorted({**base, one.part: one.choice}.items())))
        divergence = outcome.divergence if outcome is not None else None
        layers.append(LayerSensitivity(one.part, one.choice, divergence_nats=divergence))
    return Sensitivity(Part.VALIDATION, total, tuple(layers))
