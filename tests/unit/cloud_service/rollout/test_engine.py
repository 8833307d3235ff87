from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.orders import abort, approve, pause, promote, resume, start, take_back
from cloud_service.rollout.plan import FieldGates, OnFailure, Plan, Stage, Thresholds, Window
from cloud_service.rollout.records import (
    DecisionKind,
    FieldFigures,
    FieldSide,
    Rollout,
    RolloutState,
    Seen,
    Step,
)
from cloud_service.rollout.telling import assignment_for
from shared.errors import RolloutError
from shared.update.assignment import Trial, encode_assignment, parse_assignment, place_of
from shared.update.labels import NO_LABELS, Labels, is_met
from shared.update.report import ErrorKind, Phase, TrialFigures, UpdateReport
from tests.support.rollout_parts import NEW, NOW_S, OLD, a_plan, a_report, broken, committed, installed, release_for

ID = "r1"
_FAULTS = (ErrorKind.PROVING, ErrorKind.TRIAL, ErrorKind.REFUSED)
_HINDRANCES = (ErrorKind.FETCH, ErrorKind.NO_ROOM)


def begun(plan: Plan) -> Rollout:
    return start(ID, plan, "anna", NOW_S).rollout


def stepped(rollout: Rollout, reports: Sequence[UpdateReport] = (), now_s: int = NOW_S, **field: FieldFigures) -> Step:
    return advance(rollout, Seen(stage_figures(rollout, reports), field), now_s)


def opened(plan: Plan) -> Rollout:
    """With its first stage open."""
    step = stepped(begun(plan))
    assert [decision.kind for decision in step.decisions] == [DecisionKind.OPEN]
    return step.rollout


def fleet(ring: str, devices: int, **how: object) -> list[UpdateReport]:
    return [a_report(f"{ring}-{number}", ring=ring, **how) for number in range(devices)]  # type: ignore[arg-type]


def all_committed(ring: str, devices: int) -> list[UpdateReport]:
    return [committed(f"{ring}-{number}", ID, ring) for number in range(devices)]


def told(rollout: Rollout, ring: str, device_id: str = "any", labels: Labels = NO_LABELS) -> str:
    assignment = assignment_for(rollout, ring, 1)
    return release_for(assignment, device_id, labels) if assignment else ""


def test_a_good_bundle_reaches_ring_after_ring_and_each_soaks() -> None:
    rollout = opened(a_plan())
    soaking = stepped(rollout, all_committed("canary", 4)).rollout
    assert soaking.state is RolloutState.SOAKING
    assert stepped(soaking, all_committed("canary", 4), NOW_S + 59).decisions == ()
    second = stepped(soaking, all_committed("canary", 4), NOW_S + 60)
    assert [(each.kind, each.ring) for each in second.decisions] == [(DecisionKind.OPEN, "stable")]
    everyone = all_committed("canary", 4) + all_committed("stable", 9)
    soaking = stepped(second.rollout, everyone, NOW_S + 61).rollout
    done = stepped(soaking, everyone, NOW_S + 121)
    assert [each.kind for each in done.decisions] == [DecisionKind.FINISH]
    assert done.rollout.state is RolloutState.DONE


def test_a_bad_bundle_sends_its_ring_back_and_says_why() -> None:
    rollout = opened(a_plan())
    step = stepped(rollout, [broken(f"canary-{number}", ID) for number in range(3)])
    assert [(each.kind, each.ring) for each in step.decisions] == [(DecisionKind.ROLL_BACK, "canary")]
    assert step.rollout.state is RolloutState.ROLLED_BACK
    assert "3 of 3 devices could not take it" in step.rollout.reason
    assert told(step.rollout, "canary") == OLD.version


def test_the_way_back_is_above_the_floor_and_needs_no_trial() -> None:
    rollout = opened(a_plan())
    forward = assignment_for(rollout, "canary", 7)
    back = assignment_for(stepped(rollout, [broken(f"canary-{n}", ID) for n in range(3)]).rollout, "canary", 8)
    assert forward is not None and back is not None
    assert forward.floor <= OLD.release and back.floor <= OLD.release
    assert back.trial.requests == 0 and back.trial.seconds == 0 and forward.trial == Trial()


