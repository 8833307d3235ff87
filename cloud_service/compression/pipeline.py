"""The whole way from a checkpoint to two bundles, step by step. Each step finds what an earlier run has done."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from cloud_service.compression.config import CompressConfig
from cloud_service.compression.diary import Diary
from cloud_service.compression.errors import WriteError
from cloud_service.compression.final_figures import evaluate_models
from cloud_service.compression.latency import latency_of_shape
from cloud_service.compression.model_card import CardFacts, edge_card, full_card
from cloud_service.compression.package import ShippedPair, calibrate_gate, draft_bundle, export_pair, predict
from cloud_service.compression.precision_search import Tuned, check_tuning, offered_precisions, search_precisions
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.quantization.plan import form_of
from cloud_service.compression.quantizing import Bench, menu_path, open_bench, run_menu
from cloud_service.compression.shrinking import Pruned, cut_vocabulary, prune_model
from cloud_service.compression.sources import write_model
from cloud_service.compression.students import make_full, make_teacher, recover
from cloud_service.compression.tuning.probes import PROBE_RANGES, write_probe_kit
from cloud_service.compression.tuning.products import products_of
from cloud_service.compression.workshop import Learner, Workshop, open_workshop
from shared.bundle import BundleDraft, Role, Tier, write_bundle
from shared.documents import canonical_json, sha256
from shared.gate import Gate
from shared.probes import ProbeKit

CARD_NAME = "MODEL_CARD.md"

T = TypeVar("T")


class Step(str, Enum):
    """The steps in their order; each includes all before it."""

    TRAIN = "train"
    PRUNE = "prune"
    DISTIL = "distil"
    QUANTIZE = "quantize"
    TUNE = "tune"
    EVALUATE = "evaluate"
    PACKAGE = "package"


@dataclass(frozen=True)
class Made:
    """How far a run came: where its report lies and, after the last step, its bundles."""

    report: Path
    bundles: tuple[Path, ...] = ()


def compress(config: CompressConfig, progress: ProgressReport, until: Step = Step.PACKAGE) -> Made:
    """Train, prune, distil, quantize, tune, evaluate, and write both bundles into `config.bundles_dir`.

    Stops after the step `until`. `report.json` and `report.html` in the work folder say what was done so
    far, also after an error.

    Raises:
        ConfigurationError, MeasurementError: see `check_tuning`.
        DatasetError: the data set is not there or cannot be split as asked.
        CheckpointError: a checkpoint cannot be imported, or one of this command's own is damaged.
        ExportError: a graph cannot be written or disagrees with its model.
        WriteError, OSError: the disk is full or not writable; finished steps and old bundles stay usable.
    """
    check_tuning(config.tuning)
    workshop = open_workshop(config, progress)
    diary = Diary(workshop)
    try:
        made = _Run(workshop, diary, until).go()
    except BaseException:
        with suppress(WriteError, OSError):  # what ended the run is the error to tell
            diary.write()
        raise
    diary.write()
    return made


def write_probes(config: CompressConfig, progress: ProgressReport, folder: Path) -> ProbeKit:
    """Write the probe kit of the pruned network, by which a device records what its products take there.

    Does the steps up to pruning where they are not done yet. The table in `config.tuning` may not be there yet.

    Raises:
        DatasetError, CheckpointError, WriteError, OSError: see `compress`.
        ExportError: the folder cannot be written.
        ConfigurationError: the configuration names a precision that does not exist.
    """
    workshop = open_workshop(config, progress)
    learner = _Run(workshop, Diary(workshop), Step.PACKAGE).pruned()
    products = products_of(learner.model.shape, learner.model.label_count)
    formats = {precision.name: form_of(precision, PROBE_RANGES) for precision in offered_precisions(config.tuning)}
    return write_probe_kit(config.name, products, formats, folder, config.seed)


class _Done(Exception):
    """The last step that was asked for is done."""


class _Run:
    """One run of the command: the steps, in the order of the methods."""

    def __init__(self, workshop: Workshop, diary: Diary, until: Step) -> None:
        self._workshop = workshop
        self._diary = diary
        self._until = until

    def go(self) -> Made:
        try:
            return Made(self._diary.page, self._package(*self._evaluate()))
        except _Done:
            return Made(self._diary.page)

    def pruned(self) -> Learner:
        """The pruned model, before it recovers."""
        *_, found = self._prune()
        return found.learner

    def _train(self) -> tuple[Learner | None, Learner]:
        plan = self._workshop.config.teacher
        teacher = (
            None if plan is None else self._diary.timed("teacher", lambda: make_teacher(self._workshop, plan), _folder)
        )
        full = self._diary.timed("full model", lambda: make_full(self._workshop, teacher), _folder)
        write_model(full.folder / "checkpoint", full.model, self._workshop.splits.labels, full.tokenizer)
        for learner in (full,) if teacher is None else (teacher, full):
            self._diary.learned(learner)
        self._diary.full_model(full)
        return self._after(Step.TRAIN, (teacher, full))

    def _prune(self) -> tuple[Learner | None, Learner, Pruned]:
        teacher, full = self._train()
        cut = self._diary.timed(
            "vocabulary", lambda: cut_vocabulary(self._workshop, full), lambda found: _folder(found.learner)
        )
        parent = cut.learner
        self._diary.cut(cut)
        latency = latency_of_shape(self._workshop, parent)
        pruned = self._diary.timed(
            "pruning", lambda: prune_model(self._workshop, parent, latency), lambda found: _folder(found.learner)
        )
        self._diary.pruned(full, parent, pruned)
        return self._after(Step.PRUNE, (teacher, full, pruned))

    def _distil(self) -> tuple[Learner | None, Learner, Learner]:
        teacher, full, pruned = self._prune()
        teachers = [full] if teacher is None else [full, teacher]
        edge = self._diary.timed("distillation", lambda: recover(self._workshop, pruned.learner, teachers), _folder)
        write_model(edge.folder / "checkpoint", edge.model, self._workshop.splits.labels, edge.tokenizer)
        self._diary.learned(edge)
        self._diary.distilled(full, edge)
        return self._after(Step.DISTIL, (teacher, full, edge))

    def _tune(self) -> tuple[Learner | None, Learner, Bench, Tuned]:
        teacher, full, edge = self._distil()
        bench = open_bench(self._workshop, edge)
        menu = self._diary.timed("precision menu", lambda: run_menu(bench), lambda _: _menu_name(bench))
        self._diary.menu(menu)
        self._after(Step.QUANTIZE, None)
        tuned = self._diary.timed("tuning", lambda: search_precisions(bench, menu), self._search_name)
        self._diary.tuned(bench, tuned)
        return self._after(Step.TUNE, (teacher, full, bench, tuned))

    def _evaluate(self) -> tuple[Bench, ShippedPair]:
        teacher, full, bench, tuned = self._tune()
        pair = export_pair(full, bench, tuned)
        evaluation = self._diary.timed(
            "evaluation",
            lambda: evaluate_models(self._workshop, bench, pair, teacher),
            lambda found: sha256(canonical_json(found)),
        )
        self._diary.evaluated(full, bench, pair, evaluation)
        return self._after(Step.EVALUATE, (bench, pair))

    def _package(self, bench: Bench, pair: ShippedPair) -> tuple[Path, ...]:
        return self._diary.timed("packaging", lambda: self._write_bundles(pair))

    def _write_bundles(self, pair: ShippedPair) -> tuple[Path, ...]:
        workshop, config = self._workshop, self._workshop.config
        full_draft = draft_bundle(workshop, Tier.FULL, config.full.version, pair.full)
        edge_draft = draft_bundle(workshop, Tier.EDGE, config.edge.version, pair.edge)
        gate = self._calibrate(pair, full_draft, edge_draft)
        facts = CardFacts(config, workshop.splits, self._diary.report(), pair)
        full_path = config.bundles_dir / f"{config.name}-full"
        edge_path = config.bundles_dir / f"{config.name}-edge"
        write_bundle(_with_card(full_draft, pair.full.files.graph.parent, full_card(facts)), None, full_path)
        write_bundle(_with_card(edge_draft, pair.edge.files.graph.parent, edge_card(facts, gate)), gate, edge_path)
        return full_path, edge_path

    def _calibrate(self, pair: ShippedPair, full: BundleDraft, edge: BundleDraft) -> Gate:
        workshop, splits = self._workshop, self._workshop.splits
        gate = calibrate_gate(
            workshop,
            predict(workshop, pair, splits.validation, "validation part"),
            predict(workshop, pair, splits.calibration, "calibration part"),
            full.manifest().model_digest,
            edge.manifest().model_digest,
        )
        self._diary.gated(gate, predict(workshop, pair, splits.test, "test part"))
        return gate

    def _search_name(self, tuned: Tuned) -> str:
        """Trials may serve several goals."""
        return self._workshop.stage_folder("tuning", tuned.journal, self._workshop.config.tuning).name

    def _after(self, step: Step, result: T) -> T:
        self._diary.write()
        if step is self._until:
            raise _Done
        return result


def _folder(learner: Learner) -> str:
    return learner.folder.name


def _menu_name(bench: Bench) -> str:
    return f"{bench.folder.name}/{menu_path(bench).name}"


def _with_card(draft: BundleDraft, folder: Path, text: str) -> BundleDraft:
    card = folder / CARD_NAME
    card.write_text(text, encoding="utf-8")
    return dataclasses.replace(draft, files={**draft.files, CARD_NAME: (Role.CARD, card)})
