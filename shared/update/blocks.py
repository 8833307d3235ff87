"""Pieces of the repository's files as they travel over MQTT: the device asks, a publisher answers."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BLOCK_BYTES = 256 * 1024
"""What any broker takes in one message."""
MAX_RANGES = 256
"""In one request."""


@dataclass(frozen=True)
class BlockRange:
    """A piece of a file of the repository; `length` 0 means to the file's end. Lengths in bytes."""

    path: str
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class BlockRequest:
    """What a device asks for; `publisher` is whom it asks, "" any one. `block_bytes`: the largest piece it takes."""

    request_id: str
    ranges: tuple[BlockRange, ...]
    block_bytes: int
    publisher: str = ""


@dataclass(frozen=True)
class Block:
    """A piece of a file, or word that there is none (`is_missing`) or not yet (`retry_after_ms` above 0)."""

    request_id: str
    publisher: str
    path: str
    offset: int
    file_length: int
    data: bytes = b""
    is_missing: bool = False
    retry_after_ms: int = 0


@dataclass(frozen=True)
class PublisherPresence:
    """Who serves blocks; `ranges_waiting`: how many ranges it has still to send."""

    publisher: str
    online: bool
    sent_at_unix_ms: int
    block_bytes: int = MAX_BLOCK_BYTES
    ranges_waiting: int = 0
