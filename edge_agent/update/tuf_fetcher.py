"""Lets python-tuf's blocking client fetch through an asynchronous `RepositorySource`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import IO

import anyio
import anyio.from_thread
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from edge_agent.update.limits import UpdateLimits
from edge_agent.update.ports import RepositorySource, closing
from shared.errors import FetchFailed, FileNotThere
from shared.update.names import METADATA


class SourceFetcher(FetcherInterface):
    """Fetches whole files into memory. Used in anyio's worker threads, by one at a time."""

    def __init__(self, source: RepositorySource, limits: UpdateLimits) -> None:
        self._source = source
        self._limits = limits
        self._most_bytes = 0
        self._ends_at_s: float | None = None

    def begin(self) -> None:
        """From now on the files that follow have `longest_s` together."""
        self._ends_at_s = None

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """See `FetcherInterface`; a signed length is no leave to send more than our own limits.

        Raises:
            DownloadLengthMismatchError: it is longer than `max_length` or than our own limit.
            DownloadHTTPError: there is no such file (404).
            DownloadError: it cannot be fetched, or comes too slowly.
        """
        is_metadata = url.startswith(f"{METADATA}/")
        own_limit = self._limits.metadata_bytes if is_metadata else self._limits.target_bytes
        self._most_bytes = min(max_length, own_limit)
        with super().download_file(url, max_length) as file:
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((anyio.from_thread.run(self._collect, url, self._most_bytes),))

    async def _collect(self, path: str, most_bytes: int) -> bytes:
        """The whole file. Gathered in one task, since a source may hold timeouts open from piece to piece."""
        data = bytearray()
        started_s = anyio.current_time()
        ends_at_s = self._ends_at_s = self._ends_at_s or started_s + self._limits.longest_s
        with anyio.CancelScope() as scope:
            scope.deadline = min(ends_at_s, started_s + self._limits.patience_s)
            try:
                async with closing(self._source.read(path, most_bytes=most_bytes)) as pieces:
                    async for piece in pieces:
                        data.extend(piece)
                        if len(data) > most_bytes:
                            raise DownloadLengthMismatchError(f"{path} has more than {most_bytes} bytes")
                        bought_s = self._limits.patience_s + len(data) / self._limits.least_bytes_per_s
                        scope.deadline = min(ends_at_s, started_s + bought_s)
            except FileNotThere as error:
                raise DownloadHTTPError(str(error), HTTPStatus.NOT_FOUND) from error
            except FetchFailed as error:
                raise DownloadError(str(error)) from error
            return bytes(data)
        took_s = anyio.current_time() - started_s
        raise DownloadError(f"{path} comes too slowly: {len(data)} bytes in {took_s:.1f} s")
