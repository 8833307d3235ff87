"""Reads a bundle's folder and believes nothing that the manifest does not vouch for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.bundle.manifest import BUNDLE_FORMAT, MANIFEST_NAME, FileEntry, GoldenSet, Manifest, Role
from shared.documents import D, DocumentError, format_of, read_document
from shared.errors import (
    BundleDigestMismatch,
    BundleFileMissing,
    BundleFormatTooNew,
    BundleMalformed,
    GateError,
    GateFormatTooNew,
    InputError,
)
from shared.gate import Gate, parse_gate
from shared.types import ModelIdentity, checked_identifier, checked_label

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle at `path`. `gate` is there where the bundle brings one (edge models do)."""

    path: Path
    manifest: Manifest
    gate: Gate | None
    golden: GoldenSet

    @property
    def identity(self) -> ModelIdentity:
        """The model's name, version and digest, as every answer states them."""
        return ModelIdentity(self.manifest.model, self.manifest.version, self.manifest.model_digest)

    @property
    def graph_path(self) -> Path:
        """The ONNX graph; its external data lies beside it."""
        return self.path / self.manifest.graph.file

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's file."""
        return self.path / self.manifest.preprocessing.tokenizer


def read_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in the folder `path`.

    Raises:
        BundleFileMissing: the manifest or a file it names is not there.
        BundleDigestMismatch: a file, or a chunk of it, is not the one that the manifest names, or the gate
            was calibrated for another model.
        BundleFormatTooNew: the manifest, gate or golden set has a newer format, or fields that this program does
            not know.
        BundleMalformed: the manifest or a file cannot be read as what it should be, or the folder holds a file that
            the manifest does not name.
    """
    manifest = _read_manifest(path)
    for entry in manifest.files:
        _verify_file(path, entry)
    _refuse_strangers(path, manifest)
    return Bundle(path, manifest, _read_gate(path, manifest), _read_golden(path, manifest))


def _read_manifest(path: Path) -> Manifest:
    manifest_path = path / MANIFEST_NAME
    try:
        data = manifest_path.read_bytes()
    except FileNotFoundError as error:
        raise BundleFileMissing(manifest_path, "there is no bundle here") from error
    except OSError as error:
        raise BundleMalformed(manifest_path, f"cannot be read: {error}") from error
    return parse_manifest(manifest_path, data)


def parse_manifest(path: Path, data: bytes) -> Manifest:
    """The manifest that is `data`, checked for all that can be known without the files. `path` is named in errors.

    Raises:
        BundleFormatTooNew: it was written by a newer Tandem.
        BundleMalformed: it cannot be read, or is at odds with itself.
    """
    if (found := format_of(data)) > BUNDLE_FORMAT:
        raise BundleFormatTooNew(path, f"format {found} is newer than {BUNDLE_FORMAT}; update Tandem on this machine")
    manifest = _parsed(Manifest, path, data)
    _check_consistency(path, manifest)
    return manifest


def _parsed(kind: type[D], path: Path, data: bytes) -> D:
    try:
        return read_document(kind, data)
    except DocumentError as error:
        if error.unknown_field:
            raise BundleFormatTooNew(path, f"{error}; update Tandem on this machine") from error
        raise BundleMalformed(path, str(error)) from error


def _check_consistency(path: Path, manifest: Manifest) -> None:
    try:
        checked_identifier("model", manifest.model)
        checked_identifier("version", manifest.version)
        for label in manifest.labels:
            checked_label(label)
    except InputError as error:
        raise BundleMalformed(path, str(error)) from error
    named = [entry.path for entry in manifest.files]
    if len(set(named)) < len(named):
        raise BundleMalformed(path, "names a file twice")
    for entry in manifest.files:
        parts = PurePosixPath(entry.path).parts
        if not parts or entry.path.startswith("/") or ".." in parts or "\\" in entry.path:
            raise BundleMalformed(path, f"file {entry.path!r} would lie outside the bundle")
        if sum(chunk.length for chunk in entry.chunks) != entry.length:
            raise BundleMalformed(path, f"the chunks of {entry.path} do not add up to its length")
    for needed in (manifest.graph.file, manifest.preprocessing.tokenizer):
        if needed not in named:
            raise BundleMalformed(path, f"{needed} is used but not among the files")
    if len(set(manifest.labels)) < len(manifest.labels) or len(manifest.labels) < 2:
        raise BundleMalformed(path, "needs at least two labels, each once")
    if manifest.preprocessing.max_tokens < 1:
        raise BundleMalformed(path, "preprocessing.max_tokens must be at least 1")
    if manifest.preprocessing.normalization not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise BundleMalformed(path, "preprocessing.normalization must be NFC, NFD, NFKC or NFKD")


def _verify_file(root: Path, entry: FileEntry) -> None:
    path = root / entry.path
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise BundleMalformed(path, "is a link, or lies outside the bundle")
    try:
        length = path.stat().st_size
        if length != entry.length:
            raise BundleDigestMismatch(path, f"has {length} bytes, the manifest says {entry.length}")
        whole = hashlib.sha256()
        with path.open("rb") as file:
            for number, chunk in enumerate(entry.chunks):
                piece = hashlib.sha256()
                left = chunk.length
                while left and (data := file.read(min(left, _READ_BYTES))):
                    piece.update(data)
                    whole.update(data)
                    left -= len(data)
                if piece.hexdigest() != chunk.sha256:
                    raise BundleDigestMismatch(path, f"chunk {number} is damaged; fetch the bundle again")
    except FileNotFoundError as error:
        raise BundleFileMissing(path, "is named by the manifest and not there; fetch the bundle again") from error
    except OSError as error:
        raise BundleMalformed(path, f"cannot be read: {error}") from error
    if whole.hexdigest() != entry.sha256:
        raise BundleDigestMismatch(path, "is damaged; fetch the bundle again")


def _refuse_strangers(root: Path, manifest: Manifest) -> None:
    """A file that nobody vouches for could still be read by a graph, as its external data."""
    known = {MANIFEST_NAME, *(entry.path for entry in manifest.files)}
    for path in root.rglob("*"):
        if not path.is_dir() and path.relative_to(root).as_posix() not in known:
            raise BundleMalformed(path, "is not named by the manifest; take it out of the bundle")


def _read_gate(root: Path, manifest: Manifest) -> Gate | None:
    entry = manifest.file(Role.GATE)
    if entry is None:
        return None
    path = root / entry.path
    try:
        gate = parse_gate(path.read_bytes())
    except GateFormatTooNew as error:
        raise BundleFormatTooNew(path, str(error)) from error
    except GateError as error:
        raise BundleMalformed(path, str(error)) from error
    if gate.model_digest != manifest.model_digest:
        raise BundleDigestMismatch(path, "the gate was calibrated for another model; calibrate it for this one")
    return gate


def _read_golden(root: Path, manifest: Manifest) -> GoldenSet:
    entry = manifest.file(Role.GOLDEN)
    if entry is None:
        raise BundleMalformed(root / MANIFEST_NAME, "names no golden set")
    path = root / entry.path
    return _parsed(GoldenSet, path, path.read_bytes())
