"""Puts a release together in a folder of its own: from what lies on the device already, and the rest fetched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from edge_agent.update.chunks import LocalChunks, Place, decompressed, most_compressed_bytes, places_of, read_place
from edge_agent.update.content import check_graphs, check_manifest
from edge_agent.update.disk import Disk, disk_errors
from edge_agent.update.ports import RepositorySource, closing
from shared.bundle import MANIFEST_NAME, Bundle, Manifest, read_bundle
from shared.documents import canonical_json, sha256
from shared.errors import BundleError, FetchFailed, NoRoom, UpdateRefused
from shared.update.names import chunk_path

T = TypeVar("T")
_PREFIX = "staging-"
_SYNC_EVERY_BYTES = 16 << 20


class RunBlocking(Protocol):
    """Does blocking work in the one thread that is there for it; see `StateThread.run`."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What `work` returns."""
        ...


@dataclass(frozen=True)
class DiskBudget:
    """`reserve_bytes` of the disk stay free for others; slots and staging take `most_bytes` at most (None: any)."""

    reserve_bytes: int = 64 << 20
    most_bytes: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a release has come. `bytes_fetched` travelled, compressed; the others are plain bytes."""

    bytes_done: int = 0
    bytes_to_fetch: int = 0
    bytes_fetched: int = 0


@dataclass(frozen=True)
class Release:
    """What is to lie in the slot: the manifest with its gate, and the gate's document ("" bytes where it has none)."""

    manifest: Manifest
    gate_document: bytes = b""

    @property
    def folder_name(self) -> str:
        """Of the staging folder: another one for each content."""
        return _PREFIX + sha256(canonical_json(self.manifest))[:16]


@dataclass(frozen=True)
class LocalFolders:
    """Where bundles lie on the device: `root` holds the staging folders; `bundles` give their chunks.

    `idle` is the slot whose bundle may be removed where there is no room otherwise, by `empty_idle`, which blocks.
    """

    root: Path
    bundles: tuple[Path, ...]
    idle: Path
    empty_idle: Callable[[], None]


