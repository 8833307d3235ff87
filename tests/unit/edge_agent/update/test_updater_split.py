"""An A/B test by request key, as the updater begins, watches and ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import EngineError, NoRoom, UpdateRefused
from shared.update.report import ErrorKind, Phase, TrialFigures, UpdateReport
from tests.unit.edge_agent.update.conftest import Fleet

pytestmark = pytest.mark.anyio


async def test_a_release_answers_its_share_beside_the_active_one_until_it_is_dropped(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(replace(registry.arms["2.0.0"], key_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()

    def drop(report: UpdateReport) -> bool:
        if report.phase is Phase.SPLIT and report.trial.requests > 0:
            registry.assign(registry.arms["1.0.0"], sequence=2)
        return report.phase is Phase.COMMITTED

    report = await device.update_until(drop)
    assert device.host.events == ["load 2.0.0", "prove 2.0.0", "split 2.0.0 0.25 rollout-1", "close 2.0.0"]
    assert (report.active.version, report.slot, report.error) == ("1.0.0", "factory", "")
    (told,) = {(one.active.version, one.slot) for one in device.reports if one.phase is Phase.SPLIT}
    assert told == ("1.0.0", "factory")


async def test_a_release_that_answers_its_share_is_promoted_as_it_is_loaded(fleet: Fleet) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], key_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()
    report = await device.update_until(fleet.promoting("2.0.0", Phase.SPLIT))
    assert device.host.events[-2:] == ["switch 2.0.0", "trial 2.0.0"]
    assert device.host.events.count("load 2.0.0") == 1 and "close 2.0.0" not in device.host.events
    phases = list(dict.fromkeys(one.phase for one in device.reports))
    assert phases[-3:] == [Phase.SPLIT, Phase.TRIAL, Phase.COMMITTED]
    assert (report.active.version, report.slot) == ("2.0.0", "a")


async def test_a_release_that_does_worse_with_its_share_ends_the_split_and_says_why(fleet: Fleet) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], key_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()
    device.host.figures["2.0.0"] = TrialFigures(requests=20, failed=17)
    report = await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK)
    assert (report.error_kind, report.error) == (ErrorKind.TRIAL, "17 of 20 requests failed")
    assert (report.active.version, device.host.split) == ("1.0.0", None)
    assert device.host.events[-1] == "close 2.0.0"
    looks = device.repository.looks
    await device.update_until(lambda one: device.repository.looks > looks + 3)
    assert device.host.events.count("load 2.0.0") == 1
    assert fleet.device().boot().manifest.version == "1.0.0"


async def test_a_power_cut_while_requests_are_split_leaves_the_active_release_and_the_split_begins_again(
    fleet: Fleet,
) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], key_share=0.25), sequence=1)
    first = fleet.device()
    first.boot()
    await first.update_until(lambda one: one.phase is Phase.SPLIT)
    second = fleet.device()
    assert second.boot().manifest.version == "1.0.0"
    await second.update_until(lambda one: one.phase is Phase.SPLIT)
    assert second.source.asked == []
    assert second.host.events[:3] == ["load 2.0.0", "prove 2.0.0", "split 2.0.0 0.25 rollout-1"]


async def test_metadata_that_expire_while_requests_are_split_end_nothing(fleet: Fleet) -> None:
    registry = fleet.registry
    split = replace(registry.arms["2.0.0"], key_share=0.25)
    registry.assign(split, sequence=1)
    device = fleet.device()
    device.boot()
    reports: list[UpdateReport] = []

    def expire(report: UpdateReport) -> bool:
        if report.phase is Phase.SPLIT and not reports:
            device.repository.faults = [UpdateRefused("the timestamp is expired")] * 3
            reports.append(report)
        return bool(reports) and not device.repository.faults and report.phase is Phase.SPLIT and not report.error

    report = await device.update_until(expire)
    assert any(one.error == "the timestamp is expired" and one.phase is Phase.SPLIT for one in device.reports)
    assert report.phase is Phase.SPLIT
    assert device.host.events == ["load 2.0.0", "prove 2.0.0", "split 2.0.0 0.25 rollout-1", "close 2.0.0"]


async def test_another_share_splits_the_requests_anew_without_loading_again(fleet: Fleet) -> None:
    registry = fleet.registry
    split = replace(registry.arms["2.0.0"], key_share=0.25)
    registry.assign(split, sequence=1)
    device = fleet.device()
    device.boot()

    def widen(report: UpdateReport) -> bool:
        if report.assignment_sequence == 1 and report.phase is Phase.SPLIT:
            registry.assign(replace(split, key_share=0.5), sequence=2)
        return "split 2.0.0 0.5 rollout-1" in device.host.events

    await device.update_until(widen)
    assert [event for event in device.host.events if not event.startswith(("split", "close"))] == [
        "load 2.0.0",
        "prove 2.0.0",
    ]


async def test_a_release_that_cannot_answer_beside_the_active_one_is_reported(fleet: Fleet) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], key_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()
    device.host.faults["split", "2.0.0"] = EngineError("it is told under the active one's name")
    report = await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK)
    assert (report.active.version, report.error_kind) == ("1.0.0", ErrorKind.PROVING)
    assert device.host.events[-1] == "close 2.0.0"


async def test_for_a_release_that_answers_a_share_alone_no_request_waits(fleet: Fleet) -> None:
    fleet.registry.assign(replace(fleet.registry.arms["2.0.0"], key_share=0.25), sequence=1)
    device = fleet.device()
    device.boot()
    device.host.faults["load", "2.0.0"] = NoRoom("40 MB are free, two models need 90 MB")
    report = await device.update_until(lambda one: one.phase is Phase.ROLLED_BACK)
    assert (report.error_kind, "load alone 2.0.0" in device.host.events) == (ErrorKind.NO_ROOM, False)


async def test_a_release_that_was_committed_once_answers_its_share_without_proof(fleet: Fleet) -> None:
    registry = fleet.registry
    device = fleet.device()
    device.boot()
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        registry.assign(registry.arms[version], sequence=sequence)
        await device.update_to(version)
    registry.assign(replace(registry.arms["2.0.0"], key_share=0.5), sequence=3)
    await device.update_until(lambda one: one.phase is Phase.SPLIT)
    assert device.host.events[-3:] == ["load 2.0.0", "split 2.0.0 0.5 rollout-1", "close 2.0.0"]
