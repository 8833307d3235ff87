"""Sees that a model's bundle was exchanged on the disk, and swaps it in under traffic. A bad one replaces nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from cloud_service.config import ServedModelSettings
from cloud_service.gateway.metrics import GatewayMetrics
from cloud_service.serving.model import FullModel, load_bundle
from shared.bundle import Bundle, read_bundle
from shared.clock import Clock
from shared.errors import BundleMalformed, TandemError
from shared.quiet_thread import Pace, QuietThread, give_back_freed
from shared.types import ModelIdentity

_log = logging.getLogger(__name__)
_Look = tuple[tuple[str, int, int, int], ...]
"""Each file's name, inode, length and time of change: what is exchanged looks otherwise."""


class Swapping(Protocol):
    """Where models are served."""

    metrics: GatewayMetrics

    def swap(self, model: FullModel) -> None:
        """From the next request on `model` answers. Raises: UnknownModel: none of its name is served."""
        ...

    def served(self, name: str) -> ModelIdentity:
        """Which model answers under `name`."""
        ...


@dataclass
class _Watched:
    settings: ServedModelSettings
    name: str
    tried: _Look
    before: _Look


class BundleWatch:
    """Looks at the configured folders while `run` runs.

    A folder that looks otherwise than when it was loaded is verified and loaded beside the running model once it has
    looked the same twice, as it may be half copied. What fails is tried again when it looks otherwise again, or asked.
    """

    def __init__(
        self,
        gateway: Swapping,
        models: Sequence[ServedModelSettings],
        names: Sequence[str],
        clock: Clock,
        interval_s: float,
    ) -> None:
        """`names`: of the models that were loaded from `models`. `interval_s` 0: look only when asked."""
        self._gateway = gateway
        self._clock = clock
        self._interval_s = interval_s
        self._asked = asyncio.Event()
        self._verifying = QuietThread("tandem-verify")
        self._loading = QuietThread("tandem-load", lowers_priority=False)
        looks = [_look(settings.bundle) for settings in models]
        self._watched = [
            _Watched(settings, name, look, look) for settings, name, look in zip(models, names, looks, strict=True)
        ]

    def look_now(self) -> None:
        """Read every folder again, whether or not it looks otherwise."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            is_asked = await self._wait()
            for watched in self._watched:
                await self._look_at(watched, is_asked=is_asked)

    def close(self) -> None:
        """Begin nothing more."""
        self._verifying.close()
        self._loading.close()

    async def _wait(self) -> bool:
        try:
            await asyncio.wait_for(self._asked.wait(), self._interval_s or None)
        except asyncio.TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _look_at(self, watched: _Watched, *, is_asked: bool) -> None:
        look = _look(watched.settings.bundle)
        is_settled, watched.before = look == watched.before, look
        if not is_asked and (look == watched.tried or not is_settled or not look):
            return
        watched.tried = look
        try:
            await self._exchange(watched)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a bundle, the running model answers on
            self._gateway.metrics.swaps.labels(watched.name, "failed").inc()
            why = error if isinstance(error, TandemError) else repr(error)
            _log.error("%s %s answers on: %s", watched.name, self._gateway.served(watched.name).version, why)

    async def _exchange(self, watched: _Watched) -> None:
        bundle = await self._verifying.run(partial(read_bundle, watched.settings.bundle))
        running = self._gateway.served(watched.name)
        if bundle.identity == running:
            return
        _require_same_name(bundle, watched.name)
        began_s = self._clock.monotonic_s()
        self._gateway.swap(await self._loading.run(partial(load_bundle, bundle, watched.settings.threads, Pace())))
        took_s, version = self._clock.monotonic_s() - began_s, bundle.identity.version
        _log.info("%s: %s answers in place of %s, loaded in %.2f s", watched.name, version, running.version, took_s)
        await self._verifying.run(give_back_freed)


def _require_same_name(bundle: Bundle, name: str) -> None:
    if bundle.identity.name != name:
        raise BundleMalformed(bundle.path, f"holds model {bundle.identity.name}, and {name} is served from here")


def _look(folder: Path) -> _Look:
    """Empty where there is no folder now, as between the two renames of an exchange."""
    try:
        files = sorted(path for path in folder.resolve().rglob("*") if path.is_file())
        return tuple((path.name, (stat := path.stat()).st_ino, stat.st_size, stat.st_mtime_ns) for path in files)
    except OSError:
        return ()
