"""What `bundle.json` and `golden.json` say.

A bundle's *model digest* covers what decides its answers (graph, weights, tokenizer, labels, preprocessing)
and leaves out the gate, which names the digest it was calibrated for, and the model card. So a gate can
travel alone, and a gate for another model is refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

from shared.documents import Document, canonical_json, sha256

MANIFEST_NAME = "bundle.json"
BUNDLE_FORMAT = 1


class Role(str, Enum):
    """What a file is for."""

    GRAPH = "graph"
    WEIGHTS = "weights"
    TOKENIZER = "tokenizer"
    GATE = "gate"
    GOLDEN = "golden"
    CARD = "card"


class Tier(str, Enum):
    """Where a model runs."""

    EDGE = "edge"
    FULL = "full"


@dataclass(frozen=True)
class Chunk(Document):
    """A piece of a file; the pieces follow each other, cut at tensor borders. Lengths in bytes."""

    length: int
    sha256: str


@dataclass(frozen=True)
class FileEntry(Document):
    """One file: its path below the bundle's folder ('/' between parts), length in bytes, and digests."""

    path: str
    role: Role
    length: int
    sha256: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class TensorSpec(Document):
    """A graph's input or output. A dimension is a number, or a name where it may vary."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec(Document):
    """Where the graph lies and what goes in and out. `type` is as ONNX Runtime names it, e.g. "tensor(int64)"."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Preprocessing(Document):
    """From text to token ids: Unicode normalization form, tokenizer file, and the most tokens taken."""

    tokenizer: str
    max_tokens: int
    normalization: str = "NFC"


@dataclass(frozen=True)
class Requirements(Document):
    """The least that runs the graph: ONNX Runtime version, opset, and contrib operators by domain.name."""

    onnxruntime: str
    opset: int
    contrib_operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest(Document):
    """`bundle.json`: one model, `labels` in the order of the logits, and every file."""

    model: str
    version: str
    tier: Tier
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    graph: GraphSpec
    requires: Requirements
    files: tuple[FileEntry, ...]
    format: int = BUNDLE_FORMAT

    def file(self, role: Role) -> FileEntry | None:
        """The first file with `role`, or None."""
        return next((entry for entry in self.files if entry.role is role), None)

    @property
    def model_digest(self) -> str:
        """SHA-256 over the manifest without gate, golden set and card: what decides the answers."""
        apart = (Role.GATE, Role.GOLDEN, Role.CARD)
        kept = tuple(entry for entry in self.files if entry.role not in apart)
        return sha256(canonical_json(dataclasses.replace(self, files=kept)))


@dataclass(frozen=True)
class GoldenItem(Document):
    """A text with the label that this very bundle must give, and its probability at temperature 1."""

    text: str
    label: str
    probability: float


@dataclass(frozen=True)
class GoldenSet(Document):
    """`golden.json`: what a bundle must answer on any machine that runs it. `tolerance` is for probabilities."""

    items: tuple[GoldenItem, ...]
    tolerance: float
