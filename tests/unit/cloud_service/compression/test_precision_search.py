"""The search over a real network: timed on this machine, or predicted from a device's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_service.compression.precision_search import offload_at_risk, search_precisions
from cloud_service.compression.quantizing import Bench, MenuRecord, MenuRow, open_bench
from cloud_service.compression.tuning.products import products_of
from shared.latency_table import DeviceClass, LatencyTable, ProductTiming, write_latency_table
from shared.probes import Product
from tests.support.tiny_compression import CONFIG, MAX_LENGTH, open_tiny_workshop, tiny_learner

OVERHEAD_MS = 5.0
PRODUCT_MS = {"fp32": 0.3, "int8-dynamic": 0.1}
MENU = MenuRecord((MenuRow("fp32", 10, 20, 1000, latency_ms=0.001),))


def open_tiny_bench(folder: Path, config: str = CONFIG) -> Bench:
    workshop = open_tiny_workshop(folder, config)
    return open_bench(workshop, tiny_learner(workshop))


def write_table(path: Path, bench: Bench) -> None:
    """Every product takes the same time, at any number of tokens."""
    sizes = {(one.inputs, one.outputs) for one in products_of(bench.learner.model.shape, 3)}
    timings = tuple(
        ProductTiming(Product(*size, choice), tokens, OVERHEAD_MS + ms)
        for size in sorted(sizes)
        for choice, ms in PRODUCT_MS.items()
        for tokens in (1, MAX_LENGTH)
    )
    write_latency_table(
        path, LatencyTable(DeviceClass("cpu", "armv8", 4, 1, "1.23.2"), "tiny", 5, OVERHEAD_MS, timings)
    )


@pytest.mark.parametrize("objective", ["latency", "offload"])
def test_a_predicted_latency_has_what_a_run_costs_that_computes_nothing(tmp_path: Path, objective: str) -> None:
    config = CONFIG.replace("[tuning]", f'[tuning]\nobjective = "{objective}"\nlatency_table = "table.json"')
    bench = open_tiny_bench(tmp_path, config)
    write_table(tmp_path / "table.json", bench)
    tuned = search_precisions(bench, MENU)
    products = products_of(bench.learner.model.shape, 3)
    for trial in tuned.result.trials:
        assert trial.outcome is not None
        computed_ms = sum(PRODUCT_MS[trial.plan[product.name]] for product in products)
        assert trial.outcome.latency_ms == pytest.approx(OVERHEAD_MS + computed_ms)
    # The menu's times are this machine's, which say nothing about the device's.
    assert tuned.result.met and tuned.result.finals is None


def test_plans_timed_here_are_timed_in_turns_in_the_end_and_only_once(tmp_path: Path) -> None:
    bench = open_tiny_bench(tmp_path, CONFIG.replace("[tuning]", "[tuning]\ntolerance = 1.0"))
    first = search_precisions(bench, MENU).result
    (journal,) = bench.folder.glob("trials-*.jsonl")
    recorded = journal.read_bytes()
    again = search_precisions(bench, MENU).result
    assert first.finals is not None and len(first.finals.plans) > 1 and min(first.finals.latencies_ms) > 0.0
    assert first.verdict and first.verdict.cost == min(first.finals.latencies_ms)
    assert again.finals == first.finals and again.best.key == first.best.key
    assert journal.read_bytes() == recorded


def test_what_changes_the_outcomes_starts_trials_of_its_own_and_the_old_ones_stay(tmp_path: Path) -> None:
    write_table(tmp_path / "table.json", open_tiny_bench(tmp_path))
    found = []
    for setting in ("", "threads = 2", 'latency_table = "table.json"', "", "[calibration]\nerror_alpha = 0.2"):
        section = setting if setting.startswith("[") else f"[tuning]\n{setting}"
        bench = open_tiny_bench(tmp_path, CONFIG.replace(section.partition("\n")[0], section))
        found.append(search_precisions(bench, MENU).result.trials)
    assert len(list(bench.folder.glob("trials-*.jsonl"))) == 4
    assert found[3] == found[0] != found[1]


def test_offload_is_counted_at_the_kept_error_that_the_gate_is_asked_for(tmp_path: Path) -> None:
    for alpha in (0.05, 0.2):
        config = CONFIG.replace("[calibration]", f"[calibration]\nerror_alpha = {alpha}")
        bench = open_tiny_bench(tmp_path, config)
        first = search_precisions(bench, MENU).result.trials[0]
        logits = bench.judge.judge(bench.reference).logits
        right = logits.argmax(axis=1) == np.asarray(bench.workshop.splits.validation.label_ids)
        assert first.outcome is not None
        assert first.outcome.offload == pytest.approx(offload_at_risk(logits, right, alpha))


@pytest.mark.parametrize(
    ("sureness", "right", "alpha", "offload"),
    [
        ([4, 3, 2, 1], [1, 1, 1, 1], 0.0, 0.0),
        ([4, 3, 2, 1], [0, 0, 0, 0], 0.5, 1.0),
        ([4, 3, 2, 1], [1, 1, 1, 0], 0.0, 0.25),
        ([4, 3, 2, 1], [0, 1, 1, 1], 0.25, 0.0),
        ([1, 2, 3, 4], [0, 1, 1, 1], 0.0, 0.25),
        ([2, 2, 2, 2], [1, 1, 1, 0], 0.0, 1.0),
        ([4, 2, 2, 1], [1, 1, 0, 1], 0.0, 0.75),
        ([4, 2, 2, 1], [1, 1, 0, 1], 0.34, 0.0),
    ],
    ids=[
        "all right", "all wrong", "the least sure is wrong", "the surest is wrong", "in any order", "all alike",
        "two alike go together", "two alike stay together",
    ],
)  # fmt: skip
def test_as_few_texts_are_sent_on_as_a_threshold_can(
    sureness: list[int], right: list[int], alpha: float, offload: float
) -> None:
    logits = np.array([[value, 0.0] for value in sureness], np.float32)
    assert offload_at_risk(logits, np.array(right, bool), alpha) == pytest.approx(offload)


def test_texts_that_float32_takes_for_certain_are_still_told_apart() -> None:
    logits = np.array([[30.0, 0.0], [20.0, 0.0]], np.float32)
    assert offload_at_risk(logits, np.array([True, False]), 0.0) == pytest.approx(0.5)
