"""Puts a bundle into the repository: chunks first, then what names them, then the signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloud_service.registry.catalogue import (
    GateFacts,
    ListedGate,
    ListedRelease,
    ReleaseRecord,
    encode_record,
    find_release,
    listed_gates,
    listed_releases,
    parse_record,
    record_path,
)
from cloud_service.registry.change import Change
from cloud_service.registry.chunks import StoredChunks, check_sizes, store_chunks
from cloud_service.registry.director import assigned_releases
from cloud_service.registry.repository import CONTENT_LOCK, LOCK_WAIT_S, Repository
from shared.bundle import Bundle, read_bundle
from shared.documents import sha256
from shared.errors import RegistryError
from shared.gate import gate_document
from shared.types import checked_identifier
from shared.update.gate_packing import packed_gate
from shared.update.names import GATES_ROLE, RELEASES_ROLE, gate_target, manifest_target
from shared.update.release import ReleaseFacts, manifest_bytes, without_gate


@dataclass(frozen=True)
class Published:
    """What publishing did. `manifest_bytes`, `gate_bytes`: of the targets; `unlisted`: versions that made room.

    `is_staged`: the online keys are not here; whoever has them takes it up with the next signature.
    """

    model: str
    version: str
    release: int
    manifest_bytes: int = 0
    gate_digest: str = ""
    gate_bytes: int = 0
    chunks: StoredChunks = field(default_factory=StoredChunks)
    unlisted: tuple[str, ...] = ()
    is_staged: bool = False
    was_there: bool = False


def publish(repository: Repository, folder: Path, hardware: Sequence[str] = ()) -> Published:
    """Publish the bundle in `folder` as the model's next release; a release that is listed as it is stays so.

    `hardware`: the kinds of device it runs on; none for all.

    Raises:
        BundleError: the bundle is not whole.
        RegistryError: the version was published with other content, a chunk is too large, there is no room among
            the listed releases, or a key is not here.
    """
    kinds = tuple(checked_identifier("hardware", kind) for kind in hardware)
    bundle = read_bundle(folder)
    manifest = manifest_bytes(without_gate(bundle.manifest))
    check_sizes(bundle.manifest)
    with repository.store.locked(CONTENT_LOCK, LOCK_WAIT_S):
        record = _record(repository, bundle, sha256(manifest))
        there = _listed(repository, bundle)
        if there and (there.gates or bundle.gate is None):
            return _already_there(bundle, there, kinds)
        stored = store_chunks(repository.store, folder, bundle.manifest)
        with repository.changing() as change:
            known = record or there
            release = known.release if known else _next_release(change, repository, bundle.manifest.model)
            _list_manifest(change, bundle, manifest, ReleaseFacts(release, kinds))
            gate_bytes = _list_gate(change, bundle)
            unlisted = _make_room(repository, change, bundle.manifest.model, bundle.manifest.version)
        remember(repository, find_release(change, bundle.manifest.model, bundle.manifest.version))
    digest = bundle.gate.digest if bundle.gate else ""
    identity = bundle.identity
    return Published(
        identity.name, identity.version, release, len(manifest), digest, gate_bytes, stored, unlisted, change.is_staged
    )


def publish_gate(repository: Repository, folder: Path) -> Published:
    """Publish the gate of the bundle in `folder`, calibrated anew, for the release that is listed already.

    Raises:
        BundleError: the bundle is not whole.
        RegistryError: the bundle has no gate, or its release is not listed or has other content; or see `publish`.
    """
    bundle = read_bundle(folder)
    if bundle.gate is None:
        raise RegistryError(f"{folder} has no gate to publish")
    identity, digest = bundle.identity, bundle.gate.digest
    manifest = manifest_bytes(without_gate(bundle.manifest))
    with repository.store.locked(CONTENT_LOCK, LOCK_WAIT_S), repository.changing() as change:
        release = find_release(change, identity.name, identity.version)
        if release.manifest_sha256 != sha256(manifest):
            raise RegistryError(f"{identity.name} {identity.version} was published with other content: not its gate")
        was_there = digest in release.gates
        gate_bytes = _list_gate(change, bundle)
        _make_room(repository, change, identity.name, identity.version)
    return Published(
        identity.name,
        identity.version,
        release.release,
        gate_digest=digest,
        gate_bytes=gate_bytes,
        is_staged=change.is_staged,
        was_there=was_there,
    )


def _record(repository: Repository, bundle: Bundle, manifest_sha256: str) -> ReleaseRecord | None:
    identity = bundle.identity
    path = record_path(identity.name, identity.version)
    data = repository.store.get(path)
    record = parse_record(data, path) if data else None
    listed = _listed(repository, bundle)
    known = record.manifest_sha256 if record else listed.manifest_sha256 if listed else manifest_sha256
    if known != manifest_sha256:
        raise RegistryError(
            f"{identity.name} {identity.version} was published with other content: give the bundle another version"
        )
    return record


def _listed(repository: Repository, bundle: Bundle) -> ListedRelease | None:
    identity = bundle.identity
    found = listed_releases(repository.state(), identity.name)
    return next((release for release in found if release.version == identity.version), None)


def _already_there(bundle: Bundle, there: ListedRelease, kinds: tuple[str, ...]) -> Published:
    what = f"{there.model} {there.version}"
    if there.hardware != kinds:
        listed = ", ".join(there.hardware) or "all kinds of device"
        raise RegistryError(f"{what} is listed for {listed}: give the bundle another version, or retire it first")
    if bundle.gate and bundle.gate.digest not in there.gates:
        raise RegistryError(f"{what} is listed with another gate: publish this one with --gate-only")
    return Published(there.model, there.version, there.release, was_there=True)


def _next_release(change: Change, repository: Repository, model: str) -> int:
    """Numbers never fall: unlisted releases count as well."""
    numbers = [release.release for release in listed_releases(change, model)]
    for file in repository.store.list(f"records/{model}"):
        if file.path.endswith(".json") and (data := repository.store.get(file.path)):
            numbers.append(parse_record(data, file.path).release)
    return max(numbers, default=0) + 1


def _list_manifest(change: Change, bundle: Bundle, manifest: bytes, facts: ReleaseFacts) -> None:
    name = manifest_target(bundle.manifest.model, bundle.manifest.version)
    change.put_target(RELEASES_ROLE, name, manifest, facts.as_custom())


def _list_gate(change: Change, bundle: Bundle) -> int:
    """List the bundle's gate as the model's newest. Returns its target's bytes."""
    if bundle.gate is None:
        return 0
    model, version, digest = bundle.manifest.model, bundle.manifest.version, bundle.gate.digest
    known = [gate for gate in listed_gates(change) if gate.model == model]
    versions = {version, *(each for gate in known if gate.digest == digest for each in gate.versions)}
    facts = GateFacts(max((gate.number for gate in known), default=0) + 1, tuple(sorted(versions)))
    packed = packed_gate(gate_document(bundle.gate))
    change.put_target(GATES_ROLE, gate_target(model, digest), packed, facts.as_custom())
    return len(packed)


