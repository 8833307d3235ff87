"""What the report tells of the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloud_service.compression.config import load_config
from cloud_service.compression.precision_search import Tuned
from cloud_service.compression.quantization.menu import Choice
from cloud_service.compression.quantization.plan import Precision, Scheme, uniform
from cloud_service.compression.search_sections import SearchSections
from cloud_service.compression.tuning.goal import Goal, Objective, Outcome
from cloud_service.compression.tuning.result import conclude
from cloud_service.compression.tuning.space import SearchSpace, changed
from cloud_service.compression.tuning.trials import Trial
from shared.latency_table import DeviceClass
from tests.support.tiny_compression import CONFIG, write_tiny_compression

PRODUCTS = [f"layers.{number}.weight" for number in range(12)]
SPACE = SearchSpace.of(PRODUCTS, ["fp32", "int8-dynamic"], "fp32")
DEVICE = DeviceClass("Cortex-A72", "armv8", 4, 1, "1.23.2")


def sections(folder: Path, tried: Sequence[str] = PRODUCTS, device: DeviceClass | None = None) -> SearchSections:
    """Of a search that tried each of `tried` alone, as a journal remembers it: plans sorted as text."""
    alpha = "[calibration]\nerror_alpha = 0.2"
    config = load_config(write_tiny_compression(folder, CONFIG.replace("[calibration]", alpha)))
    plans = [SPACE.baseline, *(changed(SPACE.baseline, (part, "int8-dynamic")) for part in tried)]
    outcome = Outcome(90.0, 1.0, 1000, offload=0.125, divergence=0.01)
    trials = [Trial(dict(sorted(plan.items())), outcome) for plan in plans]
    result = conclude(SPACE, Goal(Objective.LATENCY, 0.3), trials)
    choice = Choice(uniform(Precision(Scheme.FP32)))
    return SearchSections(config, Tuned(choice, result, False, folder / "trials.jsonl", device), PRODUCTS, 20)


def test_layers_are_told_in_the_order_of_the_network_and_not_of_their_letters(tmp_path: Path) -> None:
    made = sections(tmp_path)
    assert [each.layer for each in made.sensitivity().layers] == PRODUCTS
    assert all(list(trial.plan) == PRODUCTS for trial in made.tuning().trials)
    assert list(made.choice().plan) == PRODUCTS


def test_parts_that_were_not_reached_are_counted(tmp_path: Path) -> None:
    found = sections(tmp_path, tried=PRODUCTS[:5]).sensitivity()
    assert (found.layers_tried, found.all_layers) == (5, 12)


def test_each_trial_tells_its_offload_at_the_kept_error_asked_for(tmp_path: Path) -> None:
    trial = sections(tmp_path).tuning().trials[0]
    assert trial.variant.note == "least offload at 20% kept error: 12.5%"


def test_forecasts_are_called_so_and_of_which_device(tmp_path: Path) -> None:
    assert sections(tmp_path).tuning().forecast_for is None
    tuning = sections(tmp_path, device=DEVICE).tuning()
    assert tuning.forecast_for == "Cortex-A72 (armv8), 1 of 4 cores"
    assert "a table recorded on the device" in tuning.method
