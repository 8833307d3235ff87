"""Passwords as argon2id hashes (RFC 9106), with the defaults of argon2-cffi. Slow on purpose: not on an event loop."""

from __future__ import annotations

import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import InputError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 256


class Passwords:
    """Makes and checks hashes. Checking takes as long where the user is unknown."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(32))

    def hash(self, password: str) -> str:
        """What the store keeps of a new password.

        Raises:
            InputError: it is too short or too long.
        """
        if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
            raise InputError(f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters")
        return self._hasher.hash(_normal(password))

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; `password_hash` is None for an unknown user, whose password is always wrong."""
        if len(password) > MOST_CHARACTERS:
            password, password_hash = "", None
        try:
            self._hasher.verify(password_hash or self._nobodys, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than would be used now."""
        return self._hasher.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    """Typed on another keyboard it is the same (NIST SP 800-63B, section on password verifiers)."""
    return unicodedata.normalize("NFKC", password.encode("utf-8", "replace").decode())
