from __future__ import annotations

from collections import Counter

import pytest

from cloud_service.cases.selection import AuditShares, sample_of_comparisons, sample_of_labels, thinned
from tests.support.case_parts import NOW_S, audited, compared, labelled

EVEN = AuditShares(0.25)


def test_audits_all_stay_and_escalations_with_the_audit_share() -> None:
    told = [audited(f"a{number}") for number in range(1000)] + [compared(f"e{number}") for number in range(4000)]
    stayed = Counter(each.priority for each in thinned(told, EVEN, seed=0))
    assert stayed["audit"] == 1000
    assert stayed["interactive"] == pytest.approx(1000, abs=120)


def test_where_shares_differ_all_are_thinned_to_the_smallest() -> None:
    told = [audited(f"a{number}", device_id=device) for device in ("d1", "d2") for number in range(2000)]
    told += [compared(f"e{number}", device_id="d2") for number in range(2000)]
    stayed = thinned(told, AuditShares(0.5, {"d2": 0.1}), seed=0)
    counts = Counter((each.device_id, each.priority) for each in stayed)
    assert counts["d1", "audit"] == pytest.approx(400, abs=80)
    assert counts["d2", "audit"] == 2000
    assert counts["d2", "interactive"] == pytest.approx(200, abs=60)


def test_devices_whose_share_is_not_known_and_what_was_asked_by_name_are_left_out() -> None:
    told = [audited("r1"), audited("r2", device_id="d2"), compared("r3", reason="requested")]
    assert thinned(told, AuditShares(None, {"d1": 1.0}), seed=0) == [audited("r1")]
    assert thinned([compared("r3", reason="requested")], AuditShares(1.0), seed=0) == []
    assert thinned([audited("r1")], AuditShares(0.0), seed=0) == []


def test_the_choice_is_the_same_each_time_and_another_with_another_seed() -> None:
    told = [compared(f"e{number}") for number in range(500)]
    assert thinned(told, EVEN, 7) == thinned(told, EVEN, 7)
    assert thinned(told, EVEN, 7) != thinned(told, EVEN, 8)


def test_what_stays_does_not_depend_on_what_was_answered() -> None:
    told = [compared(f"e{number}") for number in range(500)]
    other = [compared(f"e{number}", full_label="card", gate_score=0.9, at_s=NOW_S + 5) for number in range(500)]
    names = [each.request_id for each in thinned(told, EVEN, 7)]
    assert names == [each.request_id for each in thinned(other, EVEN, 7)]


def test_a_sample_says_scores_errors_halves_and_time_in_the_order_of_time() -> None:
    rows = [compared("r2", at_s=NOW_S + 9, gate_score=0.1), audited("r1", at_s=NOW_S)]
    sample = sample_of_comparisons(rows, seed=0)
    assert sample.scores.tolist() == [0.95, 0.1]
    assert sample.wrong.tolist() == [False, True]
    assert (sample.first_s, sample.last_s, sample.labels) == (NOW_S, NOW_S + 9, ("card", "card"))
    assert sample.digest == sample_of_comparisons(rows[::-1], seed=0).digest
    assert sample.digest != sample_of_comparisons(rows[:1], seed=0).digest


def test_labels_are_judged_by_the_true_label_and_halves_are_about_even() -> None:
    sample = sample_of_labels([labelled(f"r{number}", true_label="loan") for number in range(1000)], seed=0)
    assert sample.wrong.all()
    assert sample.tunes.sum() == pytest.approx(500, abs=80)
    assert len(sample_of_labels([], seed=0)) == 0
