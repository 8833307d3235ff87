"""Who may do what on the broker, in mosquitto's own file formats, so that both brokers of the demo obey the same files.

Passwords: mosquitto's `$7$` lines, PBKDF2 with SHA-512 (mosquitto_passwd(1)).
Rules: the part of mosquitto's ACL file that Tandem uses (mosquitto.conf(5), acl_file): `user`, `topic` and `pattern`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from shared.errors import ConfigurationError

_ITERATIONS = 1000
_SALT_BYTES = 12
_HASH = "sha512"


class Access(str, Enum):
    """What a rule allows."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "readwrite"


@dataclass(frozen=True)
class Rule:
    """One rule: `user` may `access` what `topic` matches; "" stands for every user, whose name replaces %u."""

    user: str
    access: Access
    topic: str


def password_line(user: str, password: str, salt: bytes) -> str:
    """One line of a password file; `salt` are 12 random bytes."""
    if len(salt) != _SALT_BYTES:
        raise ConfigurationError(f"a salt has {_SALT_BYTES} bytes, not {len(salt)}")
    digest = hashlib.pbkdf2_hmac(_HASH, password.encode(), salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def parse_passwords(text: str) -> dict[str, str]:
    """The hashes of a password file by user name.

    Raises:
        ConfigurationError: a line is not of the form `user:$7$iterations$salt$hash`.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        user, colon, hashed = line.partition(":")
        if line and (not user or not colon or len(hashed.split("$")) != 5 or not hashed.startswith("$7$")):
            raise ConfigurationError(f"password file, line {number}: is not user:$7$iterations$salt$hash")
        if line:
            hashes[user] = hashed
    return hashes


def password_is_right(hashes: Mapping[str, str], user: str, password: str) -> bool:
    """Whether `user` is known and this is the password; an unreadable hash fits no password."""
    try:
        _, _, iterations, salt, digest = hashes[user].split("$")
        expected = base64.b64decode(digest, validate=True)
        got = hashlib.pbkdf2_hmac(_HASH, password.encode(), base64.b64decode(salt, validate=True), int(iterations))
    except (KeyError, ValueError, binascii.Error):
        return False
    return hmac.compare_digest(got, expected)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read an ACL file.

    Raises:
        ConfigurationError: a line is none of those that Tandem uses.
    """
    rules: list[Rule] = []
    user: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "user" and len(words) == 2:
            user = words[1]
        elif words[0] in ("topic", "pattern") and len(words) == 3 and words[1] in set(Access):
            if words[0] == "topic" and user is None:
                raise ConfigurationError(f"ACL file, line {number}: a topic for anonymous clients; name a user first")
            rules.append(Rule(user or "" if words[0] == "topic" else "", Access(words[1]), words[2]))
        else:
            raise ConfigurationError(f"ACL file, line {number}: {line!r} is no rule that is understood here")
    return tuple(rules)


def is_allowed(rules: tuple[Rule, ...], user: str, access: Access, topic: str) -> bool:
    """Whether `user` may read or write `topic`; for reading it may be a filter with wildcards."""
    if not user or set(user) & set("+#/"):
        return False
    return any(
        rule.access in (access, Access.READ_WRITE)
        and rule.user in ("", user)
        and _covers(rule.topic.replace("%u", user).split("/"), topic.split("/"))
        for rule in rules
    )


def _covers(allowed: list[str], asked: list[str]) -> bool:
    """Whether everything that the filter `asked` matches is also matched by `allowed` (MQTT 3.1.1, 4.7)."""
    for position, level in enumerate(allowed):
        if level == "#":
            return True
        if position >= len(asked) or asked[position] == "#":
            return False
        if level not in ("+", asked[position]):
            return False
    return len(allowed) == len(asked)
