"""The menu of whole-network precisions, each built and judged; then the search for each product's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from cloud_service.compression.assessment.fresh_process import Conditions, Failure, measure_graph
from cloud_service.compression.durable import write_durably
from cloud_service.compression.errors import WriteError
from cloud_service.compression.graphs.export import export_reference, graph_source
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.judging import FINAL_ROUNDS, GraphJudge, Judgement
from cloud_service.compression.quantization.baseline import (
    BaselineResult,
    onnxruntime_dynamic_int8,
    torch_dynamic_int8,
)
from cloud_service.compression.quantization.menu import Choice, build, menu
from cloud_service.compression.quantization.statistics import ActivationStatistics, collect_statistics
from cloud_service.compression.workshop import Learner, Workshop
from shared.documents import Document, canonical_json, read_document
from shared.errors import TandemError

CALIBRATION_TEXTS = 256
PARITY_SAMPLES = 32
BUILDING = "building-"


@dataclass(frozen=True)
class MenuRow(Document):
    """One way to write the whole network, on the validation part; `failure` where it could not be had."""

    name: str
    right: int = 0
    total: int = 0
    size_bytes: int | None = None
    latency_ms: float | None = None
    peak_bytes: int | None = None
    failure: str | None = None

    @property
    def accuracy(self) -> float:
        """Share of texts answered right; 0 where it failed."""
        return self.right / self.total if self.total else 0.0


@dataclass(frozen=True)
class MenuRecord(Document):
    """Every row, FP32 first."""

    rows: tuple[MenuRow, ...]

    def row(self, name: str) -> MenuRow | None:
        """The row called `name`."""
        return next((row for row in self.rows if row.name == name), None)


@dataclass(frozen=True)
class Bench:
    """What is needed to build and judge one learner's network in any precision."""

    workshop: Workshop
    learner: Learner
    folder: Path
    reference: GraphFiles
    judge: GraphJudge
    statistics: ActivationStatistics

    def build(self, choice: Choice, folder: Path) -> GraphFiles:
        """Write the network as `choice` says.

        Raises:
            ExportError: it cannot be written.
        """
        return build(graph_source(self.learner.model), choice, self.statistics, folder)

    def try_out(self, choice: Choice) -> Judgement:
        """Build in a folder that is gone afterwards, and judge.

        Raises:
            ExportError: it cannot be written, or ONNX Runtime does not take it.
        """
        with self.temporary_folder() as folder:
            return self.judge.judge(self.build(choice, Path(folder)))

    def latencies_ms(self, choices: Sequence[Choice]) -> list[float]:
        """Build each of `choices` and time them in turns; the unchanged network is not built again.

        Raises:
            ExportError: one cannot be written, or ONNX Runtime does not take it.
        """
        report, random = self.workshop.report, np.random.default_rng(self.workshop.config.seed)
        bar = report.start("timing the best in turns", FINAL_ROUNDS)
        with self.temporary_folder() as folder:
            graphs = [
                self.reference.graph if choice.is_unchanged else self.build(choice, Path(folder) / str(number)).graph
                for number, choice in enumerate(choices)
            ]
            times_ms = self.judge.latencies_ms(graphs, random, lambda: report.step(bar))
        report.finish(bar)
        return times_ms

    def typical_tokens(self) -> int:
        """Of a text of the validation part."""
        return int(np.median([len(one) for one in self.learner.encode(self.workshop.splits.validation.texts)]))

    def temporary_folder(self) -> TemporaryDirectory[str]:
        """Where to build what is not kept; a killed run's is removed when the next one opens its bench."""
        return TemporaryDirectory(prefix=BUILDING, dir=self.folder)


def open_bench(workshop: Workshop, learner: Learner) -> Bench:
    """Export the FP32 graph, proven against torch, and watch what flows through it on some of the train part.

    One run at a time may use a work folder: half-built graphs in it are taken for a killed run's and removed.

    Raises:
        ExportError: the graph cannot be written, or disagrees with torch.
    """
    folder = workshop.stage_folder("precision", learner.folder)
    _sweep(folder)
    sequences = learner.encode(workshop.splits.validation.texts)
    reference = export_reference(learner.model, folder / "fp32", sequences[:PARITY_SAMPLES])
    judge = _judge(workshop, reference, sequences)
    return Bench(workshop, learner, folder, reference, judge, _statistics(workshop, learner))


