"""The bench and its menu: what is kept between runs, what is swept away, and what each row tells."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch
from rich.progress import Progress, TaskID

from cloud_service.compression.judging import FINAL_ROUNDS
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.quantization.menu import menu
from cloud_service.compression.quantizing import BASELINES, Bench, MenuRecord, open_bench, run_menu
from tests.support.tiny_compression import CONFIG, open_tiny_workshop, tiny_learner


class CountingReport(ProgressReport):
    """A `ProgressReport` that remembers each bar: its steps, and how many were taken."""

    def __init__(self) -> None:
        super().__init__(Progress(disable=True))
        self.steps: dict[str, int] = {}
        self.taken: Counter[str] = Counter()
        self._names: dict[TaskID, str] = {}

    def start(self, what: str, steps: int, done: int = 0) -> TaskID:
        task = super().start(what, steps, done)
        self._names[task], self.steps[what] = what, steps
        return task

    def step(self, task: TaskID, count: int = 1) -> None:
        self.taken[self._names[task]] += count
        super().step(task, count)


def open_tiny_bench(folder: Path, config: str = CONFIG, report: ProgressReport | None = None) -> Bench:
    workshop = open_tiny_workshop(folder, config)
    if report is not None:
        workshop = dataclasses.replace(workshop, report=report)
    return open_bench(workshop, tiny_learner(workshop))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> MenuRecord:
    return run_menu(open_tiny_bench(tmp_path_factory.mktemp("menu")))


def test_every_row_of_the_menu_has_a_time_also_the_stock_tools(record: MenuRecord) -> None:
    assert [row.name for row in record.rows] == [*(choice.name for choice in menu()), *BASELINES]
    for row in record.rows:
        assert row.failure is None
        assert row.latency_ms is not None and row.latency_ms > 0.0


def test_timing_torch_leaves_its_number_of_threads_alone(tmp_path: Path) -> None:
    bench = open_tiny_bench(tmp_path, CONFIG.replace("[tuning]", "[tuning]\nthreads = 2"))
    before = torch.get_num_threads()
    found = BASELINES["torch-dynamic-int8"](bench, tmp_path)
    assert bench.judge.latency_ms(found.session) > 0.0
    assert torch.get_num_threads() == before


def test_another_number_of_threads_has_a_menu_of_its_own_and_the_old_one_stays(tmp_path: Path) -> None:
    menus = []
    for threads in (1, 2, 1):
        bench = open_tiny_bench(tmp_path, CONFIG.replace("[tuning]", f"[tuning]\nthreads = {threads}"))
        menus.append(run_menu(bench))
    assert menus[0] == menus[2] != menus[1]


def test_what_a_killed_run_was_building_is_swept_away(tmp_path: Path) -> None:
    bench = open_tiny_bench(tmp_path)
    left = [Path(bench.temporary_folder().name), bench.folder / "tmp8h2k1z"]
    for folder in left:
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(b"half a graph")
    open_tiny_bench(tmp_path)
    assert not any(folder.exists() for folder in left)
    assert bench.reference.graph.is_file()


def test_opening_the_bench_and_timing_the_best_are_told_step_by_step(tmp_path: Path) -> None:
    report = CountingReport()
    bench = open_tiny_bench(tmp_path, report=report)
    bench.latencies_ms(menu()[:2])
    assert report.taken == report.steps
    assert report.steps["timing the best in turns"] == FINAL_ROUNDS
    assert report.steps["watching activations"] == len(bench.workshop.splits.train)
