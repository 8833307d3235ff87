from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloud_service.rollout.comparing import Verdict, compare
from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.orders import abort, promote, start
from cloud_service.rollout.plan import Comparison, Fallback, Plan, Stage
from cloud_service.rollout.records import DecisionKind, FieldFigures, FieldSide, Rollout, RolloutState, Seen, Step
from cloud_service.rollout.telling import assignment_for
from cloud_service.rollout.words import rollout_lines
from shared.errors import RolloutError
from shared.update.assignment import place_of
from shared.update.report import ErrorKind, Phase, TrialFigures
from tests.support.rollout_parts import NEW, NOW_S, OLD, a_plan, a_report, broken, committed

ID = "r1"


def arm(disagreed: int, audited: int) -> FieldSide:
    return FieldSide(10 * audited, 3 * audited, 5.0, audited, disagreed)


def field(new: FieldSide, old: FieldSide) -> FieldFigures:
    return FieldFigures(new, old)


GOOD, BAD, OPEN = (
    field(arm(10, 4000), arm(40, 4000)),
    field(arm(400, 4000), arm(40, 4000)),
    field(arm(2, 40), arm(2, 40)),
)


def ab_plan(**how: object) -> Plan:
    comparison = Comparison(**how)  # type: ignore[arg-type]
    return a_plan(Stage("canary", 0.5), Stage("canary"), soak_s=0, comparison=comparison)


def opened(plan: Plan) -> Rollout:
    begun = start(ID, plan, "anna", NOW_S).rollout
    return advance(begun, Seen(stage_figures(begun, ())), NOW_S).rollout


def looked_at(rollout: Rollout, arms: FieldFigures) -> Step:
    reports = [committed(f"d{number}", ID) for number in range(20)]
    return advance(rollout, Seen(stage_figures(rollout, reports), {"canary": arms}), NOW_S)


def test_both_arms_have_a_variant_and_devices_keep_to_theirs() -> None:
    assignment = assignment_for(opened(ab_plan()), "canary", 1)
    assert assignment is not None
    for number in range(50):
        told = assignment.arm_of(f"d{number}")
        is_new = place_of(ID, f"d{number}") < 0.5
        assert told is not None
        assert (told.version, told.variant) == ((NEW.version, "b") if is_new else (OLD.version, "a"))


def key_plan(*, decides: bool = False) -> Plan:
    comparison = Comparison(decides=decides)
    return a_plan(Stage("canary", key_share=0.3), Stage("canary"), soak_s=0, comparison=comparison)


def split_at(rollout: Rollout, requests: int, arms: FieldFigures) -> Step:
    """Five devices whose new release has answered so many requests."""
    trial = TrialFigures(requests=requests)
    reports = [a_report(f"d{number}", ID, phase=Phase.SPLIT, trial=trial) for number in range(5)]
    return advance(rollout, Seen(stage_figures(rollout, reports), {"canary": arms}), NOW_S)


def test_by_key_every_device_answers_a_share_of_its_requests_with_the_release() -> None:
    rollout = opened(key_plan())
    assert rollout.reason.endswith("ring canary is opened for 30% of the requests by their key")
    assignment = assignment_for(rollout, "canary", 1)
    assert assignment is not None
    (arm,) = assignment.arms
    assert (arm.version, arm.key_share, arm.share_until, arm.variant) == (NEW.version, 0.3, 1.0, "")
    assert assignment.floor == OLD.release


def test_by_key_arms_of_one_version_have_a_variant_to_be_told_apart_by() -> None:
    before = (Fallback("canary", replace(OLD, version=NEW.version)),)
    assignment = assignment_for(opened(replace(key_plan(), fallbacks=before)), "canary", 1)
    assert assignment is not None and [arm.variant for arm in assignment.arms] == ["b"]


def test_by_key_a_device_is_counted_once_its_release_has_answered_enough_requests() -> None:
    rollout = opened(key_plan())
    few = split_at(rollout, 49, GOOD).rollout
    assert (few.stages[0].figures.committed, few.stages[0].figures.under_way) == (0, 5)
    assert few.current == 0
    assert split_at(rollout, 50, OPEN).rollout.stages[0].figures.committed == 5


def test_by_key_the_verdict_makes_the_release_answer_all_or_nothing() -> None:
    rollout = opened(key_plan(decides=True))
    promoted = split_at(rollout, 50, GOOD)
    widened = assignment_for(promoted.rollout, "canary", 2)
    assert widened is not None
    assert [(arm.version, arm.key_share) for arm in widened.arms] == [(NEW.version, 0.0)]
    dropped = split_at(rollout, 50, BAD)
    assert [each.kind for each in dropped.decisions] == [DecisionKind.ROLL_BACK]
    back = assignment_for(dropped.rollout, "canary", 2)
    assert back is not None and [arm.version for arm in back.arms] == [OLD.version]
    waits = split_at(opened(key_plan()), 50, GOOD).rollout
    assert waits.state is RolloutState.PAUSED and "an A/B test by request key" in "\n".join(rollout_lines(waits))
    assert promote(waits, "anna", NOW_S).decisions[-1].kind is DecisionKind.OPEN
    assert abort(waits, "anna", NOW_S).decisions[-1].kind is DecisionKind.ROLL_BACK