def test_a_single_failing_device_stops_nobody_where_there_are_others() -> None:
    rollout = opened(a_plan())
    first_word = stepped(rollout, [broken("canary-0", ID), *fleet("canary", 20)[1:]])
    assert first_word.decisions == ()
    reports = [broken("canary-0", ID), *all_committed("canary", 20)[1:]]
    soaking = stepped(first_word.rollout, reports).rollout
    assert [each.kind for each in stepped(soaking, reports, NOW_S + 60).decisions] == [DecisionKind.OPEN]


def test_where_the_others_are_silent_those_that_took_it_up_tell_after_a_while() -> None:
    rollout = opened(a_plan())
    reports = [broken("canary-0", ID), *fleet("canary", 20)[1:]]
    assert stepped(rollout, reports, NOW_S + 29).rollout.state is RolloutState.RUNNING
    assert stepped(rollout, reports, NOW_S + 30).rollout.state is RolloutState.ROLLED_BACK


def test_in_a_ring_of_one_device_its_failure_is_enough() -> None:
    step = stepped(opened(a_plan()), [broken("canary-0", ID)])
    assert step.rollout.state is RolloutState.ROLLED_BACK


@pytest.mark.parametrize("kind", _HINDRANCES)
def test_devices_without_room_or_connection_say_nothing_of_the_bundle(kind: ErrorKind) -> None:
    rollout = opened(a_plan())
    reports = [broken(f"canary-{number}", ID, kind=kind) for number in range(20)]
    step = stepped(rollout, [*reports, committed("canary-20", ID)])
    assert step.rollout.state is RolloutState.SOAKING
    assert step.rollout.stages[0].figures.hindered == 20


def test_a_device_that_came_from_a_ring_ahead_and_refuses_says_nothing_of_the_bundle() -> None:
    rollout = opened(a_plan())
    ahead = replace(broken("moved", ID, kind=ErrorKind.REFUSED), active=installed(replace(NEW, version="3", release=3)))
    step = stepped(rollout, [committed("d1", ID), ahead])
    assert step.rollout.state is RolloutState.SOAKING
    assert (step.rollout.stages[0].figures.failed, step.rollout.stages[0].figures.hindered) == (0, 1)


def test_devices_that_are_off_do_not_hold_it_up() -> None:
    rollout = opened(a_plan())
    reports = [*fleet("canary", 100)[3:], *all_committed("canary", 3)]
    soaking = stepped(rollout, reports).rollout
    assert stepped(soaking, reports, NOW_S + 60).rollout.current == 1


def test_failures_that_come_late_stop_a_rollout_that_is_rings_ahead() -> None:
    rollout = replace(a_plan(), thresholds=Thresholds(min_failures=1, failure_share=0.0))
    four = all_committed("canary", 4)
    second = stepped(stepped(opened(rollout), four).rollout, four, NOW_S + 60)
    reports = [*four, broken("canary-9", ID), *all_committed("stable", 2)]
    step = stepped(second.rollout, reports, NOW_S + 61)
    assert [(each.kind, each.ring) for each in step.decisions] == [
        (DecisionKind.ROLL_BACK, "canary"),
        (DecisionKind.ROLL_BACK, "stable"),
    ]


def test_only_the_ring_at_fault_goes_back_where_the_plan_says_so() -> None:
    plan = a_plan(on_failure=OnFailure.ROLL_BACK_RING, soak_s=0)
    second = stepped(opened(plan), all_committed("canary", 4)).rollout
    reports = [*all_committed("canary", 4), *(broken(f"stable-{number}", ID, "stable") for number in range(3))]
    step = stepped(second, reports)
    assert [(each.kind, each.ring) for each in step.decisions] == [(DecisionKind.ROLL_BACK, "stable")]
    assert told(step.rollout, "canary") == NEW.version


def test_it_only_pauses_where_the_plan_says_so() -> None:
    rollout = opened(a_plan(on_failure=OnFailure.PAUSE))
    step = stepped(rollout, [broken(f"canary-{number}", ID) for number in range(3)])
    assert [each.kind for each in step.decisions] == [DecisionKind.PAUSE]
    assert told(step.rollout, "canary") == NEW.version


def test_a_ring_without_an_earlier_release_is_told_nothing_any_more() -> None:
    rollout = opened(a_plan(fallbacks=()))
    step = stepped(rollout, [broken(f"canary-{number}", ID) for number in range(3)])
    assert [each.kind for each in step.decisions] == [DecisionKind.WITHDRAW]
    assert step.rollout.state is RolloutState.FAILED
    assert assignment_for(step.rollout, "canary", 1) is None


