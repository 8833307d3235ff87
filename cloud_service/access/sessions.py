"""A signed-in user's session: what it is, when it is over. Pure apart from the random id.

After OWASP's Session Management Cheat Sheet: a random id of 256 bits, of which the store holds the SHA-256 alone; an
idle limit and an absolute one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from cloud_service.access.roles import Role

_ID_BYTES = 32
_LEAST_TOUCH_MS = 60_000


@dataclass(frozen=True)
class Session:
    """As the store keeps it. `role` is the user's now. Times in ms since 1970-01-01 UTC."""

    id_hash: str
    user_name: str
    role: Role
    created_at_unix_ms: int
    seen_at_unix_ms: int


@dataclass(frozen=True)
class SessionLimits:
    """How long a session lasts: `idle_ms` without a request, and `longest_ms` in all."""

    idle_ms: int
    longest_ms: int

    def is_over(self, session: Session, now_ms: int) -> bool:
        """Whether it lasts no longer; one from the future (a clock that was set back) is over too."""
        age_ms, idle_ms = now_ms - session.created_at_unix_ms, now_ms - session.seen_at_unix_ms
        return not (-self.idle_ms <= idle_ms < self.idle_ms and age_ms < self.longest_ms)

    def needs_touch(self, session: Session, now_ms: int) -> bool:
        """Whether to note that it was used; seldom enough that reading pages does not become writing."""
        return now_ms - session.seen_at_unix_ms >= min(_LEAST_TOUCH_MS, self.idle_ms // 10)


def new_session_id() -> str:
    """What goes into the cookie: 43 characters."""
    return secrets.token_urlsafe(_ID_BYTES)


def id_hash_of(session_id: str) -> str:
    """What the store keeps: SHA-256, 64 hexadecimal digits. The id is random, so that it needs no salt."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()
