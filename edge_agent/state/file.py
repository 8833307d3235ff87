"""The one adapter for the device's SQLite file. Blocking; used by one thread at a time.

words     the newest telemetry of each series (boot, model, version, variant), of this boot and the few before
answers   the device's answers, with the true labels that came back and whether the cloud still waits for them
policies  the policy that each gate obeys or obeyed last, of the newest few gates of a ring and model
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.state.answers import AnswerKey, RememberedAnswer
from shared.errors import StorageError
from shared.topics import LAST_WORD_SLOTS

_log = logging.getLogger(__name__)
FORMAT = 2
_GATES_REMEMBERED = 8
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE words (
    ordinal INTEGER NOT NULL, boot_id TEXT NOT NULL, model TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (model, ordinal));
CREATE TABLE answers (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, request_id TEXT NOT NULL, model_version TEXT NOT NULL,
    gate_digest TEXT NOT NULL, label TEXT NOT NULL, confidence REAL NOT NULL, gate_score REAL NOT NULL,
    kept INTEGER NOT NULL, answered_at_unix_ms INTEGER NOT NULL, true_label TEXT, waits INTEGER NOT NULL DEFAULT 0,
    UNIQUE (request_id, model));
CREATE INDEX answers_waiting ON answers (id) WHERE waits = 1;
"""
_POLICIES = """
CREATE TABLE policies (
    id INTEGER PRIMARY KEY, ring TEXT NOT NULL, model TEXT NOT NULL, gate_digest TEXT NOT NULL, payload BLOB NOT NULL,
    UNIQUE (ring, model, gate_digest));
"""
_FROM_FORMAT_1 = """
INSERT INTO policies (ring, model, gate_digest, payload) SELECT ring, model, '', payload FROM policies_1;
DROP TABLE policies_1;
"""
_STEPS = {
    0: _SCHEMA + _POLICIES,
    1: "ALTER TABLE policies RENAME TO policies_1;" + _POLICIES + _FROM_FORMAT_1,
}
"""What brings a file of an older format to the present one."""
_ANSWER = "model, request_id, model_version, gate_digest, label, confidence, gate_score, kept, answered_at_unix_ms"


PolicyKey = tuple[str, str, str]
"""Ring, model and the gate's digest."""

WordKey = tuple[str, int]
"""Model, and the series' place in the order in which they began (see `WordPlaces`)."""


@dataclass(frozen=True)
class LastWord:
    """The newest telemetry that was saved of a series that has ended; `slot` is its place at the broker."""

    model: str
    slot: int
    payload: bytes


@dataclass(frozen=True)
class LabelledAnswer:
    """An answer, and the true label that came back for it, if one has."""

    answer: RememberedAnswer
    true_label: str | None


@dataclass(frozen=True)
class Changes:
    """What one transaction writes. `true_labels` from model and request id to the label and whether the cloud waits.

    `left`: words that lie at another place from now on.
    """

    words: Mapping[WordKey, bytes] = field(default_factory=dict)
    left: Sequence[WordKey] = ()
    answers: Sequence[RememberedAnswer] = ()
    true_labels: Mapping[AnswerKey, tuple[str, bool]] = field(default_factory=dict)
    policies: Mapping[PolicyKey, bytes] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.words or self.left or self.answers or self.true_labels or self.policies)


class UnusableState(StorageError):
    """The file is damaged, none of ours, or written by a newer Tandem: waiting does not help."""


