from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cloud_service.serving.waiting_line import HANDICAP_S, MOST_OVERTAKEN, Waiting, WaitingLine
from shared.types import Priority

LATER_S = 1e6


def line_of(*lengths: int, deadline_s: float = LATER_S) -> WaitingLine[int]:
    line: WaitingLine[int] = WaitingLine()
    for number, length in enumerate(lengths):
        line.enter(number, length, Priority.INTERACTIVE, float(number) * 1e-3, deadline_s)
    return line


def items(batch: Sequence[Waiting[int]]) -> list[int]:
    return [waiting.item for waiting in batch]


def test_requests_of_one_length_are_served_in_the_order_of_their_arrival() -> None:
    line = line_of(*[5] * 10)
    assert [items(line.select(1.0, 4).batch) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_interactive_request_overtakes_audits_and_replays() -> None:
    line: WaitingLine[str] = WaitingLine()
    for item, priority in (("replay", Priority.REPLAY), ("audit", Priority.AUDIT), ("user", Priority.INTERACTIVE)):
        line.enter(item, 5, priority, 0.0, LATER_S)
    assert [line.select(0.0, 1).batch[0].item for _ in range(3)] == ["user", "audit", "replay"]


def test_a_replay_does_not_starve_under_an_endless_stream_of_users() -> None:
    line: WaitingLine[str] = WaitingLine()
    line.enter("replay", 5, Priority.REPLAY, 0.0, LATER_S)
    now_s, served = 0.0, ""
    while served != "replay" and now_s < 100.0:
        line.enter("user", 5, Priority.INTERACTIVE, now_s, LATER_S)
        line.enter("user", 5, Priority.INTERACTIVE, now_s, LATER_S)
        served = line.select(now_s, 1).batch[0].item
        now_s += 0.1
    assert now_s < 3 * HANDICAP_S[Priority.REPLAY]


def test_expired_requests_fall_out_and_are_never_in_a_batch() -> None:
    line: WaitingLine[str] = WaitingLine()
    line.enter("late", 5, Priority.INTERACTIVE, 0.0, 1.0)
    line.enter("in time", 5, Priority.INTERACTIVE, 0.0, 1.1)
    selection = line.select(1.0, 8)
    assert [waiting.item for waiting in selection.expired] == ["late"]
    assert [waiting.item for waiting in selection.batch] == ["in time"]


def test_a_batch_holds_texts_of_like_length() -> None:
    line = line_of(5, 100, 6, 90, 7)
    assert items(line.select(1.0, 3).batch) == [0, 2, 4]
    assert items(line.select(1.0, 3).batch) == [1, 3]


def test_a_short_text_that_heads_the_line_does_not_wait_for_long_ones() -> None:
    line = line_of(5, *[100] * 20)
    assert items(line.select(1.0, 16).batch) == [0]


def test_nobody_is_overtaken_more_often_than_promised() -> None:
    line: WaitingLine[str] = WaitingLine()
    line.enter("first", 5, Priority.INTERACTIVE, 0.0, LATER_S)
    line.enter("long", 100, Priority.INTERACTIVE, 0.001, LATER_S)
    for batches in range(1, 20):
        line.enter("short", 5, Priority.INTERACTIVE, 0.001 * batches + 0.002, LATER_S)
        line.enter("short", 5, Priority.INTERACTIVE, 0.001 * batches + 0.003, LATER_S)
        if "long" in [waiting.item for waiting in line.select(1.0, 2).batch]:
            break
    assert batches <= MOST_OVERTAKEN + 1


def test_who_leaves_is_not_served_and_leaves_only_once() -> None:
    line: WaitingLine[str] = WaitingLine()
    gone = line.enter("gone", 5, Priority.INTERACTIVE, 0.0, LATER_S)
    line.enter("here", 5, Priority.INTERACTIVE, 0.0, LATER_S)
    assert line.leave(gone)
    assert not line.leave(gone)
    assert [waiting.item for waiting in line.select(0.0, 8).batch] == ["here"]


def test_clearing_takes_out_everybody_whatever_their_length() -> None:
    line = line_of(5, 100, 3, 2000)
    assert items(line.clear()) == [0, 1, 2, 3]
    assert len(line) == 0


_Step = st.one_of(
    st.tuples(st.just("enter"), st.integers(1, 300), st.sampled_from(Priority), st.floats(0.001, 5.0, allow_nan=False)),
    st.tuples(st.just("select"), st.integers(1, 8), st.just(Priority.AUDIT), st.floats(0.0, 2.0)),
    st.tuples(st.just("leave"), st.integers(0, 50), st.just(Priority.AUDIT), st.just(0.0)),
)


@given(st.lists(_Step, max_size=80))
def test_nobody_is_lost_or_served_twice(steps: list[tuple[str, int, Priority, float]]) -> None:
    line: WaitingLine[int] = WaitingLine()
    now_s = 0.0
    entered: list[Waiting[int]] = []
    out: list[int] = []
    for step, number, priority, seconds in steps:
        if step == "enter":
            entered.append(line.enter(len(entered), number, priority, now_s, now_s + seconds))
        elif step == "leave" and number < len(entered):
            out += [entered[number].item] if line.leave(entered[number]) else []
        elif step == "select":
            now_s += seconds
            selection = line.select(now_s, number)
            assert len(selection.batch) <= number
            assert all(waiting.deadline_s > now_s for waiting in selection.batch)
            out += items(selection.batch) + items(selection.expired)
    out += items(line.clear())
    assert sorted(out) == list(range(len(entered)))