def test_by_key_a_device_whose_release_does_badly_stops_the_test() -> None:
    reports = [broken(f"d{number}", ID, kind=ErrorKind.TRIAL) for number in range(3)]
    rollout = opened(key_plan())
    step = advance(rollout, Seen(stage_figures(rollout, reports)), NOW_S)
    assert step.rollout.state is RolloutState.ROLLED_BACK


def test_by_key_what_hinders_the_next_look_is_not_held_against_the_release() -> None:
    trial = TrialFigures(requests=50)
    expired = [
        a_report(f"d{number}", ID, phase=Phase.SPLIT, trial=trial, error_kind=ErrorKind.REFUSED) for number in range(5)
    ]
    figures = stage_figures(opened(key_plan()), expired)[0]
    assert (figures.committed, figures.failed) == (5, 0)


@pytest.mark.parametrize(
    ("arms", "verdict"),
    [(GOOD, Verdict.PROMOTE), (BAD, Verdict.DROP), (OPEN, Verdict.UNDECIDED), (FieldFigures(), Verdict.UNDECIDED)],
)
def test_the_verdict_follows_the_audits(arms: FieldFigures, verdict: Verdict) -> None:
    assert compare(Comparison(), arms).verdict is verdict


def test_a_test_that_is_undecided_goes_on() -> None:
    step = looked_at(opened(ab_plan(decides=True)), OPEN)
    assert step.decisions == () and step.rollout.state is RolloutState.SOAKING
    assert "the difference lies between" in step.rollout.reason


def test_a_verdict_is_carried_out_where_the_operator_said_so() -> None:
    rollout = opened(ab_plan(decides=True))
    promoted = looked_at(rollout, GOOD)
    assert [each.kind for each in promoted.decisions] == [DecisionKind.OPEN]
    widened = assignment_for(promoted.rollout, "canary", 2)
    assert widened is not None
    assert [(each.version, each.variant) for each in widened.arms] == [(NEW.version, "")]
    dropped = looked_at(rollout, BAD)
    assert [each.kind for each in dropped.decisions] == [DecisionKind.ROLL_BACK]
    assert "A/B test: drop" in dropped.rollout.reason


def test_a_verdict_waits_for_the_operator_otherwise() -> None:
    step = looked_at(opened(ab_plan()), GOOD)
    assert step.rollout.state is RolloutState.PAUSED
    assert "A/B test: promote 2" in step.rollout.reason and "5.0 ms" in step.rollout.reason
    assert [each.kind for each in promote(step.rollout, "anna", NOW_S).decisions][-1] is DecisionKind.OPEN
    assert [each.kind for each in abort(step.rollout, "anna", NOW_S).decisions][-1] is DecisionKind.ROLL_BACK


def test_looking_after_every_audit_drops_an_equal_release_no_more_often_than_promised() -> None:
    random = np.random.default_rng(7)
    tests, looks, dropped = 60, 150, 0
    for _ in range(tests):
        new, old = (np.cumsum(random.random(looks) < 0.1) for _ in range(2))
        verdicts = (
            compare(Comparison(margin=0.0, delta=0.1), field(arm(int(new[at]), at + 1), arm(int(old[at]), at + 1)))
            for at in range(9, looks, 10)
        )
        dropped += any(judgement.verdict is not Verdict.UNDECIDED for judgement in verdicts)
    assert dropped <= 0.1 * tests


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(Stage("canary"), Stage("stable"), comparison=Comparison()),
        a_plan(Stage("canary", 0.5), Stage("canary"), fallbacks=(), comparison=Comparison()),
        ab_plan(delta=0.0),
        a_plan(Stage("canary", 0.5, labels={"site": ("berlin",)}), Stage("canary"), comparison=Comparison()),
        a_plan(Stage("canary", 0.5, key_share=0.5), Stage("canary"), comparison=Comparison()),
        a_plan(Stage("canary", key_share=1.0), Stage("canary"), comparison=Comparison()),
        a_plan(Stage("canary", key_share=-0.5), Stage("canary"), comparison=Comparison()),
        a_plan(Stage("canary", key_share=0.5, shadow_share=0.5), Stage("canary"), comparison=Comparison()),
        a_plan(Stage("canary", key_share=0.5), Stage("canary")),
        a_plan(Stage("canary", key_share=0.5), fallbacks=(), comparison=Comparison()),
    ],
)
def test_a_test_that_compares_nothing_is_refused(plan: Plan) -> None:
    with pytest.raises(RolloutError, match="A/B test"):
        start(ID, plan, "anna", NOW_S)
