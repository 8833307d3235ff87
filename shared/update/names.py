"""Where everything lies in a repository, for both transports: paths with '/' between their parts.

    metadata/timestamp.json, metadata/<version>.<role>.json    signed metadata of The Update Framework
    targets/<name with the content's SHA-256 before its last part>   signed targets: manifests, gates, assignments
    chunks/<sha256[:2]>/<sha256>.zst                            pieces of files, by the SHA-256 of their plain bytes

A target's name says who may sign it: `models/` and `gates/` the keys that release, `rings/` and `devices/` the
director's.
"""

from __future__ import annotations

import re

from shared.errors import MessageError
from shared.types import checked_identifier

METADATA = "metadata"
TARGETS = "targets"
CHUNKS = "chunks"
RELEASES_ROLE = "releases"
GATES_ROLE = "gates"
DIRECTOR_ROLE = "director"
EXCEPTIONS_ROLE = "exceptions"
ROLE_PATHS = {
    RELEASES_ROLE: ("models/*/*",),
    GATES_ROLE: ("gates/*/*",),
    DIRECTOR_ROLE: ("rings/*/*", "devices/*/*"),
    EXCEPTIONS_ROLE: ("exceptions/*/*",),
}
"""Which targets each delegated role may sign."""

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
_REPOSITORY_PATH = re.compile(rf"(?:{METADATA}|{TARGETS}|{CHUNKS})(?:/{_PART})+")
_MAX_PATH_CHARACTERS = 400


def manifest_target(model: str, version: str) -> str:
    """The target that holds a release's manifest, without its gate."""
    return f"models/{checked_identifier('model', model)}/{checked_identifier('version', version)}.json"


def gate_target(model: str, gate_digest: str) -> str:
    """The target that holds a gate: its document, compressed with zstd."""
    return f"gates/{checked_identifier('model', model)}/{checked_identifier('gate', gate_digest)}.zst"


def ring_target(ring: str, model: str) -> str:
    """The target that says what a ring's devices are to run of a model."""
    return f"rings/{checked_identifier('ring', ring)}/{checked_identifier('model', model)}.json"


def device_target(device_id: str, model: str) -> str:
    """The target that says what one device is to run of a model, whatever its ring is told."""
    return f"devices/{checked_identifier('device', device_id)}/{checked_identifier('model', model)}.json"


def exception_target(model: str, version: str) -> str:
    """The target that allows a release below the version floor."""
    return f"exceptions/{checked_identifier('model', model)}/{checked_identifier('version', version)}.json"


def chunk_path(chunk_sha256: str) -> str:
    """Where a chunk lies, compressed with zstd; `chunk_sha256` is of its plain bytes, in hexadecimal."""
    return f"{CHUNKS}/{chunk_sha256[:2]}/{chunk_sha256}.zst"


def checked_repository_path(path: str) -> str:
    """`path`, if it can be one of a repository's files.

    Raises:
        MessageError: it climbs out of the repository, or has a part that no file of a repository has.
    """
    if len(path) > _MAX_PATH_CHARACTERS or not _REPOSITORY_PATH.fullmatch(path):
        raise MessageError(f"{path[:80]!r} is no path in a repository")
    return path