def test_a_share_of_a_ring_goes_first_and_the_same_devices_stay_in_it() -> None:
    rollout = opened(a_plan(Stage("canary", 0.3), Stage("canary")))
    first = {f"d{n}" for n in range(200) if told(rollout, "canary", f"d{n}") == NEW.version}
    assert 30 < len(first) < 90
    assert {told(rollout, "canary", f"d{n}") for n in range(200)} == {OLD.version, NEW.version}
    reports = [committed(device, ID) for device in first]
    wider = stepped(stepped(rollout, reports).rollout, reports, NOW_S + 60).rollout
    assert all(told(wider, "canary", f"d{n}") == NEW.version for n in range(200))


BERLIN, PARIS = {"site": ("berlin",)}, {"site": ("paris",)}


def test_devices_of_one_label_go_first_and_keep_the_release_while_others_follow() -> None:
    rollout = opened(a_plan(Stage("canary", labels=BERLIN), Stage("canary", labels=PARIS), Stage("canary")))
    berlin, paris, rome = ({"site": site} for site in ("berlin", "paris", "rome"))
    assert [told(rollout, "canary", "d", each) for each in (berlin, paris, rome, {})] == [NEW.version, *["1"] * 3]
    second = promote(rollout, "anna", NOW_S).rollout
    assert [told(second, "canary", "d", each) for each in (berlin, paris, rome)] == [NEW.version, NEW.version, "1"]
    assert second.reason.endswith("ring canary is opened for 100% of the devices whose site is paris")
    whole = promote(second, "anna", NOW_S).rollout
    assignment = assignment_for(whole, "canary", 1)
    assert assignment is not None and [(arm.version, arm.labels) for arm in assignment.arms] == [(NEW.version, {})]


def test_a_stage_counts_the_devices_of_its_labels_alone() -> None:
    rollout = opened(a_plan(Stage("canary", labels=BERLIN), Stage("canary")))
    reports = [replace(each, labels={"site": "berlin"}) for each in all_committed("canary", 2)]
    reports += [a_report("plain"), a_report("elsewhere", labels={"site": "rome"})]
    step = stepped(rollout, reports)
    assert [stage.figures.eligible for stage in step.rollout.stages] == [2, 4]
    assert step.rollout.state is RolloutState.SOAKING


def test_failures_that_were_accepted_at_one_site_are_not_accepted_at_another() -> None:
    plan = a_plan(Stage("canary", labels=BERLIN), Stage("canary", labels=PARIS), Stage("canary"))
    failing = [replace(broken(f"b{n}", ID), labels={"site": "berlin"}) for n in range(3)]
    rollout = stepped(opened(replace(plan, on_failure=OnFailure.PAUSE)), failing).rollout
    second = promote(rollout, "anna", NOW_S).rollout
    assert [stage.forgiven for stage in second.stages] == [3, 0, 3]
    failing += [replace(broken(f"p{n}", ID), labels={"site": "paris"}) for n in range(3)]
    assert "3 of 3 devices could not take it" in stepped(second, failing).rollout.reason
    assert promote(promote(second, "anna", NOW_S).rollout, "anna", NOW_S).rollout.stages[2].forgiven == 3


def test_where_no_release_is_known_to_go_back_to_devices_of_other_labels_stay_as_they_are() -> None:
    rollout = opened(a_plan(Stage("canary", labels=BERLIN), Stage("canary"), fallbacks=()))
    assert told(rollout, "canary", "d", {"site": "berlin"}) == NEW.version
    assert told(rollout, "canary", "d", {"site": "rome"}) == ""


def test_a_shadow_at_one_site_ends_where_the_release_is_really_taken() -> None:
    plan = a_plan(Stage("canary", 1.0, 0.2, BERLIN), Stage("canary", labels=PARIS), Stage("canary"))
    rollout = opened(plan)
    assignment = assignment_for(rollout, "canary", 1)
    assert assignment is not None
    assert [(arm.version, arm.shadow_share) for arm in assignment.arms] == [(NEW.version, 0.2), (OLD.version, 0.0)]
    second = promote(rollout, "anna", NOW_S).rollout
    assert told(second, "canary", "d", {"site": "berlin"}) == OLD.version
    assert told(second, "canary", "d", {"site": "paris"}) == NEW.version


