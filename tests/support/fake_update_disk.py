"""A disk that remembers every change made to it, and what of it a power cut would leave."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.update.disk import RealDisk


@dataclass
class _File:
    """`now` is what a reader sees, `durable` what was synced; `pending` turns the one into the other."""

    durable: bytes = b""
    now: bytes = b""
    pending: list[Callable[[bytes, float], bytes]] = field(default_factory=list)


@dataclass
class _Folder:
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    now: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[Callable[[dict[str, _File | _Folder]], None]] = field(default_factory=list)

    def change(self, change: Callable[[dict[str, _File | _Folder]], None]) -> None:
        change(self.now)
        self.pending.append(change)


class DiskModel:
    """A folder whose files and names are durable once they were synced."""

    def __init__(self, root: Path) -> None:
        """As `root` is now, all of it synced."""
        self._root = _loaded(root)

    def make_folder(self, path: str) -> None:
        at = self._root
        for name in Path(path).parts:
            if name not in at.now:
                made = _Folder()
                at.change(lambda names, name=name, made=made: names.__setitem__(name, made))  # type: ignore[misc]
            at = _folder(at.now[name])

    def set_length(self, path: str, length: int) -> None:
        parent, name = self._parent(path)
        if name not in parent.now:
            made = _File()
            parent.change(lambda names: names.__setitem__(name, made))
        self._change_file(path, lambda data, _: data[:length].ljust(length, b"\0"))

    def write(self, path: str, offset: int, data: bytes) -> None:
        def change(before: bytes, kept: float) -> bytes:
            piece = data[: round(kept * len(data))]
            return before[:offset].ljust(offset, b"\0") + piece + before[offset + len(piece) :]

        self._change_file(path, change)

    def sync(self, path: str) -> None:
        found = self._find(path)
        if isinstance(found, _File):
            found.durable, found.pending = found.now, []
        else:
            found.durable, found.pending = dict(found.now), []

    def rename(self, source: str, destination: str) -> None:
        parent, old = self._parent(source)
        other, new = self._parent(destination)
        assert parent is other, "a rename across folders is not atomic everywhere"
        moved = parent.now[old]

        def change(names: dict[str, _File | _Folder]) -> None:
            names.pop(old, None)
            names[new] = moved

        parent.change(change)

    def remove(self, path: str) -> None:
        parent, name = self._parent(path)
        parent.change(lambda names: names.pop(name, None))  # type: ignore[arg-type]

    def left_by_kill(self, destination: Path) -> None:
        """What a reader finds after a kill alone: all that was written."""
        _write(self._root, destination, lambda file: file.now, lambda folder: folder.now)

    def left_by_power_cut(self, destination: Path, seed: int) -> None:
        """What was synced, and of the rest a part: dropped, torn, and in another order. Seed 0: nothing of the rest."""
        draw = random.Random(seed)
        share = 0.0 if seed == 0 else draw.choice((0.2, 0.5, 0.8, 1.0))

        def content(file: _File) -> bytes:
            data, pending = file.durable, [one for one in file.pending if draw.random() < share]
            if draw.random() < 0.5:
                draw.shuffle(pending)
            for change in pending:
                data = change(data, draw.choice((1.0, 1.0, draw.random())))
            return data

        def names(folder: _Folder) -> dict[str, _File | _Folder]:
            found = dict(folder.durable)
            for change in folder.pending:
                if draw.random() < share:
                    change(found)
            return found

        _write(self._root, destination, content, names)

    def _change_file(self, path: str, change: Callable[[bytes, float], bytes]) -> None:
        found = self._find(path)
        assert isinstance(found, _File)
        found.now = change(found.now, 1.0)
        found.pending.append(change)

    def _find(self, path: str) -> _File | _Folder:
        found: _File | _Folder = self._root
        for name in Path(path).parts:
            found = _folder(found).now[name]
        return found

    def _parent(self, path: str) -> tuple[_Folder, str]:
        return _folder(self._find(str(Path(path).parent))), Path(path).name


Change = Callable[[DiskModel], None]


class RecordingDisk(RealDisk):
    """Implements `Disk` on the real file system below `root`, and records each change. `changes` can be replayed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changes: list[Change] = []

    def make_folder(self, path: Path) -> None:
        at = self._below(path)
        self.changes.append(lambda model: model.make_folder(at))
        super().make_folder(path)

    def set_length(self, path: Path, length: int) -> None:
        at = self._below(path)
        self.changes.append(lambda model: model.set_length(at, length))
        super().set_length(path, length)

    def write(self, path: Path, offset: int, data: bytes) -> None:
        at = self._below(path)
        self.changes.append(lambda model: model.write(at, offset, data))
        super().write(path, offset, data)

    def sync(self, path: Path) -> None:
        at = self._below(path)
        self.changes.append(lambda model: model.sync(at))
        super().sync(path)

    def rename(self, source: Path, destination: Path) -> None:
        old, new = self._below(source), self._below(destination)
        self.changes.append(lambda model: model.rename(old, new))
        super().rename(source, destination)

    def remove_tree(self, path: Path) -> None:
        for one in sorted(path.rglob("*"), reverse=True):
            self._remove(one)
        if path.exists():
            self._remove(path)

    def _remove(self, path: Path) -> None:
        at = self._below(path)
        self.changes.append(lambda model: model.remove(at))
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class UnsyncedDisk(RealDisk):
    """Implements `Disk`, and waits for no disk: for lives that no power cut ends."""

    def sync(self, path: Path) -> None:
        pass


class LittleDisk(RealDisk):
    """Implements `Disk` with `free` bytes left."""

    def __init__(self, free: int) -> None:
        self.free = free

    def free_bytes(self, path: Path) -> int:
        return self.free


def copied(root: Path, destination: Path) -> Path:
    """A copy of a folder to go on from."""
    shutil.copytree(root, destination)
    return destination


def _folder(found: _File | _Folder) -> _Folder:
    assert isinstance(found, _Folder), found
    return found


def _loaded(path: Path) -> _Folder:
    names: dict[str, _File | _Folder] = {}
    for one in path.iterdir():
        data = b"" if one.is_dir() else one.read_bytes()
        names[one.name] = _loaded(one) if one.is_dir() else _File(data, data)
    return _Folder(names, dict(names))


def _write(
    folder: _Folder,
    destination: Path,
    content: Callable[[_File], bytes],
    names: Callable[[_Folder], dict[str, _File | _Folder]],
) -> None:
    destination.mkdir(parents=True)
    for name, found in names(folder).items():
        if isinstance(found, _File):
            (destination / name).write_bytes(content(found))
        else:
            _write(found, destination / name, content, names)
