from __future__ import annotations

import dataclasses

import pytest

from cloud_service.gateway.idempotency import IdempotencyTable, InFlight, Remembered, RequestKey, payload_digest
from shared.errors import RequestIdReused
from shared.types import EscalationRequest, Priority, Reason

KEY = RequestKey("d1", "r1")
PAYLOAD = b"payload"
ASKED = EscalationRequest("r1", "tiny", "card")


@pytest.fixture
def table() -> IdempotencyTable[str, bytes]:
    return IdempotencyTable(entries=3, ttl_s=60.0)


def answered(table: IdempotencyTable[str, bytes], key: RequestKey, now_s: float, answer: bytes = b"answer") -> None:
    table.begin(key, PAYLOAD, "computation")
    table.finish(key, answer, now_s)


def test_a_copy_that_comes_during_compute_finds_the_computation(table: IdempotencyTable[str, bytes]) -> None:
    assert table.find(KEY, PAYLOAD, 0.0) is None
    table.begin(KEY, PAYLOAD, "computation")
    assert table.find(KEY, PAYLOAD, 1.0) == InFlight(PAYLOAD, "computation")


def test_a_copy_that_comes_later_finds_the_answer(table: IdempotencyTable[str, bytes]) -> None:
    answered(table, KEY, 0.0)
    found = table.find(KEY, PAYLOAD, 1.0)
    assert isinstance(found, Remembered)
    assert found.answer == b"answer"


def test_another_payload_under_the_same_id_is_refused_during_compute_and_after(
    table: IdempotencyTable[str, bytes],
) -> None:
    table.begin(KEY, PAYLOAD, "computation")
    with pytest.raises(RequestIdReused, match="r1"):
        table.find(KEY, b"another", 0.0)
    table.finish(KEY, b"answer", 0.0)
    with pytest.raises(RequestIdReused, match="r1"):
        table.find(KEY, b"another", 0.0)


def test_two_devices_may_use_the_same_id(table: IdempotencyTable[str, bytes]) -> None:
    answered(table, KEY, 0.0)
    assert table.find(RequestKey("d2", "r1"), b"another", 0.0) is None


def test_an_answer_is_forgotten_when_its_time_is_over(table: IdempotencyTable[str, bytes]) -> None:
    answered(table, KEY, 0.0)
    assert table.find(KEY, PAYLOAD, 59.9) is not None
    assert table.find(KEY, b"another", 60.0) is None
    assert len(table) == 0


def test_the_oldest_answer_goes_when_the_table_is_full(table: IdempotencyTable[str, bytes]) -> None:
    for number in range(10):
        answered(table, RequestKey("d1", f"r{number}"), float(number))
    assert len(table) == 3
    assert table.find(RequestKey("d1", "r7"), PAYLOAD, 10.0) is not None
    assert table.find(RequestKey("d1", "r6"), PAYLOAD, 10.0) is None


def test_a_request_that_failed_may_be_tried_again(table: IdempotencyTable[str, bytes]) -> None:
    table.begin(KEY, PAYLOAD, "computation")
    table.forget(KEY)
    assert table.find(KEY, PAYLOAD, 0.0) is None


@pytest.mark.parametrize(
    "change", [{"text": "cash"}, {"model": "other"}, {"top_k": 1}], ids=lambda change: next(iter(change))
)
def test_what_decides_the_answer_makes_another_payload(change: dict[str, object]) -> None:
    assert payload_digest(dataclasses.replace(ASKED, **change)) != payload_digest(ASKED)  # type: ignore[arg-type]


def test_a_replayed_escalation_is_the_same_payload() -> None:
    replayed = dataclasses.replace(ASKED, priority=Priority.REPLAY, reason=Reason.NO_CLOUD, edge_label="loan")
    assert payload_digest(replayed) == payload_digest(ASKED)
