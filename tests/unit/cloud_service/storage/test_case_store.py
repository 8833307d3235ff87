from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, insert, select

from cloud_service.cases.comparison import FROM_IMPORT
from cloud_service.cases.grouping import CaseFilter, CaseKind
from cloud_service.storage import tables
from cloud_service.storage.case_reader import CaseReader, FieldQuestion
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.case_tables import comparisons
from cloud_service.storage.engine import open_engine
from shared.errors import NotReady, StorageError, StoreRefused
from tests.support.case_parts import NOW_S, audited, compared, labelled, ready_store

ALL = CaseFilter(CaseKind.ALL, 0, NOW_S + 1000)
QUESTION = FieldQuestion("tiny", "1.0.0", ("a" * 64,), 0, NOW_S + 1000)


def add_device(engine: Engine, device_id: str, ring: str) -> None:
    with engine.begin() as connection:
        row = {"device_id": device_id, "boot_id": "b", "is_online": True, "agent_version": "1", "first_heard_s": NOW_S}
        connection.execute(insert(tables.devices), {**row, "last_seen_s": NOW_S, "ring": ring})


def test_a_comparison_is_written_once_and_read_as_it_was(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    first = [compared("r1"), audited("r2"), compared("r1", device_id="d2")]
    assert store.add_comparisons(first) == 3
    assert store.add_comparisons([compared("r1", full_label="loan"), compared("r3")]) == 1
    assert CaseReader(reading).comparisons(QUESTION) == [*first, compared("r3")]


def test_a_label_said_twice_changes_nothing_and_another_takes_its_place(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    assert store.add_labels([labelled("r1"), labelled("r2"), labelled("r2")]) == 2
    assert store.add_labels([labelled("r1", received_s=NOW_S + 999)]) == 0
    assert CaseReader(reading).labelled(QUESTION) == [labelled("r1"), labelled("r2")]
    assert store.add_labels([labelled("r1", true_label="loan")]) == 1
    assert [each.true_label for each in CaseReader(reading).labelled(QUESTION)] == ["loan", "card"]


def test_two_models_that_answered_one_request_keep_a_label_each(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    assert store.add_labels([labelled("r1"), labelled("r1", model="other", true_label="loan")]) == 2
    assert CaseReader(reading).labelled(QUESTION) == [labelled("r1")]


def test_only_answers_of_the_asked_model_gate_time_and_ring_are_read(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    add_device(writing, "d1", "canary")
    store.add_comparisons(
        [
            compared("r1"),
            compared("r2", model="other"),
            compared("r3", gate_digest="b" * 64),
            compared("r4", at_s=NOW_S + 2000),
            compared("r5", edge_version="2"),
            compared("r6", device_id="d2"),
        ]
    )
    reader = CaseReader(reading)
    assert [each.request_id for each in reader.comparisons(QUESTION)] == ["r1", "r6"]
    in_ring = FieldQuestion("tiny", "1.0.0", ("a" * 64,), 0, NOW_S + 1000, "canary")
    assert [each.request_id for each in reader.comparisons(in_ring)] == ["r1"]


def test_imported_labels_are_told_apart_from_those_of_devices(writing: Engine, reading: Engine) -> None:
    ready_store(writing).add_labels([labelled("r1"), labelled("r2", source=FROM_IMPORT)])
    assert [each.request_id for each in CaseReader(reading).labelled(QUESTION, FROM_IMPORT)] == ["r2"]


def test_compared_requests_are_found_by_device_and_request(writing: Engine, reading: Engine) -> None:
    ready_store(writing).add_comparisons([compared(f"r{number}") for number in range(1000)])
    found = CaseReader(reading).find([("d1", f"r{number}") for number in range(900, 1100)] + [("d2", "r1")])
    assert set(found) == {("d1", f"r{number}") for number in range(900, 1000)}


def test_what_is_old_or_more_than_wanted_is_deleted(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    store.add_comparisons([compared(f"r{number}", at_s=NOW_S + number) for number in range(100)])
    store.add_labels([labelled(f"r{number}", received_s=NOW_S + number) for number in range(100)])
    assert store.prune(NOW_S + 10, 50) == 100
    left = CaseReader(reading).comparisons(QUESTION)
    assert [each.request_id for each in left] == [f"r{number}" for number in range(50, 100)]
    assert len(CaseReader(reading).labelled(QUESTION)) == 50
    assert store.prune(NOW_S + 10, 50) == 0


def test_hard_cases_are_what_was_escalated_and_what_was_audited_wrong(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    store.add_comparisons(
        [
            compared("r1", edge_score=0.25),
            compared("r2", edge_score=0.75),
            compared("r3", full_label="card"),
            audited("r4"),
            audited("r5", full_label="cash"),
            compared("r6", reason="requested"),
        ]
    )
    store.add_labels([labelled("r7"), labelled("r8", true_label="loan")])
    reader = CaseReader(reading)

    def pairs(kind: CaseKind, *, differing_only: bool = False) -> dict[tuple[str, str], int]:
        asked = CaseFilter(kind, 0, NOW_S + 1000, differing_only=differing_only)
        return {(each.edge_label, each.right_label): each.cases for each in reader.pair_counts(asked, 100).counts}

    assert pairs(CaseKind.ALL) == {("card", "cash"): 3, ("card", "card"): 1}
    assert pairs(CaseKind.ALL, differing_only=True) == {("card", "cash"): 3}
    assert pairs(CaseKind.ESCALATED) == {("card", "cash"): 2, ("card", "card"): 1}
    assert pairs(CaseKind.AUDITED_WRONG) == {("card", "cash"): 1}
    assert pairs(CaseKind.TRUE_LABELS) == {("card", "loan"): 1}
    two = CaseFilter(CaseKind.ESCALATED, 0, NOW_S + 1000, pair=("card", "cash"))
    assert [each.request_id for each in reader.cases(two, 100, 100, with_text=False)] == ["r2", "r1"]
    assert reader.pair_counts(two, 100).counts[0].mean_score == pytest.approx(0.5)


def test_texts_are_read_only_where_they_are_asked_for(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    store.add_comparisons([compared("r1", text="我的卡在哪里 \0?"), compared("r2")])
    store.add_labels([labelled("r1", true_label="loan")])
    reader = CaseReader(reading)
    kept = [each.text for each in reader.cases(ALL, 9, 9, with_text=True)]
    assert kept == [None, "我的卡在哪里 \N{REPLACEMENT CHARACTER}?"]
    assert [each.text for each in reader.cases(ALL, 9, 9, with_text=False)] == [None, None]
    assert all(each.text is None for each in reader.comparisons(QUESTION))
    contradicted = CaseFilter(CaseKind.TRUE_LABELS, 0, NOW_S + 1000)
    assert (reader.cases(contradicted, 9, 9, with_text=True)[0].text or "").startswith("我的卡")


def test_the_audit_share_of_a_ring_comes_from_its_devices_counts(writing: Engine, reading: Engine) -> None:
    ready_store(writing)
    for device_id, ring in (("d1", "default"), ("d2", "canary"), ("d3", "quiet")):
        add_device(writing, device_id, ring)
    with writing.begin() as connection:
        empty = {column.name: 0 for column in tables.counts.columns}
        base = {**empty, "device_id": "", "model": "tiny", "model_version": "1.0.0", "variant": "", "latency": "{}"}
        for ring, chosen in (("default", 50), ("canary", 200), ("quiet", 0)):
            row = {**base, "ring": ring, "audit_chosen": chosen, "reasons": '{"confident": 1000, "uncertain": 70}'}
            connection.execute(insert(tables.counts), {**row, "labels": "{}"})
    assert CaseReader(reading).audit_shares(QUESTION) == {"d1": 0.05, "d2": 0.2}


def test_models_rings_and_versions_to_choose_from_are_those_of_the_cases(writing: Engine, reading: Engine) -> None:
    store = ready_store(writing)
    add_device(writing, "d1", "canary")
    store.add_comparisons([compared("r1"), compared("r2", model="other", edge_version="2")])
    choices = CaseReader(reading).choices(ALL, 100)
    assert (choices.models, choices.rings, choices.edge_versions) == (("other", "tiny"), ("canary",), ("1.0.0", "2"))


def test_a_store_that_is_not_set_up_says_so_and_is_used_once_it_is(url: str, writing: Engine) -> None:
    store, reader = CaseStore(writing), CaseReader(open_engine(url, writes=False))
    with pytest.raises(NotReady, match="fleet service"):
        store.add_comparisons([compared()])
    with pytest.raises(NotReady):
        reader.comparisons(QUESTION)
    ready_store(writing)
    assert store.add_comparisons([compared()]) == 1
    assert reader.comparisons(QUESTION) == [compared()]
    reader.close()


def test_what_cannot_be_stored_is_refused_and_a_lost_table_is_an_error(writing: Engine) -> None:
    store = ready_store(writing)
    with pytest.raises(StoreRefused):
        store.add_comparisons([compared(full_label=None)])
    with writing.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(comparisons)) == 0
        comparisons.drop(connection)
    with pytest.raises(StorageError):
        store.add_comparisons([compared()])
