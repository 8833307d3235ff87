"""The repository's files over HTTP, in ranges: a file goes on where it broke off. Believes nothing of what comes."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from edge_agent.update.loose_threads import LooseThreads
from edge_agent.update.windows import Patience, TransferLimits
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ConfigurationError, FetchFailed, FileNotThere, MessageError
from shared.listeners import is_loopback
from shared.update.names import checked_repository_path

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_CONNECTIONS = 4
_PIECE_BYTES = 128 * 1024
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 20.0
_LONGEST_RETRY_S = 60.0
_NOT_THERE = (403, 404, 410)
"""403 is what object stores say of a name that is not there to those who may not list, as in python-tuf."""
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass
class _Progress:
    """How far a file has come. `mark`: the server's name for this version of the file, "" if it gives none."""

    path: str
    most_bytes: int
    done: int = 0
    length: int | None = None
    mark: str = ""
    failures: int = 0


class HttpSource:
    """Implements `RepositorySource` in threads of its own. Memory: four pieces, or four files.

    A server that accepts and then says nothing holds up the transfer, until its patience ends, and nothing else: who is
    cancelled goes on at once, and the process may end meanwhile.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        limits: TransferLimits | None = None,
        *,
        ca_file: str | None = None,
        token: str | None = None,
        uniform: Callable[[], float] = random.random,
        checked_path: Callable[[str], str] = checked_repository_path,
    ) -> None:
        """`base_url`: of the folder that holds the repository. `token`: the device's, as for the gateway.

        `checked_path` raises `MessageError` for what may not be asked for.

        Raises:
            ConfigurationError: `base_url` is none, or is not encrypted and leads to another machine.
        """
        self._base_url = _checked(base_url)
        self._clock = clock
        self._limits = limits or TransferLimits()
        self._uniform = uniform
        self._checked_path = checked_path
        self._backoff = Backoff()
        self._headers = {"accept-encoding": "identity", **({"authorization": f"Bearer {token}"} if token else {})}
        read_timeout_s = min(_READ_TIMEOUT_S, self._limits.stalled_after_s)
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            retries=False,
            timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, read_timeout_s), read=read_timeout_s),
            ca_certs=ca_file,
        )
        self._threads = LooseThreads(_CONNECTIONS, "tandem-http-source")
        self._lock = threading.Lock()
        self._bytes_received = 0

    @property
    def bytes_received(self) -> int:
        """See `RepositorySource`."""
        return self._bytes_received

    def close(self) -> None:
        """Begin nothing more, and hang up where nothing is under way; who waits for its turn is told so."""
        self._threads.close()
        self._pool.clear()

    async def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        """See `RepositorySource`."""
        stop = threading.Event()
        pieces = self._pieces(path, most_bytes, stop)
        try:
            while (data := await self._in_thread(partial(next, pieces, None))) is not None:
                yield data
        finally:
            stop.set()
            self._threads.submit(pieces.close)

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        """See `RepositorySource`; four at a time."""
        stop = threading.Event()
        waiting = deque(dict.fromkeys(paths))
        running: dict[asyncio.Future[bytes], str] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _CONNECTIONS:
                    path = waiting.popleft()
                    running[self._in_thread(partial(self._whole, path, most_bytes, stop))] = path
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield running.pop(each), each.result()
        finally:
            stop.set()
            for each in running:
                each.cancel()

    def _in_thread(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.wrap_future(self._threads.submit(work))

    def _whole(self, path: str, most_bytes: int, stop: threading.Event) -> bytes:
        return b"".join(self._pieces(path, most_bytes, stop))

    def _pieces(self, path: str, most_bytes: int, stop: threading.Event) -> Generator[bytes, None, None]:
        """In a thread. Goes on after errors until its patience ends."""
        try:
            progress = _Progress(self._checked_path(path), most_bytes)
        except MessageError as error:
            raise FileNotThere(str(error)) from error
        patience = Patience(self._limits)
        while not stop.is_set():
            began_s = self._clock.monotonic_s()
            try:
                for data in self._attempt(progress, patience):
                    yield data
                    began_s = self._clock.monotonic_s()
                    if stop.is_set():
                        return
                return
            except (HTTPError, OSError) as error:
                progress.failures += 1
                wait_s = self._wait_s(error, progress)
                _log.info("%s after %d bytes, again in %.1f s: %s", path, progress.done, wait_s, error)
                stop.wait(min(wait_s, max(0.0, patience.left_s)))
                patience.waited(self._clock.monotonic_s() - began_s, 0)
                if problem := patience.problem():
                    raise FetchFailed(f"{self._base_url}/{path}: {problem}; {error}") from error

    def _wait_s(self, error: Exception, progress: _Progress) -> float:
        if isinstance(error, _AskedToWait) and error.seconds:
            return min(_LONGEST_RETRY_S, error.seconds) * (1 + 0.25 * self._uniform())
        return self._backoff.delay_s(progress.failures, self._uniform)

    def _attempt(self, progress: _Progress, patience: Patience) -> Iterator[bytes]:
        """From where it stands to the end. Raises: HTTPError, OSError: it broke off; FetchFailed: it is no use."""
        headers = dict(self._headers)
        if progress.done:
            headers["range"] = f"bytes={progress.done}-"
            if progress.mark:
                headers["if-range"] = progress.mark
        began_s = self._clock.monotonic_s()
        response = self._pool.request(
            "GET",
            f"{self._base_url}/{progress.path}",
            headers=headers,
            preload_content=False,
            decode_content=False,
            redirect=False,
        )
        is_spent = False
        try:
            to_skip = _to_skip(response, progress)
            while progress.done != progress.length:
                data = response.read1(_PIECE_BYTES)
                if not data and progress.length is not None:
                    raise urllib3.exceptions.ProtocolError(f"it ends after {progress.done} bytes")
                if not data:
                    break
                with self._lock:
                    self._bytes_received += len(data)
                now_s = self._clock.monotonic_s()
                patience.waited(now_s - began_s, len(data))
                if problem := patience.problem():
                    raise FetchFailed(f"{self._base_url}/{progress.path}: {problem}")
                skipped = min(to_skip, len(data))
                to_skip -= skipped
                if fresh := data[skipped:]:
                    progress.done += len(fresh)
                    if progress.done > progress.most_bytes:
                        raise FetchFailed(f"{progress.path} has more than {progress.most_bytes} bytes")
                    yield fresh
                began_s = self._clock.monotonic_s()
            is_spent = True
        finally:
            if is_spent:
                response.drain_conn()
                response.release_conn()
            else:
                response.close()


class _AskedToWait(HTTPError):
    def __init__(self, problem: str, seconds: float) -> None:
        super().__init__(problem)
        self.seconds = seconds


def _to_skip(response: urllib3.BaseHTTPResponse, progress: _Progress) -> int:
    """Check the answer's head. Returns: how many of its first bytes have come before."""
    if response.status in _NOT_THERE:
        raise FileNotThere(f"the repository has no {progress.path} (HTTP {response.status})")
    if response.status in _TRY_AGAIN:
        told = response.headers.get("retry-after", "")
        raise _AskedToWait(f"HTTP {response.status}", float(told) if told.isdigit() else 0.0)
    if response.status not in (200, 206) or response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed(f"{progress.path}: HTTP {response.status}, which is of no use")
    mark, length, begin = response.headers.get("etag", ""), _length_of(response), 0
    if response.status == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or int(found[1]) != progress.done:
            raise FetchFailed(f"{progress.path}: another range came than was asked for")
        begin, length = int(found[1]), int(found[2])
    if progress.done and (progress.mark, progress.length) != (mark, length):
        raise FetchFailed(f"{progress.path} changed while it was fetched")
    if length is not None and length > progress.most_bytes:
        raise FetchFailed(f"{progress.path} has {length} bytes, more than {progress.most_bytes}")
    progress.mark, progress.length = "" if mark.startswith("W/") else mark, length
    return progress.done - begin


def _length_of(response: urllib3.BaseHTTPResponse) -> int | None:
    told = response.headers.get("content-length", "")
    return int(told) if told.isdigit() and len(told) < 20 else None


def _checked(base_url: str) -> str:
    try:
        parsed = urllib3.util.parse_url(base_url)
    except HTTPError as error:
        raise ConfigurationError(f"{base_url!r} is no address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{base_url!r} is no address that begins with https://")
    if parsed.scheme == "http" and not is_loopback(parsed.host.strip("[]")):
        raise ConfigurationError(f"{base_url} is not on this machine: use https")
    return base_url.rstrip("/")
