"""The one adapter to python-tuf's client: its metadata, its downloads and its errors, on the device's own terms."""

from __future__ import annotations

import concurrent.futures
import errno
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import anyio
import anyio.lowlevel
import anyio.to_thread
from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_agent.update.limits import UpdateLimits
from edge_agent.update.ports import RepositorySource
from edge_agent.update.trust_memory import TrustMemory, load_memory, put_in_place, save_memory
from edge_agent.update.trusted_time import BUILT_UNIX_S, TrustedTime
from edge_agent.update.tuf_fetcher import SourceFetcher
from shared.clock import Clock
from shared.errors import ConfigurationError, FetchFailed, FileNotThere, NoRoom, UpdateError, UpdateRefused
from shared.update.names import METADATA, TARGETS

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
MEMORY_NAME = "seen"
_ROLES_BY_PATH = 1
"""Only roles that the targets role itself delegates to are asked: what a delegated role delegates on counts nothing."""
_TIME_SAVED_EVERY_S = 600.0
_MAX_WORDS = 400
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE_DISK = (*_FULL_DISK, errno.EROFS, errno.EACCES, errno.EPERM)
_STRANGE_METADATA = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class TufClient:
    """Metadata and targets of one repository; what blocks runs in a worker thread, one thing at a time.

    `folder` holds the metadata under names without versions, and what was seen before (`MEMORY_NAME`). Nothing else
    may write there.
    """

    def __init__(
        self,
        source: RepositorySource,
        folder: Path,
        pinned_root: bytes,
        clock: Clock,
        *,
        limits: UpdateLimits | None = None,
        built_unix_s: float = BUILT_UNIX_S,
        max_delegations: int = _ROLES_BY_PATH,
    ) -> None:
        self._folder = folder
        self._pinned_root = pinned_root
        self._limits = limits or UpdateLimits()
        self._config = self._limits.updater_config(max_delegations)
        self._fetcher = SourceFetcher(source, self._limits)
        self._clock = clock
        self._memory = load_memory(folder / MEMORY_NAME)
        self._time = TrustedTime(clock, last_trusted_unix_s=self._memory.time_unix_s, built_unix_s=built_unix_s)
        self._updater: _Updater | None = None
        self._refreshed_at_s = 0.0
        self._one_thread: anyio.CapacityLimiter | None = None

    def now_unix_s(self) -> float:
        """See `TrustedTime.now_unix_s`."""
        return self._time.now_unix_s()

    async def refresh(self) -> None:
        """Fetch the newest metadata of the top-level roles.

        Raises:
            UpdateRefused: they are not signed as they must be, expired, or older than what was seen before.
            FetchFailed: the repository cannot be reached, or comes too slowly, or sends too much.
            NoRoom: the disk is full.
        """
        await self._in_thread(self._refresh)

    async def find(self, path: str, role: str | None = None) -> TargetFile | None:
        """What is signed of the target `path`; None where nothing is. With `role`, that one must have signed it.

        Raises:
            UpdateRefused, FetchFailed, NoRoom: see `refresh`.
        """
        return await self._in_thread(lambda: self._find(path, role))

    async def fetch(self, target: TargetFile, file: Path, *, most_bytes: int) -> None:
        """Have the target in `file`, verified; nothing travels where it is there already.

        Raises:
            UpdateRefused: it is longer than `most_bytes`, or what comes is not what was signed.
            FetchFailed, NoRoom: see `refresh`.
        """
        await self._in_thread(lambda: self._fetch(target, file, most_bytes))

    async def read(self, path: str, role: str, folder: Path, *, most_bytes: int) -> bytes | None:
        """The target `path`, which `role` must have signed; None where it is not signed. Kept in `folder` for a while.

        Raises:
            UpdateRefused, FetchFailed, NoRoom: see `fetch`.
        """
        return await self._in_thread(lambda: self._read(path, role, folder, most_bytes))

    def floor(self, model: str) -> int:
        """The lowest release of `model` that the device still takes: see `raise_floor`."""
        return self._memory.floors.get(model, 0)

    async def raise_floor(self, model: str, floor: int) -> None:
        """From now on, over restarts too, no release of `model` below `floor` is taken.

        Raises:
            NoRoom, UpdateRefused: it cannot be written.
        """
        if floor > self.floor(model):
            floors = {**self._memory.floors, model: floor}
            await self._in_thread(lambda: self._remember(replace(self._memory, floors=floors)))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        self._one_thread = self._one_thread or anyio.CapacityLimiter(1)
        try:
            return await anyio.to_thread.run_sync(lambda: self._translating(work), limiter=self._one_thread)
        except (concurrent.futures.CancelledError, UpdateError):
            await anyio.lowlevel.checkpoint()  # a cancelled caller is to see the cancellation, not what came of it
            raise

    def _translating(self, work: Callable[[], _T]) -> _T:
        self._fetcher.begin()
        try:
            return work()
        except (exceptions.RepositoryError, exceptions.DownloadError, OSError, *_STRANGE_METADATA) as error:
            raise self._translated(error) from error

    def _refresh(self) -> None:
        self._updater = None
        try:
            updater = self._refreshed()
        except OSError as error:
            if error.errno in _UNWRITABLE_DISK:
                raise
            _log.warning("the metadata kept in %s cannot be used and are fetched anew: %s", self._folder, error)
            self._clear()
            updater = self._refreshed()
        memory = self._memory.after(updater.root, updater.timestamp, updater.snapshot)
        self._time.confirm(updater.reference_unix_s)
        self._remember(replace(memory, time_unix_s=self._time.floor_unix_s))
        self._updater, self._refreshed_at_s = updater, self._clock.monotonic_s()

    def _refreshed(self) -> _Updater:
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob("tmp*"):
            leftover.unlink(missing_ok=True)
        updater = _Updater(self._folder, self._fetcher, self._config, self._pinned_root, self._time.now_unix_s())
        updater.refresh()
        return updater

    def _find(self, path: str, role: str | None) -> TargetFile | None:
        updater = self._fresh()
        target = updater.get_targetinfo(path)
        if target is not None and role is not None and updater.listed(role, path) != target:
            raise UpdateRefused(f"{path} is signed by another role than {role}, which alone may sign it")
        return target

    def _fetch(self, target: TargetFile, file: Path, most_bytes: int) -> None:
        if target.length > most_bytes:
            raise UpdateRefused(f"{target.path} is to have {target.length} bytes, more than the {most_bytes} it may")
        updater = self._fresh()
        file.parent.mkdir(parents=True, exist_ok=True)
        if updater.find_cached_target(target, str(file)):
            return
        building = file.with_name(f".{file.name[:100]}.new")
        try:
            updater.download_target(target, str(building))
            put_in_place(building, file)
        finally:
            building.unlink(missing_ok=True)

    def _read(self, path: str, role: str, folder: Path, most_bytes: int) -> bytes | None:
        target = self._find(path, role)
        if target is None:
            return None
        file = folder / quote(path, "")
        self._fetch(target, file, most_bytes)
        data = file.read_bytes()
        target.verify_length_and_hashes(data)
        kept = sorted(folder.iterdir(), key=lambda other: other.stat().st_mtime_ns, reverse=True)
        for old in kept[self._limits.targets_kept :]:
            old.unlink(missing_ok=True)
        return data

    def _fresh(self) -> _Updater:
        """A held refresh grows old: by then its metadata may have expired."""
        age_s = self._clock.monotonic_s() - self._refreshed_at_s
        if self._updater is None or age_s > self._limits.refresh_holds_s:
            self._refresh()
        assert self._updater is not None
        return self._updater

    def _remember(self, memory: TrustMemory) -> None:
        is_news = replace(memory, time_unix_s=self._memory.time_unix_s) != self._memory
        if is_news or memory.time_unix_s - self._memory.time_unix_s >= _TIME_SAVED_EVERY_S:
            save_memory(self._folder / MEMORY_NAME, memory)
            self._memory = memory

    def _clear(self) -> None:
        """Take the metadata away, and leave what was seen before: the pinned root is the way back."""
        for path in self._folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MEMORY_NAME:
                path.unlink()

    def _translated(self, error: Exception) -> UpdateError:
        words = plain_words(error)
        if isinstance(error, OSError):
            kind = NoRoom if error.errno in _FULL_DISK else FetchFailed
            return kind(f"what was fetched cannot be kept on the disk: {words}")
        if isinstance(error, exceptions.DownloadLengthMismatchError):
            return FetchFailed(f"the repository sends more than it may: {words}")
        if isinstance(error, exceptions.DownloadHTTPError) and error.status_code == HTTPStatus.NOT_FOUND:
            return FileNotThere(f"the repository lacks a file: {words}")
        if isinstance(error, exceptions.DownloadError):
            return FetchFailed(f"the repository cannot be read: {words}")
        return UpdateRefused(f"{self._refusal(error)}: {words}")

    def _refusal(self, error: Exception) -> str:
        if isinstance(error, exceptions.ExpiredMetadataError):
            day = datetime.fromtimestamp(self._time.now_unix_s(), timezone.utc)
            return f"by {day:%Y-%m-%d %H:%M} UTC, the trusted time, the signed metadata have expired"
        if isinstance(error, exceptions.UnsignedMetadataError):
            return "metadata lack the signatures of the keys that must sign them"
        if isinstance(error, exceptions.BadVersionNumberError):
            return "metadata are of another version than they must be"
        if isinstance(error, exceptions.LengthOrHashMismatchError):
            return "the content is not what was signed"
        return "the repository's metadata cannot be used"


