from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_service.registry.catalogue import ListedRelease
from cloud_service.rollout.conditions import condition_words, parse_condition
from cloud_service.rollout.durations import duration_words, parse_duration
from cloud_service.rollout.plan import Comparison, OnFailure, Stage, Window, encode_plan, parse_plan
from cloud_service.rollout.plan_file import PlanFile, read_plan_file
from cloud_service.rollout.planning import Wish, make_plan
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import arm_of
from cloud_service.rollout.words import plan_lines, stage_words
from shared.errors import ConfigurationError, RolloutError
from shared.update.assignment import Assignment
from tests.support.rollout_parts import MODEL, NEW, NOW_S, OLD

LISTED = [
    ListedRelease(MODEL, OLD.version, OLD.release, (), OLD.manifest_sha256, (OLD.gate_digest,)),
    ListedRelease(MODEL, NEW.version, NEW.release, ("jetson",), NEW.manifest_sha256, (NEW.gate_digest, "c" * 64)),
]
_MIDNIGHT_S = NOW_S - NOW_S % 86_400
"""A Friday."""


def order(ring: str, *arms: float) -> RingOrder:
    """What a ring was told: `OLD` for each share."""
    told = Assignment(MODEL, "r0", 1, 1, tuple(arm_of(OLD, share_until=share) for share in arms))
    return RingOrder(ring, MODEL, "r0", 1, told, NOW_S)


def test_the_usual_plan_has_a_stage_a_ring_and_goes_back_to_what_the_rings_run() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary", "stable"), soak="2h")
    plan = make_plan(wish, LISTED, [order("canary", 1.0), order("stable", 1.0)])
    assert plan.stages == (Stage("canary"), Stage("stable"))
    assert plan.release == NEW and plan.fallback("stable") == OLD
    assert (plan.soak_s, plan.hardware) == (7200, ("jetson",))
    assert parse_plan(encode_plan(plan)) == plan


def test_a_share_goes_first_and_a_shadow_before_it() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary",), {"canary": 0.1}, shadow_share=0.2, before=OLD.version)
    assert make_plan(wish, LISTED, []).stages == (Stage("canary", 0.1, 0.2), Stage("canary", 0.1), Stage("canary"))


def test_an_ab_test_by_key_begins_with_a_share_of_each_devices_requests() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary",), {"canary": 0.3}, before=OLD.version, by_key=True)
    plan = make_plan(replace(wish, comparison=Comparison()), LISTED, [])
    assert plan.stages == (Stage("canary", key_share=0.3), Stage("canary"))
    assert parse_plan(encode_plan(plan)) == plan
    assert stage_words(plan.stages[0]) == "ring canary, 30% of the requests by their key"
    assert any("A/B test of both by request key" in line for line in plan_lines(plan))
    with pytest.raises(RolloutError, match="only the first stage of an A/B test"):
        make_plan(wish, LISTED, [])
    told = order("canary", 1.0)
    assert told.assignment is not None
    split = replace(told, assignment=replace(told.assignment, arms=(arm_of(NEW, key_share=0.5),)))
    with pytest.raises(RolloutError, match="what ring canary would go back to"):
        make_plan(Wish(MODEL, NEW.version, PlanFile(), ("canary",)), LISTED, [split])
    with pytest.raises(RolloutError, match="--by key needs its ring"):
        file = PlanFile(stages=(Stage("canary", 0.5), Stage("canary")))
        make_plan(replace(wish, rings=(), shares={}, file=file, comparison=Comparison()), LISTED, [])


def test_a_test_by_key_begins_where_devices_run_what_it_compares_with() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary",), {"canary": 0.3}, before=OLD.version, by_key=True)
    told = order("canary", 1.0)
    assert told.assignment is not None
    runs_another = replace(told, assignment=replace(told.assignment, arms=(arm_of(NEW),)))
    with pytest.raises(RolloutError, match=f"ring canary runs {NEW.version}, not {OLD.version}"):
        make_plan(replace(wish, comparison=Comparison()), LISTED, [runs_another])
    by_device = replace(wish, by_key=False, comparison=Comparison())
    assert make_plan(by_device, LISTED, [runs_another]).stages[0] == Stage("canary", 0.3)


def test_a_plan_of_before_there_were_splits_by_key_is_read() -> None:
    plan = make_plan(Wish(MODEL, NEW.version, PlanFile(), ("canary",), before=OLD.version), LISTED, [])
    fields = json.loads(encode_plan(plan))
    for stage in fields["stages"]:
        del stage["key_share"]
    assert parse_plan(json.dumps(fields)) == plan


BERLIN = {"site": ("berlin", "paris"), "line": ("3",)}


def test_devices_of_some_labels_go_first_or_a_share_of_them_before() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary", "stable"), before=OLD.version, labels={"canary": BERLIN})
    plan = make_plan(wish, LISTED, [])
    assert plan.stages == (Stage("canary", labels=BERLIN), Stage("canary"), Stage("stable"))
    assert parse_plan(encode_plan(plan)) == plan
    both = make_plan(replace(wish, shares={"canary": 0.1}), LISTED, [])
    assert both.stages[:3] == (Stage("canary", 0.1, labels=BERLIN), Stage("canary", labels=BERLIN), Stage("canary"))
    shadow = make_plan(replace(wish, shadow_share=0.2), LISTED, [])
    assert shadow.stages[0] == Stage("canary", 1.0, 0.2, BERLIN)


