"""What a run did and found, section by section of its report; written after every step, so none is ever lost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cloud_service.calibration.gate_maker import Predictions
from cloud_service.compression.assessment.machine import this_machine
from cloud_service.compression.assessment.statistics import accuracy_of, proportion
from cloud_service.compression.costs import network_cost
from cloud_service.compression.encoding import count_cut
from cloud_service.compression.figures import gate_figures, kept_texts
from cloud_service.compression.final_figures import EDGE_SHIPPED
from cloud_service.compression.judging import size_of
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.package import ShippedPair, data_name
from cloud_service.compression.precision_search import Tuned
from cloud_service.compression.quantization.plan import product_names
from cloud_service.compression.quantizing import Bench, MenuRecord
from cloud_service.compression.report.choosing import Menu, Variant
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
from cloud_service.compression.search_sections import SearchSections
from cloud_service.compression.shipped_target import over_target
from cloud_service.compression.shrinking import TYPICAL_TOKENS, Cut, Pruned
from cloud_service.compression.step_times import StepTimes
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
        self._times = StepTimes(workshop.config.work_dir)
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

    def timed(self, name: str, step: Callable[[], T], known_by: Callable[[T], str] | None = None) -> T:
        """Carry out a step and note how long it took.

        `known_by` names a result that a later run finds done: then the time is that of the run that did it.

        Raises:
            WriteError, OSError: the disk is full or not writable.
        """
        begin = time.monotonic()
        result = step()
        seconds = round(time.monotonic() - begin, 3)
        if known_by is not None:
            seconds = self._times.first_seconds(name, known_by(result), seconds)
        self._steps[name] = Step(name, seconds)
        return result

    def note(self, line: str) -> None:
        """A line that the report's reader should see."""
        self._add(notes=(*self._report.notes, line))

    def warn(self, line: str) -> None:
        """A line that the report's reader must not miss."""
        self._workshop.report.say(f"warning: {line}")
        self._add(warnings=(*self._report.warnings, line))

    def learned(self, learner: Learner) -> None:
        """A training that ended before its time leaves a weaker model."""
        history = learner.history
        if history.diverged_in is not None:
            self.warn(
                f"{learner.name}: training diverged in epoch {history.diverged_in} and the best model before is used; "
                "lower its learning_rate"
            )

    def full_model(self, full: Learner) -> None:
        """The model that everything begins with."""
        plan, shape = self._workshop.config.full, full.model.shape
        name = Path(plan.checkpoint).name if plan.checkpoint is not None else "a new network, taught by the teacher"
        parameters = _parameters(full.model)
        self._add(source=Source(name, _in_words(shape), parameters, FP32_BYTES * parameters))
        cut, limit = count_cut(full.tokenizer, self._workshop.splits.train.texts), shape.max_text_length
        if cut:
            self.note(f"{cut} of the train texts exceed the limit of {limit} tokens; what lies beyond is cut off")

    def cut(self, cut: Cut) -> None:
        """Which pieces stay; that some texts are read otherwise now must not be missed."""
        if cut.note is not None:
            (self.note if cut.is_faithful else self.warn)(cut.note)

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
        products, texts = product_names(bench.learner.model.shape), len(self._workshop.splits.validation)
        sections = SearchSections(self._workshop.config, tuned, products, texts)
        self._add(tuning=sections.tuning(), sensitivity=sections.sensitivity(), choice=sections.choice())
        if not tuned.result.met:
            self.warn(f"tuning: {tuned.result.explanation}; the best that was found is used")

    def evaluated(self, full: Learner, bench: Bench, pair: ShippedPair, evaluation: Evaluation) -> None:
        """The models in the end, on the test part."""
        after = dataclasses.replace(self._cost(bench.learner.model), file_bytes=size_of(pair.edge.files))
        self._add(evaluation=evaluation, cost=CostChange(TYPICAL_TOKENS, self._cost(full.model), after))
        target = self._workshop.config.prune.target
        latencies = next((one.latencies for one in evaluation.models if one.name == EDGE_SHIPPED), ())
        weights_bytes, tokens = pair.edge.files.weights.stat().st_size, bench.typical_tokens()
        exceeds = over_target(target, weights_bytes, latencies, tokens) if target is not None else None
        if exceeds is not None:
            self.warn(exceeds)

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
