"""Writes a bundle's folder: digests every file, and puts the whole in place at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from shared.bundle.manifest import (
    MANIFEST_NAME,
    Chunk,
    FileEntry,
    GoldenSet,
    GraphSpec,
    Manifest,
    Preprocessing,
    Requirements,
    Role,
    Tier,
)
from shared.bundle.reader import Bundle
from shared.documents import canonical_json, sha256
from shared.errors import BundleDigestMismatch
from shared.folders import replacing_folder
from shared.gate import Gate, gate_document

GATE_NAME = "gate.json"
GOLDEN_NAME = "golden.json"
MAX_CHUNK_BYTES = 1 << 20
"""Of a chunk that is written: so much is fetched again where a device was cut off, or where one row has changed."""


@dataclass(frozen=True)
class BundleDraft:
    """What goes into a bundle.

    `files` maps a path within the bundle to its role and its source. `borders` holds, for a path, the byte
    offsets at which tensors begin; a file without borders is one chunk.
    """

    model: str
    version: str
    tier: Tier
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    graph: GraphSpec
    requires: Requirements
    files: Mapping[str, tuple[Role, Path]]
    golden: GoldenSet
    borders: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def manifest(self) -> Manifest:
        """The manifest without gate and golden set; its `model_digest` is the finished bundle's."""
        entries = [
            file_entry(name, role, source.read_bytes(), self.borders.get(name, ()))
            for name, (role, source) in self.files.items()
        ]
        return self._manifest_of(entries)

    def _manifest_of(self, entries: Sequence[FileEntry]) -> Manifest:
        return Manifest(
            model=self.model,
            version=self.version,
            tier=self.tier,
            labels=self.labels,
            preprocessing=self.preprocessing,
            graph=self.graph,
            requires=self.requires,
            files=tuple(sorted(entries, key=lambda entry: entry.path)),
        )

    def finished(self, gate: Gate | None) -> tuple[Manifest, dict[str, bytes]]:
        """The whole manifest, and the bytes of the documents that it names beside `files`."""
        documents = {GOLDEN_NAME: (Role.GOLDEN, canonical_json(self.golden))}
        if gate is not None:
            documents[GATE_NAME] = (Role.GATE, gate_document(gate))
        added = [file_entry(name, role, data) for name, (role, data) in documents.items()]
        return self._manifest_of([*self.manifest().files, *added]), {
            name: data for name, (_, data) in documents.items()
        }


def file_entry(path: str, role: Role, data: bytes, borders: Sequence[int] = ()) -> FileEntry:
    """Describe a file of content `data`, cut into chunks at `borders` (byte offsets), and further where one is long."""
    starts = sorted({0, *(offset for offset in borders if 0 < offset < len(data))})
    ends = [*starts[1:], len(data)]
    cuts = [cut for start, end in zip(starts, ends, strict=True) for cut in range(start, end, MAX_CHUNK_BYTES)]
    cuts.append(len(data))
    chunks = tuple(Chunk(end - begin, sha256(data[begin:end])) for begin, end in zip(cuts[:-1], cuts[1:], strict=True))
    return FileEntry(path, role, len(data), sha256(data), chunks)


def write_bundle(draft: BundleDraft, gate: Gate | None, destination: Path) -> Manifest:
    """Write `draft` with `gate` to the folder `destination`, replacing a bundle that is there.

    The new folder is made beside the old one and exchanged for it (see `replacing_folder`), so that no
    half-written bundle is ever seen under the name and a kill loses no finished one. Returns the manifest written.

    Raises:
        OSError: the disk is full or not writable; what was at `destination` is untouched.
    """
    manifest, documents = draft.finished(gate)
    with replacing_folder(destination) as folder:
        _fill(folder, draft, {**documents, MANIFEST_NAME: canonical_json(manifest)})
    return manifest


def replace_gate(bundle: Bundle, gate: Gate) -> Manifest:
    """Give the bundle that lies at `bundle.path` another gate; every other file stays as it is.

    The folder is exchanged as a whole, as `write_bundle` does it. Returns the manifest written.

    Raises:
        BundleDigestMismatch: the gate was calibrated for another model.
        OSError: the disk is full or not writable; the old bundle is untouched.
    """
    if gate.model_digest != bundle.identity.digest:
        raise BundleDigestMismatch(bundle.path, "the gate was calibrated for another model; calibrate it for this one")
    document = gate_document(gate)
    others = [entry for entry in bundle.manifest.files if entry.role is not Role.GATE]
    entries = sorted([*others, file_entry(GATE_NAME, Role.GATE, document)], key=lambda entry: entry.path)
    manifest = replace(bundle.manifest, files=tuple(entries))
    with replacing_folder(bundle.path) as folder:
        for entry in others:
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / entry.path, folder / entry.path)
        (folder / GATE_NAME).write_bytes(document)
        (folder / MANIFEST_NAME).write_bytes(canonical_json(manifest))
    return manifest


def _fill(folder: Path, draft: BundleDraft, documents: Mapping[str, bytes]) -> None:
    for name, (_, source) in draft.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    for name, data in documents.items():
        (folder / name).write_bytes(data)