def test_a_shadow_answers_nobody_and_stops_the_rollout_where_it_disagrees() -> None:
    plan = a_plan(Stage("canary", 1.0, shadow_share=0.2), Stage("canary"), soak_s=0)
    rollout = opened(plan)
    assignment = assignment_for(rollout, "canary", 1)
    assert assignment is not None and assignment.arms[0].shadow_share == 0.2
    good = TrialFigures(requests=60, compared=60, agreed=58, latency_ms=5, old_latency_ms=5)
    seen = [a_report("d0", ID, phase=Phase.SHADOW, trial=good)]
    after = stepped(rollout, seen)
    assert after.rollout.current == 1
    widened = assignment_for(after.rollout, "canary", 2)
    assert widened is not None and widened.arms[0].shadow_share == 0
    bad = TrialFigures(requests=60, compared=60, agreed=20, latency_ms=5, old_latency_ms=5)
    assert (
        "disagree with the active model"
        in stepped(rollout, [a_report("d0", ID, phase=Phase.SHADOW, trial=bad)]).rollout.reason
    )


def test_a_shadow_that_is_too_slow_is_a_failure() -> None:
    rollout = opened(a_plan(Stage("canary", 1.0, shadow_share=0.2), Stage("canary")))
    slow = TrialFigures(requests=60, latency_ms=50, old_latency_ms=5)
    assert stepped(rollout, [a_report("d0", ID, phase=Phase.SHADOW, trial=slow)]).rollout.state is (
        RolloutState.ROLLED_BACK
    )


_USUAL = FieldSide(requests=1000, wanted=100, latency_ms=5.0)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (FieldSide(1000, 100, 20.0), "answers take 20.0 ms"),
        (FieldSide(1000, 400, 5.0), "40% is offloaded"),
        (FieldSide(1000, 100, 5.0, audited=100, disagreed=60), "60 of 100 audited answers disagree"),
    ],
)
def test_what_the_field_shows_stops_a_rollout(new: FieldSide, why: str) -> None:
    step = stepped(opened(a_plan()), all_committed("canary", 4), canary=FieldFigures(new, _USUAL))
    assert step.rollout.state is RolloutState.ROLLED_BACK
    assert why in step.rollout.reason


def test_few_requests_or_audits_prove_nothing() -> None:
    gates = FieldGates(min_requests=100)
    new = FieldSide(99, 99, 500.0, audited=3, disagreed=2)
    step = stepped(opened(a_plan(gates=gates)), all_committed("canary", 4), canary=FieldFigures(new, _USUAL))
    assert step.rollout.state is RolloutState.SOAKING


def test_agents_that_do_not_get_ready_stop_it() -> None:
    reports = [replace(report, crashes=1) for report in all_committed("canary", 3)]
    assert "did not get ready" in stepped(opened(a_plan()), reports).rollout.reason


def test_devices_of_other_hardware_are_not_counted() -> None:
    rollout = opened(a_plan(hardware=("jetson",)))
    assert stepped(rollout, fleet("canary", 5)).rollout.stages[0].figures.eligible == 0


def test_stages_open_only_when_the_schedule_allows_it() -> None:
    at_night = Window(22 * 60, 6 * 60)
    rollout = begun(a_plan(windows=(at_night,), not_before_s=NOW_S))
    noon_s, midnight_s = NOW_S - NOW_S % 86_400 + 12 * 3600 + 86_400, NOW_S - NOW_S % 86_400 + 2 * 86_400
    waiting = stepped(rollout, now_s=noon_s)
    assert waiting.decisions == () and "schedule" in waiting.rollout.reason
    assert [each.kind for each in stepped(waiting.rollout, now_s=midnight_s).decisions] == [DecisionKind.OPEN]


def test_a_rollout_that_needs_approval_waits_for_another_person() -> None:
    rollout = begun(a_plan(needs_approval=True))
    assert stepped(rollout).rollout == rollout
    with pytest.raises(RolloutError, match="another person"):
        approve(rollout, "anna", NOW_S)
    assert stepped(approve(rollout, "ben", NOW_S).rollout).decisions


