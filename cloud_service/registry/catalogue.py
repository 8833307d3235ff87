"""What the metadata list, in the registry's own words: releases and their gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from tuf.api.metadata import TargetFile, Targets

from cloud_service.registry.change import Change
from cloud_service.registry.metadata import SignedState
from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import RegistryError, UpdateRefused
from shared.update.assignment import Arm
from shared.update.names import EXCEPTIONS_ROLE, GATES_ROLE, RELEASES_ROLE, exception_target
from shared.update.release import parse_release_facts


@dataclass(frozen=True)
class GateFacts(Document):
    """The `custom` field of a gate target. `gate` grows by one with each gate of a model; `versions`: it is for."""

    gate: int
    versions: tuple[str, ...]

    def as_custom(self) -> dict[str, object]:
        """As metadata holds it."""
        return asdict(self)


@dataclass(frozen=True)
class ListedGate:
    """A gate that the metadata list. `length`: of its target, in bytes."""

    model: str
    digest: str
    number: int
    versions: tuple[str, ...]
    length: int


@dataclass(frozen=True)
class ListedRelease:
    """A release that the metadata list. `gates`: digests, newest first; none for a full model."""

    model: str
    version: str
    release: int
    hardware: tuple[str, ...]
    manifest_sha256: str
    gates: tuple[str, ...] = ()
    is_excepted: bool = False

    def arm(
        self, *, gate_digest: str | None = None, share_until: float = 1.0, variant: str = "", shadow_share: float = 0.0
    ) -> Arm:
        """The arm that gives devices this release, with its newest gate unless `gate_digest` names another."""
        gate = gate_digest if gate_digest is not None else next(iter(self.gates), "")
        return Arm(self.version, self.manifest_sha256, gate, self.release, share_until, variant, shadow_share)


@dataclass(frozen=True)
class ReleaseRecord(Document):
    """What is remembered of a release that was ever published, listed or not."""

    model: str
    version: str
    release: int
    manifest_sha256: str
    published_unix_s: int


def listed_releases(view: SignedState | Change, model: str | None = None) -> list[ListedRelease]:
    """The releases of `model` (None: of all models), by model and number.

    Raises:
        RegistryError: a listing cannot be read.
    """
    gates = listed_gates(view)
    excepted = view.role(EXCEPTIONS_ROLE).targets
    found = []
    for name, target in view.role(RELEASES_ROLE).targets.items():
        _, of_model, last = name.split("/")
        if model is not None and of_model != model:
            continue
        version = last.removesuffix(".json")
        try:
            facts = parse_release_facts(target.custom)
        except UpdateRefused as error:
            raise RegistryError(f"{name}: {error}") from error
        fitting = tuple(gate.digest for gate in gates if gate.model == of_model and version in gate.versions)
        is_excepted = exception_target(of_model, version) in excepted
        found.append(
            ListedRelease(
                of_model, version, facts.release, facts.hardware, target.hashes["sha256"], fitting, is_excepted
            )
        )
    return sorted(found, key=lambda release: (release.model, release.release))


def listed_gates(view: SignedState | Change) -> list[ListedGate]:
    """All gates, newest first.

    Raises:
        RegistryError: a listing cannot be read.
    """
    return sorted(_gates(view.role(GATES_ROLE)), key=lambda gate: -gate.number)


def find_release(view: SignedState | Change, model: str, version: str) -> ListedRelease:
    """The listed release.

    Raises:
        RegistryError: it is not listed.
    """
    found = listed_releases(view, model)
    for release in found:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in found) or "none"
    raise RegistryError(f"release {version} of {model} is not listed; listed are {known}")


def record_path(model: str, version: str) -> str:
    """Where the record of a release lies: outside what is served."""
    return f"records/{model}/{version}.json"


def encode_record(record: ReleaseRecord) -> bytes:
    """The record's bytes."""
    return canonical_json(record)


def parse_record(data: bytes, path: str) -> ReleaseRecord:
    """Read a record.

    Raises:
        RegistryError: it is none.
    """
    try:
        return read_document(ReleaseRecord, data)
    except DocumentError as error:
        raise RegistryError(f"{path} cannot be read: {error}") from error


def _gates(listing: Targets) -> Iterator[ListedGate]:
    for name, target in listing.targets.items():
        _, model, last = name.split("/")
        facts = _gate_facts(name, target)
        yield ListedGate(model, last.removesuffix(".zst"), facts.gate, facts.versions, target.length)


def _gate_facts(name: str, target: TargetFile) -> GateFacts:
    custom: Mapping[str, object] = target.custom or {}
    number, versions = custom.get("gate"), custom.get("versions")
    if not isinstance(number, int) or not isinstance(versions, list | tuple):
        raise RegistryError(f"{name}: its signed facts cannot be read")
    return GateFacts(number, tuple(str(version) for version in versions))