def plain_words(error: Exception) -> str:
    """An error's text on one line, without what cannot be printed."""
    return "".join(one if one.isprintable() else "\ufffd" for one in str(error)[:_MAX_WORDS])


def root_words(data: bytes) -> str:
    """What pinned root metadata are, in words; whether they are signed well is told by the first refresh.

    Raises:
        ConfigurationError: they are none.
    """
    try:
        root = Metadata[Root].from_bytes(data).signed
    except DeserializationError as error:
        raise ConfigurationError(f"update.root_file holds no root metadata: {plain_words(error)}") from error
    if not isinstance(root, Root):
        raise ConfigurationError("update.root_file holds other metadata than a root's")
    return f"root version {root.version}"


class _Updater(Updater):
    """The only place that uses what python-tuf does not promise: the set of verified metadata, and its time."""

    def __init__(
        self, folder: Path, fetcher: FetcherInterface, config: UpdaterConfig, pinned_root: bytes, unix_s: float
    ) -> None:
        if not pinned_root:
            raise UpdateRefused("there is no pinned root to start from")
        bases = f"{METADATA}/", str(folder), f"{TARGETS}/"
        super().__init__(str(folder), *bases, fetcher=fetcher, config=config, bootstrap=pinned_root)
        # The roots are read before, and no root's expiry is looked at before the timestamp is.
        if not isinstance(getattr(self._trusted_set, "reference_time", None), datetime):
            raise UpdateRefused("this python-tuf cannot be told the time; install a version that Tandem names")
        self._trusted_set.reference_time = datetime.fromtimestamp(unix_s, timezone.utc)
        self.reference_unix_s = unix_s

    @property
    def root(self) -> Root:
        """The newest root."""
        return self._trusted_set.root

    @property
    def timestamp(self) -> Timestamp:
        """Verified, after `refresh`."""
        return self._trusted_set.timestamp

    @property
    def snapshot(self) -> Snapshot:
        """Verified, after `refresh`."""
        return self._trusted_set.snapshot

    def listed(self, role: str, path: str) -> TargetFile | None:
        """What `role` itself says of a target, once a look-up came to it."""
        found = self._trusted_set.get(role)
        return found.targets.get(path) if isinstance(found, Targets) else None