def test_a_soak_time_begins_anew_after_a_pause() -> None:
    soaking = stepped(opened(a_plan()), all_committed("canary", 4)).rollout
    resumed = resume(pause(soaking, "anna", NOW_S).rollout, "anna", NOW_S + 3600).rollout
    again = stepped(resumed, all_committed("canary", 4), NOW_S + 3600)
    assert again.decisions == () and again.rollout.state is RolloutState.SOAKING


def test_promotion_opens_the_next_ring_and_accepts_the_failures_so_far() -> None:
    rollout = opened(a_plan(on_failure=OnFailure.PAUSE))
    reports = [broken(f"canary-{number}", ID) for number in range(3)]
    paused = stepped(rollout, reports).rollout
    step = promote(paused, "anna", NOW_S)
    assert [each.kind for each in step.decisions] == [DecisionKind.PROMOTE, DecisionKind.OPEN]
    assert stepped(step.rollout, reports).rollout.state is RolloutState.RUNNING


def test_abort_sends_reached_rings_back_or_leaves_them() -> None:
    rollout = opened(a_plan())
    assert [each.kind for each in abort(rollout, "anna", NOW_S).decisions] == [
        DecisionKind.ABORT,
        DecisionKind.ROLL_BACK,
    ]
    kept = abort(rollout, "anna", NOW_S, keep=True)
    assert [each.kind for each in kept.decisions] == [DecisionKind.ABORT]
    assert told(kept.rollout, "canary") == NEW.version
    with pytest.raises(RolloutError, match="has ended"):
        abort(kept.rollout, "anna", NOW_S)


def test_a_rollout_that_is_done_can_be_taken_back_once() -> None:
    done = promote(promote(opened(a_plan()), "anna", NOW_S).rollout, "anna", NOW_S).rollout
    assert done.state is RolloutState.DONE
    back = take_back(done, "anna", NOW_S)
    assert [each.ring for each in back.decisions] == ["canary", "stable"]
    with pytest.raises(RolloutError, match="nothing to take back"):
        take_back(back.rollout, "anna", NOW_S)


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(Stage("canary", 0.0)),
        a_plan(Stage("canary", 0.5), Stage("canary", 0.2)),
        a_plan(Stage("canary", 1.0, shadow_share=0.5)),
        a_plan(thresholds=Thresholds(success_share=1.5)),
        a_plan(Stage("no/ring")),
        a_plan(Stage("canary", labels={"site": ()})),
        a_plan(Stage("canary", labels={"no key": ("x",)})),
        a_plan(Stage("canary"), Stage("canary", labels={"site": ("berlin",)})),
        a_plan(Stage("canary", 0.5, labels={"site": ("a", "b")}), Stage("canary", 0.5, labels={"site": ("a",)})),
        a_plan(Stage("canary", labels={"site": ("a",)}), Stage("canary", 0.5, 0.1)),
        a_plan(windows=(Window(60, 60),)),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(plan: Plan) -> None:
    with pytest.raises(RolloutError):
        begun(plan)


_ring = st.sampled_from(["canary", "early", "stable"])
_kind = st.sampled_from(list(ErrorKind))
_report = st.builds(
    lambda number, ring, obeys, active, phase, kind, crashes: a_report(
        f"{ring}-{number}",
        ID if obeys else "",
        ring=ring,
        active=active,
        phase=phase,
        error_kind=kind,
        crashes=crashes,
    ),
    st.integers(0, 5),
    _ring,
    st.booleans(),
    st.sampled_from([OLD, NEW]),
    st.sampled_from(list(Phase)),
    _kind,
    st.integers(0, 1),
)
_history = st.lists(st.tuples(st.integers(0, 90), st.lists(_report, max_size=8)), max_size=12)
_three_rings = a_plan(Stage("canary"), Stage("early", 0.5), Stage("early"), Stage("stable"))


def newest(reports: Sequence[UpdateReport]) -> list[UpdateReport]:
    return list({report.device_id: report for report in reports}.values())


