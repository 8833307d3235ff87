from __future__ import annotations

import csv
import io

import pytest

from cloud_service.dashboard.csv_export import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_text_that_a_spreadsheet_would_run_is_made_harmless(text: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(["label"], [[text]]), newline="")))
    assert rows[1] == ["'" + text]


def test_numbers_stay_numbers_and_nothing_is_an_empty_field() -> None:
    assert csv_text(["a", "b", "c"], [[-3, 0.1, None]]) == "a,b,c\r\n-3,0.1,\r\n"


def test_commas_quotes_and_line_breaks_come_back_as_they_were() -> None:
    cells = ['a,"b"', "two\r\nlines", "卡片丢失"]
    rows = list(csv.reader(io.StringIO(csv_text(["x", "y", "z"], [cells]), newline="")))
    assert rows[1] == cells
