"""The repository: reads what is signed, and changes it in one order, so that every reader sees it whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError

from cloud_service.config import CloudSettings, RegistrySettings
from cloud_service.registry.change import Change
from cloud_service.registry.keys import PINNED_ROOT, KeyFolder
from cloud_service.registry.metadata import SignedState, newest_root, parse_root, read_state
from cloud_service.registry.store import ArtifactStore, FolderStore
from shared.clock import Clock, SystemClock
from shared.errors import RegistryError
from shared.update.names import TARGETS

SIGNING_LOCK = "signing"
"""Held for the short while in which metadata changes."""
CONTENT_LOCK = "content"
"""Held by whoever adds chunks or sweeps them away, before `SIGNING_LOCK`."""
LOCK_WAIT_S = 30.0


class Repository:
    """Signed metadata, targets and chunks in a store, with the keys that are here."""

    def __init__(
        self, store: ArtifactStore, keys: KeyFolder, settings: RegistrySettings, clock: Clock | None = None
    ) -> None:
        self.store = store
        self.keys = keys
        self.settings = settings
        self.clock = clock or SystemClock()

    def state(self) -> SignedState:
        """The newest metadata that verifies, from the pinned root on.

        Raises:
            RegistryError: there is no repository, or none that the pinned root vouches for.
        """
        return read_state(self.store, newest_root(self.store, parse_root(self.pinned_root(), PINNED_ROOT)))

    def pinned_root(self) -> bytes:
        """The root that was pinned last; a device is given this one.

        Raises:
            RegistryError: there is none.
        """
        path = self.keys.folder / PINNED_ROOT
        try:
            return path.read_bytes()
        except OSError as error:
            raise RegistryError(f"{path} is not there: make keys first with `cloud-service keys init`") from error

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Alone, change what is signed; written where the block ends without an error.

        Raises:
            RegistryError: another process changes it, or a key that must sign is not here.
        """
        with self.store.locked(SIGNING_LOCK, LOCK_WAIT_S):
            change = Change(self.store, self.keys, self.settings, self.state(), self.clock.unix_s())
            yield change
            change.write()

    def target(self, state: SignedState, role: str, name: str) -> bytes:
        """The bytes of a listed target.

        Raises:
            RegistryError: it is not listed, not there, or not what was signed.
        """
        listed = state.role(role).targets.get(name)
        if listed is None:
            raise RegistryError(f"{name} is not listed")
        path = target_path(name, listed.hashes["sha256"])
        data = self.store.get(path)
        if data is None:
            raise RegistryError(f"{path} is listed and not there")
        try:
            listed.verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise RegistryError(f"{path} is damaged: {error}") from error
        return data


def target_path(name: str, sha256: str) -> str:
    """Where the content of a target lies."""
    folder, _, last = name.rpartition("/")
    return f"{TARGETS}/{folder}/{sha256}.{last}"


def open_repository(settings: CloudSettings, clock: Clock | None = None) -> Repository:
    """The repository that the configuration names: a local folder, or a bucket (s3://name/folder).

    Raises:
        RegistryError: the bucket cannot be opened on this Python, or with what is installed.
    """
    keys = KeyFolder(settings.registry_keys())
    return Repository(open_store(settings), keys, settings.registry, clock)


def open_store(settings: CloudSettings) -> ArtifactStore:
    """The store of `open_repository` alone, for those who serve its files.

    Raises:
        RegistryError: see `open_repository`.
    """
    place = settings.registry_place()
    if isinstance(place, Path):
        return FolderStore(place)
    from cloud_service.registry.object_store import open_bucket

    return open_bucket(place, settings.registry_keys())
