"""Counters over time: growth is what counts, and a restart takes nothing away."""

from __future__ import annotations

from deploy.demo.metrics import CounterTally, Series, parse_counters

NAME = "tandem_requests_total"
EDGE = Series(NAME, (("model", "m"), ("outcome", "edge")))
CLOUD = Series(NAME, (("model", "m"), ("outcome", "cloud")))


def tally_of(*samples: dict[Series, float]) -> CounterTally:
    tally = CounterTally()
    for sample in samples:
        tally.observe(sample)
    return tally


def test_only_counters_are_read_from_a_page() -> None:
    page = (
        "# TYPE tandem_requests_total counter\n"
        'tandem_requests_total{outcome="edge",model="m"} 7\n'
        "# TYPE tandem_offload_ratio gauge\n"
        'tandem_offload_ratio{model="m"} 0.5\n'
    )
    assert parse_counters(page) == {EDGE: 7.0}


def test_what_was_there_before_the_first_look_does_not_count() -> None:
    tally = tally_of({EDGE: 100.0}, {EDGE: 104.0})
    assert tally.total(NAME) == 4.0


def test_a_series_that_appears_later_began_at_zero() -> None:
    tally = tally_of({EDGE: 1.0}, {EDGE: 1.0, CLOUD: 3.0})
    assert tally.by_label(NAME, "outcome") == {"edge": 0.0, "cloud": 3.0}


def test_a_restart_starts_the_counter_again_and_loses_nothing_that_was_seen() -> None:
    tally = tally_of({EDGE: 10.0}, {EDGE: 15.0}, {EDGE: 2.0}, {EDGE: 6.0})
    assert tally.total(NAME) == 5.0 + 2.0 + 4.0


def test_one_look_alone_says_nothing_grew() -> None:
    assert tally_of({EDGE: 10.0}).total(NAME) == 0.0
    assert CounterTally().total(NAME) == 0.0
