"""Reads a repository as a device would, from the pinned root, and every chunk of every listed release."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import zstandard
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from cloud_service.registry.chunks import check_chunk, chunks_of
from cloud_service.registry.metadata import SignedState, newest_root, parse_root, read_manifest, versioned_path
from cloud_service.registry.repository import Repository
from cloud_service.registry.store import ArtifactStore
from shared.bundle import Chunk
from shared.documents import sha256
from shared.errors import RegistryError
from shared.update.gate_packing import DICTIONARY
from shared.update.names import GATES_ROLE, METADATA, RELEASES_ROLE, ROLE_PATHS, TARGETS

_BASE_URL = "store://repository"
_MAX_GATE_BYTES = 1 << 20


class StoreFetcher(FetcherInterface):
    """python-tuf's way to a store's files, without a network."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = unquote(urlsplit(url).path).lstrip("/")
        data = self._store.get(path)
        if data is None:
            raise DownloadHTTPError(f"{path} is not there", 404)
        return iter((data,))


def verify(repository: Repository) -> list[str]:
    """Everything that is wrong, in plain words; nothing where the repository is whole.

    Raises:
        RegistryError: the metadata do not verify at all, or have expired.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-verify-") as folder:
        updater = _fresh_client(repository, Path(folder))
        try:
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            raise RegistryError(f"no device would believe the metadata: {error}") from error
        state = repository.state()
        problems = [problem for role in ROLE_PATHS for problem in _check_role(updater, state, role)]
    return [*_check_roots(repository), *problems, *_check_contents(repository, state)]


def _fresh_client(repository: Repository, folder: Path) -> Updater:
    (folder / TARGETS).mkdir()
    return Updater(
        metadata_dir=str(folder / METADATA),
        metadata_base_url=f"{_BASE_URL}/{METADATA}/",
        target_dir=str(folder / TARGETS),
        target_base_url=f"{_BASE_URL}/{TARGETS}/",
        fetcher=StoreFetcher(repository.store),
        bootstrap=repository.pinned_root(),
    )


def _check_roots(repository: Repository) -> Iterator[str]:
    """A device that was made long ago starts from the first root."""
    path = versioned_path("root", 1)
    first = repository.store.get(path)
    try:
        if first is None:
            yield f"{path} is not there"
        elif newest_root(repository.store, parse_root(first, path)).signed != repository.state().root.signed:
            yield "the chain from the first root does not end at the newest"
    except RegistryError as error:
        yield str(error)


def _check_role(updater: Updater, state: SignedState, role: str) -> Iterator[str]:
    for name in state.role(role).targets:
        try:
            info = updater.get_targetinfo(name)
            if info is None:
                yield f"{name} is not listed for devices: the newest {role} are not signed into the snapshot"
            else:
                updater.download_target(info)
        except (RepositoryError, DownloadError) as error:
            yield f"{name}: {error}"


def _check_contents(repository: Repository, state: SignedState) -> Iterator[str]:
    chunks: dict[str, tuple[str, Chunk]] = {}
    for role in (RELEASES_ROLE, GATES_ROLE):
        for name in state.role(role).targets:
            try:
                data = repository.target(state, role, name)
                if role == GATES_ROLE:
                    _check_gate(name, data)
                else:
                    chunks |= {each.sha256: (name, each) for _, _, each in chunks_of(read_manifest(data, name))}
            except RegistryError as error:
                yield str(error)
    for name, chunk in chunks.values():
        if problem := check_chunk(repository.store, chunk):
            yield f"{name}: chunk {chunk.sha256} {problem}"


def _check_gate(name: str, packed: bytes) -> None:
    try:
        with zstandard.ZstdDecompressor(dict_data=DICTIONARY).stream_reader(packed) as reader:
            document = reader.read(_MAX_GATE_BYTES)
    except zstandard.ZstdError as error:
        raise RegistryError(f"{name} cannot be decompressed: {error}") from error
    if not name.endswith(f"/{sha256(document)}.zst"):
        raise RegistryError(f"{name} holds another gate")
