"""The devices' credentials: a file from device id to the SHA-256 of its random 256-bit token.

The token itself is with the device alone. It is random, so a plain digest needs no salt and no slow hash.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import ConfigurationError, InputError
from shared.types import checked_identifier

_TOKEN_BYTES = 32
_HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class CredentialsDocument(Document):
    """The credentials file: device id to the SHA-256 of its token, 64 hexadecimal digits."""

    devices: dict[str, str]


def token_hash(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def read_credentials(file: Path) -> CredentialsDocument:
    """Read the credentials file.

    Raises:
        ConfigurationError: it cannot be read, or is not such a document.
    """
    try:
        document = read_document(CredentialsDocument, file.read_bytes())
        for device_id, digest in document.devices.items():
            checked_identifier("device", device_id)
            if len(digest) != 64 or not _HEXADECIMAL.issuperset(digest):
                raise ConfigurationError(f"credentials: {file}: {device_id} has no SHA-256 in hexadecimal digits")
    except OSError as error:
        raise ConfigurationError(
            f"credentials: {file} cannot be read: {error}; cloud-service devices add makes it"
        ) from error
    except (DocumentError, InputError) as error:
        raise ConfigurationError(f"credentials: {file}: {error}") from error
    return document


def add_device(file: Path, device_id: str) -> str:
    """Give `device_id` a new token, in place of an older one, and return it: it is shown nowhere else.

    Raises:
        InputError: `device_id` is not a name.
        ConfigurationError: the file is there and cannot be read, or it cannot be written.
    """
    checked_identifier("device", device_id)
    devices = dict(read_credentials(file).devices) if file.exists() else {}
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    _write(file, CredentialsDocument({**devices, device_id: token_hash(token)}))
    return token


def revoke_device(file: Path, device_id: str) -> bool:
    """Take `device_id`'s token away; False where it has none.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    devices = dict(read_credentials(file).devices)
    if devices.pop(device_id, None) is None:
        return False
    _write(file, CredentialsDocument(devices))
    return True


def _write(file: Path, document: CredentialsDocument) -> None:
    """Replace the file as a whole: a gateway that reads it now sees the old or the new one."""
    building = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(canonical_json(document))
            stream.flush()
            os.fsync(stream.fileno())
        building.replace(file)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise ConfigurationError(f"credentials: {file} cannot be written: {error}") from error
