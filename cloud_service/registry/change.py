"""One change of what is signed. Written in this order: targets, roles, snapshot, timestamp, and a new root last.

Nobody looks for a file before the one that names it is there, so a reader, and a kill, at any moment finds a whole
repository. A new root comes last because all the rest is then signed by the old keys and the new.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from cloud_service.config import RegistrySettings
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.metadata import (
    TIMESTAMP_PATH,
    S,
    SignedFile,
    SignedState,
    encode,
    expiry,
    parse_root,
    versioned_path,
)
from cloud_service.registry.store import ArtifactStore
from shared.errors import RegistryError
from shared.update.names import DIRECTOR_ROLE, EXCEPTIONS_ROLE, GATES_ROLE, RELEASES_ROLE, TARGETS

_DAY_S = 86_400.0
_ROLE_ORDER = (GATES_ROLE, EXCEPTIONS_ROLE, RELEASES_ROLE, DIRECTOR_ROLE, "targets")
"""A role that names what another lists comes after it: its next writer takes up what a killed one had signed."""


class Change:
    """Edits of the roles' lists, kept until `write`."""

    def __init__(
        self, store: ArtifactStore, keys: KeyFolder, settings: RegistrySettings, state: SignedState, now_unix_s: float
    ) -> None:
        self.state = state
        self.is_staged = False
        """Written, and to be taken up by whoever has the online keys."""
        self.renews_snapshot = False
        self.new_root: Root | None = None
        self._store = store
        self._keys = keys
        self._settings = settings
        self._now_unix_s = now_unix_s
        self._edited: dict[str, Targets] = {}

    def role(self, name: str) -> Targets:
        """What a role lists, edits included; not to be edited itself."""
        return self._edited.get(name) or self.state.role(name)

    def edit(self, role: str) -> Targets:
        """A role's list, to be edited; it is signed anew in any case."""
        if role not in self._edited:
            self._edited[role] = copy.deepcopy(self.state.role(role))
        return self._edited[role]

    def put_target(self, role: str, name: str, data: bytes, custom: dict[str, object] | None = None) -> None:
        """Write a target's content and list it."""
        target = TargetFile.from_data(name, data, ["sha256"])
        if custom:
            target.unrecognized_fields["custom"] = custom
        folder, _, last = name.rpartition("/")
        self._store.put(f"{TARGETS}/{folder}/{target.hashes['sha256']}.{last}", data)
        self.edit(role).targets[name] = target

    def write(self) -> None:
        """Sign and write everything.

        Raises:
            RegistryError: a key that must sign is not here, or the store cannot be written.
        """
        targets = dict(self.state.targets)
        for role in _ROLE_ORDER:
            if role in self._edited:
                targets[role] = self._signed_role(role, self._edited[role])
        self.state = replace(self.state, targets=targets)
        self.is_staged = not self._can_publish()
        if not self.is_staged:
            self._write_timestamp(self._write_snapshot())
        if self.new_root:
            self._write_root(self.new_root)

    def _signed_role(self, role: str, signed: Targets) -> SignedFile:
        days = self._settings.director_days if role == DIRECTOR_ROLE else self._settings.offline_days
        signed.version, signed.expires = signed.version + 1, expiry(self._now_unix_s, days * _DAY_S)
        delegators = self._roots() if role == "targets" else [self.role("targets")]
        metadata = self._sign(role, signed, delegators)
        return SignedFile(metadata, self._put_version(role, metadata))

    def _write_snapshot(self) -> tuple[int, bytes]:
        meta = {
            f"{role}.json": MetaFile.from_data(file.metadata.signed.version, file.data, ["sha256"])
            for role, file in self.state.targets.items()
        }
        old = self.state.snapshot
        if old and old.signed.meta == meta and not self.renews_snapshot and (found := self._stored_snapshot(old)):
            return old.signed.version, found
        version = old.signed.version + 1 if old else 1
        expires = expiry(self._now_unix_s, self._settings.snapshot_days * _DAY_S)
        metadata = self._sign("snapshot", Snapshot(version, expires=expires, meta=meta), self._roots())
        return version, self._put_version("snapshot", metadata)

    def _stored_snapshot(self, snapshot: Metadata[Snapshot]) -> bytes | None:
        return self._store.get(versioned_path("snapshot", snapshot.signed.version))

    def _write_timestamp(self, snapshot: tuple[int, bytes]) -> None:
        version = self.state.timestamp.signed.version + 1 if self.state.timestamp else 1
        expires = expiry(self._now_unix_s, self._settings.timestamp_hours * 3600)
        timestamp = Timestamp(version, expires=expires, snapshot_meta=MetaFile.from_data(*snapshot, ["sha256"]))
        self._store.put(TIMESTAMP_PATH, encode(self._sign("timestamp", timestamp, self._roots())))

    def _write_root(self, root: Root) -> None:
        old = self.state.root.signed
        root.version = old.version + 1
        root.expires = expiry(self._now_unix_s, self._settings.offline_days * _DAY_S)
        metadata = self._sign("root", root, [root, old])
        self._store.put(versioned_path("root", root.version), encode(metadata), only_new=True)
        self.state = replace(self.state, root=parse_root(encode(metadata), "the new root"))

    def _put_version(self, role: str, metadata: Metadata[S]) -> bytes:
        """What lies under the next version does not verify, or it would be the current one: it makes room."""
        path, data = versioned_path(role, metadata.signed.version), encode(metadata)
        self._store.delete(path)
        self._store.put(path, data, only_new=True)
        return data

    def _roots(self) -> list[Root]:
        return [root for root in (self.new_root, self.state.root.signed) if root]

    def _can_publish(self) -> bool:
        root = self._roots()[0]
        return all(self._keys.find(keyid) for role in ("snapshot", "timestamp") for keyid in root.roles[role].keyids)

    def _sign(self, role: str, signed: S, delegators: Sequence[Root | Targets]) -> Metadata[S]:
        """Sign with every key of the `delegators` that is here; the first must be satisfied, and for a root all."""
        metadata = Metadata(signed)
        keyids = [keyid for one in delegators for keyid in one.get_delegated_role(role).keyids]
        for keyid in dict.fromkeys(keyids):
            if signer := self._keys.signer(keyid):
                metadata.sign(signer, append=True)
        for one in delegators if role == "root" else delegators[:1]:
            self._require_signed(role, metadata, one)
        return metadata

    def _require_signed(self, role: str, metadata: Metadata[S], delegator: Root | Targets) -> None:
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            asked = delegator.get_delegated_role(role)
            missing = ", ".join(keyid[:16] for keyid in asked.keyids if keyid not in metadata.signatures)
            raise RegistryError(
                f"role {role} is signed by {asked.threshold} of {len(asked.keyids)} keys, and in {self._keys.folder} "
                f"there are {len(asked.keyids) - missing.count(',') - bool(missing)}: bring the key files of {missing}"
            ) from error
