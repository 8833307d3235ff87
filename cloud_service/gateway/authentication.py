"""Who is calling: by token where credentials are set, by name on a gateway that only this machine can reach."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cloud_service.gateway.credentials import read_credentials, token_hash
from shared.clock import Clock
from shared.errors import ConfigurationError, InputError, Unauthenticated
from shared.types import checked_identifier

_log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0
_BEARER = "bearer "
_PREFIX_DIGITS = 16
ANONYMOUS = "anonymous"


class Authenticator(Protocol):
    """From a call's metadata (lower-case keys) to the device that makes it."""

    def device_of(self, metadata: Mapping[str, str]) -> str:
        """The device's id.

        Raises:
            Unauthenticated: the metadata holds no valid credential.
        """
        ...


class TrustedLoopback:
    """For a listener that only this machine reaches: callers name themselves by "x-tandem-device"."""

    def device_of(self, metadata: Mapping[str, str]) -> str:
        """See `Authenticator`."""
        try:
            return checked_identifier("device", metadata.get("x-tandem-device", ANONYMOUS))
        except InputError as error:
            raise Unauthenticated(str(error)) from error


class TokenAuthenticator:
    """Checks "authorization: Bearer ..." against a credentials file, and takes up its changes within a second.

    A file that cannot be read any more leaves in force what was read before.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        """Raises: ConfigurationError: the file cannot be read."""
        self._file = file
        self._clock = clock
        self._mark = _mark_of(file)
        self._by_prefix = _read(file)
        self._looked_s = clock.monotonic_s()

    def device_of(self, metadata: Mapping[str, str]) -> str:
        """See `Authenticator`."""
        value = metadata.get("authorization", "")
        if value[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated('the call has no "authorization: Bearer ..." metadata')
        self._take_up_changes()
        shown = token_hash(value[len(_BEARER) :].strip())
        expected, device_id = self._by_prefix.get(shown[:_PREFIX_DIGITS], ("", ""))
        if not hmac.compare_digest(shown, expected):
            raise Unauthenticated("the token is not known; has the device been added, or revoked?")
        return device_id

    def _take_up_changes(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        mark = _mark_of(self._file)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._by_prefix = _read(self._file)
            _log.info("credentials read again: %d devices", len(self._by_prefix))
        except ConfigurationError as error:
            _log.error("the credentials read before stay in force: %s", error)


def _read(file: Path) -> dict[str, tuple[str, str]]:
    """(digest, device) by the digest's first digits, so that digests are compared in constant time."""
    devices = read_credentials(file).devices
    return {digest[:_PREFIX_DIGITS]: (digest, device_id) for device_id, digest in devices.items()}


def _mark_of(file: Path) -> tuple[int, int, int]:
    """What changes when the file does; zeros while it is not there."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size
