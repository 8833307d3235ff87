from __future__ import annotations

import pytest

from cloud_service.access.roles import Role
from cloud_service.access.sessions import Session, SessionLimits, id_hash_of, new_session_id

LIMITS = SessionLimits(idle_ms=1_800_000, longest_ms=43_200_000)
NOW_MS = 1_800_000_000_000


def session(age_ms: int, idle_ms: int) -> Session:
    return Session("h" * 64, "ada", Role.ADMIN, NOW_MS - age_ms, NOW_MS - idle_ms)


@pytest.mark.parametrize(
    ("age_ms", "idle_ms", "is_over"),
    [
        (0, 0, False),
        (1_799_999, 1_799_999, False),
        (1_800_000, 1_800_000, True),
        (43_199_999, 0, False),
        (43_200_000, 0, True),
        (-1000, -1000, False),
        (-1_800_001, -1_800_001, True),
    ],
)
def test_a_session_ends_when_idle_or_old_or_from_the_future(age_ms: int, idle_ms: int, is_over: bool) -> None:
    assert LIMITS.is_over(session(age_ms, idle_ms), NOW_MS) is is_over


def test_use_is_noted_once_a_minute_and_oftener_where_the_idle_limit_is_short() -> None:
    assert not LIMITS.needs_touch(session(90_000, 59_999), NOW_MS)
    assert LIMITS.needs_touch(session(90_000, 60_000), NOW_MS)
    assert SessionLimits(10_000, 43_200_000).needs_touch(session(90_000, 1000), NOW_MS)


def test_ids_are_long_random_and_stored_by_their_digest_alone() -> None:
    ids = {new_session_id() for _ in range(1000)}
    assert len(ids) == 1000 and {len(each) for each in ids} == {43}
    assert id_hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
