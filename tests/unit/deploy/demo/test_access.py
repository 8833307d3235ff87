"""Who may do what on the broker: the rules that both brokers of the demo obey."""

from __future__ import annotations

import pytest

from deploy.demo.access import (
    Access,
    is_allowed,
    parse_passwords,
    parse_rules,
    password_is_right,
    password_line,
)
from deploy.demo.broker import ACL_FILE
from shared.errors import ConfigurationError

RULES = parse_rules(ACL_FILE.read_text(encoding="utf-8"))
PREFIX = "tandem/v1/devices"


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
@pytest.mark.parametrize("topic", [f"{PREFIX}/a/presence", f"{PREFIX}/a/models/m/telemetry", f"{PREFIX}/a"])
def test_a_device_may_use_its_own_topics_alone(access: Access, topic: str) -> None:
    assert is_allowed(RULES, "a", access, topic)
    assert not is_allowed(RULES, "b", access, topic)
    assert not is_allowed(RULES, "aa", access, topic)


@pytest.mark.parametrize(
    "asked", ["#", "+/v1/devices/a/#", f"{PREFIX}/#", f"{PREFIX}/+/presence", f"{PREFIX}/b/#", f"{PREFIX}/", ""]
)
def test_no_wildcard_leads_out_of_a_devices_own_topics(asked: str) -> None:
    assert not is_allowed(RULES, "a", Access.READ, asked)


@pytest.mark.parametrize("user", ["", "#", "+", "a/b", "b#"])
def test_a_user_name_cannot_be_a_pattern(user: str) -> None:
    assert not is_allowed(RULES, user, Access.READ, f"{PREFIX}/{user}/presence")
    assert not is_allowed(RULES, user, Access.READ, f"{PREFIX}/b/presence")


def test_the_fleet_service_reads_every_device_and_writes_to_none() -> None:
    for asked in (f"{PREFIX}/#", f"{PREFIX}/+/presence", f"{PREFIX}/+/models/+/telemetry", f"{PREFIX}/b/presence"):
        assert is_allowed(RULES, "tandem-fleet", Access.READ, asked)
    assert not is_allowed(RULES, "tandem-fleet", Access.WRITE, f"{PREFIX}/b/presence")
    assert not is_allowed(RULES, "tandem-fleet", Access.READ, "#")


def test_a_rule_that_is_not_understood_is_an_error() -> None:
    for line in ("topic deny secret/#", "topic read a", "pattern readwrite", "listen 1883"):
        with pytest.raises(ConfigurationError, match="line 1"):
            parse_rules(line)


def test_a_password_is_right_for_its_user_alone() -> None:
    hashes = parse_passwords("\n".join([password_line("a", "one", bytes(12)), password_line("b", "two", bytes(12))]))
    assert password_is_right(hashes, "a", "one")
    for user, password in (("a", "two"), ("b", "one"), ("a", ""), ("c", "one"), ("", "")):
        assert not password_is_right(hashes, user, password)


def test_a_password_file_does_not_hold_the_password() -> None:
    assert "secret" not in password_line("a", "secret", bytes(12))


@pytest.mark.parametrize("line", ["a", "a:plain", ":$7$1$AA==$AA==", "a:$6$salt$hash"])
def test_a_password_line_of_another_form_is_an_error(line: str) -> None:
    with pytest.raises(ConfigurationError, match="line 1"):
        parse_passwords(line)


@pytest.mark.parametrize("hashed", ["$7$x$AA==$AA==", "$7$1$*$AA==", "$7$1$AA==$*", "$7$0$AA==$AA=="])
def test_an_unreadable_hash_fits_no_password(hashed: str) -> None:
    assert not password_is_right({"a": hashed}, "a", "")
