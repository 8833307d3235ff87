"""Folders replaced as a whole: built beside, synced, then exchanged for the old one by two renames."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(destination: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `destination` where the block ends without an error.

    A kill or a power cut leaves, under the name, the old folder or the new one as a whole. Between the two
    renames there is neither, and the old one lies beside, where the next call finds it and puts it back first.

    Raises:
        OSError: the disk is full or not writable; what was at `destination` is untouched.
    """
    building = destination.with_name(f".{destination.name}.building")
    retired = destination.with_name(f".{destination.name}.retired")
    shutil.rmtree(building, ignore_errors=True)
    _settle(destination, retired, building)
    try:
        building.mkdir(parents=True)
        yield building
        _sync_tree(building)
        _exchange(building, destination, retired)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _settle(destination, retired, building)


def _settle(destination: Path, retired: Path, building: Path) -> None:
    """Put the retired folder back where the name is free, else take it away."""
    if not retired.exists():
        return
    if not destination.exists():
        retired.rename(destination)
        return
    # Renamed before it is taken apart: whatever is called retired is whole.
    retired.rename(building)
    shutil.rmtree(building, ignore_errors=True)


def _exchange(new: Path, destination: Path, retired: Path) -> None:
    if destination.exists():
        destination.rename(retired)
    try:
        new.rename(destination)
    except OSError:
        if retired.exists():
            retired.rename(destination)
        raise
    _sync(destination.parent)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder, folder.parent):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
