"""A latency table is read as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import MeasurementError
from shared.latency_table import (
    DeviceClass,
    LatencyTable,
    ProductTiming,
    read_latency_table,
    write_latency_table,
)
from shared.probes import Product, Unsupported

TABLE = LatencyTable(
    DeviceClass("Cortex-A76", "aarch64", 4, 1, "1.23.2"),
    "tiny",
    50,
    0.01,
    (ProductTiming(Product(8, 4, "fp32"), 16, 0.5),),
    (Unsupported(Product(8, 4, "int4-blocks-32"), "no kernel"),),
)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_latency_table(tmp_path / "table.json", TABLE)
    assert read_latency_table(tmp_path / "table.json") == TABLE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"format": 1', '"format": 9', "format 9"),
        ('"rounds": 50', '"rounds": "50"', "rounds"),
        ('"rounds": 50', '"laps": 50', "laps|rounds"),
        ('"median_ms": 0.5', '"median_ms": -0.5', "below 0"),
        ('"median_ms": 0.5', '"median_ms": NaN', "median_ms|JSON"),
        ('"tokens": 16', '"tokens": 0', "below 1"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "table.json"
    write_latency_table(file, TABLE)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(MeasurementError, match=said):
        read_latency_table(file)


def test_a_missing_table_and_one_cut_short_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    with pytest.raises(MeasurementError, match="no latency table can be read"):
        read_latency_table(file)
    write_latency_table(file, TABLE)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(MeasurementError, match="not a latency table"):
        read_latency_table(file)


def test_a_failed_write_leaves_the_old_table_and_no_rest(tmp_path: Path) -> None:
    folder = tmp_path / "table.json"
    (folder / "taken").mkdir(parents=True)
    with pytest.raises(MeasurementError, match="cannot be written"):
        write_latency_table(folder, TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
