from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_agent.state.answers import RememberedAnswer, UnsavedAnswers
from edge_agent.state.file import Changes, LastWord, StateFile, describe_state, open_state
from shared.errors import StorageError

GATE = "d" * 64


def answer(number: int, *, model: str = "tiny", label: str = "card") -> RememberedAnswer:
    return RememberedAnswer(f"r{number}", model, "1.0.0", GATE, label, 0.99, 0.98, True, 1_800_000_000_000 + number)


def opened(folder: Path, boot_id: str, remembered: int = 100) -> StateFile:
    return StateFile(folder / "state" / "d1.sqlite", boot_id, remembered)


def test_the_words_of_the_few_boots_before_come_back_in_order_and_in_slots_of_their_own(tmp_path: Path) -> None:
    for number in range(1, 8):
        file = opened(tmp_path, f"b{number}")
        file.write(Changes(words={("tiny", number): f"old word of {number}".encode()}))
        file.write(Changes(words={("tiny", number): f"word of {number}".encode()}))
        file.close()
    file = opened(tmp_path, "b8")
    assert file.last_words() == [LastWord("tiny", n % 4, f"word of {n}".encode()) for n in (4, 5, 6, 7)]
    file.close()


def test_boots_that_counted_nothing_push_nobodys_words_out(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    file.write(Changes(words={("tiny", 1): b"counted"}))
    file.close()
    for number in range(2, 20):
        opened(tmp_path, f"b{number}").close()
    assert [word.payload for word in opened(tmp_path, "b20").last_words()] == [b"counted"]


def test_an_answer_is_found_with_all_that_was_known_of_it(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    file.write(Changes(answers=[answer(1), answer(1, model="other", label="loan")]))
    file.close()
    file = opened(tmp_path, "b2")
    assert [found.answer for found in file.find("r1", "tiny")] == [answer(1)]
    assert {found.answer.model for found in file.find("r1", None)} == {"tiny", "other"}
    assert file.find("r2", None) == []
    file.close()


def test_writing_the_same_again_changes_nothing_and_the_first_label_stands(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    changes = Changes(answers=[answer(1)], true_labels={("tiny", "r1"): ("cash", True)})
    file.write(changes)
    file.write(changes)
    file.write(Changes(answers=[answer(1, label="loan")], true_labels={("tiny", "r1"): ("loan", True)}))
    found = file.find("r1", None)
    assert [(each.answer.label, each.true_label) for each in found] == [("card", "cash")]
    assert file.count_waiting() == 1
    file.close()


def test_only_the_newest_answers_are_remembered_and_those_whose_label_waits(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1", remembered=10)
    file.write(Changes(answers=[answer(1), answer(2)], true_labels={("tiny", "r1"): ("cash", True)}))
    file.write(Changes(answers=[answer(number) for number in range(3, 40)]))
    assert file.find("r2", None) == [] and len(file.find("r1", None)) == 1
    assert [len(file.find(f"r{number}", None)) for number in (29, 30, 39)] == [0, 1, 1]
    assert [each.true_label for each in file.waiting(100)] == ["cash"]
    file.taken([("tiny", "r1")])
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    assert file.count_waiting() == 0 and file.find("r1", None) == []
    file.close()


def test_what_fails_on_the_way_is_not_written_at_all(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    with sqlite3.connect(tmp_path / "state" / "d1.sqlite") as other:
        other.execute("CREATE TRIGGER no_policies BEFORE INSERT ON policies BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StorageError, match="no"):
        file.write(Changes(answers=[answer(1)], policies={("default", "tiny", GATE): b"p"}))
    assert file.find("r1", None) == [] and file.policies("default") == {}
    file.write(Changes(answers=[answer(1)]))
    assert len(file.find("r1", None)) == 1
    file.close()


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, it is a letter to somebody else" * 100)


def of_a_newer_tandem(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")


def a_folder_in_its_place(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("harm", [damaged, of_a_newer_tandem, a_folder_in_its_place])
def test_a_file_that_cannot_be_used_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: object
) -> None:
    path = tmp_path / "d1.sqlite"
    assert callable(harm)
    harm(path)
    file = open_state(path, "b1", 100, now_unix_s=1_800_000_000.0)
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    file.close()
    assert (tmp_path / "d1.sqlite.unusable-1800000000").exists()
    assert "was set aside as" in caplog.text and str(path) in caplog.text
    assert StateFile(path, "b2", 100).policies("default") == {("default", "tiny", GATE): b"p"}


def test_a_policy_is_kept_for_the_ring_in_which_it_was_obeyed(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    file.write(Changes(policies={("early", "tiny", GATE): b"q"}))
    assert file.policies("default") == {("default", "tiny", GATE): b"p"}
    assert file.policies("early") == {("early", "tiny", GATE): b"q"}
    assert file.policies("late") == {}
    file.close()


def test_what_lies_in_the_write_ahead_log_is_set_aside_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d1.sqlite"
    StateFile(path, "b1", 100).close()
    killed = sqlite3.connect(path)
    killed.execute("INSERT INTO policies VALUES (1, 'default', 'tiny', '', x'01')")
    killed.execute("PRAGMA user_version = 99")
    killed.commit()
    for ending in ("", "-wal"):
        (tmp_path / f"copy{ending}").write_bytes((tmp_path / f"d1.sqlite{ending}").read_bytes())
    killed.close()
    for ending in ("", "-wal"):
        (tmp_path / f"copy{ending}").replace(tmp_path / f"d1.sqlite{ending}")
    open_state(path, "b2", 100, now_unix_s=5.0).close()
    aside = sqlite3.connect(tmp_path / "d1.sqlite.unusable-5")
    assert aside.execute("SELECT model FROM policies").fetchall() == [("tiny",)]
    aside.close()


def test_a_file_that_cannot_be_opened_now_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "d1.sqlite"
    file = StateFile(path, "b1", 100)
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    file.close()
    (tmp_path / "d1.sqlite-wal").mkdir()
    file = open_state(path, "b2", 100, now_unix_s=5.0)
    assert file.is_in_memory and file.policies("default") == {} and "in memory alone" in caplog.text
    file.close()
    (tmp_path / "d1.sqlite-wal").rmdir()
    assert StateFile(path, "b3", 100).policies("default") == {("default", "tiny", GATE): b"p"}


def test_where_there_can_be_no_file_the_state_is_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "not a folder").write_text("")
    file = open_state(tmp_path / "not a folder" / "d1.sqlite", "b1", 100, now_unix_s=0.0)
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    assert file.policies("default") == {("default", "tiny", GATE): b"p"} and "in memory alone" in caplog.text
    file.close()


def test_a_description_only_looks(tmp_path: Path) -> None:
    path = tmp_path / "state" / "d1.sqlite"
    assert "is not there yet" in describe_state(path) and not path.exists()
    file = opened(tmp_path, "b1")
    file.write(Changes(answers=[answer(1), answer(2)], true_labels={("tiny", "r1"): ("cash", True)}))
    assert "remembers 2 answers; 1 true labels wait" in describe_state(path)
    file.close()
    damaged(path)
    with pytest.raises(StorageError, match="not a database"):
        describe_state(path)


def test_unsaved_answers_are_bounded_and_the_first_to_an_id_stands() -> None:
    unsaved = UnsavedAnswers(3)
    for number in range(5):
        unsaved.remember(answer(number))
    unsaved.remember(answer(4, label="loan"))
    assert [each.request_id for each in unsaved.all()] == ["r2", "r3", "r4"]
    assert [each.label for each in unsaved.find("r4", "tiny")] == ["card"]
    unsaved.written(unsaved.all()[:2])
    assert unsaved.find("r2", None) == () and len(unsaved.find("r4", None)) == 1


def test_a_file_of_the_format_before_keeps_its_policies(tmp_path: Path) -> None:
    path = tmp_path / "d1.sqlite"
    StateFile(path, "b1", 100).close()
    old = sqlite3.connect(path)
    old.executescript(
        "DROP TABLE policies;"
        "CREATE TABLE policies (ring TEXT NOT NULL, model TEXT NOT NULL, payload BLOB NOT NULL,"
        " PRIMARY KEY (ring, model));"
        "INSERT INTO policies VALUES ('default', 'tiny', x'01'); PRAGMA user_version = 1;"
    )
    old.close()
    file = StateFile(path, "b2", 100)
    assert file.policies("default") == {("default", "tiny", ""): b"\x01"}
    file.write(Changes(policies={("default", "tiny", GATE): b"p"}))
    assert list(file.policies("default").values()) == [b"\x01", b"p"]
    file.close()


def test_the_policies_of_the_newest_few_gates_are_kept(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    for number in range(12):
        file.write(Changes(policies={("default", "tiny", f"gate{number}"): b"p"}))
    assert [gate for _, _, gate in file.policies("default")] == [f"gate{number}" for number in range(4, 12)]
    file.close()


def test_a_series_that_moves_leaves_its_place(tmp_path: Path) -> None:
    file = opened(tmp_path, "b1")
    file.write(Changes(words={("tiny", 1): b"one", ("tiny", 2): b"two", ("other", 5): b"five"}))
    file.write(Changes(words={("tiny", 3): b"one again"}, left=[("tiny", 1)]))
    assert file.newest_places() == {"tiny": 3, "other": 5} and file.last_words() == []
    file.close()
    words = {(word.model, word.payload) for word in opened(tmp_path, "b2").last_words()}
    assert words == {("tiny", b"two"), ("tiny", b"one again"), ("other", b"five")}