def test_a_condition_is_written_by_commas_and_read_in_plain_words() -> None:
    assert parse_condition("site:berlin, site:paris,line:3") == BERLIN
    assert condition_words(BERLIN) == "whose line is 3 and whose site is berlin or paris"
    assert stage_words(Stage("canary", 0.1, labels={"site": ("berlin",)})) == (
        "ring canary, 10% of its devices whose site is berlin"
    )


@pytest.mark.parametrize("text", ["", "site", "site=berlin", "site:", ":berlin", "site:a b", "site:berlin,"])
def test_a_condition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RolloutError, match="labels"):
        parse_condition(text)


def test_what_devices_would_refuse_for_the_floor_needs_an_exception_first() -> None:
    newer = RingOrder("canary", MODEL, "r0", 1, Assignment(MODEL, "r0", 1, 2, (arm_of(NEW),)), NOW_S)
    wish = Wish(MODEL, OLD.version, PlanFile(), ("canary",))
    with pytest.raises(RolloutError, match=f"registry allow {MODEL}@{OLD.version}"):
        make_plan(wish, LISTED, [newer])
    allowed = [replace(LISTED[0], is_excepted=True), LISTED[1]]
    assert make_plan(wish, allowed, [newer]).release == OLD


def test_another_gate_is_named_by_its_beginning() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary",), before=OLD.version, gate="cc")
    assert make_plan(wish, LISTED, []).release.gate_digest == "c" * 64


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish(MODEL, "9", PlanFile(), ("canary",)), "release 9 is not published"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",)), "what ring canary would go back to"),
        (Wish(MODEL, NEW.version, PlanFile()), "name the rings"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",), {"other": 0.1}), "names ring other"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",), labels={"other": BERLIN}), "--labels names ring other"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",), before=OLD.version, gate="ff"), "gate ff is none"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",), before=OLD.version, soak="soon"), "no duration"),
        (Wish(MODEL, NEW.version, PlanFile(), ("canary",), {"canary": 3.0}, before=OLD.version), "share 3"),
    ],
)
def test_what_cannot_be_planned_is_said(wish: Wish, why: str) -> None:
    with pytest.raises(RolloutError, match=why):
        make_plan(wish, LISTED, [])


def test_a_ring_that_was_told_of_a_share_alone_has_nothing_known_to_go_back_to() -> None:
    wish = Wish(MODEL, NEW.version, PlanFile(), ("canary",))
    with pytest.raises(RolloutError, match="what ring canary would go back to"):
        make_plan(wish, LISTED, [order("canary", 0.3)])
    assert (
        make_plan(Wish(MODEL, NEW.version, PlanFile(), ("canary",), without_fallback=True), LISTED, []).fallbacks == ()
    )


def test_a_plan_file_holds_all_that_may_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        """
        soak = "30m"
        on_failure = "pause"
        [[stages]]
        ring = "canary"
        share = 0.2
        [[stages]]
        ring = "canary"
        labels = { site = ["berlin", "paris"], line = ["3"] }
        [[stages]]
        ring = "canary"
        [thresholds]
        min_devices = 5
        [gates]
        max_latency_ratio = 1.2
        [trial]
        requests = 10
        [[windows]]
        from = "22:00"
        until = "05:30"
        days = ["fri"]
        """,
        encoding="utf-8",
    )
    plan = make_plan(Wish(MODEL, NEW.version, read_plan_file(file), before=OLD.version), LISTED, [])
    assert plan.stages == (Stage("canary", 0.2), Stage("canary", labels=BERLIN), Stage("canary"))
    assert (plan.soak_s, plan.on_failure, plan.thresholds.min_devices) == (1800, OnFailure.PAUSE, 5)
    assert (plan.gates.max_latency_ratio, plan.trial.requests) == (1.2, 10)
    assert plan.windows == (Window(22 * 60, 5 * 60 + 30, (4,)),)


@pytest.mark.parametrize(
    "text",
    [
        "sok = '1m'",
        "[[stages]]\nring = 'a'\nlabels = { site = 'berlin' }",
        "soak = 'soon'",
        "[[windows]]\nfrom = '25:00'\nuntil = '26:00'",
        "[gates]\nlevel = 'x'",
        "[",
    ],
)
def test_a_plan_file_with_a_fault_names_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=str(file)):
        read_plan_file(file)


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday_night = Window(22 * 60, 6 * 60, (4,))
    moments = {hours: friday_night.holds(_MIDNIGHT_S + hours * 3600) for hours in (1, 21, 22, 25, 29, 30, 46)}
    assert moments == {1: False, 21: False, 22: True, 25: True, 29: True, 30: False, 46: False}
    assert Window(0, 24 * 60).holds(NOW_S)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0s", 0)])
def test_durations_are_read_and_written_as_people_do(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(duration_words(seconds)) == seconds
