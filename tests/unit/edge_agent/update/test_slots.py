from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.update import machine
from edge_agent.update.disk import RealDisk
from edge_agent.update.journal import Journal
from edge_agent.update.machine import FACTORY, Target, UpdateState
from edge_agent.update.slots import ModelSlots
from shared.errors import BundleError, BundleFileMissing, EngineError
from shared.update.assignment import Trial
from shared.update.report import Phase
from tests.unit.edge_agent.update.conftest import Fleet


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"{}", b"0" * 64 + b"\n{}"])
def test_where_the_newest_state_is_damaged_the_one_before_is_taken(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path, RealDisk())
    first = journal.save(UpdateState("tiny", rollout="first"))
    second = journal.save(replace(first, rollout="second"))
    assert journal.load("tiny") == second
    (tmp_path / "state-0").write_bytes(damage)
    assert journal.load("tiny") == first
    (tmp_path / "state-1").write_bytes(damage)
    assert journal.load("tiny") == UpdateState("tiny")


def test_a_state_in_which_no_requests_are_split_is_written_as_agents_from_before_that_read_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RealDisk())
    for share, is_named in ((0.0, False), (0.25, True)):
        target = Target("2.0.0", "manifest", "gate", 2, "", 0.0, "rollout", 1, 0, Trial(), share)
        saved = journal.save(machine.begun(UpdateState("tiny"), target, "b", Phase.FETCHING))
        assert (b"key_share" in (tmp_path / "state-1").read_bytes()) is is_named
        assert journal.load("tiny") == saved
        (tmp_path / "state-1").unlink()


def test_a_state_of_another_model_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RealDisk())
    journal.save(UpdateState("other", rollout="first"))
    assert journal.load("tiny") == UpdateState("tiny")


def test_a_device_without_updates_starts_with_the_factorys_bundle(fleet: Fleet) -> None:
    slots = ModelSlots(fleet.folder / "updates", fleet.folder / "1.0.0", RealDisk(), "B")
    start = slots.start()
    assert (start.slot, start.folder, start.release.version) == (FACTORY, fleet.folder / "1.0.0", "1.0.0")
    assert (start.release.variant, start.release.release) == ("B", 0)
    with pytest.raises(EngineError):
        slots.start_again(EngineError("no engine"))


def test_without_a_factorys_bundle_the_folder_is_named(fleet: Fleet) -> None:
    with pytest.raises(BundleFileMissing, match="nowhere"):
        ModelSlots(fleet.folder / "updates", fleet.folder / "nowhere", RealDisk())


@pytest.mark.anyio
async def test_a_damaged_slot_gives_way_to_the_one_before_and_is_fetched_again(fleet: Fleet) -> None:
    registry = fleet.registry
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        registry.assign(registry.arms[version], sequence=sequence)
        device = fleet.device()
        device.boot()
        report = await device.update_to(version)
    graph = device.slots.folder(report.slot) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    device = fleet.device()
    assert device.boot().manifest.version == "2.0.0"
    report = await device.update_to("3.0.0")
    assert any("damaged" in one.error and one.phase is Phase.ROLLED_BACK for one in device.reports)
    assert 0 < len(device.source.asked) < 3


@pytest.mark.anyio
async def test_the_factorys_bundle_is_never_written(fleet: Fleet) -> None:
    factory = fleet.folder / "1.0.0"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in factory.iterdir()}
    for sequence, version in enumerate(("2.0.0", "1.0.0", "3.0.0"), start=1):
        fleet.registry.assign(fleet.registry.arms[version], sequence=sequence)
        device = fleet.device()
        device.boot()
        await device.update_to(version)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in factory.iterdir()} == before


@pytest.mark.anyio
async def test_when_everything_but_the_factorys_bundle_is_damaged_that_one_answers(fleet: Fleet) -> None:
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        fleet.registry.assign(fleet.registry.arms[version], sequence=sequence)
        device = fleet.device()
        device.boot()
        await device.update_to(version)
    for slot in ("a", "b"):
        (device.slots.folder(slot) / "gate.json").unlink()
        with pytest.raises(BundleError):
            device.bundle_in(slot)
    assert fleet.device().boot().manifest.version == "1.0.0"
