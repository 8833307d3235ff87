"""Comparisons and true labels as they are read. Blocking: call from a worker thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Engine, Select, Subquery, Table, and_, func, or_, select, tuple_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from cloud_service.cases.comparison import FROM_DEVICE, Comparison, LabelledAnswer, priority_word
from cloud_service.cases.grouping import Case, CaseFilter, CaseKind, PairCount
from cloud_service.fleet.buckets import ALL_TIME_S, HOUR_S, WHOLE_FLEET
from cloud_service.storage.case_tables import comparisons, true_labels
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.tables import counts, devices
from shared.errors import NotReady
from shared.types import Priority, Reason

_KEYS_AT_ONCE = 400
_COMPARISON_COLUMNS = [comparisons.c[each.name] for each in fields(Comparison)]
_CASE_COLUMNS = ("id", "at_s", "device_id", "request_id", "model", "edge_version", "kept", "edge_label", "edge_score",
                 "right_label", "priority", "reason")  # fmt: skip
_MATCHED_COLUMNS = (
    "at_s",
    "device_id",
    "edge_version",
    "edge_label",
    "edge_score",
    "right_label",
    "priority",
    "reason",
)
_LABEL_COLUMNS = [true_labels.c[each.name] for each in fields(LabelledAnswer)]


@dataclass(frozen=True)
class FieldQuestion:
    """Whose answers: of one edge model and gates that score alike. `ring` "" is all; times in seconds."""

    model: str
    edge_version: str
    gate_digests: tuple[str, ...]
    since_s: int
    until_s: int
    ring: str = ""


@dataclass(frozen=True)
class CaseChoices:
    """What the cases of a stretch of time can be narrowed by."""

    models: tuple[str, ...]
    rings: tuple[str, ...]
    edge_versions: tuple[str, ...]


@dataclass(frozen=True)
class PairReading:
    """Cases counted by pair, and among how many comparisons or labels they were looked for."""

    counts: tuple[PairCount, ...]
    looked_at: int


class CaseReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)

    def comparisons(self, question: FieldQuestion) -> list[Comparison]:
        """All of them, oldest first, without texts.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        wanted = [column for column in _COMPARISON_COLUMNS if column.name != "text"]
        asked = _asked(comparisons, comparisons.c.at_s, question)
        with self._look() as connection:
            rows = connection.execute(select(*wanted).where(*asked).order_by(comparisons.c.id))
            return [Comparison(*row) for row in rows]

    def labelled(self, question: FieldQuestion, source: str = FROM_DEVICE) -> list[LabelledAnswer]:
        """Answers whose true label came back by that way, oldest first.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        asked = _asked(true_labels, true_labels.c.answered_s, question)
        query = select(*_LABEL_COLUMNS).where(*asked, true_labels.c.source == source).order_by(true_labels.c.id)
        with self._look() as connection:
            return [LabelledAnswer(*row) for row in connection.execute(query)]

    def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Comparison]:
        """The comparisons of those requests that have one, by (device, request).

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        found: dict[tuple[str, str], Comparison] = {}
        key = tuple_(comparisons.c.device_id, comparisons.c.request_id)
        with self._look() as connection:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                query = select(*_COMPARISON_COLUMNS).where(key.in_(keys[start : start + _KEYS_AT_ONCE]))
                for row in connection.execute(query):
                    found[row.device_id, row.request_id] = Comparison(*row)
        return found

    def audit_shares(self, question: FieldQuestion) -> dict[str, float]:
        """By device: the share of answers kept by the gate that its ring's devices audited, in (0, 1].

        Devices of a ring obey one policy, so they are estimated together. A ring that audited nothing is left out.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        kept: dict[str, int] = defaultdict(int)
        audited: dict[str, int] = defaultdict(int)
        with self._look() as connection:
            for row in connection.execute(_counted(question)):
                kept[row.ring] += from_json(row.reasons).get(Reason.CONFIDENT.value, 0)
                audited[row.ring] += row.audit_chosen
            rings = connection.execute(select(devices.c.device_id, devices.c.ring)).all()
        shares = {ring: min(1.0, audited[ring] / kept[ring]) for ring in kept if kept[ring] and audited[ring]}
        return {device_id: shares[ring] for device_id, ring in rings if ring in shares}

    def pair_counts(self, asked: CaseFilter, most: int) -> PairReading:
        """Of the newest `most` comparisons (or contradicting labels) of the model and time: those that match, by pair.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        newest = _newest(asked, most, _MATCHED_COLUMNS).subquery()
        cells = newest.c
        pair = cells.edge_label, cells.right_label
        counted = select(*pair, func.count(), func.avg(cells.edge_score), func.max(cells.at_s)).group_by(*pair)
        with self._look() as connection:
            rows = connection.execute(counted.where(*_matching(newest, asked)))
            counts = tuple(PairCount(*row) for row in rows)
            looked_at = connection.scalar(_how_many(asked, most))
        return PairReading(counts, int(looked_at or 0))

    def cases(self, asked: CaseFilter, most: int, most_cases: int, *, with_text: bool) -> list[Case]:
        """Of the same, the newest `most_cases` that match, newest first; texts only where they are asked for.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        newest = _newest(asked, most, _CASE_COLUMNS, with_text=with_text).subquery()
        columns = [newest.c[each.name] for each in fields(Case) if each.name in newest.c]
        query = select(*columns).where(*_matching(newest, asked)).order_by(newest.c.at_s.desc(), newest.c.id.desc())
        with self._look() as connection:
            return [Case(*row) for row in connection.execute(query.limit(most_cases))]

    def choices(self, asked: CaseFilter, most: int) -> CaseChoices:
        """Models and edge versions among the newest `most` of that kind and time, and all rings.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be read.
        """
        newest = _newest(replace(asked, model=""), most, ("model", "edge_version")).subquery()
        with self._look() as connection:
            pairs = connection.execute(select(newest.c.model, newest.c.edge_version).distinct()).all()
            rings = connection.scalars(select(devices.c.ring).distinct().order_by(devices.c.ring)).all()
        models, versions = (tuple(sorted({pair[place] for pair in pairs})) for place in (0, 1))
        return CaseChoices(models, tuple(rings), versions)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _look(self) -> Iterator[Connection]:
        """One consistent look."""
        with self._store.look() as connection:
            if connection is None:
                raise NotReady("the store is not set up, or for another Tandem: run cloud-service serve fleet")
            yield connection


def _asked(table: Table, time: ColumnElement[int], question: FieldQuestion) -> list[ColumnElement[bool]]:
    return [
        table.c.model == question.model,
        table.c.edge_version == question.edge_version,
        table.c.gate_digest.in_(question.gate_digests),
        time >= question.since_s,
        time < question.until_s,
        *_in_ring(table.c.device_id, question.ring),
    ]


def _in_ring(device_id: ColumnElement[str], ring: str) -> list[ColumnElement[bool]]:
    return [device_id.in_(select(devices.c.device_id).where(devices.c.ring == ring))] if ring else []


def _counted(question: FieldQuestion) -> Select[tuple[str, str, int]]:
    """Hours where a time is given, else all time."""
    width_s = HOUR_S if question.since_s > 0 else ALL_TIME_S
    starts_s = question.since_s - question.since_s % HOUR_S if width_s else 0
    return select(counts.c.ring, counts.c.reasons, counts.c.audit_chosen).where(
        counts.c.width_s == width_s,
        counts.c.device_id == WHOLE_FLEET,
        counts.c.starts_s >= starts_s,
        counts.c.starts_s < question.until_s,
        counts.c.model == question.model,
        counts.c.model_version == question.edge_version,
    )


def _newest(asked: CaseFilter, most: int, names: Collection[str], *, with_text: bool = False) -> Select[Any]:
    """The newest of the model and time, by an index: what is asked for beside is looked for among these alone.

    Told are the columns `names`, as far as there are such.
    """
    by_label = asked.kind is CaseKind.TRUE_LABELS
    columns, time = _columns_of(asked)
    right = columns.true_label if by_label else columns.full_label
    named = {
        **{each.name: each for each in columns},
        "at_s": time.label("at_s"),
        "right_label": right.label("right_label"),
    }
    told = select(*(named[name] for name in names if name in named))
    if with_text:
        told = told.add_columns(comparisons.c.text)
    if with_text and by_label:
        key = ("device_id", "request_id", "model")
        same = and_(*(comparisons.c[name] == columns[name] for name in key))
        told = told.outerjoin_from(true_labels, comparisons, same)
    return told.where(*_in_time(asked)).order_by(time.desc(), columns.id.desc()).limit(most)


def _how_many(asked: CaseFilter, most: int) -> Select[Any]:
    """How many these are; which ones does not matter, so an index tells without a look at any row."""
    columns, _ = _columns_of(asked)
    found = select(columns.id).where(*_in_time(asked)).limit(most).subquery()
    return select(func.count()).select_from(found)


def _columns_of(asked: CaseFilter) -> tuple[ReadOnlyColumnCollection[str, Any], ColumnElement[int]]:
    """The table's columns, and the one of its time."""
    if asked.kind is CaseKind.TRUE_LABELS:
        return true_labels.c, true_labels.c.received_s
    return comparisons.c, comparisons.c.at_s