@given(_history, st.lists(st.sampled_from(_FAULTS), min_size=1, max_size=12))
def test_other_rings_never_see_a_bundle_that_no_device_of_the_first_can_take(
    history: list[tuple[int, list[UpdateReport]]], faults: list[ErrorKind]
) -> None:
    rollout, now_s = begun(_three_rings), NOW_S
    bad = [broken(f"canary-{number}", ID, kind=kind) for number, kind in enumerate(faults)]
    others: list[UpdateReport] = []
    for waited_s, reports in history:
        now_s += waited_s
        others = newest([*others, *(each for each in reports if each.ring != "canary")])
        step = stepped(rollout, [*bad, *others], now_s)
        rollout = step.rollout
        assert all(decision.ring in ("canary", "") for decision in step.decisions)
    for ring in ("early", "stable"):
        assert told(rollout, ring) == OLD.version


@given(_history)
def test_a_ring_is_opened_only_after_all_before_it_have_passed(history: list[tuple[int, list[UpdateReport]]]) -> None:
    rollout, now_s, reports = begun(_three_rings), NOW_S, list[UpdateReport]()
    for waited_s, more in history:
        now_s += waited_s
        reports = newest([*reports, *more])
        before, step = rollout, stepped(rollout, reports, now_s)
        rollout = step.rollout
        if any(decision.kind is DecisionKind.OPEN for decision in step.decisions) and rollout.current:
            passed = rollout.stages[rollout.current - 1]
            assert passed.figures.committed >= 1
            assert now_s - before.stages[rollout.current - 1].enough_since_s >= rollout.plan.soak_s
        if not before.state.is_active:
            assert step.rollout == before


@given(_history)
def test_a_paused_rollout_changes_nothing(history: list[tuple[int, list[UpdateReport]]]) -> None:
    paused = pause(opened(_three_rings), "anna", NOW_S).rollout
    for waited_s, reports in history:
        assert stepped(paused, newest(reports), NOW_S + waited_s) == Step(paused)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 60))
def test_few_failing_and_any_number_of_silent_or_hindered_devices_never_block_the_others(
    good: int, silent: int, hindered: int
) -> None:
    bad = good // 10
    reports = [committed(f"good-{number}", ID) for number in range(good)]
    reports += [broken(f"bad-{number}", ID) for number in range(bad)]
    reports += [broken(f"poor-{number}", ID, kind=ErrorKind.FETCH) for number in range(hindered)]
    reports += fleet("canary", silent)
    soaking = stepped(opened(a_plan()), reports).rollout
    assert [each.kind for each in stepped(soaking, reports, NOW_S + 60).decisions] == [DecisionKind.OPEN]


_site, _line = st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "1", "2"])
_device = st.builds(
    lambda number, site, line: (f"d{number}", {key: each for key, each in (("site", site), ("line", line)) if each}),
    st.integers(0, 99),
    _site,
    _line,
)
_condition = st.fixed_dictionaries(
    {},
    optional={
        "site": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True).map(tuple),
        "line": st.lists(st.sampled_from(["1", "2"]), min_size=1, unique=True).map(tuple),
    },
)
_stage = st.builds(
    lambda share, shadow, labels: Stage("canary", share, shadow, labels),
    st.sampled_from([0.3, 0.7, 1.0]),
    st.sampled_from([0.0, 0.0, 0.2]),
    _condition,
)


@given(st.lists(_stage, min_size=1, max_size=4), st.integers(1, 4), st.lists(_device, min_size=1, max_size=20))
def test_a_release_runs_on_the_devices_of_the_stages_that_were_reached_and_on_no_other(
    stages: list[Stage], reached: int, devices: list[tuple[str, dict[str, str]]]
) -> None:
    try:
        rollout = opened(a_plan(*stages))
    except RolloutError:
        assume(False)
    for _ in range(min(reached, len(stages)) - 1):
        rollout = promote(rollout, "anna", NOW_S).rollout
    open_stages = stages[: min(reached, len(stages))]
    in_force = [each for each in open_stages if each.is_shadow == open_stages[-1].is_shadow]
    assignment = assignment_for(rollout, "canary", 1)
    assert assignment is not None
    read_back = parse_assignment(encode_assignment(assignment))
    for name, labels in devices:
        is_meant = any(place_of(ID, name) < each.share and is_met(each.labels, labels) for each in in_force)
        arm = read_back.arm_of(name, labels)
        assert (arm.version if arm else "") == (NEW.version if is_meant else OLD.version)
        figures = stage_figures(rollout, [a_report(name, labels=labels)])
        counted = [each.eligible for each in figures]
        assert counted == [place_of(ID, name) < each.share and is_met(each.labels, labels) for each in stages]
