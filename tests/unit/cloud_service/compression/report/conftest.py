"""A made-up report with every section, and one with none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloud_service.compression.assessment.fresh_process import LengthLatency, RatioSummary
from cloud_service.compression.assessment.machine import Machine
from cloud_service.compression.assessment.reliability import reliability_table
from cloud_service.compression.assessment.statistics import paired_difference, proportion, spread
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
from cloud_service.compression.report.document import Comparison, Evaluation, GateSummary, ModelEvaluation, Report
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

LAYERS = tuple(f"layer {index}" for index in range(6))


def share(right: int, total: int = 1000, part: Part = Part.VALIDATION) -> PartShare:
    return PartShare(part, proportion(right, total))


@pytest.fixture
def full_report() -> Report:
    return Report(
        name="banking77-bert-mini",
        seed=7,
        machine=Machine("AMD EPYC 7763", 2, "1.32.0"),
        source=Source("bert-base-uncased fine-tuned", "12 layers, 768 wide, 12 heads", 109_482_240, 437_951_328),
        data=DataSummary("banking77", {"training": 8000, "validation": 1000, "calibration": 1003, "test": 3080}, 77,
                         "3f9a" * 16, ("Label “card_swallowed” has one sample.",)),
        steps=(Step("import", 3.7), Step("pruning", 111.0), Step("distillation", 3330.0)),
        cost=CostChange(16, Cost(109_482_240, 437_951_328, 1_360_000_000), Cost(18_200_000, 12_400_000, 121_000_000)),
        pruning=_pruning(),
        distillation=_distillation(),
        menu=_menu(),
        sensitivity=_sensitivity(),
        tuning=_tuning(),
        choice=Choice("plan 7", {layer: "int4" if index % 2 else "int8" for index, layer in enumerate(LAYERS)},
                      "Smallest plan whose lost accuracy stays within tolerance with 95 % confidence.",
                      0.01, True, "−0.3 percentage points (−0.9 to +0.3) on 1000 validation texts."),
        gate=GateSummary("margin", "Errors among kept texts", 0.05, 1.31, 0.42, share(410, 3080, Part.TEST),
                         share(101, 2670, Part.TEST), share(2873, 3080, Part.TEST)),
        evaluation=_evaluation(),
        notes=("The teacher was trained on the same texts.",),
        warnings=("Latency was measured while other programs ran.",),
    )  # fmt: skip


@pytest.fixture
def bare_report() -> Report:
    return Report("stopped early", 1)


def _pruning() -> Pruning:
    layers = tuple(
        LayerKept(layer, 12, 12 - index, tuple(range(index)), 3072, 3072 - 400 * index)
        for index, layer in enumerate(LAYERS)
    )
    rankings = (("Taylor", 842, True), ("magnitude", 790, False), ("random", 512, False))
    return Pruning(layers, tuple(RankingResult(name, share(right), used) for name, right, used in rankings), share(921))


def _distillation() -> Distillation:
    epochs = tuple(
        Epoch(
            number, 2.4 * math.exp(-0.4 * number) + 0.2, 2.3 * math.exp(-0.35 * number) + 0.35, share(860 + 6 * number)
        )
        for number in range(1, 9)
    )
    return Distillation("bert-base-uncased fine-tuned", epochs, share(934))


def _menu() -> Menu:
    figures = (("float32", 912, 72.8, 6.1), ("float16", 912, 36.5, 6.0), ("int8 dynamic", 910, 18.4, 2.9),
               ("int8 static", 903, 18.3, 2.4), ("int4 blocks of 32", 886, 10.9, 3.8))  # fmt: skip
    rows = tuple(
        Variant(name, share(right), int(megabytes * 1e6), latency_ms, int(megabytes * 2e6 + 6e7), "weights only")
        for name, right, megabytes, latency_ms in figures
    )
    failed = Variant("ternary", failure="[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel for BitLinear(1)")
    return Menu((*rows, failed))


def _sensitivity() -> Sensitivity:
    generator = np.random.default_rng(0)
    right = generator.random(1000) < 0.91
    cases = []
    for index, layer in enumerate(LAYERS):
        for precision, rate in (("int8", 0.004), ("int4", 0.01 + 0.004 * index), ("ternary", 0.04)):
            wrong = generator.random(1000) < rate
            cases.append(LayerSensitivity(layer, precision, paired_difference(right, right & ~wrong), rate / 3))
    return Sensitivity(Part.VALIDATION, 1000, tuple(cases))


def _tuning() -> Tuning:
    trials = []
    for number in range(1, 13):
        plan = {layer: "int4" if (number >> index) & 1 else "int8" for index, layer in enumerate(LAYERS)}
        low = sum(precision == "int4" for precision in plan.values())
        variant = Variant(
            f"plan {number}", share(911 - 3 * low - number % 3), int((18.4 - 1.25 * low) * 1e6), 2.5 + 0.2 * low
        )
        trials.append(Trial(number, plan, variant, "within tolerance" if low < 4 else "loses too much"))
    trials.append(Trial(13, {}, Variant("plan 13", failure="no figures within 120 s")))
    finals = (FinalTime("plan 1", 2.7), FinalTime("plan 3", 2.4))
    return Tuning("Greedy: the least sensitive layer is lowered first; seed 7.", tuple(trials), finals)


def _evaluation() -> Evaluation:
    generator = np.random.default_rng(1)
    first = generator.random(3080) < 0.93
    second = first ^ (generator.random(3080) < 0.03)
    table = reliability_table(0.6 + 0.4 * generator.random(3080), second)
    latencies = tuple(LengthLatency(tokens, tokens * 0.8, tokens * 0.95, None) for tokens in (8, 16, 64))
    fast = tuple(LengthLatency(tokens, tokens * 0.16, tokens * 0.19, 3.2) for tokens in (8, 16, 64))
    ratios = tuple(RatioSummary(tokens, 0.2, 0.18, 0.23) for tokens in (8, 16, 64))
    own = tuple(RatioSummary(tokens, 0.53, 0.51, 0.58) for tokens in (8, 16, 64))
    full = ModelEvaluation("full model", share(int(first.sum()), 3080, Part.TEST), None, 1.31, None, 437_951_328, 812.0,
                           912_000_000, latencies)  # fmt: skip
    edge = ModelEvaluation("edge model", share(int(second.sum()), 3080, Part.TEST), spread([0.911, 0.914, 0.909]), 1.42,
                           table, 12_400_000, 61.0, 92_000_000, fast, ratios, own)  # fmt: skip
    comparison = Comparison("full model", "edge model", Part.TEST, paired_difference(first, second))
    return Evaluation(Part.TEST, (full, edge), (comparison,), "RAPL (package-0)")
