"""A probe kit: a folder of tiny graphs, one for each kind of matrix product, that a device is to time.

The cloud writes it, where graphs can be made; a device needs ONNX Runtime alone to run it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.documents import Document, DocumentError, read_document
from shared.errors import MeasurementError

INDEX_NAME = "probes.json"
KIT_FORMAT = 1
PROBE_INPUT = "x"
"""Float32 [tokens, inputs], with any number of tokens; the one output is float32 [tokens, outputs]."""


@dataclass(frozen=True)
class Product(Document):
    """A kind of matrix product: activations [tokens, inputs] times weights [inputs, outputs], held as `choice`."""

    inputs: int
    outputs: int
    choice: str

    def __str__(self) -> str:
        return f"{self.inputs} x {self.outputs} {self.choice}"


@dataclass(frozen=True)
class Probe(Document):
    """A product, and the graph that computes nothing else; `file` is its path below the kit's folder."""

    product: Product
    file: str


@dataclass(frozen=True)
class Unsupported(Document):
    """A product that cannot be had, and why."""

    product: Product
    reason: str


@dataclass(frozen=True)
class ProbeKit(Document):
    """`probes.json`. `overhead` is a graph that does next to nothing: what every run costs, whatever it computes.

    `overhead_inputs` is its number of columns. `unsupported`: products of which no graph could be made.
    """

    network: str
    probes: tuple[Probe, ...]
    overhead: str
    overhead_inputs: int
    unsupported: tuple[Unsupported, ...] = ()
    format: int = KIT_FORMAT


def read_probe_kit(folder: Path) -> ProbeKit:
    """Read the index of the kit in `folder`.

    Raises:
        MeasurementError: there is no kit, its index is damaged or of another format, or a graph it names is
            not there.
    """
    path = folder / INDEX_NAME
    try:
        kit = read_document(ProbeKit, path.read_bytes())
    except FileNotFoundError as error:
        raise MeasurementError(f"{path}: there is no probe kit here") from error
    except OSError as error:
        raise MeasurementError(f"{path}: cannot be read: {error}") from error
    except DocumentError as error:
        raise MeasurementError(f"{path}: not the index of a probe kit: {error}") from error
    _check(path, kit)
    return kit


def _check(path: Path, kit: ProbeKit) -> None:
    if kit.format != KIT_FORMAT:
        raise MeasurementError(f"{path}: format {kit.format}; this program knows {KIT_FORMAT}")
    if not kit.probes:
        raise MeasurementError(f"{path}: names no probe")
    for product in (probe.product for probe in kit.probes):
        if product.inputs < 1 or product.outputs < 1:
            raise MeasurementError(f"{path}: {product} is no matrix")
    for file in (kit.overhead, *(probe.file for probe in kit.probes)):
        parts = PurePosixPath(file).parts
        if not parts or file.startswith("/") or ".." in parts or "\\" in file:
            raise MeasurementError(f"{path}: {file!r} would lie outside the kit")
        if not (path.parent / file).is_file():
            raise MeasurementError(f"{path.parent / file}: the index names it, and it is not there")
