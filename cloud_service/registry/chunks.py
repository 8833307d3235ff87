"""Pieces of files: each compressed, and stored once however many releases hold it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from cloud_service.registry.store import ArtifactStore
from shared.bundle import Chunk, FileEntry, Manifest, Role
from shared.errors import RegistryError
from shared.update.names import chunk_path

MAX_CHUNK_BYTES = 16 << 20
"""A device holds a chunk in memory as a whole."""
_LEVEL = 12
_WINDOW_LOG = 23


@dataclass(frozen=True)
class StoredChunks:
    """What storing a bundle's chunks did: how many were new or there already, and their bytes, plain and stored."""

    new: int = 0
    shared: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    shared_bytes: int = 0


def chunks_of(manifest: Manifest) -> Iterator[tuple[FileEntry, int, Chunk]]:
    """Every chunk of a release's files but its gate, with its file and its offset there in bytes."""
    for entry in manifest.files:
        offset = 0
        for chunk in () if entry.role is Role.GATE else entry.chunks:
            yield entry, offset, chunk
            offset += chunk.length


def check_sizes(manifest: Manifest) -> None:
    """Refuse what no device would take.

    Raises:
        RegistryError: a chunk is too large.
    """
    for entry, _, chunk in chunks_of(manifest):
        if chunk.length > MAX_CHUNK_BYTES:
            raise RegistryError(
                f"{entry.path} has a piece of {chunk.length} bytes, more than {MAX_CHUNK_BYTES}: "
                "make the bundle again, so that it is cut smaller"
            )


def store_chunks(store: ArtifactStore, folder: Path, manifest: Manifest) -> StoredChunks:
    """Store the chunks of the bundle in `folder` that are not there yet.

    Raises:
        RegistryError: the bundle changed while it was read, or the store cannot be written.
    """
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    new = shared = new_bytes = stored_bytes = shared_bytes = 0
    for entry, offset, chunk in chunks_of(manifest):
        path = chunk_path(chunk.sha256)
        if store.exists(path):
            shared, shared_bytes = shared + 1, shared_bytes + chunk.length
            continue
        packed = compressor.compress(_read(folder / entry.path, offset, chunk))
        store.put(path, packed)
        new, new_bytes, stored_bytes = new + 1, new_bytes + chunk.length, stored_bytes + len(packed)
    return StoredChunks(new, shared, new_bytes, stored_bytes, shared_bytes)


def check_chunk(store: ArtifactStore, chunk: Chunk) -> str:
    """What is wrong with a stored chunk, in plain words; "" where nothing is."""
    packed = store.get(chunk_path(chunk.sha256))
    if packed is None:
        return "is not there"
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_CHUNK_BYTES).stream_reader(packed) as reader:
            plain = reader.read(chunk.length + 1)
    except zstandard.ZstdError as error:
        return f"cannot be decompressed: {error}"
    return "" if hashlib.sha256(plain).hexdigest() == chunk.sha256 else "is damaged"


def _read(path: Path, offset: int, chunk: Chunk) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(chunk.length)
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != chunk.sha256:
        raise RegistryError(f"{path} changed while it was read; publish it again")
    return data
