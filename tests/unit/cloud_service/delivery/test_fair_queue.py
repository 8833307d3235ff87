"""Whose turn it is, and how fast."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.delivery.fair_queue import DeliveryLimits, FairQueue, Piece
from shared.update.blocks import BlockRange, BlockRequest

KB = 1024
LIMITS = DeliveryLimits(1e12, 1e12, 256 * KB, 1000, 100)


def asks(*ranges: BlockRange, name: str = "r1", block_bytes: int = 4 * KB) -> BlockRequest:
    return BlockRequest(name, ranges, block_bytes)


def parts(count: int, length: int = 4 * KB) -> list[BlockRange]:
    return [BlockRange("chunks/aa/b", number * length, length) for number in range(count)]


def drain(queue: FairQueue, now_s: float, file_length: int) -> list[Piece]:
    taken = []
    while (piece := queue.take(now_s)) is not None:
        queue.settle(piece, max(0, min(piece.length, file_length - piece.offset)), file_length, now_s)
        taken.append(piece)
    return taken


def test_devices_take_turns_however_much_each_asks_for() -> None:
    queue = FairQueue(LIMITS, 0.0)
    queue.add("greedy", asks(*parts(90)), 0.0)
    queue.add("modest", asks(*parts(5)), 0.0)
    order = [piece.device_id for piece in drain(queue, 0.0, 1 << 20)]
    assert Counter(order[:10]) == {"greedy": 5, "modest": 5}
    assert len(queue) == 0


def test_large_blocks_get_a_device_no_more_bytes() -> None:
    queue = FairQueue(LIMITS, 0.0)
    queue.add("large", asks(*parts(20, 64 * KB), block_bytes=64 * KB), 0.0)
    queue.add("small", asks(*parts(100, 8 * KB), block_bytes=8 * KB), 0.0)
    first = drain(queue, 0.0, 1 << 30)[:60]
    sent = {name: sum(each.length for each in first if each.device_id == name) for name in ("large", "small")}
    assert abs(sent["large"] - sent["small"]) <= 2 * 64 * KB


def test_a_newcomer_does_not_make_up_for_the_time_it_was_away() -> None:
    queue = FairQueue(LIMITS, 0.0)
    queue.add("old", asks(*parts(90)), 0.0)
    for _ in range(50):
        piece = queue.take(0.0)
        assert piece is not None
        queue.settle(piece, piece.length, 1 << 20, 0.0)
    queue.add("new", asks(*parts(40)), 0.0)
    assert Counter(piece.device_id for piece in drain(queue, 0.0, 1 << 20)[:20])["old"] >= 9


def test_a_rate_of_a_device_holds_over_time() -> None:
    queue = FairQueue(replace(LIMITS, device_bytes_s=100 * KB), 0.0)
    queue.add("d", asks(*parts(100)), 0.0)
    times, now_s = [], 0.0
    while len(queue):
        piece = queue.take(now_s)
        if piece is None:
            assert 0 < queue.wait_s(now_s) < 1
            now_s += queue.wait_s(now_s) + 1e-6
            continue
        queue.settle(piece, piece.length, 1 << 20, now_s)
        times.append(now_s)
    burst_bytes = 50 * KB
    assert times[-1] == pytest.approx((400 * KB + 100 * 512 - burst_bytes) / (100 * KB), rel=0.1)


def test_the_rate_of_all_holds_and_is_shared_by_halves() -> None:
    queue = FairQueue(replace(LIMITS, total_bytes_s=100 * KB), 0.0)
    for name in ("a", "b"):
        queue.add(name, asks(*parts(100)), 0.0)
    sent, now_s = Counter[str](), 0.0
    while now_s < 4:
        piece = queue.take(now_s)
        if piece is None:
            now_s += queue.wait_s(now_s) + 1e-6
        else:
            queue.settle(piece, piece.length, 1 << 20, now_s)
            sent[piece.device_id] += piece.length
    assert sum(sent.values()) <= 100 * KB * 4.5 + 4 * KB
    assert abs(sent["a"] - sent["b"]) <= 8 * KB


def test_what_is_shorter_than_was_asked_for_costs_only_what_it_has() -> None:
    queue = FairQueue(replace(LIMITS, device_bytes_s=100 * KB), 0.0)
    small = [BlockRange(f"chunks/aa/{number}", 0, 0) for number in range(20)]
    queue.add("d", asks(*small, block_bytes=256 * KB), 0.0)
    assert len(drain(queue, 0.0, 10)) == 20


def test_a_range_to_the_end_is_sent_block_by_block_and_ends_with_the_file() -> None:
    queue = FairQueue(LIMITS, 0.0)
    queue.add("d", asks(BlockRange("metadata/x.json"), BlockRange("metadata/y.json", 4 * KB, 1 << 62)), 0.0)
    taken = drain(queue, 0.0, 10 * KB)
    assert [(each.path, each.offset) for each in taken if each.path == "metadata/x.json"] == [
        ("metadata/x.json", offset * 4 * KB) for offset in range(3)
    ]
    assert [each.offset for each in taken if each.path == "metadata/y.json"] == [4 * KB, 8 * KB]


def test_what_waits_already_is_not_queued_twice_and_answers_the_newest_request() -> None:
    queue = FairQueue(LIMITS, 0.0)
    queue.add("d", asks(*parts(3)), 0.0)
    queue.add("d", asks(*parts(4), name="r2"), 0.0)
    assert len(queue) == 4
    assert {piece.request_id for piece in drain(queue, 0.0, 1 << 20)} == {"r2"}


def test_a_full_queue_refuses_whole_requests_and_says_when_to_come_again() -> None:
    queue = FairQueue(replace(LIMITS, waiting_ranges=150), 0.0)
    assert queue.add("a", asks(*parts(100)), 0.0) == 0
    assert queue.add("a", asks(BlockRange("chunks/bb/c", 0, 1)), 0.0) > 0
    assert queue.add("b", asks(*parts(60)), 0.0) > 0
    assert queue.add("b", asks(*parts(50)), 0.0) == 0
    assert len(queue) == 150


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 20), st.integers(1, 40_000)), max_size=30))
def test_everything_that_was_taken_in_is_sent_once(wanted: list[tuple[str, int, int]]) -> None:
    queue = FairQueue(replace(LIMITS, device_bytes_s=1e6, device_waiting_ranges=1000), 0.0)
    expected: set[tuple[str, str, int]] = set()
    for number, (device, count, length) in enumerate(wanted):
        ranges = [BlockRange(f"chunks/aa/{number}", each * length, length) for each in range(count)]
        if queue.add(device, asks(*ranges, block_bytes=256 * KB), 0.0) == 0:
            expected |= {(device, each.path, each.offset) for each in ranges}
    got, now_s = [], 0.0
    while len(queue):
        taken = drain(queue, now_s, 1 << 30)
        got += [(piece.device_id, piece.path, piece.offset) for piece in taken]
        now_s += 0.0 if taken else queue.wait_s(now_s) + 1e-6
    assert len(got) == len(set(got))
    assert set(got) == expected
