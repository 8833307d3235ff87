from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from cloud_service.cases.grouping import CaseFilter, CaseKind
from cloud_service.gateway.metrics import RecordingMetrics
from cloud_service.gateway.recording import NoRecorder, RecordingLimits, StoreRecorder
from cloud_service.storage.case_reader import CaseReader, FieldQuestion
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from shared.errors import NotReady
from shared.types import (
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    LabelScore,
    ModelIdentity,
    Priority,
    Reason,
    TrueLabel,
)
from tests.support.case_parts import NOW_S, compared
from tests.support.fake_clock import FakeClock
from tests.support.fleet_process import wait_until

pytestmark = pytest.mark.anyio
LIMITS = RecordingLimits(queued=10, days=30, rows=1000, interval_s=0.02)
QUESTION = FieldQuestion("tiny", "1.0.0", ("a" * 64,), 0, NOW_S + 1000)
ASKED = EscalationRequest(
    "r1", "tiny", "秘密 secret words", edge_model_version="1.0.0", edge_label="card", edge_score=0.25, gate_score=0.125,
    gate_digest="a" * 64,
)  # fmt: skip
ANSWER = EscalationAnswer(
    "r1", ModelIdentity("tiny", "9.0.0", "f" * 64), (LabelScore("cash", 0.75),), CloudTimings(0, 1, 1, 1)
)
LABEL = TrueLabel("r1", "tiny", "loan", "card", 0.25, "1.0.0", 0.125, "a" * 64, True, (NOW_S - 9) * 1000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'fleet.sqlite'}", writes=True)
    yield engine
    engine.dispose()


@pytest.fixture
def metrics() -> RecordingMetrics:
    return RecordingMetrics(CollectorRegistry())


def value(metrics: RecordingMetrics, counter: str) -> float:
    return next(iter(getattr(metrics, counter).collect())).samples[0].value  # type: ignore[no-any-return]


def recorder_of(engine: Engine, metrics: RecordingMetrics, *, keeps_text: bool = False) -> StoreRecorder:
    return StoreRecorder(CaseStore(engine), FakeClock(unix_s=NOW_S), metrics, LIMITS, keeps_text=keeps_text)


def stored_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_an_answered_escalation_and_an_audit_are_recorded_with_both_answers(
    engine: Engine, metrics: RecordingMetrics
) -> None:
    migrate(engine)
    recorder = recorder_of(engine, metrics)
    recorder.start()
    recorder.compare("d1", ASKED, ANSWER)
    audit = replace(ASKED, request_id="r2", priority=Priority.AUDIT, reason=Reason.CONFIDENT, kept=True)
    recorder.compare("d1", audit, ANSWER)
    recorder.stop()
    one, two = CaseReader(engine).comparisons(QUESTION)
    assert (one.edge_label, one.edge_score, one.gate_score, one.kept) == ("card", 0.25, 0.125, False)
    assert (one.full_label, one.full_score, one.full_version, one.full_digest) == ("cash", 0.75, "9.0.0", "f" * 64)
    assert (one.at_s, one.device_id, one.priority, one.reason) == (NOW_S, "d1", "interactive", "uncertain")
    assert (two.priority, two.reason, two.kept) == ("audit", "confident", True)
    assert value(metrics, "recorded") == 2


def test_a_request_without_an_edge_answer_is_no_comparison(engine: Engine, metrics: RecordingMetrics) -> None:
    migrate(engine)
    recorder = recorder_of(engine, metrics)
    recorder.start()
    recorder.compare("d1", replace(ASKED, edge_label=""), ANSWER)
    recorder.compare("d1", replace(ASKED, edge_score=float("nan")), ANSWER)
    recorder.compare("d1", ASKED, replace(ANSWER, top=()))
    recorder.stop()
    assert CaseReader(engine).comparisons(QUESTION) == []


def test_a_copy_of_an_answered_request_is_recorded_once(engine: Engine, metrics: RecordingMetrics) -> None:
    migrate(engine)
    recorder = recorder_of(engine, metrics)
    recorder.start()
    recorder.compare("d1", ASKED, ANSWER)
    wait_until(lambda: value(metrics, "recorded") == 1, "the first is written")
    for _ in range(2):
        recorder.compare("d1", replace(ASKED, priority=Priority.REPLAY), replace(ANSWER, replayed=True))
    recorder.stop()
    assert [each.priority for each in CaseReader(engine).comparisons(QUESTION)] == ["interactive"]


