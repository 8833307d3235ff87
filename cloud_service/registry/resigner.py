"""Signs the timestamp again and again, and snapshot and director before they expire, so that devices go on believing.

Whoever replays old metadata to a device (a freeze) can do so only until the timestamp expires.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import anyio.to_thread

from cloud_service.registry.cleaning import collect_metadata
from cloud_service.registry.director import Director
from cloud_service.registry.metadata import SignedState, remaining_s
from cloud_service.registry.repository import Repository
from shared.errors import RegistryError
from shared.update.names import DIRECTOR_ROLE, ROLE_PATHS

_LOG = logging.getLogger(__name__)
_DAY_S = 86_400.0
_WARNED_DAYS = 30.0
_RETRIES_AN_INTERVAL = 10
_LOOK_S = 60.0


class Resigner:
    """Keeps a repository's online signatures fresh; time comes from the repository's clock."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def run(self) -> None:
        """Sign at once, then every `resign_every_minutes`; sooner where it failed. Runs until it is cancelled."""
        interval_s = self._repository.settings.resign_every_minutes * 60
        while True:
            has_signed = await anyio.to_thread.run_sync(self._try_to_sign)
            await self._wait(interval_s if has_signed else interval_s / _RETRIES_AN_INTERVAL)

    def sign(self) -> list[str]:
        """Sign what is due, and take up what was published without the online keys.

        Returns what to warn of: roles that expire soon, and assignments that cannot be read.

        Raises:
            RegistryError: the repository cannot be read or written, or an online key is not here.
        """
        settings, now = self._repository.settings, self._repository.clock.unix_s()
        with self._repository.changing() as change:
            state = change.state
            if remaining_s(state.role(DIRECTOR_ROLE), now) < settings.director_days * _DAY_S / 2:
                change.edit(DIRECTOR_ROLE)
            snapshot = state.snapshot
            change.renews_snapshot = (
                snapshot is None or remaining_s(snapshot.signed, now) < settings.snapshot_days * _DAY_S / 2
            )
        if change.is_staged:
            raise RegistryError(f"the key of snapshot and timestamp is not in {self._repository.keys.folder}")
        collect_metadata(self._repository)
        return [*_expiring(state, now), *Director(self._repository).in_force().unreadable.values()]

    async def _wait(self, seconds: float) -> None:
        """By the clock by which signatures expire: where it was set, or the machine slept, they may be due already."""
        clock = self._repository.clock
        began_s = clock.unix_s()
        while 0 <= (passed_s := clock.unix_s() - began_s) < seconds:
            await clock.sleep(min(_LOOK_S, seconds - passed_s))

    def _try_to_sign(self) -> bool:
        try:
            for warning in self.sign():
                _LOG.warning("%s", warning)
        except RegistryError as error:
            _LOG.error("the repository's timestamp could not be signed again: %s", error)
            return False
        return True


def _expiring(state: SignedState, now_unix_s: float) -> Iterator[str]:
    signed = {"root": state.root.signed, "targets": state.role("targets")}
    signed |= {role: state.role(role) for role in ROLE_PATHS if role != DIRECTOR_ROLE}
    for role, one in signed.items():
        if (days := remaining_s(one, now_unix_s) / _DAY_S) < _WARNED_DAYS:
            yield f"role {role} expires in {days:.0f} days: run `cloud-service keys renew` where the offline keys are"
