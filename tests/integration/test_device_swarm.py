"""A small swarm: what its devices tell is booked to the last request, and the measurement says so."""

from __future__ import annotations

import pytest

from shared.codec import decode_telemetry
from tests.bench.bench_fleet_scale import measure
from tests.support.mosquitto import EXECUTABLE
from tests.support.swarm_words import PROFILES, Profile, Vocabulary, non_zero_counts


@pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")
def test_every_message_of_a_swarm_is_heard_and_every_request_booked() -> None:
    run = measure(devices=60, minutes=0.05, interval_s=0.5)
    assert run.outcome.messages == run.outcome.acknowledged == run.heard == 60 * 6
    assert run.booked == run.outcome.counters
    assert run.lost == 0


def test_what_a_device_of_the_swarm_says_is_a_message_like_any_other_and_never_shrinks() -> None:
    vocabulary = Vocabulary()
    for device in range(PROFILES):
        said = [decode_telemetry(vocabulary.telemetry(device, f"device-{device}", step)) for step in (1, 2, 3, 100)]
        assert said[0] == Profile.of(device).telemetry(f"device-{device}", 1)
        assert all(non_zero_counts(each) >= 40 for each in said)
        for before, after in zip(said, said[1:], strict=False):
            for label, counts in before.labels.items():
                assert counts.accepted <= after.labels[label].accepted
            assert all(one <= other for one, other in zip(before.score_counts, after.score_counts, strict=True))
