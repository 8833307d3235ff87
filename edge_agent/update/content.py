"""What a release may hold before a byte of it is fetched, and what its graphs may refer to."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest, Role
from shared.errors import UpdateRefused

MAX_CHUNK_BYTES = 16 << 20
"""A chunk is held in memory as a whole."""
MAX_FILES = 1000
MAX_CHUNKS = 1 << 16
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MOST_PARTS = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_manifest(manifest: Manifest) -> None:
    """Whether the files that `manifest` names can be written into a slot.

    Raises:
        UpdateRefused: a path climbs out of the slot or stands in another's way, chunks do not add up, or are too many.
    """
    if len(manifest.files) > MAX_FILES or sum(len(entry.chunks) for entry in manifest.files) > MAX_CHUNKS:
        raise UpdateRefused(f"the release has more than {MAX_FILES} files or {MAX_CHUNKS} chunks")
    taken = {MANIFEST_NAME}
    for entry in manifest.files:
        _check_path(entry.path)
        _check_lengths(entry)
        if entry.path.lower() in taken:
            raise UpdateRefused(f"the release names {entry.path} twice")
        taken.add(entry.path.lower())
    for entry in manifest.files:
        if any(parent.as_posix().lower() in taken for parent in PurePosixPath(entry.path).parents):
            raise UpdateRefused(f"the release's {entry.path} would lie below a file")


def _check_path(path: str) -> None:
    parts = path.split("/")
    if len(parts) > _MOST_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise UpdateRefused(f"the release's file {path[:80]!r} would lie outside its slot, or has a name that none has")


def _check_lengths(entry: FileEntry) -> None:
    digests = [entry.sha256, *(chunk.sha256 for chunk in entry.chunks)]
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        raise UpdateRefused(f"the release's {entry.path} has a digest that is no SHA-256")
    lengths = [chunk.length for chunk in entry.chunks]
    if sum(lengths) != entry.length or any(length < 1 for length in lengths):
        raise UpdateRefused(f"the chunks of the release's {entry.path} do not add up to its length")
    if any(length > MAX_CHUNK_BYTES for length in lengths):
        raise UpdateRefused(f"the release's {entry.path} has a chunk of more than {MAX_CHUNK_BYTES} bytes")


def check_graphs(folder: Path, manifest: Manifest) -> None:
    """Whether the graphs in `folder` read no other files than those that `manifest` names.

    Raises:
        UpdateRefused: a graph's external data lie elsewhere, or it is no ONNX file.
    """
    named = {entry.path for entry in manifest.files}
    graphs = {manifest.graph.file, *(entry.path for entry in manifest.files if entry.role is Role.GRAPH)}
    for graph in sorted(graphs):
        for location in _external_data(folder / graph, graph):
            beside = (PurePosixPath(graph).parent / location).as_posix()
            if beside not in named or ".." in PurePosixPath(location).parts or "\\" in location:
                raise UpdateRefused(
                    f"{graph} reads its weights from {location[:80]!r}, which is no file of the release"
                )


_WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Where messages of onnx.proto (ONNX IR 11) can hold tensors, by field number."""
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10


def _external_data(path: Path, name: str) -> Iterator[str]:
    """Every `location` of external data in the ONNX file, found without holding the file in memory."""
    if not path.stat().st_size:
        raise UpdateRefused(f"{name} is empty and no ONNX file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        left = [("model", 0, len(data))]
        while left:
            kind, begin, end = left.pop()
            try:
                fields = list(_fields(data, begin, end))
                if kind == "entry":
                    values = {number: data[first:last].decode() for number, first, last in fields}
                    if values.get(_KEY) == "location":
                        yield values.get(_VALUE, "")
            except ValueError as error:
                raise UpdateRefused(f"{name} is no ONNX file: {error}") from error
            within = _WITHIN.get(kind, {})
            left += [(within[number], first, last) for number, first, last in fields if number in within]


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each length-delimited field of the protobuf message in data[begin:end]."""
    at = begin
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, at = _varint(data, at, end)
            yield number, at, min(at + length, end)
            at += length
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at > end:
            raise ValueError(f"a field reaches beyond byte {end}")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MOST_VARINT_BYTES):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number is cut off at byte {at}")
