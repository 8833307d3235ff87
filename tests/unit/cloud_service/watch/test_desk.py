"""From audits to alarms and orders, and what survives a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_service.watch.desk import Decisions, WatchDesk
from cloud_service.watch.evidence import Evidence
from cloud_service.watch.orders import Order, make_policy, threshold_in_force
from cloud_service.watch.records import (
    AlarmKind,
    GateAlarm,
    GateKey,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    WatchKey,
    WatchKind,
    WatchRecords,
    WatchState,
)
from cloud_service.watch.settings import WatchRules
from shared.gate import Risk
from shared.types import GatePolicy, LabelCounts, StepCounts
from tests.support.audited_model import CRITICAL, IN_FORCE, STEPS, audited_gate, known_gate

KNOWN = known_gate()
KEY = GateKey("intents", "1", KNOWN.digest, "default")
RULES = WatchRules()


class Field:
    """A desk, a clock, and the store's rows as a restart would find them."""

    def __init__(self, *, is_known: bool = True) -> None:
        self.gates: tuple[KnownGate, ...] = (KNOWN,) if is_known else ()
        self.desk = WatchDesk(WatchRecords(self.gates), RULES)
        self.watches: dict[WatchKey, GateWatch] = {}
        self.policies: list[IssuedPolicy] = []
        self.alarms: list[GateAlarm] = []
        self.now_ms = 1_800_000_000_000

    def hear(self, found: Evidence | None = None, key: GateKey = KEY) -> Decisions:
        self.now_ms += 10_000
        decided = self.desk.plan({key: found} if found else {}, self.now_ms)
        self.desk.applied(decided)
        self.watches.update(decided.watches)
        self.policies.extend(decided.policies)
        self.alarms.extend(decided.alarms)
        return decided

    def restart(self) -> None:
        records = WatchRecords(self.gates, tuple(self.watches.values()), tuple(self.policies))
        self.desk = WatchDesk(records, RULES)

    def operator_orders(self, order: Order) -> GatePolicy:
        policy = make_policy(
            KNOWN.gate,
            order,
            model="intents",
            ring="default",
            newest_sequence=self.desk.newest_sequence(KEY),
            issued_by="ada",
            now_unix_ms=self.now_ms,
        )
        issued = IssuedPolicy(policy, "default", self.now_ms // 1000)
        self.policies.append(issued)
        self.desk.heed([issued])
        return policy

    def watch(self, kind: WatchKind = WatchKind.DISAGREEMENT) -> GateWatch:
        found = self.desk.watch(WatchKey(KEY, kind))
        assert found is not None
        return found


def audits(
    right: int = 0,
    wrong: int = 0,
    *,
    surer: tuple[int, int] = (0, 0),
    labelled: bool = False,
    threshold: float = IN_FORCE,
) -> Evidence:
    """`right` and `wrong` of score 0.5, and `surer` (right, wrong) ones of 0.95, which every step keeps."""
    judged, errors = sum(surer), surer[1]
    steps = [StepCounts(step, judged, errors) for step in STEPS[:-1]]
    steps.append(StepCounts(STEPS[-1], judged + right + wrong, errors + wrong))
    evidence = Evidence()
    evidence.add(threshold, () if labelled else steps, steps if labelled else (), (), {})
    return evidence


def test_audits_that_agree_raise_no_alarm_and_bound_the_risk() -> None:
    field = Field()
    for _ in range(20):
        field.hear(audits(right=20))
    watch = field.watch()
    assert (watch.judged, watch.wrong, watch.state) == (400, 0, WatchState.CERTIFIED)
    assert watch.lower == 0.0 and watch.upper < 0.02 and not field.alarms and not field.policies


def test_too_few_audits_for_any_stricter_step_escalate_everything() -> None:
    field = Field()
    decided = field.hear(audits(right=20, wrong=20))
    (alarm,), (issued,) = decided.alarms, decided.policies
    assert alarm.kind is AlarmKind.DISAGREEMENT and "everything is escalated" in alarm.text
    assert issued.policy.escalate_all and issued.policy.issued_by == "tandem" and issued.published_s is None
    assert issued.policy.reason == alarm.text
    field.hear()
    assert field.watch().state is WatchState.UNCERTIFIED and field.watch().threshold is None


def test_the_gate_tightens_to_the_loosest_step_whose_audits_show_it_good() -> None:
    field = Field()
    field.hear(audits(wrong=4))
    decided = field.hear(audits(right=40, wrong=24, surer=(150, 0)))
    (alarm,), (issued,) = decided.alarms, decided.policies
    assert issued.policy.least_threshold == 0.6 and not issued.policy.escalate_all
    assert threshold_in_force(KNOWN.gate, issued.policy) == 0.6
    assert (alarm.evidence["threshold_before"], alarm.evidence["threshold_after"]) == (IN_FORCE, 0.6)
    field.hear()
    watch = field.watch()
    assert (watch.state, watch.threshold, watch.alpha, watch.judged) == (WatchState.TIGHTENED, 0.6, 0.05, 0)


def test_gates_of_one_ring_and_model_that_fail_at_once_get_an_order_each() -> None:
    field = Field()
    other = KnownGate("", "intents", "2", audited_gate(temperature=2.0), KNOWN.labels)
    other = replace(other, digest=other.gate.digest)
    field.gates = (KNOWN, other)
    field.restart()
    others = GateKey("intents", "2", other.digest, "default")
    decided = field.desk.plan({KEY: audits(right=20, wrong=20), others: audits(right=20, wrong=20)}, field.now_ms)
    first, second = (issued.policy for issued in decided.policies)
    assert {first.gate_digest, second.gate_digest} == {KNOWN.digest, other.digest}
    assert first.sequence < second.sequence and first.policy_id != second.policy_id


def test_one_gate_in_two_versions_of_a_model_is_tightened_once_as_far_as_the_worse_one_needs() -> None:
    later = replace(KEY, model_version="2")
    found = audits(right=40, wrong=28, surer=(150, 0))
    decided = Field().desk.plan({KEY: audits(right=20, wrong=20), later: found}, 1)
    (issued,) = decided.policies
    assert issued.policy.escalate_all and len(decided.alarms) == 2


def test_an_alarm_takes_away_what_a_budget_might_loosen_the_gate_to() -> None:
    field = Field()
    field.operator_orders(Order({"kept-disagreement": 0.02}, offload_cap=0.2, budget_in_force={"kept-error": 0.05}))
    field.hear()
    field.hear(audits(surer=(150, 40), threshold=0.6))
    policy = field.policies[-1].policy
    assert policy.issued_by == "tandem" and not policy.budget_in_force and policy.offload_cap is None


def test_a_second_alarm_tightens_further_and_never_loosens() -> None:
    field = Field()
    field.hear(audits(right=40, wrong=28, surer=(150, 0)))
    assert field.policies[-1].policy.least_threshold == 0.6
    field.hear()
    field.hear(audits(surer=(20, 20), threshold=0.6))
    assert field.policies[-1].policy.escalate_all
    for _ in range(50):
        field.hear(audits(right=50))
    assert len(field.policies) == 2 and field.watch().state is WatchState.UNCERTIFIED


def test_what_went_well_long_ago_does_not_excuse_what_goes_wrong_now() -> None:
    field = Field()
    for _ in range(100):
        field.hear(audits(right=20, surer=(30, 0)))
    field.hear(audits(right=10, wrong=10, surer=(0, 6)))
    (issued,) = field.policies
    assert issued.policy.escalate_all, "the surest step was good for long, and is not now"


def test_a_risk_a_little_over_its_alpha_is_found_by_the_confidence_sequence() -> None:
    field, rounds = Field(), 0
    while not field.alarms and rounds < 4000:
        field.hear(audits(right=46, wrong=4))
        rounds += 1
    assert field.alarms[0].evidence["cusum"] < field.alarms[0].evidence["cusum_limit"] or rounds < 60
    assert field.alarms[0].kind is AlarmKind.DISAGREEMENT


def test_labels_that_come_back_hold_the_error_to_its_own_alpha() -> None:
    field = Field()
    decided = field.hear(audits(right=20, wrong=20, labelled=True))
    assert [alarm.kind for alarm in decided.alarms] == [AlarmKind.ERROR]
    assert field.policies[-1].policy.escalate_all


def test_two_alarms_at_once_give_one_order_the_stricter_one() -> None:
    field = Field()
    both = audits(right=40, wrong=28, surer=(150, 0))
    both.add(IN_FORCE, (), [StepCounts(step, 20, 20) for step in STEPS], (), {})
    decided = field.hear(both)
    assert {alarm.kind for alarm in decided.alarms} == {AlarmKind.DISAGREEMENT, AlarmKind.ERROR}
    (issued,) = decided.policies
    assert issued.policy.escalate_all


def test_an_alarm_is_raised_once_and_a_restart_does_not_raise_it_again() -> None:
    field = Field()
    field.hear(audits(right=20, wrong=20))
    for _ in range(3):
        field.restart()
        field.hear(audits(right=20, wrong=20))
    assert len(field.alarms) == len(field.policies) == 1


def test_a_restart_goes_on_from_the_same_evidence() -> None:
    steady, restarted = Field(), Field()
    for _ in range(12):
        for field in (steady, restarted):
            field.hear(audits(right=4, wrong=1, surer=(3, 0)))
        restarted.restart()
    assert steady.watch() == restarted.watch() and steady.watch().cusum > 0


def test_a_plan_that_was_not_committed_changes_nothing() -> None:
    field = Field()
    field.hear(audits(right=5))
    before = field.watch()
    assert field.desk.plan({KEY: audits(right=20, wrong=20)}, field.now_ms).alarms
    assert field.watch() == before and field.desk.policy(KEY) is None


def test_an_operators_order_begins_the_watch_anew_under_what_it_puts_in_force() -> None:
    field = Field()
    field.hear(audits(right=30, wrong=1))
    policy = field.operator_orders(Order(in_force={"kept-disagreement": 0.01, "kept-error": 0.01}))
    field.hear(audits(right=5, surer=(7, 0)))
    watch = field.watch()
    assert (watch.alpha, watch.threshold, watch.judged) == (0.01, 0.8, 7)
    assert watch.detail.policy_id == policy.policy_id and watch.state is WatchState.CERTIFIED


def test_an_order_that_devices_would_refuse_is_not_heeded() -> None:
    field = Field()
    field.hear(audits(right=30))
    policy = field.operator_orders(Order())
    loose = replace(policy, policy_id="x", sequence=policy.sequence + 1, in_force={"kept-disagreement": 0.3})
    field.desk.heed([IssuedPolicy(loose, "default", 0)])
    assert field.desk.policy(KEY) == policy


def test_tightening_keeps_what_the_operator_ordered_otherwise() -> None:
    field = Field()
    field.hear(audits(right=5))
    field.operator_orders(Order(audit_share=0.2, in_force={"kept-disagreement": 0.05}))
    field.hear()
    field.hear(audits(right=20, wrong=20))
    policy = field.policies[-1].policy
    assert (policy.audit_share, policy.in_force, policy.escalate_all) == (0.2, {"kept-disagreement": 0.05}, True)
    assert policy.sequence > field.policies[-2].policy.sequence


def test_rings_and_versions_are_watched_apart() -> None:
    field = Field()
    early = replace(KEY, ring="early")
    field.hear(audits(right=20, wrong=20), early)
    field.hear(audits(right=5))
    assert [issued.ring for issued in field.policies] == ["early"]
    assert field.watch().judged == 5


def test_a_gate_that_the_cloud_does_not_know_is_counted_and_not_watched() -> None:
    field = Field(is_known=False)
    field.hear(audits(right=20, wrong=20))
    watch = field.watch()
    assert (watch.state, watch.alpha, watch.judged, watch.wrong) == (WatchState.UNWATCHED, None, 40, 20)
    assert watch.lower > 0.1 and not field.alarms


def test_a_gate_that_becomes_known_is_watched_from_then_on() -> None:
    field = Field(is_known=False)
    field.hear(audits(right=20, wrong=20))
    field.gates = (KNOWN,)
    field.restart()
    field.hear()
    assert (field.watch().state, field.watch().judged) == (WatchState.CERTIFIED, 0)


def labels_of(label: str, audited: int, disagreed: int, *, labelled: bool = False) -> Evidence:
    evidence = Evidence()
    judged = (0, 0, audited, disagreed) if labelled else (audited, disagreed, 0, 0)
    evidence.add(IN_FORCE, (), (), (), {label: LabelCounts(audited, 0, *judged)})
    return evidence


def test_a_critical_label_over_its_own_alpha_alarms_once_and_tightens_nothing() -> None:
    field = Field()
    for _ in range(3):
        field.hear(labels_of(CRITICAL, 30, 6, labelled=True))
    (alarm,) = field.alarms
    assert "the true label" in alarm.text
    assert (alarm.kind, alarm.label, alarm.evidence["alpha"]) == (AlarmKind.LABEL, CRITICAL, 0.01)
    assert not field.policies


def test_a_critical_label_is_held_to_the_risk_that_its_rule_is_certified_for_alone() -> None:
    field = Field()
    field.hear(labels_of(CRITICAL, 90, 18))
    figures = field.watch().labels[CRITICAL]
    assert (figures.judged, figures.wrong, figures.alpha) == (90, 18, None) and not field.alarms


def test_a_critical_label_of_a_gate_that_promises_only_disagreement_is_held_to_that() -> None:
    gate = audited_gate(certificates=KNOWN.gate.certificates[:1], in_force={Risk.KEPT_DISAGREEMENT: 0.05})
    desk = WatchDesk(WatchRecords((replace(KNOWN, digest=gate.digest, gate=gate),)), RULES)
    decided = desk.plan({replace(KEY, gate_digest=gate.digest): labels_of(CRITICAL, 90, 18)}, 1)
    assert [(alarm.kind, alarm.label) for alarm in decided.alarms] == [(AlarmKind.LABEL, CRITICAL)]


def test_other_labels_are_listed_with_their_bounds_and_raise_no_alarm() -> None:
    field = Field()
    field.hear(labels_of("balance", 30, 15))
    figures = field.watch().labels["balance"]
    assert (figures.judged, figures.wrong) == (30, 15) and figures.lower > 0.1 and not field.alarms


def scores(*counts: int) -> Evidence:
    evidence = Evidence()
    evidence.add(IN_FORCE, (), (), counts, {})
    return evidence


def test_scores_that_moved_warn_once_and_tighten_nothing() -> None:
    field = Field()
    for _ in range(5):
        field.hear(scores(100, 100, 100, 100))
    (alarm,) = field.alarms
    assert alarm.kind is AlarmKind.DRIFT and alarm.evidence["share_moved"] == pytest.approx(0.2, abs=0.01)
    assert not field.policies


def test_scores_as_in_calibration_do_not_warn_and_survive_an_order() -> None:
    field = Field()
    for _ in range(20):
        field.hear(scores(10, 20, 30, 40))
    field.operator_orders(Order(escalate_all=True))
    field.hear(scores(10, 20, 30, 40))
    watch = field.watch(WatchKind.DRIFT)
    assert not field.alarms and watch.judged == 2100 and watch.cusum < 0
    assert watch.state is WatchState.UNCERTIFIED


def test_scores_of_other_bins_or_of_a_gate_without_a_histogram_are_left_aside() -> None:
    field = Field()
    field.hear(scores(1, 2, 3))
    assert field.desk.watch(WatchKey(KEY, WatchKind.DRIFT)) is None
    bare = replace(KNOWN, gate=audited_gate(score_histogram=None))
    desk = WatchDesk(WatchRecords((bare,)), RULES)
    assert WatchKey(KEY, WatchKind.DRIFT) not in desk.plan({KEY: scores(1, 2, 3, 4)}, 1).watches