class StateFile:
    """An open file, of the boot `boot_id`. Its thread may change, but no two may use it at once."""

    def __init__(self, path: Path | None, boot_id: str, remembered_answers: int) -> None:
        """Open the file, or make it; `path` None: in memory alone.

        Raises:
            UnusableState: it is damaged, or was written by a newer Tandem.
            StorageError: it cannot be opened or written now.
        """
        if path is not None and path.exists() and not path.is_file():
            raise UnusableState(f"{path} is no file")
        self._boot_id = boot_id
        self._remembered_answers = remembered_answers
        with _translated(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _translated(path):
                self._prepare(path)
        except StorageError:
            self._connection.close()
            raise
        self._path = path

    @property
    def is_in_memory(self) -> bool:
        """Whether everything is lost with the process."""
        return self._path is None

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def newest_places(self) -> dict[str, int]:
        """The place of each model's newest series.

        Raises:
            StorageError: they cannot be read.
        """
        with _translated(self._path):
            return dict(self._connection.execute("SELECT model, max(ordinal) FROM words GROUP BY model").fetchall())

    def last_words(self) -> list[LastWord]:
        """The last words of each model's newest series before this boot, oldest first.

        Raises:
            StorageError: they cannot be read.
        """
        with _translated(self._path):
            rows = self._connection.execute(
                "SELECT model, ordinal, payload FROM words AS word WHERE boot_id != ? AND ordinal >"
                " (SELECT max(ordinal) FROM words AS other WHERE other.model = word.model) - ? ORDER BY ordinal",
                (self._boot_id, LAST_WORD_SLOTS),
            )
            return [LastWord(model, ordinal % LAST_WORD_SLOTS, payload) for model, ordinal, payload in rows]

    def policies(self, ring: str) -> dict[PolicyKey, bytes]:
        """The policies that were obeyed in `ring`, by gate, oldest first. Another ring's say nothing here.

        Raises:
            StorageError: they cannot be read.
        """
        with _translated(self._path):
            rows = self._connection.execute(
                "SELECT ring, model, gate_digest, payload FROM policies WHERE ring = ? ORDER BY id", (ring,)
            )
            return {(ring, model, digest): payload for ring, model, digest, payload in rows}

    def find(self, request_id: str, model: str | None) -> list[LabelledAnswer]:
        """The answers to a request, of one model or (None) of all.

        Raises:
            StorageError: they cannot be read.
        """
        with _translated(self._path):
            rows = self._connection.execute(
                f"SELECT {_ANSWER}, true_label FROM answers WHERE request_id = ? AND (? IS NULL OR model = ?)",  # noqa: S608
                (request_id, model, model),
            )
            return [_labelled(row) for row in rows]

    def waiting(self, limit: int) -> list[LabelledAnswer]:
        """The oldest answers whose true label the cloud has not taken yet.

        Raises:
            StorageError: they cannot be read.
        """
        with _translated(self._path):
            rows = self._connection.execute(
                f"SELECT {_ANSWER}, true_label FROM answers WHERE waits = 1 ORDER BY id LIMIT ?",  # noqa: S608
                (limit,),
            )
            return [_labelled(row) for row in rows]

    def count_waiting(self) -> int:
        """How many true labels the cloud has not taken yet.

        Raises:
            StorageError: they cannot be counted.
        """
        with _translated(self._path):
            count: int = self._connection.execute("SELECT count(*) FROM answers WHERE waits = 1").fetchone()[0]
            return count

    def write(self, changes: Changes) -> None:
        """Write all or nothing; writing the same again changes nothing.

        Raises:
            StorageError: nothing was written.
        """
        with _translated(self._path), self._transaction():
            execute, execute_many = self._connection.execute, self._connection.executemany
            execute_many("DELETE FROM words WHERE model = ? AND ordinal = ?", changes.left)
            for (model, ordinal), payload in changes.words.items():
                execute("INSERT OR REPLACE INTO words VALUES (?, ?, ?, ?)", (ordinal, self._boot_id, model, payload))
                execute("DELETE FROM words WHERE model = ? AND ordinal < ?", (model, ordinal - LAST_WORD_SLOTS))
            execute_many(
                f"INSERT OR IGNORE INTO answers ({_ANSWER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [_row(answer) for answer in changes.answers],
            )
            execute_many(
                "UPDATE answers SET true_label = ?, waits = ?"
                " WHERE model = ? AND request_id = ? AND true_label IS NULL",
                [(label, waits, model, request) for (model, request), (label, waits) in changes.true_labels.items()],
            )
            execute(
                "DELETE FROM answers WHERE waits = 0 AND id <= (SELECT max(id) FROM answers) - ?",
                (self._remembered_answers,),
            )
            for key, payload in changes.policies.items():
                execute(
                    "INSERT OR REPLACE INTO policies (ring, model, gate_digest, payload) VALUES (?, ?, ?, ?)",
                    (*key, payload),
                )
                execute(
                    "DELETE FROM policies WHERE ring = ? AND model = ? AND id NOT IN (SELECT id FROM policies"
                    " WHERE ring = ? AND model = ? ORDER BY id DESC LIMIT ?)",
                    (*key[:2], *key[:2], _GATES_REMEMBERED),
                )

    def taken(self, keys: Sequence[AnswerKey]) -> None:
        """The cloud has taken the true labels of these answers.

        Raises:
            StorageError: nothing was written.
        """
        with _translated(self._path), self._transaction():
            self._connection.executemany("UPDATE answers SET waits = 0 WHERE model = ? AND request_id = ?", keys)

    def _prepare(self, path: Path | None) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        found: int = execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise UnusableState(f"{path} has format {found}, this program knows {FORMAT}")
        if (verdict := execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise UnusableState(f"{path} is damaged: {verdict}")
        if found < FORMAT:
            self._connection.executescript(f"BEGIN; {_STEPS[found]} PRAGMA user_version = {FORMAT}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise


def open_state(path: Path, boot_id: str, remembered_answers: int, now_unix_s: float) -> StateFile:
    """The file at `path`; one that is damaged is set aside under another name, with the time in it.

    Where it cannot be opened now (a full disk, another process) it stays as it is, the state is kept in memory, and is
    lost with the process.
    """
    try:
        return StateFile(path, boot_id, remembered_answers)
    except UnusableState as error:
        _log.error("the device's state cannot be used: %s", error)
    except StorageError as error:
        return _in_memory(path, boot_id, remembered_answers, error)
    try:
        _set_aside(path, path.with_name(f"{path.name}.unusable-{round(now_unix_s)}"))
        return StateFile(path, boot_id, remembered_answers)
    except (StorageError, OSError) as error:
        return _in_memory(path, boot_id, remembered_answers, error)


def _in_memory(path: Path, boot_id: str, remembered_answers: int, error: Exception) -> StateFile:
    _log.error(
        "%s: counters, answers and policies are kept in memory alone until the agent is started again: %s", path, error
    )
    return StateFile(None, boot_id, remembered_answers)


def describe_state(path: Path) -> str:
    """What a state file holds, in words; only looks.

    Raises:
        StorageError: it is damaged, or not to be read.
    """
    if not path.exists():
        return f"{path} is not there yet"
    with _translated(path), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as connection:
        if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise StorageError(f"{path} is damaged: {verdict}")
        answers, waiting = connection.execute("SELECT count(*), coalesce(sum(waits), 0) FROM answers").fetchone()
    return f"{path} remembers {answers} answers; {waiting} true labels wait for the cloud"


def _set_aside(path: Path, aside: Path) -> None:
    """With its write-ahead log, which may hold what the file lacks."""
    log = path.with_name(path.name + "-wal")
    if log.exists():
        log.rename(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    path.rename(aside)
    _log.error("it was set aside as %s; what it held is not known any more", aside)


def _row(answer: RememberedAnswer) -> tuple[object, ...]:
    return (
        answer.model,
        answer.request_id,
        answer.model_version,
        answer.gate_digest,
        answer.label,
        answer.confidence,
        answer.gate_score,
        answer.kept,
        answer.answered_at_unix_ms,
    )


def _labelled(row: Sequence[object]) -> LabelledAnswer:
    model, request_id, version, digest, label, confidence, score, kept, answered_at, true_label = row
    answer = RememberedAnswer(
        str(request_id),
        str(model),
        str(version),
        str(digest),
        str(label),
        float(str(confidence)),
        float(str(score)),
        bool(kept),
        int(str(answered_at)),
    )
    return LabelledAnswer(answer, None if true_label is None else str(true_label))


@contextmanager
def _translated(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        is_damaged = type(error) is sqlite3.DatabaseError  # of its subclasses none tells of the file itself
        kind = UnusableState if is_damaged else StorageError
        raise kind(f"{path or 'the state in memory'}: {error}") from error
