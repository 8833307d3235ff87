"""Pieces of files: where each belongs, where it lies already, and how it comes out of what was fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from edge_agent.update.content import check_manifest
from shared.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest
from shared.documents import DocumentError, read_document
from shared.errors import UpdateRefused

_MOST_WINDOW_BYTES = 16 << 20
_MOST_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Place:
    """Where a chunk belongs or lies: in the file `path` of a bundle's folder, at `offset`. Lengths in bytes."""

    path: str
    offset: int
    length: int
    sha256: str


def places_of(files: Iterable[FileEntry]) -> Iterator[Place]:
    """Every chunk of every file, in order."""
    for entry in files:
        offset = 0
        for chunk in entry.chunks:
            yield Place(entry.path, offset, chunk.length, chunk.sha256)
            offset += chunk.length


def read_place(folder: Path, place: Place) -> bytes | None:
    """The chunk that lies at `place` in `folder`; None where it is not there, or is another."""
    path = folder / place.path
    if path.is_symlink():
        return None
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.length)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == place.sha256 else None


class LocalChunks:
    """The chunks that lie in bundles on this device, whole or half built. What it gives has been verified."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Read the manifests of the bundles in `folders`; a folder without one gives nothing."""
        self._folders = tuple(folders)
        self._found: dict[str, list[tuple[Path, Place]]] = {}
        for folder in self._folders:
            for place in places_of(_files_of(folder)):
                self._found.setdefault(place.sha256, []).append((folder, place))

    def read(self, wanted: Place) -> bytes | None:
        """The chunk of `wanted`, or None where no folder has it undamaged.

        A file that was cut in other places has it too, if it holds the same bytes at the same offset.
        """
        known = [*self._found.get(wanted.sha256, []), *((folder, wanted) for folder in self._folders)]
        return next((data for folder, place in known if (data := read_place(folder, place)) is not None), None)


def _files_of(folder: Path) -> tuple[FileEntry, ...]:
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            return ()
        manifest = read_document(Manifest, path.read_bytes())
        check_manifest(manifest)
    except (OSError, DocumentError, UpdateRefused):
        return ()
    return manifest.files


def most_compressed_bytes(length: int) -> int:
    """No zstd frame that a registry writes for `length` bytes is longer (ZSTD_compressBound, and its header)."""
    return length + length // 128 + 512


def decompressed(data: bytes, place: Place) -> bytes:
    """The chunk for `place` out of its zstd frame; never takes more memory than the chunk is long.

    Raises:
        UpdateRefused: it is no zstd frame, or holds other bytes, more or fewer.
    """
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES).stream_reader(data) as reader:
            plain = reader.read(place.length + 1)
    except zstandard.ZstdError as error:
        raise UpdateRefused(f"chunk {place.sha256[:12]} was sent as no zstd frame: {error}") from error
    if len(plain) > place.length:
        raise UpdateRefused(f"chunk {place.sha256[:12]} grows beyond its {place.length} bytes when decompressed")
    if hashlib.sha256(plain).hexdigest() != place.sha256:
        raise UpdateRefused(f"chunk {place.sha256[:12]} was sent with other bytes than the release's")
    return plain
