"""A repository's signed metadata as its writer sees it: read from the store, believed only where it verifies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from cloud_service.registry.store import ArtifactStore
from shared.bundle.manifest import Manifest
from shared.bundle.reader import parse_manifest
from shared.errors import BundleError, RegistryError
from shared.update.names import METADATA, ROLE_PATHS

TIMESTAMP_PATH = f"{METADATA}/timestamp.json"
_VERSIONED = re.compile(rf"{METADATA}/(\d+)\.([a-z]+)\.json")
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class SignedFile:
    """Metadata with the bytes that it was read from."""

    metadata: Metadata[Targets]
    data: bytes


@dataclass(frozen=True)
class SignedState:
    """The newest metadata that verifies. `targets` has the top role "targets" and those it delegates to."""

    root: Metadata[Root]
    targets: Mapping[str, SignedFile]
    snapshot: Metadata[Snapshot] | None
    timestamp: Metadata[Timestamp] | None

    def role(self, name: str) -> Targets:
        """What a role lists."""
        return self.targets[name].metadata.signed


def encode(metadata: Metadata[S]) -> bytes:
    """The compact bytes of metadata: it travels often and over thin lines."""
    return metadata.to_bytes(JSONSerializer(compact=True))


def versioned_path(role: str, version: int) -> str:
    """Where one version of a role's metadata lies."""
    return f"{METADATA}/{version}.{role}.json"


def expiry(now_unix_s: float, seconds: float) -> datetime:
    """The moment that is `seconds` from now, in UTC and whole seconds."""
    return (datetime.fromtimestamp(now_unix_s, timezone.utc) + timedelta(seconds=seconds)).replace(microsecond=0)


def remaining_s(signed: Signed, now_unix_s: float) -> float:
    """How long metadata still holds; negative where it has expired."""
    return signed.expires.timestamp() - now_unix_s


def parse_root(data: bytes, where: str) -> Metadata[Root]:
    """Read a root.

    Raises:
        RegistryError: it is none, or not signed by its own keys.
    """
    try:
        root = Metadata[Root].from_bytes(data)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (DeserializationError, RepositoryError) as error:
        raise RegistryError(f"{where} is no root that its own keys signed: {error}") from error
    return root


def newest_root(store: ArtifactStore, pinned: Metadata[Root]) -> Metadata[Root]:
    """Follow the chain of roots from the pinned one; each is signed by the threshold of the one before.

    Raises:
        RegistryError: the chain is broken.
    """
    trusted = pinned
    while data := store.get(path := versioned_path("root", trusted.signed.version + 1)):
        following = parse_root(data, path)
        try:
            trusted.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        except RepositoryError as error:
            raise RegistryError(f"{path} is not signed by the root before it: {error}") from error
        trusted = following
    return trusted


def read_state(store: ArtifactStore, root: Metadata[Root]) -> SignedState:
    """The newest metadata that verifies under `root`. What a killed writer left unreferenced counts as written.

    Raises:
        RegistryError: a role has no metadata that verifies.
    """
    versions = _versions(store)
    targets = {"targets": _newest_targets(store, "targets", versions, root.signed)}
    for role in ROLE_PATHS:
        targets[role] = _newest_targets(store, role, versions, targets["targets"].metadata.signed)
    found = next(_verified(store, "snapshot", versions, root.signed), None)
    snapshot = Metadata[Snapshot].from_bytes(found) if found else None
    return SignedState(root, targets, snapshot, _timestamp(store))


def read_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest target.

    Raises:
        RegistryError: it is none.
    """
    try:
        return parse_manifest(Path(where), data)
    except BundleError as error:
        raise RegistryError(str(error)) from error


def metadata_versions(store: ArtifactStore) -> Mapping[str, list[int]]:
    """The versions of each role that lie in the store, newest first."""
    return _versions(store)


def _versions(store: ArtifactStore) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for file in store.list(METADATA):
        if match := _VERSIONED.fullmatch(file.path):
            found.setdefault(match[2], []).append(int(match[1]))
    return {role: sorted(numbers, reverse=True) for role, numbers in found.items()}


def _newest_targets(
    store: ArtifactStore, role: str, versions: Mapping[str, list[int]], delegator: Root | Targets
) -> SignedFile:
    data = next(_verified(store, role, versions, delegator), None)
    if data is None:
        raise RegistryError(f"the repository has no metadata of role {role} that its keys signed")
    return SignedFile(Metadata[Targets].from_bytes(data), data)


def _verified(
    store: ArtifactStore, role: str, versions: Mapping[str, list[int]], delegator: Root | Targets
) -> Iterator[bytes]:
    for version in versions.get(role, ()):
        data = store.get(versioned_path(role, version))
        try:
            metadata = Metadata[Targets].from_bytes(data or b"")
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (DeserializationError, RepositoryError, ValueError):
            continue
        if data and metadata.signed.version == version:
            yield data


def _timestamp(store: ArtifactStore) -> Metadata[Timestamp] | None:
    """Whoever signed it: only its version counts, and the next one is above it."""
    try:
        return Metadata[Timestamp].from_bytes(store.get(TIMESTAMP_PATH) or b"")
    except DeserializationError:
        return None
