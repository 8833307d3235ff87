"""Private keys as files: one key a file, those that belong offline apart from those that processes sign with.

offline/<use>-<key id's beginning>.pem     root, targets, releases
online/<use>-<key id's beginning>.pem      director, publishing (snapshot and timestamp)
retired/                                   keys that sign nothing any more
root.json                                  the newest root: what devices are given
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from shared.errors import RegistryError

Place = Literal["offline", "online"]
PASSPHRASE_VARIABLE = "TANDEM_KEYS_PASSPHRASE"  # noqa: S105 the variable's name
PINNED_ROOT = "root.json"
_NAME_DIGITS = 16


def ask_passphrase(path: Path) -> str:
    """The passphrase of a key file: from the environment, else asked for.

    Raises:
        RegistryError: there is neither the variable nor a terminal.
    """
    if said := os.environ.get(PASSPHRASE_VARIABLE):
        return said
    if not sys.stdin.isatty():
        raise RegistryError(f"{path} needs its passphrase: set {PASSPHRASE_VARIABLE}")
    return getpass.getpass(f"Passphrase of {path.name}: ")


class KeyFolder:
    """The key files in `folder`. `passphrase` is asked once for each file that is encrypted."""

    def __init__(self, folder: Path, passphrase: Callable[[Path], str] = ask_passphrase) -> None:
        self.folder = folder
        self._passphrase = passphrase
        self._loaded: dict[Path, CryptoSigner] = {}

    def new(self, use: str, place: Place, passphrase: str = "") -> CryptoSigner:
        """Make an ed25519 key and write its file, readable by its owner alone; encrypted where `passphrase` is set.

        Raises:
            RegistryError: the file cannot be written.
        """
        signer = CryptoSigner.generate_ed25519()
        path = self.folder / place / f"{use}-{signer.public_key.keyid[:_NAME_DIGITS]}.pem"
        try:
            for folder in (self.folder, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_pem(signer, passphrase))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RegistryError(f"{path} cannot be written: {error}") from error
        self._loaded[path] = signer
        return signer

    def find(self, keyid: str) -> Path | None:
        """The file of a key; None where it is not here."""
        return next(self.folder.glob(f"o*line/*-{keyid[:_NAME_DIGITS]}.pem"), None)

    def signer(self, keyid: str) -> CryptoSigner | None:
        """The key, ready to sign; None where its file is not here.

        Raises:
            RegistryError: its file cannot be read, or holds another key.
        """
        path = self.find(keyid)
        if path is None:
            return None
        if path not in self._loaded:
            self._loaded[path] = self._load(path)
        signer = self._loaded[path]
        if signer.public_key.keyid != keyid:
            raise RegistryError(f"{path} holds another key than its name says")
        return signer

    def retire(self, keyid: str) -> None:
        """Put a key's file where nothing signs with it any more."""
        if path := self.find(keyid):
            (self.folder / "retired").mkdir(mode=0o700, exist_ok=True)
            path.rename(self.folder / "retired" / path.name)

    def is_empty(self) -> bool:
        """Whether there is no key yet."""
        return next(self.folder.glob("o*line/*.pem"), None) is None

    def _load(self, path: Path) -> CryptoSigner:
        try:
            if path.stat().st_mode & 0o077:
                raise RegistryError(f"{path} can be read by others: chmod 600 {path}")
            data = path.read_bytes()
            is_encrypted = b"ENCRYPTED" in data.splitlines()[0]
            password = self._passphrase(path).encode() if is_encrypted else None
            key = load_pem_private_key(data, password)
        except (OSError, ValueError, IndexError, UnsupportedAlgorithm) as error:
            raise RegistryError(f"{path} cannot be read as a private key, or its passphrase is wrong") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise RegistryError(f"{path} holds no ed25519 key")
        return CryptoSigner(key)


def _pem(signer: CryptoSigner, passphrase: str) -> bytes:
    if not passphrase:
        return signer.private_bytes
    key = load_pem_private_key(signer.private_bytes, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