class Staging:
    """One release on its way into a staging folder. Begun anew after any interruption, it goes on from where it was."""

    def __init__(
        self,
        release: Release,
        folders: LocalFolders,
        source: RepositorySource,
        disk: Disk,
        budget: DiskBudget,
        run_blocking: RunBlocking,
    ) -> None:
        self._release = release
        self._folders = folders
        self._source = source
        self._disk = disk
        self._budget = budget
        self._run = run_blocking
        self.folder = folders.root / release.folder_name
        self.progress = Progress()
        self._unsynced_bytes = 0

    async def fetch(self, report: Callable[[Progress], None]) -> None:
        """Bring everything into the staging folder; `report` is told of every chunk that came.

        Raises:
            UpdateRefused: the release cannot lie in a slot, or a chunk came with other bytes.
            NoRoom: it does not fit; nothing was written.
            FetchFailed: the repository cannot be reached; what came is kept.
            UpdateError: the disk cannot be written.
        """
        check_manifest(self._release.manifest)
        missing = await self._run(self._prepare)
        wanted = await self._run(lambda: self._take_local(missing))
        total = sum(entry.length for entry in self._release.manifest.files)
        to_fetch = sum(places[0].length for places in wanted.values())
        self.progress = Progress(total - _bytes(p for places in wanted.values() for p in places), to_fetch)
        report(self.progress)
        if wanted:
            await self._fetch_chunks(wanted, report)
        await self._run(self._sync_all)

    async def verify(self) -> Bundle:
        """The finished bundle, every byte of which was verified.

        Raises:
            UpdateRefused: it is none that this device can use, or reads files outside itself.
            UpdateError: the disk cannot be read.
        """
        return await self._run(self._verify)

    async def _fetch_chunks(self, wanted: dict[str, list[Place]], report: Callable[[Progress], None]) -> None:
        longest = max(places[0].length for places in wanted.values())
        paths = {chunk_path(digest): digest for digest in wanted}
        async with closing(self._source.read_many(list(paths), most_bytes=most_compressed_bytes(longest))) as files:
            async for path, data in files:
                digest = paths.pop(path, None)
                if digest is None:
                    continue
                places = wanted[digest]
                plain = decompressed(data, places[0])
                await self._run(partial(self._put, places, plain))
                done = self.progress
                self.progress = Progress(
                    done.bytes_done + _bytes(places), done.bytes_to_fetch, done.bytes_fetched + len(data)
                )
                report(self.progress)
        if paths:
            raise FetchFailed(f"the repository did not send {len(paths)} of {len(wanted)} chunks")

    def _prepare(self) -> list[Place]:
        """Make room and the files; returns what they lack."""
        manifest, disk = self._release.manifest, self._disk
        places = list(places_of(manifest.files))
        missing = [place for place in places if read_place(self.folder, place) is None]
        with disk_errors("to prepare the slot"):
            disk.make_folder(self._folders.root)
            self._make_room(_bytes(missing))
            for parent in sorted({(self.folder / entry.path).parent for entry in manifest.files} | {self.folder}):
                disk.make_folder(parent)
            self._write_whole(MANIFEST_NAME, canonical_json(manifest))
            for entry in manifest.files:
                if not _has_length(self.folder / entry.path, entry.length):
                    disk.set_length(self.folder / entry.path, entry.length)
        return missing

    def _take_local(self, missing: Sequence[Place]) -> dict[str, list[Place]]:
        """Fill in what the device has; returns the places of the chunks that it has not, by digest."""
        others = [folder for folder in _staging_folders(self._folders.root) if folder != self.folder]
        local = LocalChunks((*self._folders.bundles, *others))
        gate = {sha256(self._release.gate_document): self._release.gate_document}
        by_digest: dict[str, list[Place]] = {}
        for place in missing:
            by_digest.setdefault(place.sha256, []).append(place)
        for digest, places in list(by_digest.items()):
            data = gate.get(digest) or local.read(places[0])
            if data is not None:
                self._put(by_digest.pop(digest), data)
        return by_digest

    def _make_room(self, needed_bytes: int) -> None:
        others = [folder for folder in _staging_folders(self._folders.root) if folder != self.folder]
        if self._lacking(needed_bytes) <= 0:
            return
        idle = self._folders.idle
        gained = sum(_disk_bytes(folder) for folder in (*others, idle))
        if (lacking := self._lacking(needed_bytes) - gained) > 0:
            raise NoRoom(
                f"the release needs {needed_bytes} bytes more on the disk and {lacking} of them are not free"
                f" (kept free for others: {self._budget.reserve_bytes}, slots at most:"
                f" {self._budget.most_bytes or 'unlimited'}); make room or allow more"
            )
        for folder in others:
            self._disk.remove_tree(folder)
        if self._lacking(needed_bytes) > 0:
            self._folders.empty_idle()

    def _lacking(self, needed_bytes: int) -> int:
        budget, root = self._budget, self._folders.root
        lacking = needed_bytes + budget.reserve_bytes - self._disk.free_bytes(root)
        if budget.most_bytes is not None:
            lacking = max(lacking, _disk_bytes(root) + needed_bytes - budget.most_bytes)
        return lacking

    def _put(self, places: Sequence[Place], data: bytes) -> None:
        with disk_errors("to write the release"):
            for place in places:
                self._disk.write(self.folder / place.path, place.offset, data)
            # So that a power cut costs no more than the last few chunks.
            self._unsynced_bytes += _bytes(places)
            if self._unsynced_bytes >= _SYNC_EVERY_BYTES:
                self._sync_files()

    def _write_whole(self, name: str, data: bytes) -> None:
        path = self.folder / name
        if path.is_file() and path.read_bytes() == data:
            return
        self._disk.set_length(path, 0)
        self._disk.write(path, 0, data)

    def _sync_files(self) -> None:
        for name in (MANIFEST_NAME, *(entry.path for entry in self._release.manifest.files)):
            self._disk.sync(self.folder / name)
        self._unsynced_bytes = 0

    def _sync_all(self) -> None:
        with disk_errors("to save the release"):
            self._sync_files()
            for folder in (
                *(path for path in self.folder.rglob("*") if path.is_dir()),
                self.folder,
                self._folders.root,
            ):
                self._disk.sync(folder)

    def _verify(self) -> Bundle:
        with disk_errors("to verify the release"):
            try:
                bundle = read_bundle(self.folder)
                check_graphs(self.folder, bundle.manifest)
            except (BundleError, UpdateRefused) as error:
                self._disk.remove_tree(self.folder)
                raise UpdateRefused(f"the release cannot be used: {error}") from error
            return bundle


def remove_staging(root: Path, disk: Disk) -> None:
    """Remove every staging folder."""
    for folder in _staging_folders(root):
        disk.remove_tree(folder)


def _staging_folders(root: Path) -> list[Path]:
    return sorted(root.glob(f"{_PREFIX}*"))


def _bytes(places: Iterable[Place]) -> int:
    return sum(place.length for place in places)


def _has_length(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size == length


def _disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
