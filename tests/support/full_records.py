"""What people and gateways leave in a store: comparisons, true labels, the log of actions, and a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from sqlalchemy import insert

from cloud_service.access.action_log import Entry, LoggedAction, follow
from cloud_service.access.roles import Role
from cloud_service.access.sessions import Session, id_hash_of
from cloud_service.cases.comparison import Comparison, LabelledAnswer
from cloud_service.fleet.buckets import DAY_S
from cloud_service.storage.access_store import User
from cloud_service.storage.access_tables import action_log, sessions, users
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.engine import open_engine
from tests.support.case_parts import audited, compared, labelled
from tests.support.full_store import LABELS, MODEL, device_name

SESSION_ID = "the-operator-who-measures"
"""What the cookie holds."""
_CHUNK = 20_000
_KEPT_S = 90 * DAY_S
_ACTIONS = ("gate.tighten", "gate.restore", "alarm.acknowledge", "user.sign_in", "cases.export")


def fill_records(file: Path, now_s: int, *, comparisons: int, labels: int, actions: int) -> None:
    """Into a store that is set up, evenly over the last ninety days; an operator is signed in from then on."""
    engine = open_engine(f"sqlite:///{file}", writes=True)
    store = CaseStore(engine)
    compares = (
        _comparison(place, now_s - _KEPT_S * (comparisons - place) // comparisons) for place in range(comparisons)
    )
    while found := list(islice(compares, _CHUNK)):
        store.add_comparisons(found)
    answers = (_labelled(place, now_s - _KEPT_S * (labels - place) // labels) for place in range(labels))
    while back := list(islice(answers, _CHUNK)):
        store.add_labels(back)
    with engine.begin() as connection:
        entries = _entries(actions, now_s)
        while logged := list(islice(entries, _CHUNK)):
            connection.execute(insert(action_log), [_row(each) for each in logged])
        operator = User("olga", Role.OPERATOR, "no password leads here", now_s * 1000)
        connection.execute(insert(users).values({**vars(operator), "role": operator.role.value}))
        session = Session(id_hash_of(SESSION_ID), operator.name, operator.role, now_s * 1000, now_s * 1000)
        connection.execute(
            insert(sessions).values({name: value for name, value in vars(session).items() if name != "role"})
        )
    engine.dispose()


def _comparison(place: int, at_s: int) -> Comparison:
    """One in five is an audit, of which one in twenty disagrees; of those escalated one in three does."""
    make, every = (audited, 20) if place % 5 == 0 else (compared, 3)
    edge = LABELS[place * 7 % len(LABELS)]
    full = _other(LABELS, place) if place // 5 % every == 0 else edge
    names = {"device_id": device_name(place % 10_000), "model": MODEL, "edge_version": "7"}
    return make(f"r{place}", at_s=at_s, edge_label=edge, full_label=full, edge_score=place % 97 / 97, **names)


def _labelled(place: int, at_s: int) -> LabelledAnswer:
    edge = LABELS[place * 7 % len(LABELS)]
    right = _other(LABELS, place) if place % 20 == 0 else edge
    names = {"device_id": device_name(place % 10_000), "model": MODEL, "edge_version": "7"}
    return labelled(f"r{place}", answered_s=at_s - 60, received_s=at_s, edge_label=edge, true_label=right, **names)


def _other(labels: Sequence[str], place: int) -> str:
    return labels[(place * 7 + 1 + place % 11) % len(labels)]


def _entries(actions: int, now_s: int) -> Iterator[LoggedAction]:
    last: LoggedAction | None = None
    for place in range(actions):
        at_ms = (now_s - _KEPT_S * (actions - place) // actions) * 1000
        detail = f'{{"reason":"to measure {place}","ring":"canary"}}'
        entry = Entry(at_ms, f"user-{place % 40}", "operator", _ACTIONS[place % len(_ACTIONS)], MODEL, detail)
        last = follow(last, entry)
        yield last


def _row(action: LoggedAction) -> dict[str, object]:
    return {"seq": action.seq, **vars(action.entry), "previous_hash": action.previous_hash, "hash": action.hash}