def _sweep(folder: Path) -> None:
    for pattern in (f"{BUILDING}*", "tmp*"):  # earlier versions gave them no name of their own
        for left in folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _judge(workshop: Workshop, reference: GraphFiles, sequences: list[list[int]]) -> GraphJudge:
    report, label_ids = workshop.report, workshop.splits.validation.label_ids
    bar = report.start("asking the FP32 graph", len(sequences))
    judge = GraphJudge(
        reference.graph, sequences, label_ids, workshop.config.tuning.threads, lambda count: report.step(bar, count)
    )
    report.finish(bar)
    return judge


def _statistics(workshop: Workshop, learner: Learner) -> ActivationStatistics:
    report, sequences = workshop.report, learner.encode(workshop.splits.train.texts[:CALIBRATION_TEXTS])
    bar = report.start("watching activations", len(sequences))
    statistics = collect_statistics(graph_source(learner.model), sequences, lambda: report.step(bar))
    report.finish(bar)
    return statistics


def run_menu(bench: Bench) -> MenuRecord:
    """Every whole-network precision and the two baselines; done once for each number of threads, then read again.

    Raises:
        WriteError, OSError: the disk is full or not writable.
    """
    path = menu_path(bench)
    if path.is_file():
        return read_document(MenuRecord, path.read_bytes())
    choices = menu()
    report = bench.workshop.report
    bar = report.start("trying precisions", len(choices) + len(BASELINES))
    rows = []
    for choice in choices:
        rows.append(_row(bench, choice))
        report.step(bar)
    for name, baseline in BASELINES.items():
        rows.append(_baseline_row(bench, name, baseline))
        report.step(bar)
    report.finish(bar)
    record = MenuRecord(tuple(rows))
    write_durably(path, canonical_json(record))
    return record


def menu_path(bench: Bench) -> Path:
    """Where the menu is kept."""
    return bench.folder / f"menu-threads-{bench.workshop.config.tuning.threads}.json"


def _row(bench: Bench, choice: Choice) -> MenuRow:
    try:
        with bench.temporary_folder() as folder:
            files = bench.build(choice, Path(folder))
            found = bench.judge.judge(files)
            memory = measure_graph(files.graph, (bench.typical_tokens(),), _conditions(bench))
    except WriteError:
        raise
    except TandemError as error:
        return MenuRow(choice.name, failure=str(error))
    return MenuRow(
        name=choice.name,
        right=int(found.right.sum()),
        total=len(found.right),
        size_bytes=found.size_bytes,
        latency_ms=found.latency_ms,
        peak_bytes=None if isinstance(memory, Failure) else memory.peak_bytes,
    )


def _conditions(bench: Bench) -> Conditions:
    """Tokens from the whole vocabulary: rows of the table that are never read take no memory."""
    threads, vocabulary = bench.workshop.config.tuning.threads, bench.learner.model.shape.vocabulary_size
    return Conditions(threads=threads, token_limit=vocabulary)


def _baseline_row(bench: Bench, name: str, baseline: Callable[[Bench, Path], BaselineResult]) -> MenuRow:
    try:
        with bench.temporary_folder() as folder:
            found = baseline(bench, Path(folder))
            latency_ms = bench.judge.latency_ms(found.session)
    except WriteError:
        raise
    except TandemError as error:
        return MenuRow(name, failure=str(error))
    label_ids = np.asarray(bench.workshop.splits.validation.label_ids)
    right = int((found.logits.argmax(axis=1) == label_ids).sum())
    return MenuRow(name, right, len(label_ids), found.size_bytes, latency_ms)


def _torch_baseline(bench: Bench, folder: Path) -> BaselineResult:
    threads = bench.workshop.config.tuning.threads
    sequences = bench.learner.encode(bench.workshop.splits.validation.texts)
    return torch_dynamic_int8(bench.learner.model, nn.Module.__call__, sequences, folder / "model.pt", threads)


def _onnxruntime_baseline(bench: Bench, folder: Path) -> BaselineResult:
    sequences = bench.learner.encode(bench.workshop.splits.validation.texts)
    return onnxruntime_dynamic_int8(bench.reference.graph, sequences, folder, bench.workshop.config.tuning.threads)


BASELINES: dict[str, Callable[[Bench, Path], BaselineResult]] = {
    "torch-dynamic-int8": _torch_baseline,
    "onnxruntime-dynamic-int8": _onnxruntime_baseline,
}