@pytest.mark.parametrize("keeps_text", [False, True])
def test_nothing_of_a_text_is_stored_unless_texts_are_kept(
    engine: Engine, metrics: RecordingMetrics, tmp_path: Path, keeps_text: bool
) -> None:
    migrate(engine)
    recorder = recorder_of(engine, metrics, keeps_text=keeps_text)
    recorder.start()
    recorder.compare("d1", ASKED, ANSWER)
    recorder.stop()
    assert len(CaseReader(engine).comparisons(QUESTION)) == 1
    stored = stored_bytes(tmp_path)
    assert (b"secret words" in stored) is keeps_text
    assert ("秘密".encode() in stored) is keeps_text


def test_while_the_store_is_not_set_up_it_waits_and_what_has_no_room_is_counted(
    engine: Engine, metrics: RecordingMetrics
) -> None:
    recorder = recorder_of(engine, metrics)
    recorder.start()
    for number in range(15):
        recorder.compare("d1", replace(ASKED, request_id=f"r{number}"), ANSWER)
    wait_until(lambda: value(metrics, "dropped") >= 5, "five are dropped")
    migrate(engine)
    wait_until(lambda: value(metrics, "recorded") + value(metrics, "dropped") == 15, "the others are written")
    recorder.stop()
    assert len(CaseReader(engine).comparisons(QUESTION)) == value(metrics, "recorded") >= 5


def test_what_waits_at_the_end_without_a_store_is_counted_as_dropped(
    engine: Engine, metrics: RecordingMetrics, tmp_path: Path
) -> None:
    recorder = recorder_of(engine, metrics)
    recorder.start()
    recorder.compare("d1", ASKED, ANSWER)
    recorder.stop()
    assert value(metrics, "dropped") == 1
    assert list(tmp_path.iterdir()) == [], "a gateway makes no store"


def test_old_comparisons_are_deleted_as_time_goes_on(engine: Engine, metrics: RecordingMetrics) -> None:
    migrate(engine)
    clock = FakeClock(unix_s=NOW_S)
    recorder = StoreRecorder(CaseStore(engine), clock, metrics, LIMITS, keeps_text=False)
    recorder.start()
    recorder.compare("d1", ASKED, ANSWER)
    wait_until(lambda: value(metrics, "recorded") == 1, "it is written")
    clock.advance(31 * 86_400)
    wait_until(lambda: CaseReader(engine).comparisons(QUESTION) == [], "it is deleted")
    recorder.stop()


def test_texts_kept_before_are_taken_away_once_they_are_not_to_be_kept(
    engine: Engine, metrics: RecordingMetrics, tmp_path: Path
) -> None:
    migrate(engine)
    CaseStore(engine).add_comparisons([compared("r0", text="secret words")])
    recorder = recorder_of(engine, metrics)
    recorder.start()
    cases = CaseFilter(CaseKind.ALL, 0, NOW_S + 1000)
    wait_until(lambda: CaseReader(engine).cases(cases, 9, 9, with_text=True)[0].text is None, "the text is gone")
    recorder.stop()
    with sqlite3.connect(tmp_path / "fleet.sqlite") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert b"secret words" not in stored_bytes(tmp_path)


async def test_labels_that_come_back_are_kept_and_may_be_said_again(engine: Engine, metrics: RecordingMetrics) -> None:
    migrate(engine)
    recorder = recorder_of(engine, metrics)
    recorder.start()
    for _ in range(2):
        assert await recorder.take_labels("d1", [LABEL, replace(LABEL, request_id="r2")]) == 2
    recorder.stop()
    kept = CaseReader(engine).labelled(QUESTION)
    assert [(each.request_id, each.true_label, each.answered_s) for each in kept] == [
        ("r1", "loan", NOW_S - 9),
        ("r2", "loan", NOW_S - 9),
    ]
    assert value(metrics, "labels") == 2


async def test_labels_are_refused_clearly_where_there_is_no_store(engine: Engine, metrics: RecordingMetrics) -> None:
    recorder = recorder_of(engine, metrics)
    recorder.start()
    with pytest.raises(NotReady, match="not set up"):
        await recorder.take_labels("d1", [LABEL])
    recorder.stop()
    with pytest.raises(NotReady, match="record_comparisons"):
        await NoRecorder().take_labels("d1", [LABEL])
