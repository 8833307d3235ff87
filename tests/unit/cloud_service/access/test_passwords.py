from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from cloud_service.access.passwords import Passwords
from shared.errors import InputError
from tests.support.site import PASSWORD, QUICK_PASSWORDS


def test_a_hash_is_argon2id_with_the_librarys_defaults_and_never_twice_the_same() -> None:
    passwords = Passwords()
    one, two = passwords.hash(PASSWORD), passwords.hash(PASSWORD)
    assert one != two and passwords.matches(one, PASSWORD) and passwords.matches(two, PASSWORD)
    parameters, defaults = extract_parameters(one), PasswordHasher()
    assert parameters.type is Type.ID
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (
        defaults.time_cost,
        defaults.memory_cost,
        defaults.parallelism,
    )


@pytest.mark.parametrize(
    "typed", ["", "correct horse batter", PASSWORD + " ", PASSWORD.upper(), "x" * 100_000, "\ud800"]
)
def test_another_password_does_not_match(typed: str) -> None:
    assert not QUICK_PASSWORDS.matches(QUICK_PASSWORDS.hash(PASSWORD), typed)


def test_an_unknown_user_has_no_password_at_all() -> None:
    assert not QUICK_PASSWORDS.matches(None, PASSWORD)
    assert not QUICK_PASSWORDS.matches(None, "")


def test_what_is_stored_and_is_no_hash_matches_nothing() -> None:
    assert not QUICK_PASSWORDS.matches("not a hash", PASSWORD)


def test_the_same_characters_from_another_keyboard_are_the_same_password() -> None:
    composed, decomposed, full_width = "caff\u00e8 latte 12", "caffe\u0300 latte 12", "caff\u00e8 latte \uff11\uff12"
    made = QUICK_PASSWORDS.hash(composed)
    assert QUICK_PASSWORDS.matches(made, decomposed) and QUICK_PASSWORDS.matches(made, full_width)


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 257])
def test_a_password_too_short_or_too_long_is_refused_when_it_is_set(password: str) -> None:
    with pytest.raises(InputError, match="12 to 256"):
        QUICK_PASSWORDS.hash(password)


def test_a_hash_of_weaker_parameters_is_outdated() -> None:
    weak = QUICK_PASSWORDS.hash(PASSWORD)
    assert Passwords().is_outdated(weak) and not QUICK_PASSWORDS.is_outdated(weak)
