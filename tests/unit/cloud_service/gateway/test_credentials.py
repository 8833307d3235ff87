from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.cli import main
from cloud_service.gateway.authentication import TokenAuthenticator, TrustedLoopback
from cloud_service.gateway.credentials import add_device, read_credentials, revoke_device
from shared.errors import ConfigurationError, InputError, Unauthenticated
from tests.support.fake_clock import FakeClock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "credentials.json"


def shows(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_each_device_is_known_by_its_own_token(file: Path) -> None:
    tokens = {device: add_device(file, device) for device in ("d1", "d2")}
    authenticator = TokenAuthenticator(file, FakeClock())
    assert {authenticator.device_of(shows(tokens[device])) for device in tokens} == {"d1", "d2"}
    assert authenticator.device_of({"authorization": f"bearer  {tokens['d1']} "}) == "d1"


@pytest.mark.parametrize(
    "metadata",
    [{}, shows(""), shows("wrong"), shows("wörtlich\ud800"), {"authorization": "Basic x"}, {"x-tandem-device": "d1"}],
    ids=["none", "empty", "wrong", "no ASCII", "another scheme", "a name alone"],
)
def test_whoever_shows_no_valid_token_is_nobody(file: Path, metadata: dict[str, str]) -> None:
    add_device(file, "d1")
    with pytest.raises(Unauthenticated):
        TokenAuthenticator(file, FakeClock()).device_of(metadata)


def test_the_digest_in_the_file_is_no_token(file: Path) -> None:
    add_device(file, "d1")
    digest = read_credentials(file).devices["d1"]
    with pytest.raises(Unauthenticated):
        TokenAuthenticator(file, FakeClock()).device_of(shows(digest))


def test_the_file_keeps_no_token_and_is_its_owners_alone(file: Path) -> None:
    token = add_device(file, "d1")
    assert token not in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o077 == 0
    assert list(file.parent.iterdir()) == [file]


def test_a_new_token_replaces_the_devices_old_one(file: Path) -> None:
    old, new = add_device(file, "d1"), add_device(file, "d1")
    authenticator = TokenAuthenticator(file, FakeClock())
    assert authenticator.device_of(shows(new)) == "d1"
    with pytest.raises(Unauthenticated):
        authenticator.device_of(shows(old))


def test_changes_are_taken_up_within_a_second(file: Path) -> None:
    first, clock = add_device(file, "d1"), FakeClock()
    authenticator = TokenAuthenticator(file, clock)
    second = add_device(file, "d2")
    assert revoke_device(file, "d1")
    clock.advance(1.0)
    assert authenticator.device_of(shows(second)) == "d2"
    with pytest.raises(Unauthenticated):
        authenticator.device_of(shows(first))


@pytest.mark.parametrize(
    "broken", ["", "{", '{"devices": {"d1": "short"}}', None], ids=["empty", "cut", "digest", "gone"]
)
def test_a_file_that_breaks_later_leaves_in_force_what_was_read(file: Path, broken: str | None) -> None:
    token, clock = add_device(file, "d1"), FakeClock()
    authenticator = TokenAuthenticator(file, clock)
    file.unlink() if broken is None else file.write_text(broken, encoding="utf-8")
    clock.advance(2.0)
    assert authenticator.device_of(shows(token)) == "d1"


def test_a_file_that_is_missing_or_broken_at_start_is_an_error_that_names_it(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(file)):
        TokenAuthenticator(file, FakeClock())
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=str(file)):
        TokenAuthenticator(file, FakeClock())


def test_revoking_who_has_no_token_says_so(file: Path) -> None:
    add_device(file, "d1")
    assert not revoke_device(file, "d2")


@pytest.mark.parametrize("device", ["", "../x", "a b", "+", "x" * 65])
def test_a_device_needs_a_name_that_fits_in_a_topic(file: Path, device: str) -> None:
    with pytest.raises(InputError):
        add_device(file, device)
    assert not file.exists()


def test_on_loopback_callers_name_themselves() -> None:
    assert TrustedLoopback().device_of({"x-tandem-device": "d1"}) == "d1"
    assert TrustedLoopback().device_of({}) == "anonymous"
    with pytest.raises(Unauthenticated):
        TrustedLoopback().device_of({"x-tandem-device": "../d1"})


def test_the_command_line_adds_lists_and_revokes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--credentials", str(file)]
    assert main(["devices", "add", "d1", *where]) == 0
    token = capsys.readouterr().out.strip()
    assert TokenAuthenticator(file, FakeClock()).device_of(shows(token)) == "d1"
    assert main(["devices", "list", *where]) == 0
    assert capsys.readouterr().out == "d1\n"
    assert main(["devices", "revoke", "d1", *where]) == 0
    assert main(["devices", "revoke", "d1", *where]) == 2
    assert "d1" in capsys.readouterr().err
