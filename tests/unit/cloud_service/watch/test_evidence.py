from __future__ import annotations

from cloud_service.watch.evidence import Evidence, step_at
from shared.types import LabelCounts, StepCounts

AUDITS = (StepCounts(0.9, 3, 0), StepCounts(0.6, 5, 1), StepCounts(0.4, 9, 2))


def test_increases_of_several_devices_add_up_by_step_and_label() -> None:
    evidence = Evidence()
    for _ in range(2):
        evidence.add(0.4, AUDITS, AUDITS[:1], (1, 2), {"a": LabelCounts(9, 1, 5, 1, 2, 2), "b": LabelCounts(3)})
    assert evidence.audits == {0.9: (6, 0), 0.6: (10, 2), 0.4: (18, 4)}
    assert evidence.labelled == {0.9: (6, 0)}
    assert evidence.audits_by_label == {"a": (10, 2)} and evidence.labelled_by_label == {"a": (4, 4)}
    assert evidence.scores == (2, 4)


def test_a_device_with_a_stricter_gate_says_nothing_of_looser_steps() -> None:
    evidence = Evidence()
    evidence.add(0.6, AUDITS, (), (), {})
    assert evidence.audits == {0.9: (3, 0), 0.6: (5, 1)}


def test_a_device_that_keeps_nothing_any_more_still_tells_of_what_it_kept() -> None:
    evidence = Evidence()
    evidence.add(None, AUDITS, (), (), {})
    assert evidence.audits[0.4] == (9, 2)


def test_a_threshold_between_steps_is_counted_by_the_looser_one() -> None:
    assert [step_at((0.9, 0.6, 0.4), each) for each in (0.95, 0.9, 0.7, 0.4)] == [0, 0, 1, 2]
