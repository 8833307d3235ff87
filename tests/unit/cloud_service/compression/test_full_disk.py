"""Where the disk is full the command says so, spoils nothing, and goes on when there is room."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.loading import load_model
from shared.bundle import read_bundle
from tests.support.full_disk import fill, make_room, small_disk
from tests.support.tiny_compression import CONFIG, run_model_command, write_tiny_compression

DISK_BYTES = 8 << 20
WITH_TEACHER = CONFIG.replace(
    "[full]\n", '[teacher]\ncheckpoint = "checkpoint"\ntraining = { epochs = 1, learning_rate = 1e-3 }\n[full]\n'
)
TEACHER_AND_WEIGHTS_BYTES = 1_450_000
"""Room for the teacher's training and the full model's first weights, but not for its optimizer's state."""

ONE_GRAPH_BYTES = 300_000
SHORT_OF_A_BUNDLE_BYTES = 60_000


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    said: str

    def assert_full(self) -> None:
        assert self.code == 1 and self.said.count("\n") == 1
        assert "No space left on device" in self.said
        assert "see that the disk has room and run the same command again" in self.said


def run(config: Path, action: str = "compress") -> Ended:
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        return Ended(run_model_command(config, action), said.getvalue())


def trained(folder: Path) -> dict[Path, int]:
    """When each training run of `folder` was last written to."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/state.pt")}


def assert_nothing_half_written(disk: Path) -> None:
    assert not [path for path in disk.rglob("*") if path.suffix == ".partial" or path.name.endswith(".building")]


def test_a_disk_that_fills_up_in_training_loses_only_the_epoch_that_was_running(tmp_path: Path) -> None:
    config = write_tiny_compression(tmp_path, WITH_TEACHER)
    with small_disk(tmp_path / "work", DISK_BYTES) as disk:
        fill(disk, TEACHER_AND_WEIGHTS_BYTES)
        ended = run(config, "train")
        ended.assert_full()
        assert "state.partial" in ended.said
        assert_nothing_half_written(disk)
        finished = trained(disk)
        assert [path.parent.name.partition("-")[0] for path in finished] == ["teacher"]
        make_room(disk)
        assert run(config, "train").code == 0
        assert trained(disk).items() > finished.items()


@dataclass(frozen=True)
class Story:
    """A command that found no room for its graphs, and was run again with room."""

    config: Path
    bundles: Path
    full: Ended
    report_while_full: str
    trained_before: dict[Path, int]
    again: Ended
    trained_after: dict[Path, int]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("full")
    config = write_tiny_compression(folder)
    with small_disk(folder / "work", DISK_BYTES) as work, small_disk(folder / "bundles", DISK_BYTES) as bundles:
        assert run(config, "distil").code == 0
        before = trained(work)
        fill(work, ONE_GRAPH_BYTES)
        full = run(config)
        report = (work / "report.json").read_text(encoding="utf-8")
        make_room(work)
        yield Story(config, bundles, full, report, before, run(config), trained(work))


def test_a_disk_that_fills_up_with_graphs_loses_no_finished_step(story: Story) -> None:
    story.full.assert_full()
    assert '"distillation": {' in story.report_while_full
    assert story.again.code == 0, story.again.said
    assert len(story.trained_before) == 2 and story.trained_after == story.trained_before


def test_no_precision_is_blamed_for_a_full_disk(story: Story) -> None:
    report = (story.config.parent / "work" / "report.json").read_text(encoding="utf-8")
    assert "No space left" not in report and "cannot be written" not in report


def test_old_bundles_stay_whole_where_new_ones_find_no_room(story: Story) -> None:
    newer = story.config.with_name("newer.toml")
    changes = {"[full]\n": '[full]\nversion = "2.0.0"\n', "[edge.tr": '[edge]\nversion = "2.0.0"\n[edge.tr'}
    text = CONFIG
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    newer.write_text(text, encoding="utf-8")

    fill(story.bundles, SHORT_OF_A_BUNDLE_BYTES)
    run(newer).assert_full()
    assert_nothing_half_written(story.bundles)
    assert [load_checked(story.bundles / name) for name in ("tiny-full", "tiny-edge")] == ["1.0.0", "1.0.0"]

    make_room(story.bundles)
    assert run(newer).code == 0
    assert [load_checked(story.bundles / name) for name in ("tiny-full", "tiny-edge")] == ["2.0.0", "2.0.0"]


def load_checked(folder: Path) -> str:
    """The version of the bundle in `folder`, which the agent loads and which answers its golden set."""
    load_model(folder).check_golden_set()
    return read_bundle(folder).manifest.version
