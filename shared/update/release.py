"""What a release's signed listing says beside length and hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from shared.bundle.manifest import FileEntry, Manifest, Role
from shared.bundle.writer import GATE_NAME, file_entry
from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import UpdateRefused


@dataclass(frozen=True)
class ReleaseFacts(Document):
    """The `custom` field of a manifest target. `release` grows by one with each release of a model, and never falls.

    `hardware`: the kinds of device that the release runs on; empty for all.
    """

    release: int
    hardware: tuple[str, ...] = ()

    def as_custom(self) -> dict[str, object]:
        """As metadata holds it."""
        return asdict(self)


def parse_release_facts(custom: Mapping[str, object] | None) -> ReleaseFacts:
    """Read a manifest target's `custom` field.

    Raises:
        UpdateRefused: it is not there, or says something else.
    """
    try:
        return read_document(ReleaseFacts, json.dumps(dict(custom or {})).encode())
    except (DocumentError, TypeError, ValueError) as error:
        raise UpdateRefused(f"the release's signed facts cannot be read: {error}") from error


def without_gate(manifest: Manifest) -> Manifest:
    """The manifest as it is signed: the gate is a target of its own, so that it can travel alone."""
    return replace(manifest, files=tuple(entry for entry in manifest.files if entry.role is not Role.GATE))


def with_gate(manifest: Manifest, gate_document: bytes) -> Manifest:
    """The manifest of the bundle that a device puts together from a release and a gate."""
    entries: list[FileEntry] = [entry for entry in manifest.files if entry.role is not Role.GATE]
    entries.append(file_entry(GATE_NAME, Role.GATE, gate_document))
    return replace(manifest, files=tuple(sorted(entries, key=lambda entry: entry.path)))


def manifest_bytes(manifest: Manifest) -> bytes:
    """The bytes of a manifest, as `bundle.json` holds them and as they are signed."""
    return canonical_json(manifest)
