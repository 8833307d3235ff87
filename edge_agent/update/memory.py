"""How much memory there is for a second model, and how much one takes."""

from __future__ import annotations

import os
from pathlib import Path

from shared.bundle import Bundle

_A_BYTE_OF_A_BUNDLE_TAKES = 2.5
_EACH_MODEL_BYTES = 16 << 20
"""Measured with ONNX Runtime 1.23 on x86-64: the shipped full model (19 MB) takes 36 MB, weights and what is packed of
them for its kernels; the shipped edge model (6 MB) takes 8 MB. Rounded up."""

_V1_UNLIMITED_BYTES = 1 << 60


def needed_bytes(bundle: Bundle) -> int:
    """What loading a bundle takes at most, in bytes of memory."""
    size_bytes = sum(entry.length for entry in bundle.manifest.files)
    return _EACH_MODEL_BYTES + round(_A_BYTE_OF_A_BUNDLE_TAKES * size_bytes)


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What may still be allocated before something must go: the system's word, and this process's control groups'.

    None where the system does not say.
    """
    said = [_system_bytes(proc / "meminfo"), *_group_bytes(proc / "self" / "cgroup", cgroups)]
    return min((each for each in said if each is not None), default=None)


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """What this process holds in memory; 0 where the system does not say."""
    try:
        return int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _system_bytes(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return int(found[1]) * 1024 if found else None


def _group_bytes(membership: Path, cgroups: Path) -> list[int]:
    """What is left of every limit from this process's group up to the root; of cgroup v2 and v1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    left: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            left += _limits_up(cgroups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left += _limits_up(cgroups / "memory", path, *files)
    return left


def _limits_up(root: Path, path: str, limit_name: str, used_name: str, cache_name: str) -> list[int]:
    """A container sees its own group as the root, under a path that it cannot see: what is not there is left out."""
    group = root / path.lstrip("/")
    left = []
    for folder in (group, *group.parents):
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and used is not None and limit < _V1_UNLIMITED_BYTES:
            left.append(limit - used + _cached(folder / "memory.stat", cache_name))
        if folder == root:
            break
    return left


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" is none
        return None


def _cached(stat: Path, name: str) -> int:
    """File contents that the kernel drops when memory is asked for."""
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