def _in_time(asked: CaseFilter) -> list[ColumnElement[bool]]:
    columns, time = _columns_of(asked)
    return [time >= asked.since_s, time < asked.until_s, *([columns.model == asked.model] if asked.model else [])]


def _matching(newest: Subquery, asked: CaseFilter) -> list[ColumnElement[bool]]:
    cells = newest.c
    conditions = [*_of_kind(newest, asked), *_in_ring(cells.device_id, asked.ring)]
    conditions += [cells.edge_version == asked.edge_version] if asked.edge_version else []
    conditions += [cells.edge_label == asked.pair[0], cells.right_label == asked.pair[1]] if asked.pair else []
    return conditions


def _of_kind(newest: Subquery, asked: CaseFilter) -> list[ColumnElement[bool]]:
    differs = newest.c.edge_label != newest.c.right_label
    if asked.kind is CaseKind.TRUE_LABELS:
        return [differs]
    audited = newest.c.priority == priority_word(Priority.AUDIT)
    if asked.kind is CaseKind.AUDITED_WRONG:
        return [audited, differs]
    # What a caller sent to the cloud by name was not hard for anyone.
    escalated = ~audited & (newest.c.reason != Reason.REQUESTED.value)
    hard = escalated if asked.kind is CaseKind.ESCALATED else or_(escalated, audited & differs)
    return [hard, *([differs] if asked.differing_only else [])]
