from __future__ import annotations

from cloud_service.access.roles import ANONYMOUS, Role


def test_each_role_may_what_the_ones_before_it_may() -> None:
    may = {(one.value, other.value) for one in Role for other in Role if one.covers(other)}
    assert may == {
        ("viewer", "viewer"),
        ("operator", "viewer"),
        ("operator", "operator"),
        ("admin", "viewer"),
        ("admin", "operator"),
        ("admin", "admin"),
    }


def test_who_has_not_signed_in_may_look_and_nothing_more() -> None:
    assert ANONYMOUS.is_anonymous and not ANONYMOUS.role.covers(Role.OPERATOR)
