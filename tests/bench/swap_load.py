"""Load for measurements of swaps: paced or closed-loop askers, and what they saw inside and outside of the swaps."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copytree

import numpy as np
from numpy.typing import NDArray

from shared.bundle import MANIFEST_NAME, read_bundle
from shared.documents import canonical_json
from shared.folders import replacing_folder
from shared.update.release import manifest_bytes, with_gate, without_gate

MOST_OPEN = 256
"""Requests at once that arrive by chance; another is a failure."""

_Moments = NDArray[np.float64]


def _moments() -> array[float]:
    return array("d")


@dataclass
class Seen:
    """Every answer's begin and end, every failure's moment, the swaps' begin and end (seconds), the memory (bytes).

    Arrays, not lists of numbers: the device's memory is that of the process which holds them.
    """

    began_s: array[float] = field(default_factory=_moments)
    ended_s: array[float] = field(default_factory=_moments)
    failed_s: array[float] = field(default_factory=_moments)
    swaps: list[tuple[float, float]] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    def percentile_ms(self, percent: float) -> tuple[float, float]:
        """In the swaps, and in between; a request that overlaps a swap is of the swap."""
        began_s, ended_s = np.asarray(self.began_s), np.asarray(self.ended_s)
        took_ms, is_within = (ended_s - began_s) * 1e3, self._overlap(began_s, ended_s)
        return _percentile(took_ms[is_within], percent), _percentile(took_ms[~is_within], percent)

    def failed(self) -> tuple[int, int]:
        """How many failed in the swaps, and in between."""
        moments_s = np.asarray(self.failed_s)
        within = int(self._overlap(moments_s, moments_s).sum())
        return within, len(moments_s) - within

    def _overlap(self, began_s: _Moments, ended_s: _Moments) -> NDArray[np.bool_]:
        within = np.zeros(len(began_s), bool)
        for begin_s, end_s in self.swaps:
            within |= (began_s < end_s) & (ended_s > begin_s)
        return within

    def growth_mb(self) -> float:
        """From the second quarter's median to the last quarter's: the first still fills caches."""
        quarter = max(1, len(self.memory_bytes) // 4)
        early, late = self.memory_bytes[quarter : 2 * quarter] or self.memory_bytes[:1], self.memory_bytes[-quarter:]
        return float(np.median(late) - np.median(early)) / 1e6

    def swap_ms(self) -> float:
        """The median swap, from the begin of loading to the old model's end."""
        return float(np.median([end_s - begin_s for begin_s, end_s in self.swaps])) * 1e3


def _percentile(values: _Moments, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")


class Asking:
    """Asks while its `async with` block runs: `per_s` a second at random times, or (None) `clients` in turn."""

    def __init__(self, ask: Callable[[], Awaitable[object]], seen: Seen, per_s: float | None, clients: int = 8) -> None:
        self._ask = ask
        self._seen = seen
        self._per_s = per_s
        self._clients = clients
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Asking:
        askers = [self._pace()] if self._per_s else [self._take_turns() for _ in range(self._clients)]
        self._tasks = {asyncio.create_task(asker) for asker in askers}
        return self

    async def __aexit__(self, *rest: object) -> None:
        self._is_over = True
        while self._tasks:
            await asyncio.gather(*self._tasks)
            self._tasks = {task for task in self._tasks if not task.done()}

    async def _take_turns(self) -> None:
        while not self._is_over:
            await self._ask_once()

    async def _pace(self) -> None:
        next_s, random_s = time.perf_counter(), random.Random(0)
        while not self._is_over:
            next_s += random_s.expovariate(self._per_s or 1.0)
            await asyncio.sleep(max(0.0, next_s - time.perf_counter()))
            if len(self._tasks) < MOST_OPEN:
                task = asyncio.create_task(self._ask_once())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._failed("the bench's own limit of open requests")

    async def _ask_once(self) -> None:
        began_s = time.perf_counter()
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the request failed
            self._failed(repr(error))
        else:
            self._seen.began_s.append(began_s)
            self._seen.ended_s.append(time.perf_counter())

    def _failed(self, why: str) -> None:
        self._seen.failed_s.append(time.perf_counter())
        self._seen.problems[why] += 1


async def capacity_per_s(
    ask: Callable[[], Awaitable[object]], seconds: float = 5.0, clients: int = 8, stretches: int = 8
) -> float:
    """Answers a second of `clients` that ask in turn, in the slowest of some stretches: what a machine keeps up."""
    answered = []
    for _ in range(stretches):
        seen = Seen()
        async with Asking(ask, seen, None, clients):
            await asyncio.sleep(seconds)
        answered.append(len(seen.ended_s) / seconds)
    return min(answered)


def another_version(bundle_folder: Path, version: str, folder: Path) -> None:
    """The bundle in `bundle_folder` under another version, put whole to `folder`."""
    bundle = read_bundle(bundle_folder)
    manifest = replace(bundle.manifest, version=version)
    with replacing_folder(folder) as fresh:
        copytree(bundle_folder, fresh, dirs_exist_ok=True)
        if bundle.gate is not None:
            gate = canonical_json(replace(bundle.gate, model_digest=manifest.model_digest))
            manifest = with_gate(without_gate(manifest), gate)
            (fresh / "gate.json").write_bytes(gate)
        (fresh / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
