"""Bundles: one deployable model in one content-addressed folder, read and written here alone."""

from shared.bundle.manifest import (
    MANIFEST_NAME,
    Chunk,
    FileEntry,
    GoldenItem,
    GoldenSet,
    GraphSpec,
    Manifest,
    Preprocessing,
    Requirements,
    Role,
    TensorSpec,
    Tier,
)
from shared.bundle.reader import Bundle, read_bundle
from shared.bundle.signature import check_signature
from shared.bundle.writer import BundleDraft, replace_gate, write_bundle

__all__ = [
    "MANIFEST_NAME",
    "Bundle",
    "BundleDraft",
    "Chunk",
    "FileEntry",
    "GoldenItem",
    "GoldenSet",
    "GraphSpec",
    "Manifest",
    "Preprocessing",
    "Requirements",
    "Role",
    "TensorSpec",
    "Tier",
    "check_signature",
    "read_bundle",
    "replace_gate",
    "write_bundle",
]
