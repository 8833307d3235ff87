from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import BundleMalformed, EngineError, NoRoom, ProvingFailed, UpdateRefused
from shared.update.assignment import Trial
from shared.update.report import ErrorKind, Phase, TrialFigures, UpdateReport
from tests.support.fake_update_peers import write_chunked_bundle
from tests.unit.edge_agent.update.conftest import Fleet

pytestmark = pytest.mark.anyio


async def test_a_release_that_is_assigned_is_fetched_proven_tried_and_committed(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    assert device.boot().manifest.version == "1.0.0"
    report = await device.update_to("2.0.0")
    assert device.host.events == ["load 2.0.0", "prove 2.0.0", "switch 2.0.0", "trial 2.0.0"]
    assert (report.slot, report.error, report.assignment_sequence) == ("a", "", 1)
    assert device.bundle_in("a").manifest.version == "2.0.0"
    phases = list(dict.fromkeys(one.phase for one in device.reports))
    assert phases == [
        Phase.IDLE,
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGED,
        Phase.LOADING,
        Phase.PROVING,
        Phase.TRIAL,
        Phase.COMMITTED,
    ]


async def test_only_chunks_that_no_bundle_on_the_device_has_are_fetched(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    report = await device.update_to("2.0.0")
    bare, _ = registry.manifests[registry.arms["2.0.0"].manifest_sha256]
    assert 0 < len(device.source.asked) < sum(len(entry.chunks) for entry in bare.files)
    assert report.bytes_fetched == device.source.bytes_received
    assert report.bytes_done == sum(entry.length for entry in device.bundle_in("a").manifest.files)


async def test_a_gate_alone_travels_with_no_chunk_at_all(fleet: Fleet) -> None:
    registry = fleet.registry
    other = write_chunked_bundle(fleet.folder / "stricter", "1.0.0", threshold=0.95)
    arm = registry.publish(fleet.folder / "stricter", 4)
    registry.assign(arm, sequence=1)
    device = fleet.device()
    device.boot()
    report = await device.update_until(lambda one: one.phase is Phase.COMMITTED)
    assert report.active.gate_digest == arm.gate_digest
    assert (device.source.asked, device.bundle_in("a").manifest) == ([], other)


async def test_a_broken_link_is_tried_again_and_what_came_is_not_fetched_twice(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.source.fails_after = 1
    await device.update_to("2.0.0")
    assert any(one.error_kind is ErrorKind.FETCH and one.attempts == 1 for one in device.reports)
    assert len(set(device.source.asked)) == len(device.source.asked)


async def test_a_device_that_is_started_again_goes_on_where_it_was(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    first = fleet.device()
    first.boot()
    first.source.fails_after = 1
    await first.update_until(lambda one: one.error_kind is ErrorKind.FETCH)
    second = fleet.device()
    assert second.boot().manifest.version == "1.0.0"
    await second.update_to("2.0.0")
    assert not set(first.source.asked) & set(second.source.asked)


async def test_going_back_to_the_other_slot_needs_neither_fetch_nor_proof_nor_trial(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        registry.assign(registry.arms[version], sequence=sequence)
        await device.update_to(version)
    fetched, device.host.events = list(device.source.asked), []
    registry.assign(registry.arms["2.0.0"], sequence=3)
    report = await device.update_to("2.0.0")
    assert device.host.events == ["load 2.0.0", "switch 2.0.0"]
    assert (device.source.asked, report.slot, report.assignment_sequence) == (fetched, "a", 3)
    registry.assign(registry.arms["1.0.0"], sequence=4)
    assert (await device.update_to("1.0.0")).slot == "factory"


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("load", EngineError("unknown operator")),
        ("load", BundleMalformed(Path("graph"), "cannot be read")),
        ("prove", ProvingFailed("3 of 3 golden texts are answered wrongly")),
        ("switch", EngineError("gone")),
    ],
)
async def test_a_release_that_cannot_be_loaded_or_proven_is_reported_and_not_tried_again(
    fleet: Fleet, step: str, fault: Exception
) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.host.faults[step, "2.0.0"] = fault
    report = await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK)
    assert (report.active.version, report.error_kind, report.error) == ("1.0.0", ErrorKind.PROVING, str(fault))
    assert report.candidate is not None
    assert report.candidate.version == "2.0.0"
    tries = device.host.events.count(f"{step} 2.0.0")
    looks = device.repository.looks
    await device.update_until(lambda one: device.repository.looks > looks + 3)
    assert device.host.events.count(f"{step} 2.0.0") == tries
    device.host.faults.clear()
    registry.assign(registry.arms["2.0.0"], sequence=2)
    assert (await device.update_to("2.0.0")).error == ""


async def test_a_trial_that_does_worse_goes_back_and_says_why(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.host.figures["2.0.0"] = TrialFigures(requests=20, failed=7)
    report = await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK and one.active.version == "1.0.0")
    assert (report.error_kind, report.error) == (ErrorKind.TRIAL, "7 of 20 requests failed")
    assert fleet.device().boot().manifest.version == "1.0.0"


async def test_an_assignment_that_is_withdrawn_from_a_trial_ends_it(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1, trial=Trial(requests=10**6, seconds=1e6, longest_s=1e9))
    device = fleet.device()
    device.boot()
    await device.update_until(lambda one: one.phase is Phase.TRIAL)
    registry.assign(registry.arms["1.0.0"], sequence=2)
    report = await device.update_to("1.0.0")
    assert (report.slot, report.error) == ("factory", "")


async def test_a_trial_goes_on_after_a_start(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    first = fleet.device()
    first.boot()
    await first.update_until(lambda one: one.phase is Phase.TRIAL)
    second = fleet.device()
    assert second.boot().manifest.version == "2.0.0"
    await second.update_to("2.0.0")
    assert second.host.events == ["trial 2.0.0"]


async def test_a_newer_assignment_replaces_the_one_that_is_being_fetched(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    updater = device.updater()

    def change() -> None:
        registry.assign(registry.arms["3.0.0"], sequence=2)
        updater.hint("tiny")
        updater.hint("another")

    device.source.before_each, device.source.pause_s = change, 0.05
    await device.update_until(lambda one: one.phase is Phase.COMMITTED, updater)
    assert device.host.active("tiny").version == "3.0.0"
    assert "load 2.0.0" not in device.host.events


async def test_a_device_that_was_off_takes_the_newest_release_alone(fleet: Fleet) -> None:
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        fleet.registry.assign(fleet.registry.arms[version], sequence=sequence)
    device = fleet.device()
    device.boot()
    await device.update_to("3.0.0")
    assert [event for event in device.host.events if "2.0.0" in event] == []


async def test_a_release_in_the_shadow_answers_nobody_until_it_is_promoted(fleet: Fleet) -> None:
    registry = fleet.registry
    shadow = replace(registry.arms["2.0.0"], shadow_share=0.25)
    registry.assign(shadow, sequence=1)
    device = fleet.device()
    device.boot()
    report = await device.update_until(lambda one: one.phase is Phase.SHADOW and one.trial.requests > 0)
    assert report.active.version == "1.0.0"
    assert device.host.events[-2:] == ["shadow 2.0.0 0.25", "close 2.0.0"]
    registry.assign(replace(shadow, shadow_share=0.0), sequence=2)
    await device.update_to("2.0.0")
    assert device.host.running["tiny"].release.version == "2.0.0"


async def test_a_shadow_that_is_promoted_need_not_be_loaded_again(fleet: Fleet) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], shadow_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()
    await device.update_until(fleet.promoting("2.0.0", Phase.SHADOW))
    assert device.host.events.count("load 2.0.0") == 1
    assert device.host.events[-1] == "trial 2.0.0"


async def test_an_assignment_for_later_waits_for_its_time(fleet: Fleet) -> None:
    device = fleet.device()
    begin_s = round(device.clock.unix_s()) + 5000
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1, not_before_unix_s=begin_s)
    device.boot()
    await device.update_to("2.0.0")
    assert device.repository.looks > 3
    assert device.clock.unix_s() >= begin_s


async def test_a_device_takes_nothing_below_a_floor_that_it_came_up_to_unless_it_is_excepted(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["3.0.0"], sequence=1, floor=3)
    await device.update_to("3.0.0")
    for version in ("2.0.0", "1.0.0"):
        registry.assign(registry.arms[version], sequence=2, floor=0)
        report = await device.update_until(lambda one: one.error_kind is ErrorKind.REFUSED)
        assert (report.active.version, "below 3" in report.error) == ("3.0.0", True)
    device.repository.exceptions.add("1.0.0")
    assert (await device.update_to("1.0.0")).slot == "factory"


async def test_a_variant_alone_is_taken_on_without_a_trial(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(replace(registry.arms["1.0.0"], variant="A"), sequence=1)
    device = fleet.device()
    device.boot()
    report = await device.update_until(lambda one: one.phase is Phase.COMMITTED)
    assert (report.active.variant, report.slot, device.source.asked) == ("A", "factory", [])
    again = fleet.device()
    again.boot()
    assert again.host.active("tiny").variant == "A"


async def test_metadata_that_are_refused_are_reported_and_looked_at_again(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.repository.faults = [UpdateRefused("the timestamp is expired"), RuntimeError("nobody foresaw")]  # type: ignore[list-item]
    await device.update_to("2.0.0")
    assert any(one.error == "the timestamp is expired" for one in device.reports)


async def test_where_memory_is_too_small_for_two_the_pause_is_announced_first(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.host.faults["load", "2.0.0"] = NoRoom("40 MB are free, two models need 90 MB")
    await device.update_to("2.0.0")
    assert device.host.events[:2] == ["load 2.0.0", "load alone 2.0.0"]
    assert any(one.error_kind is ErrorKind.NO_ROOM and "requests wait" in one.error for one in device.reports)


async def test_an_old_bundle_that_cannot_be_loaded_any_more_gives_way_to_the_factorys(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["2.0.0"], sequence=1)
    await device.update_to("2.0.0")
    device.host.faults["load", "2.0.0"] = EngineError("damaged meanwhile")
    device.host.figures["3.0.0"] = TrialFigures(requests=20, failed=20)
    registry.assign(registry.arms["3.0.0"], sequence=2)
    report = await device.update_until(lambda one: one.active.version == "1.0.0" and one.slot == "factory")
    assert report.phase is Phase.ROLLED_BACK


async def test_what_failed_or_was_measured_under_one_rollout_is_not_told_under_the_next(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device.host.figures["2.0.0"] = TrialFigures(requests=20, failed=20, compared=9, agreed=1)
    await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK)
    later_s = round(device.clock.unix_s()) + 5000
    registry.assign(registry.arms["3.0.0"], sequence=2, rollout="rollout-2", not_before_unix_s=later_s)
    await device.update_to("3.0.0")
    told = [one for one in device.reports if one.rollout == "rollout-2"]
    assert {one.error_kind for one in told} == {ErrorKind.NONE}
    assert {one.candidate.version for one in told if one.candidate} == {"3.0.0"}
    assert all(one.phase in (Phase.TRIAL, Phase.COMMITTED) for one in told if one.trial != TrialFigures())


async def test_the_trial_of_a_release_before_says_nothing_of_a_shadow(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["2.0.0"], sequence=1)

    def go_on(report: UpdateReport) -> bool:
        if report.phase is Phase.COMMITTED and report.trial.requests > 0:
            registry.assign(replace(registry.arms["3.0.0"], shadow_share=0.5), sequence=2, rollout="rollout-2")
        return report.phase is Phase.SHADOW

    assert (await device.update_until(go_on)).trial == TrialFigures()
    assert all(one.trial == TrialFigures() for one in device.reports if one.rollout == "rollout-2")


async def test_the_factorys_bundle_is_told_under_the_number_that_it_was_released_with(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["1.0.0"], sequence=1)
    report = await device.update_until(lambda one: one.phase is Phase.COMMITTED)
    assert (report.active.release, report.slot, device.source.asked) == (1, "factory", [])
    assert device.host.events == []
    again = fleet.device()
    again.boot()
    assert again.host.active("tiny") == report.active


async def test_what_could_not_be_gone_back_to_is_gone_back_to_later(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device.host.figures["2.0.0"] = TrialFigures(requests=20, failed=20)
    device.host.faults |= {(step, "1.0.0"): NoRoom("no memory now") for step in ("load", "load alone")}

    def is_back(report: UpdateReport) -> bool:
        if "cannot be loaded" in report.error:
            device.host.faults.clear()
        return report.phase is Phase.ROLLED_BACK and report.active.version == "1.0.0"

    report = await device.update_until(is_back)
    assert (report.slot, report.error_kind) == ("factory", ErrorKind.TRIAL)
    assert device.host.events.count("switch 2.0.0") == 1


async def test_a_shadow_of_an_ab_test_is_promoted_under_the_variant_that_is_asked_for(fleet: Fleet) -> None:
    registry = fleet.registry
    shadow = replace(registry.arms["2.0.0"], shadow_share=0.25, variant="b")
    registry.assign(shadow, sequence=1)
    device = fleet.device()
    device.boot()

    def promote(report: UpdateReport) -> bool:
        if report.phase is Phase.SHADOW and report.trial.requests > 0:
            registry.assign(replace(shadow, shadow_share=0.0, variant=""), sequence=2)
        return report.phase is Phase.COMMITTED

    report = await device.update_until(promote)
    assert (report.active.version, report.active.variant) == ("2.0.0", "")


async def test_a_device_takes_a_release_that_is_for_its_labels_and_lets_others_have_theirs(fleet: Fleet) -> None:
    registry = fleet.registry
    for_berlin = replace(registry.arms["2.0.0"], labels={"site": ("berlin", "paris")})
    registry.assign(for_berlin, sequence=1, arms=(for_berlin, registry.arms["1.0.0"]))
    elsewhere = fleet.device(labels={"site": "rome"})
    elsewhere.boot()
    report = await elsewhere.update_until(lambda one: one.assignment_sequence == 1 and one.active.release == 1)
    assert (report.active.version, report.labels) == ("1.0.0", {"site": "rome"})
    assert elsewhere.source.asked == []
    moved = fleet.device(labels={"site": "paris"})
    moved.boot()
    assert (await moved.update_to("2.0.0")).labels == {"site": "paris"}
