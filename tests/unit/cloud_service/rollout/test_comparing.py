from __future__ import annotations

import numpy as np
import pytest

from cloud_service.rollout.comparing import Verdict, compare
from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.orders import abort, promote, start
from cloud_service.rollout.plan import Comparison, Plan, Stage
from cloud_service.rollout.records import DecisionKind, FieldFigures, FieldSide, Rollout, RolloutState, Seen, Step
from cloud_service.rollout.telling import assignment_for
from shared.errors import RolloutError
from shared.update.assignment import device_share
from tests.support.rollout_parts import NEW, NOW_S, OLD, a_plan, committed

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
        is_new = device_share(ID, f"d{number}") < 0.5
        assert told is not None
        assert (told.version, told.variant) == ((NEW.version, "b") if is_new else (OLD.version, "a"))


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
    ],
)
def test_a_test_that_compares_nothing_is_refused(plan: Plan) -> None:
    with pytest.raises(RolloutError, match="A/B test"):
        start(ID, plan, "anna", NOW_S)
