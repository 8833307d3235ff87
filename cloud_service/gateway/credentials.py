"""Who may ask: a file of devices, each with the SHA-256 of its random 256-bit token."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.clock import Clock
from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import ConfigurationError, TandemError
from shared.types import checked_identifier

_LOOK_AGAIN_S = 1.0
_BEARER = "Bearer "
ANONYMOUS = "anonymous"


class Unauthenticated(TandemError):
    """The call carries no valid credential."""


@dataclass(frozen=True)
class CredentialsDocument(Document):
    """The credentials file: device id to the SHA-256 of its token, hexadecimal."""

    devices: dict[str, str]


class Authenticator(Protocol):
    """From a call's metadata to the device that makes it."""

    def device_of(self, metadata: dict[str, str]) -> str:
        """The device's id.

        Raises:
            Unauthenticated: the metadata holds no valid credential.
        """
        ...


class TrustedLoopback:
    """For a listener that only this machine reaches: callers name themselves, or are "anonymous"."""

    def device_of(self, metadata: dict[str, str]) -> str:
        """See `Authenticator`."""
        return checked_identifier("device", metadata.get("x-tandem-device", ANONYMOUS))


class TokenAuthenticator:
    """Checks bearer tokens against a credentials file, and takes up its changes while it runs."""

    def __init__(self, file: Path, clock: Clock) -> None:
        """Raises: ConfigurationError: the file cannot be read."""
        self._file = file
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._device_by_hash: dict[str, str] = {}
        self._looked_s = float("-inf")
        self._reload_if_changed()

    def device_of(self, metadata: dict[str, str]) -> str:
        """See `Authenticator`."""
        value = metadata.get("authorization", "")
        if not value.startswith(_BEARER):
            raise Unauthenticated('the call has no "authorization: Bearer ..." metadata')
        if self._clock.monotonic_s() - self._looked_s >= _LOOK_AGAIN_S:
            self._reload_if_changed()
        found = token_hash(value[len(_BEARER) :].strip())
        device = self._device_by_hash.get(found)
        if device is None:
            raise Unauthenticated("the token is not known; has the device been added or revoked?")
        return device

    def _reload_if_changed(self) -> None:
        self._looked_s = self._clock.monotonic_s()
        try:
            status = self._file.stat()
        except OSError as error:
            raise ConfigurationError(f"credentials: {self._file} cannot be read: {error}") from error
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            devices = read_credentials(self._file).devices
            self._device_by_hash = {token_sha256: device for device, token_sha256 in devices.items()}
            self._stamp = stamp


def token_hash(token: str) -> str:
    """What the file keeps of a token. A random 256-bit token needs no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_credentials(file: Path) -> CredentialsDocument:
    """Read the credentials file.

    Raises:
        ConfigurationError: it cannot be read, or is not such a document.
    """
    try:
        return read_document(CredentialsDocument, file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"credentials: {file} cannot be read: {error}") from error
    except DocumentError as error:
        raise ConfigurationError(f"credentials: {file}: {error}") from error


def add_device(file: Path, device_id: str) -> str:
    """Give `device_id` a new token, in place of an older one, and return it; the file keeps its hash alone.

    Raises:
        InputError: `device_id` is not a name.
        ConfigurationError: the file is there and cannot be read.
        OSError: the file cannot be written.
    """
    checked_identifier("device", device_id)
    devices = dict(read_credentials(file).devices) if file.exists() else {}
    token = secrets.token_urlsafe(32)
    _write(file, CredentialsDocument({**devices, device_id: token_hash(token)}))
    return token


def revoke_device(file: Path, device_id: str) -> bool:
    """Take `device_id`'s credential away; False where it has none.

    Raises:
        ConfigurationError, OSError: the file cannot be read or written.
    """
    devices = dict(read_credentials(file).devices)
    if devices.pop(device_id, None) is None:
        return False
    _write(file, CredentialsDocument(devices))
    return True


def _write(file: Path, document: CredentialsDocument) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(descriptor, "wb") as temporary:
        temporary.write(canonical_json(document))
        temporary.flush()
        os.fsync(temporary.fileno())
    Path(name).replace(file)
