"""What a kind of device needs for each kind of matrix product: measured there, used where models are made."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import MeasurementError
from shared.probes import Product, Unsupported

TABLE_FORMAT = 1


@dataclass(frozen=True)
class DeviceClass(Document):
    """What a table holds for: `threads` of `cores` (logical ones) were used."""

    cpu: str
    architecture: str
    cores: int
    threads: int
    onnxruntime: str


@dataclass(frozen=True)
class ProductTiming(Document):
    """Median time of one run of `product` on `tokens` rows, the run's overhead included."""

    product: Product
    tokens: int
    median_ms: float


@dataclass(frozen=True)
class LatencyTable(Document):
    """Every timing, each a median of `rounds`. `overhead_ms` is the median of a run that computes next to nothing."""

    device: DeviceClass
    network: str
    rounds: int
    overhead_ms: float
    timings: tuple[ProductTiming, ...]
    unsupported: tuple[Unsupported, ...] = ()
    format: int = TABLE_FORMAT


def read_latency_table(path: Path) -> LatencyTable:
    """Read the table in the file `path`.

    Raises:
        MeasurementError: it cannot be read, is damaged, is of another format, or has a time that is none.
    """
    try:
        table = read_document(LatencyTable, path.read_bytes())
    except OSError as error:
        raise MeasurementError(f"{path}: no latency table can be read: {error}") from error
    except DocumentError as error:
        raise MeasurementError(f"{path}: not a latency table: {error}") from error
    if table.format != TABLE_FORMAT:
        raise MeasurementError(f"{path}: format {table.format}; this program knows {TABLE_FORMAT}")
    if table.overhead_ms < 0 or any(timing.median_ms < 0 or timing.tokens < 1 for timing in table.timings):
        raise MeasurementError(f"{path}: a time is below 0, or a number of tokens below 1")
    return table


def require_writable(path: Path) -> None:
    """See that a table can be written to `path`, before minutes of measuring.

    Raises:
        MeasurementError: it cannot.
    """
    if path.is_dir():
        raise MeasurementError(f"{path}: is a folder; name the table's file")
    if not path.parent.is_dir():
        raise MeasurementError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise MeasurementError(f"{path}: the folder {path.parent} cannot be written to")


def write_latency_table(path: Path, table: LatencyTable) -> None:
    """Write `table` to `path`, which is the old file or the new one as a whole at any time.

    Raises:
        MeasurementError: the file cannot be written.
    """
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with building.open("wb") as stream:
            stream.write(canonical_json(table))
            stream.flush()
            os.fsync(stream.fileno())
        building.replace(path)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise MeasurementError(f"{path}: the latency table cannot be written: {error}") from error
