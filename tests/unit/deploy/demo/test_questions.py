"""The demo's questions: what a file must look like, and what the shipped one holds."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from deploy.demo.arguments import parse_arguments
from deploy.demo.questions import Question, read_questions, repeated
from shared.errors import InputError

SHIPPED = parse_arguments([]).input
DATASET = Path(os.environ.get("TANDEM_DATASETS", "../shared/datasets")) / "banking77"


def read(tmp_path: Path, content: bytes) -> tuple[Question, ...]:
    file = tmp_path / "questions.csv"
    file.write_bytes(content)
    return read_questions(file)


def test_a_question_may_span_lines_and_hold_commas(tmp_path: Path) -> None:
    questions = read(tmp_path, b'text,category\n"Where is\nmy card, please?",card_arrival\n')
    assert questions == (Question("Where is\nmy card, please?", "card_arrival"),)


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    questions = read(tmp_path, b"category,note,text,kind\ncard,x,Hello,slang\n")
    assert questions == (Question("Hello", "card", "slang"),)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufefftext,category\n我的卡,card\n".encode())[0].text == "我的卡"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text,label\nHello,card\n", "no column category"),
        (b"Hello,card\n", "no column text and no column category"),
        (b"", "no column text and no column category"),
        (b"text,category\n", "holds no question"),
        (b"text,category\n,card\n", "line 2: text is empty"),
        (b"text,category\nHello\n", "line 2: category is empty"),
        ("text,category\nGrüße,card\n".encode("latin-1"), "not UTF-8"),
        ("text,category\nHello,card\n".encode("utf-16"), "not UTF-8"),
        (b'text,category\n"Hello,card\n', "not a CSV file"),
    ],
)
def test_a_bad_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, content)
    assert "questions.csv" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read"):
        read_questions(tmp_path / "nowhere.csv")


def test_more_requests_than_questions_begin_again_from_the_first() -> None:
    one, two = Question("one", "a"), Question("two", "b")
    assert repeated((one, two), 5) == (one, two, one, two, one)
    assert repeated((one, two), 1) == (one,)
    assert repeated((one, two), None) == (one, two)


def test_the_shipped_traffic_is_large_hard_in_part_and_never_asks_twice() -> None:
    questions = read_questions(SHIPPED)
    kinds = Counter(question.kind for question in questions)
    assert len(questions) >= 320
    assert len({question.text for question in questions}) == len(questions)
    assert 0.2 < 1 - kinds["plain"] / len(questions) < 0.4
    assert set(kinds) == {"plain", "two_intents", "slang", "typo", "short", "long", "other_language", "out_of_scope"}


def test_every_intent_of_banking77_is_asked_about_at_least_three_times() -> None:
    counts = Counter(question.category for question in read_questions(SHIPPED))
    labels = json.loads((parse_arguments([]).full_bundle / "bundle.json").read_text(encoding="utf-8"))["labels"]
    assert set(counts) - {"out_of_scope"} == set(labels)
    assert min(counts.values()) >= 3


@pytest.mark.skipif(not DATASET.is_dir(), reason="the BANKING77 files are not here; set TANDEM_DATASETS")
def test_no_shipped_question_is_taken_from_banking77() -> None:
    known = set()
    for part in ("train", "test"):
        with (DATASET / f"{part}.csv").open(encoding="utf-8", newline="") as stream:
            known |= {plain(row["text"]) for row in csv.DictReader(stream)}
    assert not [question for question in read_questions(SHIPPED) if plain(question.text) in known]


def plain(text: str) -> str:
    """Letters and digits alone, so that punctuation and spacing hide no copy."""
    return "".join(character for character in text.casefold() if character.isalnum())
