"""What needs the offline keys: making a repository, and exchanging its keys."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from cloud_service.registry.change import Change
from cloud_service.registry.keys import PINNED_ROOT, KeyFolder, Place
from cloud_service.registry.metadata import (
    TIMESTAMP_PATH,
    S,
    encode,
    expiry,
    parse_root,
    versioned_path,
)
from cloud_service.registry.repository import Repository
from shared.errors import RegistryError
from shared.update.names import DIRECTOR_ROLE, ROLE_PATHS

TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
ROLES = (*TOP_ROLES, *ROLE_PATHS)
_ONLINE_USES = {DIRECTOR_ROLE: DIRECTOR_ROLE, "snapshot": "publishing", "timestamp": "publishing"}
_MOST_ROOT_KEYS = 16


def init_repository(repository: Repository, *, threshold: int, root_keys: int, passphrase: str = "") -> None:
    """Make all keys and the first version of all metadata. `passphrase` protects the offline keys.

    Raises:
        RegistryError: there are keys or metadata already, or the threshold cannot be reached.
    """
    if not 1 <= threshold <= root_keys <= _MOST_ROOT_KEYS:
        raise RegistryError(f"a threshold of {threshold} of {root_keys} root keys: take 1 to {_MOST_ROOT_KEYS} keys")
    keys, store = repository.keys, repository.store
    if not keys.is_empty() or store.exists(TIMESTAMP_PATH) or store.exists(versioned_path("root", 1)):
        raise RegistryError(f"{keys.folder} has keys, or the repository metadata: nothing was changed")
    roots = [keys.new("root", "offline", passphrase) for _ in range(root_keys)]
    offline = {use: keys.new(use, "offline", passphrase) for use in ("targets", "releases")}
    online = {use: keys.new(use, "online") for use in ("director", "publishing")}
    _write_first(repository, roots, threshold, {**offline, **online})


def rotate(repository: Repository, role: str, *, passphrase: str = "") -> list[str]:
    """Give a role new keys, as many as it has. Returns the ids of the keys that sign it no more.

    Raises:
        RegistryError: the role is unknown, or offline keys that must sign are not here.
    """
    if role not in ROLES:
        raise RegistryError(f"role {role!r} is none of {', '.join(ROLES)}")
    state = repository.state()
    delegator = state.root.signed if role in TOP_ROLES else state.role("targets")
    old = list(delegator.get_delegated_role(role).keyids)
    _exchange(repository, {role: old}, passphrase)
    return old


def revoke(repository: Repository, keyid: str, *, passphrase: str = "") -> list[str]:
    """Take a key out of every role that it signs and put a new one in its place. Returns the roles.

    `keyid` may be the id's beginning. Raises:
        RegistryError: no role has this key or several do begin so, or offline keys that must sign are not here.
    """
    state = repository.state()
    signed_by = {role: _delegated(state.root.signed, state.role("targets"), role).keyids for role in ROLES}
    found = {each for keyids in signed_by.values() for each in keyids if keyid and each.startswith(keyid)}
    if len(found) != 1:
        raise RegistryError(f"{len(found)} keys begin with {keyid!r}; `cloud-service keys show` names them")
    revoked = found.pop()
    roles = [role for role, keyids in signed_by.items() if revoked in keyids]
    _exchange(repository, {role: [revoked] for role in roles}, passphrase)
    return roles


def renew(repository: Repository) -> list[str]:
    """Sign anew, with fresh expiry, every offline role whose keys are here. Returns the roles."""
    renewed = []
    with repository.changing() as change:
        for role in ("targets", *(role for role in ROLE_PATHS if role != DIRECTOR_ROLE)):
            if _has_keys(repository.keys, _delegated(change.state.root.signed, change.role("targets"), role)):
                change.edit(role)
                renewed.append(role)
        if _has_keys(repository.keys, change.state.root.signed.roles["root"]):
            change.new_root = copy.deepcopy(change.state.root.signed)
            renewed.append("root")
    pin(repository)
    return renewed


def pin(repository: Repository) -> None:
    """Keep the newest root where the keys are, for devices to be given.

    Raises:
        RegistryError: it cannot be written.
    """
    data = encode(repository.state().root)
    _write_pinned(repository.keys, data)


def _exchange(repository: Repository, leaving: Mapping[str, Sequence[str]], passphrase: str) -> None:
    """Roles that share a leaving key share its successor."""
    successors: dict[str, Key] = {}
    made: list[str] = []
    try:
        with repository.changing() as change:
            for role, keyids in leaving.items():
                for keyid in keyids:
                    if keyid not in successors:
                        successors[keyid] = _successor(repository.keys, role, passphrase).public_key
                        made.append(successors[keyid].keyid)
                    _replace_key(change, role, keyid, successors[keyid])
    except RegistryError:
        with suppress(RegistryError):
            _retire_unused(repository, set(made))
        raise
    pin(repository)
    _retire_unused(repository, set(successors))


def _replace_key(change: Change, role: str, old: str, new: Key) -> None:
    delegator: Root | Targets
    if role in TOP_ROLES:
        change.new_root = change.new_root or copy.deepcopy(change.state.root.signed)
        delegator = change.new_root
        change.renews_snapshot |= role == "snapshot"
        if role == "targets":
            change.edit("targets")
    else:
        delegator = change.edit("targets")
        change.edit(role)
    delegator.revoke_key(old, role)
    delegator.add_key(new, role)


def _retire_unused(repository: Repository, keyids: set[str]) -> None:
    state = repository.state()
    delegations = state.role("targets").delegations
    used = set(state.root.signed.keys) | set(delegations.keys if delegations else ())
    for keyid in keyids - used:
        repository.keys.retire(keyid)


def _successor(keys: KeyFolder, role: str, passphrase: str) -> CryptoSigner:
    place: Place = "online" if role in _ONLINE_USES else "offline"
    use = _ONLINE_USES.get(role, role)
    return keys.new(use, place, passphrase if place == "offline" else "")


def _delegated(root: Root, targets: Targets, role: str) -> Role:
    return (root if role in TOP_ROLES else targets).get_delegated_role(role)


def _has_keys(keys: KeyFolder, role: Role) -> bool:
    return sum(keys.find(keyid) is not None for keyid in role.keyids) >= role.threshold


def _write_first(
    repository: Repository, roots: Sequence[CryptoSigner], threshold: int, signers: Mapping[str, CryptoSigner]
) -> None:
    store, now, settings = repository.store, repository.clock.unix_s(), repository.settings
    years = expiry(now, settings.offline_days * 86_400)
    root = Root(expires=years, consistent_snapshot=True)
    root.roles["root"].threshold = 1
    for signer in roots:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = threshold
    for role, use in (("targets", "targets"), ("snapshot", "publishing"), ("timestamp", "publishing")):
        root.add_key(signers[use].public_key, role)
    meta: dict[str, MetaFile] = {}
    for role in ("targets", *ROLE_PATHS):
        until = expiry(now, settings.director_days * 86_400) if role == DIRECTOR_ROLE else years
        listing = Targets(expires=until, delegations=_delegations(signers) if role == "targets" else None)
        use = role if role in signers else "releases"
        data = _signed(listing, [signers[use]])
        meta[f"{role}.json"] = MetaFile.from_data(1, data, ["sha256"])
        store.put(versioned_path(role, 1), data)
    expires = expiry(now, settings.snapshot_days * 86_400)
    snapshot = _signed(Snapshot(expires=expires, meta=meta), [signers["publishing"]])
    store.put(versioned_path("snapshot", 1), snapshot)
    pinned = _signed(root, roots)
    _write_pinned(repository.keys, pinned)
    store.put(versioned_path("root", 1), pinned)
    expires = expiry(now, settings.timestamp_hours * 3600)
    listed = MetaFile.from_data(1, snapshot, ["sha256"])
    store.put(TIMESTAMP_PATH, _signed(Timestamp(expires=expires, snapshot_meta=listed), [signers["publishing"]]))


def _signed(signed: S, signers: Sequence[CryptoSigner]) -> bytes:
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return encode(metadata)


def _delegations(signers: Mapping[str, CryptoSigner]) -> Delegations:
    keys: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for role, patterns in ROLE_PATHS.items():
        key = signers[role if role in signers else "releases"].public_key
        keys[key.keyid] = key
        roles[role] = DelegatedRole(role, [key.keyid], 1, terminating=True, paths=list(patterns))
    return Delegations(keys, roles)


def _write_pinned(keys: KeyFolder, data: bytes) -> None:
    parse_root(data, PINNED_ROOT)
    path = keys.folder / PINNED_ROOT
    beside = path.with_name(f".{PINNED_ROOT}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise RegistryError(f"{path} cannot be written: {error}") from error
