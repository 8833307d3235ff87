"""The repository's files in a bucket, through obstore: few long reads for the many short ones that devices ask for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from cloud_service.delivery.files import FilePart, require_repository_path
from cloud_service.lru_cache import LruCache
from shared.clock import Clock
from shared.update.names import CHUNKS, TARGETS

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SEGMENT_BYTES = 4 << 20
"""What is read at once: all blocks of a chunk, which is shorter as a rule, come from one request to the bucket."""
_READS_AT_ONCE = 8
_MOST_KEPT_BYTES = 64 << 20
_KEPT_S = 60.0
"""What was damaged in the bucket, and put right there, is served right after so long."""
_NAMED_BY_CONTENT = (f"{CHUNKS}/", f"{TARGETS}/")
"""All else, metadata that is, is read anew for each request: an old timestamp would hide what was just signed."""

_Place: TypeAlias = "tuple[str, int]"


class BucketFiles:
    """Implements `RepositoryFiles`. Memory: `most_kept_bytes`, and eight segments of 4 MiB that are being read."""

    def __init__(
        self, store: ObjectStore, clock: Clock, name: str = "the bucket", most_kept_bytes: int = _MOST_KEPT_BYTES
    ) -> None:
        """`name`: the bucket's, for messages."""
        import obstore
        from obstore.exceptions import BaseError

        self._obstore = obstore
        self._store = store
        self._name = name
        self._errors: tuple[type[Exception], ...] = (BaseError, OSError, ValueError, OverflowError)
        self._clock = clock
        self._kept: LruCache[_Place, tuple[float, FilePart]] = LruCache(most_kept_bytes, lambda each: len(each[1].data))
        self._reading = tuple(threading.Lock() for _ in range(_READS_AT_ONCE))

    def read(self, path: str, offset: int, length: int) -> FilePart:
        """See `RepositoryFiles`."""
        require_repository_path(path)
        if not path.startswith(_NAMED_BY_CONTENT):
            return self._fetch(path, offset, length)
        data = b""
        while True:
            at = offset + len(data)
            begin = at - at % _SEGMENT_BYTES
            segment = self._segment(path, begin)
            data += segment.data[at - begin : at - begin + length - len(data)]
            if len(data) == length or offset + len(data) != begin + _SEGMENT_BYTES:
                return FilePart(data, segment.file_length)

    def _segment(self, path: str, begin: int) -> FilePart:
        """Whoever wants what another reads just now waits for it."""
        place = (path, begin)
        if (segment := self._read_lately(place)) is not None:
            return segment
        with self._reading[hash(place) % _READS_AT_ONCE]:
            if (segment := self._read_lately(place)) is None:
                segment = self._fetch(path, begin, _SEGMENT_BYTES)
                self._kept.put(place, (self._clock.monotonic_s() + _KEPT_S, segment))
            return segment

    def _read_lately(self, place: _Place) -> FilePart | None:
        until_s, segment = self._kept.get(place) or (0.0, None)
        return segment if self._clock.monotonic_s() < until_s else None

    def _fetch(self, path: str, begin: int, length: int) -> FilePart:
        try:
            found = self._obstore.get(self._store, path, options={"range": (begin, begin + length)})
            return FilePart(bytes(found.bytes()), found.meta["size"])
        except FileNotFoundError:
            raise
        except self._errors as error:
            return FilePart(b"", self._length_before(path, begin, error))

    def _length_before(self, path: str, begin: int, error: Exception) -> int:
        """The length of a file that ends at `begin` or before, of which buckets refuse to read nothing.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it does not end there; `error` is why it was not read.
        """
        try:
            length: int = self._obstore.head(self._store, path)["size"]
        except FileNotFoundError:
            raise
        except self._errors:
            length = begin + 1
        if length > begin:
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            raise OSError(f"{self._name} does not give {path}: {reason}") from error
        return length
