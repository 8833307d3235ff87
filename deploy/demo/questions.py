"""The questions that the demo asks: a `text,category` CSV file, read strictly."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError

REQUIRED_COLUMNS = ("text", "category")


@dataclass(frozen=True)
class Question:
    """One question with the label that is right for it; `kind` says what makes it hard, "" where the file doesn't."""

    text: str
    category: str
    kind: str = ""


def read_questions(file: Path) -> tuple[Question, ...]:
    """Read all questions of a CSV file (UTF-8, with or without a byte order mark; a question may span lines).

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not CSV, has no `text` or `category` column, no
            question, or a question without text; the text names the file and the line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            questions = tuple(_parse(file, stream))
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 ({error}); save it as UTF-8 and try again") from error
    except csv.Error as error:
        raise InputError(f"{file}: is not a CSV file: {error}") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not questions:
        raise InputError(f"{file}: holds no question")
    return questions


def repeated(questions: Sequence[Question], count: int | None) -> tuple[Question, ...]:
    """The first `count` questions, beginning again from the first where there are fewer; None for each once."""
    return tuple(itertools.islice(itertools.cycle(questions), len(questions) if count is None else count))


def _parse(file: Path, lines: Iterator[str]) -> Iterator[Question]:
    reader = csv.DictReader(lines, strict=True)
    missing = [column for column in REQUIRED_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"{file}: has no column {' and no column '.join(missing)}; "
            f"the first line must name the columns {' and '.join(REQUIRED_COLUMNS)}"
        )
    for row in reader:
        values = [(row[column] or "").strip() for column in REQUIRED_COLUMNS]
        for column, value in zip(REQUIRED_COLUMNS, values, strict=True):
            if not value:
                raise InputError(f"{file}: line {reader.line_num}: {column} is empty")
        yield Question(values[0], values[1], (row.get("kind") or "").strip())
