from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.accounting import Series
from edge_agent.state.places import WordPlaces
from shared.topics import LAST_WORD_SLOTS


def series(version: int) -> Series:
    return Series("tiny", str(version), "")


def test_series_that_take_turns_keep_their_places_and_push_nobody_out() -> None:
    places = WordPlaces({"tiny": 7})
    assert [places.begin(series(number % 2)) for number in range(10)] == [(8, None), (9, None)] * 5
    assert places.repeated([series(0)]) == {series(0): 0}


def test_a_series_that_comes_back_after_others_is_the_newest_again() -> None:
    places = WordPlaces({})
    for number in range(3):
        places.begin(series(number))
    assert places.begin(series(0)) == (4, 1)
    assert places.repeated([series(1), series(2)]) == {series(1): 2, series(2): 3}


def test_a_series_that_never_counted_has_no_place() -> None:
    places = WordPlaces({})
    places.begin(series(1))
    assert places.place(series(2)) is None and places.repeated([series(2)]) == {}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_the_series_that_ended_last_are_always_repeated_each_in_a_slot_of_its_own(order: list[int]) -> None:
    places, ended = WordPlaces({}), list[int]()
    for before, version in zip([None, *order], order, strict=False):
        if before is not None and before != version:
            ended = [*(each for each in ended if each != before), before]
        ended = [each for each in ended if each != version]
        places.begin(series(version))
        slots = places.repeated([series(each) for each in ended])
        assert len(set(slots.values())) == len(slots) <= LAST_WORD_SLOTS
        assert {series(each) for each in ended[-2:]} <= set(slots)
