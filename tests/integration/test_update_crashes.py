"""A power cut, or a kill, at every write of an update: the old or the new bundle answers, and the update gets done."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest

from edge_agent.update.disk import RealDisk
from edge_agent.update.slots import ModelSlots
from shared.bundle import read_bundle
from shared.update.report import Phase
from tests.support.fake_update_device import FakeDevice
from tests.support.fake_update_disk import Change, DiskModel, RecordingDisk, UnsyncedDisk, copied
from tests.support.fake_update_peers import FakeRegistry, write_chunked_bundle
from tests.support.fake_update_process import registry_of
from tests.support.tiny_bundle import LABELS

VERSIONS = {"1.0.0": LABELS, "2.0.0": (*LABELS, "rate"), "3.0.0": (*LABELS, "rate", "visa")}
POWER_CUTS = 10
PROCESS_KILLS = 12


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version, labels in VERSIONS.items():
        write_chunked_bundle(folder / version, version, labels=labels)
    return folder


@pytest.fixture(scope="module")
def settled(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The updates' folder of a device with both slots full: 2.0.0 runs, and the factory's release lies in the other."""
    updates = tmp_path_factory.mktemp("settled") / "updates"
    for version, factory in (("2.0.0", "1.0.0"), ("3.0.0", "1.0.0"), ("2.0.0", "1.0.0")):
        device = FakeDevice(updates, bundles / factory, registry_of(bundles, version))
        device.boot()
        anyio.run(device.update_to, version)
        device.slots.stop()
    return updates


def recorded_update(updates: Path, bundles: Path, version: str) -> list[Change]:
    """Every change to the disk of a life that takes `version`."""
    disk = RecordingDisk(updates)
    device = FakeDevice(updates, bundles / "1.0.0", registry_of(bundles, version), disk=disk)
    device.boot()
    anyio.run(device.update_to, version)
    return disk.changes


def images(before: Path, changes: Sequence[Change], work: Path) -> Iterator[tuple[str, Path]]:
    """What each death leaves: a kill before every change and after the last, and power cuts of so many kinds."""
    model = DiskModel(before)
    for point in range(len(changes) + 1):
        model.left_by_kill(work)
        yield f"kill at {point}", work
        shutil.rmtree(work)
        for seed in range(POWER_CUTS):
            model.left_by_power_cut(work, seed * (1000 + point))
            yield f"power cut {seed} at {point}", work
            shutil.rmtree(work)
        if point < len(changes):
            changes[point](model)


def test_a_death_at_any_write_of_an_update_leaves_a_whole_bundle_and_the_update_gets_done(
    bundles: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    after_first = recorded_update(first, bundles, "2.0.0")
    before_second = copied(first, tmp_path / "before-second")
    after_second = recorded_update(copied(first, second), bundles, "3.0.0")
    (tmp_path / "nothing").mkdir()
    deaths = 0
    for before, changes, old, new in (
        (tmp_path / "nothing", after_first, "1.0.0", "2.0.0"),
        (before_second, after_second, "2.0.0", "3.0.0"),
    ):
        assert changes
        registry = registry_of(bundles, new)
        for name, image in images(before, changes, tmp_path / new):
            assert answering(image, bundles / "1.0.0", registry, new, name) in (old, new), name
            deaths += 1
        print(f"{old} to {new}: {len(changes)} writes")  # noqa: T201
    print(f"{deaths} deaths")  # noqa: T201
    assert deaths > 0


def answering(image: Path, factory: Path, registry: FakeRegistry, new: str, name: str) -> str:
    """The version that a start from `image` answers with; then the update goes on to its end."""
    device = FakeDevice(image, factory, registry, disk=UnsyncedDisk())
    start = device.slots.start()
    bundle = read_bundle(start.folder)
    assert bundle.manifest.version == start.release.version, name
    device.host.boot(start.folder, start.release)
    device.slots.ready()
    report = anyio.run(device.update_to, new)
    assert device.bundle_in(report.slot).manifest.version == new, name
    return bundle.manifest.version


def test_a_death_at_any_write_while_a_trial_goes_on_after_a_start_leaves_a_whole_bundle(
    bundles: Path, settled: Path, tmp_path: Path
) -> None:
    in_trial = image_in_trial(bundles, settled, tmp_path)
    changes = recorded_update(copied(in_trial, tmp_path / "again"), bundles, "3.0.0")
    assert changes
    for name, image in images(in_trial, changes, tmp_path / "image"):
        device = FakeDevice(image, bundles / "1.0.0", FakeRegistry(), disk=UnsyncedDisk())
        start = device.slots.start()
        assert read_bundle(start.folder).manifest.version == start.release.version, name
        assert start.release.version in ("2.0.0", "3.0.0"), name
    print(f"{len(changes)} writes after a start in a trial")  # noqa: T201


def image_in_trial(bundles: Path, settled: Path, work: Path) -> Path:
    """What a kill in the trial of 3.0.0 leaves."""
    updates = copied(settled, work / "trial")
    device = FakeDevice(updates, bundles / "1.0.0", registry_of(bundles, "3.0.0"))
    device.boot()
    anyio.run(device.update_until, lambda report: report.phase is Phase.TRIAL)
    return updates


def test_a_process_killed_at_random_moments_always_answers_and_gets_the_update_done(
    bundles: Path, tmp_path: Path
) -> None:
    for version in VERSIONS:
        copied(bundles / version, tmp_path / version)
    draw, kills, target = random.Random(5), 0, "2.0.0"
    for _ in range(4 * PROCESS_KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fake_update_process", str(tmp_path), target],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        answers = process.stdout.readline().strip()
        assert answers in VERSIONS, answers
        time.sleep(draw.uniform(0.0, 0.25))
        process.kill()
        kills += process.stdout.read() == ""
        process.wait()
        assert_whole(tmp_path)
        if kills >= PROCESS_KILLS:
            break
        target = "3.0.0" if answers == target == "2.0.0" else target
    print(f"killed {kills} times on the way")  # noqa: T201
    assert kills > 0
    last = FakeDevice(tmp_path / "updates", tmp_path / "1.0.0", reassigned(tmp_path))
    assert last.boot().manifest.version in VERSIONS
    anyio.run(last.update_to, "3.0.0")


def reassigned(folder: Path) -> FakeRegistry:
    """With a new decision, so that a release that was held against deaths is tried again."""
    registry = registry_of(folder, "3.0.0")
    registry.assign(registry.arms["3.0.0"], sequence=9)
    return registry


def assert_whole(folder: Path) -> None:
    slots = ModelSlots(folder / "updates", folder / "1.0.0", RealDisk())
    read_bundle(slots.folder(slots.state.running_slot))