def remember(repository: Repository, release: ListedRelease) -> None:
    """Keep on record what a version is, so that it stays that when it is no longer listed."""
    path = record_path(release.model, release.version)
    if not repository.store.exists(path):
        now = int(repository.clock.unix_s())
        record = ReleaseRecord(release.model, release.version, release.release, release.manifest_sha256, now)
        repository.store.put(path, encode_record(record))


def _make_room(repository: Repository, change: Change, model: str, newest: str) -> tuple[str, ...]:
    """Unlist the oldest releases, and gates, that are beyond the bounds and that no assignment names."""
    settings = repository.settings
    gates_of_model = sum(gate.model == model for gate in listed_gates(change))
    if len(listed_releases(change, model)) <= settings.live_releases and gates_of_model <= settings.live_gates:
        return ()
    releases, gates = assigned_releases(repository, change.state)
    unlisted = _unlist_releases(repository, change, model, {*releases, (model, newest)})
    _unlist_gates(change, model, settings.live_gates, gates)
    return unlisted


def _unlist_releases(repository: Repository, change: Change, model: str, kept: set[tuple[str, str]]) -> tuple[str, ...]:
    most = repository.settings.live_releases
    found = listed_releases(change, model)
    free = [release for release in found if (model, release.version) not in kept and not release.is_excepted]
    leaving = free[: max(0, len(found) - most)]
    if len(found) - len(leaving) > most:
        raise RegistryError(f"{len(found)} releases of {model} are in use, more than {most}: end a rollout first")
    for release in leaving:
        remember(repository, release)
        unlist(change, model, release.version)
    return tuple(release.version for release in leaving)


def unlist(change: Change, model: str, version: str) -> None:
    """Take a release off the list, with the gates that are for no other."""
    change.edit(RELEASES_ROLE).targets.pop(manifest_target(model, version), None)
    left = {release.version for release in listed_releases(change, model)}
    for gate in listed_gates(change):
        if gate.model == model and left.isdisjoint(gate.versions):
            change.edit(GATES_ROLE).targets.pop(gate_target(model, gate.digest), None)


def _unlist_gates(change: Change, model: str, most: int, kept: set[tuple[str, str]]) -> None:
    """Only gates that a newer one of the same release replaces make room."""
    known = [gate for gate in listed_gates(change) if gate.model == model]
    newest = {release.gates[0] for release in listed_releases(change, model) if release.gates}
    free = [gate for gate in reversed(known) if gate.digest not in newest and (model, gate.digest) not in kept]
    leaving: list[ListedGate] = free[: max(0, len(known) - most)]
    if len(known) - len(leaving) > most:
        raise RegistryError(f"{len(known)} gates of {model} are in use, more than {most}: end a rollout first")
    for gate in leaving:
        change.edit(GATES_ROLE).targets.pop(gate_target(model, gate.digest), None)
