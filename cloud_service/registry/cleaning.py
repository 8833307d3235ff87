"""Takes away what no live metadata names: marks everything that is named, then sweeps the rest.

Whatever is killed in the middle has taken away only what nobody needs. Both locks are held, so that nobody publishes or
signs meanwhile, and what was named until lately stays for `kept_hours`, for devices that are about to fetch it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloud_service.registry.catalogue import find_release
from cloud_service.registry.chunks import chunks_of
from cloud_service.registry.director import Director, assigned_releases
from cloud_service.registry.metadata import (
    TIMESTAMP_PATH,
    SignedState,
    metadata_versions,
    read_manifest,
    versioned_path,
)
from cloud_service.registry.publishing import remember, unlist
from cloud_service.registry.repository import CONTENT_LOCK, LOCK_WAIT_S, SIGNING_LOCK, Repository, target_path
from cloud_service.registry.store import UNFINISHED_SUFFIX
from shared.errors import RegistryError
from shared.update.names import (
    CHUNKS,
    EXCEPTIONS_ROLE,
    METADATA,
    RELEASES_ROLE,
    ROLE_PATHS,
    TARGETS,
    chunk_path,
    exception_target,
)


@dataclass(frozen=True)
class Swept:
    """How many files were taken away, and their bytes; how many of what is left nothing names any more."""

    files: int
    bytes: int
    kept_for_now: int


def collect(repository: Repository) -> Swept:
    """Take away chunks, targets and metadata that nothing names, and what killed writers left.

    Raises:
        RegistryError: another process publishes, or what is listed cannot be read: then nothing is taken away.
    """
    with repository.store.locked(CONTENT_LOCK, LOCK_WAIT_S), repository.store.locked(SIGNING_LOCK, LOCK_WAIT_S):
        state = repository.state()
        live = {*_live_metadata(repository, state), *_live_targets(state), *_live_chunks(repository, state)}
        return _sweep(repository, (METADATA, TARGETS, CHUNKS), live)


def collect_metadata(repository: Repository) -> Swept:
    """The same for old versions of metadata alone: there is one more with every signature.

    Raises:
        RegistryError: see `collect`.
    """
    with repository.store.locked(SIGNING_LOCK, LOCK_WAIT_S):
        return _sweep(repository, (METADATA,), set(_live_metadata(repository, repository.state())))


def retire(repository: Repository, model: str, version: str, *, closes_way_back: bool = False) -> None:
    """Take a release off the list, with its gates and its exception; its files go with the next sweep.

    `closes_way_back`: even where a ring or device ran it before, and could no longer be sent back to it.

    Raises:
        RegistryError: it is not listed, an assignment names it, it is a way back, or a key is not here.
    """
    with repository.changing() as change:
        assigned = Director(repository).assignments()
        before, _ = assigned_releases(repository, change.state)
        release = find_release(change, model, version)
        for name, assignment in assigned.items():
            if assignment.model == model and version in {arm.version for arm in assignment.arms}:
                raise RegistryError(f"{name} gives its devices {model} {version}: it cannot be retired")
        if (model, version) in before and not closes_way_back:
            raise RegistryError(
                f"{model} {version} is what devices ran before, and a rollback leads to it: "
                "retire it with --close-way-back where they are never to run it again"
            )
        remember(repository, release)
        unlist(change, model, version)
        if exception_target(model, version) in change.role(EXCEPTIONS_ROLE).targets:
            change.edit(EXCEPTIONS_ROLE).targets.pop(exception_target(model, version))


def _live_metadata(repository: Repository, state: SignedState) -> Iterator[str]:
    yield TIMESTAMP_PATH
    for version in metadata_versions(repository.store).get("root", ()):
        yield versioned_path("root", version)
    for role in ("targets", *ROLE_PATHS):
        yield versioned_path(role, state.role(role).version)
        if state.snapshot:
            yield versioned_path(role, state.snapshot.signed.meta[f"{role}.json"].version)
    if state.snapshot:
        yield versioned_path("snapshot", state.snapshot.signed.version)
    if state.timestamp:
        yield versioned_path("snapshot", state.timestamp.signed.snapshot_meta.version)


def _live_targets(state: SignedState) -> Iterator[str]:
    for role in ROLE_PATHS:
        for name, target in state.role(role).targets.items():
            yield target_path(name, target.hashes["sha256"])


def _live_chunks(repository: Repository, state: SignedState) -> Iterator[str]:
    for name in state.role(RELEASES_ROLE).targets:
        manifest = read_manifest(repository.target(state, RELEASES_ROLE, name), name)
        for _, _, chunk in chunks_of(manifest):
            yield chunk_path(chunk.sha256)


def _sweep(repository: Repository, folders: Sequence[str], live: set[str]) -> Swept:
    oldest = repository.clock.unix_s() - repository.settings.kept_hours * 3600
    files = length = kept = 0
    for folder in folders:
        for file in list(repository.store.list(folder)):
            if file.path in live:
                continue
            if file.modified_unix_s > oldest and not _is_abandoned(file.path):
                kept += 1
                continue
            repository.store.delete(file.path)
            files, length = files + 1, length + file.length
    return Swept(files, length, kept)


def _is_abandoned(path: str) -> bool:
    """Nobody writes while the locks are held: an unfinished file will never be finished."""
    return path.endswith(UNFINISHED_SUFFIX)
