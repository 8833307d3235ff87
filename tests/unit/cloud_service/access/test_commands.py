from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from cloud_service.cli import main
from cloud_service.storage.engine import open_engine
from tests.support.site import PASSWORD

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cloud.toml"
    file.write_text('data_dir = "data"\n', encoding="utf-8")
    (tmp_path / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    return file


def run(config: Path, *arguments: str) -> int:
    return main([*arguments, "--config", str(config)])


def add(config: Path, name: str, role: str = "viewer") -> int:
    return run(config, "users", "add", name, "--role", role, "--password-file", str(config.parent / "password"))


def test_users_are_made_listed_changed_and_removed_and_all_is_logged(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = ("--password-file", str(config.parent / "password"))
    assert add(config, "ada", "admin") == add(config, "bob") == 0
    assert run(config, "users", "set-role", "bob", "operator") == 0
    assert run(config, "users", "set-password", "bob", *password) == 0
    capsys.readouterr()
    assert run(config, "users", "list") == 0
    assert capsys.readouterr().out == "ada\tadmin\nbob\toperator\n"
    assert run(config, "users", "remove", "ada") == 0
    capsys.readouterr()
    assert run(config, "log", "show", "--json") == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(entry["seq"], entry["action"], entry["subject"]) for entry in entries] == [
        (5, "user.remove", "ada"),
        (4, "user.set_password", "bob"),
        (3, "user.set_role", "bob"),
        (2, "user.add", "bob"),
        (1, "user.add", "ada"),
    ]
    assert {entry["role"] for entry in entries} == {"host"} and entries[0]["actor"].startswith("host:")
    assert PASSWORD not in json.dumps(entries)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("users", "add", "no name!", "--role", "admin"), "is not a name"),
        (("users", "remove", "eve"), "there is no user 'eve'"),
        (("users", "set-role", "eve", "admin"), "there is no user 'eve'"),
        (("users", "add", "ada", "--role", "admin", "--password-file", "/nowhere"), "/nowhere cannot be read"),
        (("users", "add", "ada", "--role", "admin"), "use --password-file"),
        (("log", "verify", "--head", "abc"), "64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(config, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_short_password_makes_no_user(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "password").write_text("short\n", encoding="utf-8")
    assert add(config, "ada") == 2 and "12 to 256 characters" in capsys.readouterr().err
    assert run(config, "users", "list") == 0 and not capsys.readouterr().out


def test_the_chain_is_verified_and_its_first_broken_entry_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ada", "bob", "eve"):
        add(config, name)
    capsys.readouterr()
    assert run(config, "log", "head") == 0
    head = capsys.readouterr().out.strip()
    assert run(config, "log", "verify") == 0 and run(config, "log", "verify", "--head", head) == 0
    assert f"3 entries, each follows the one before it; head {head}" in capsys.readouterr().out
    assert run(config, "log", "verify", "--head", "0" * 63 + "1") == 1
    assert "cut off or written anew" in capsys.readouterr().err

    engine = open_engine(f"sqlite:///{config.parent / 'data' / 'fleet.sqlite'}", writes=True)
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER action_log_no_update"))
        connection.execute(text("UPDATE action_log SET actor = 'host:nobody' WHERE seq = 2"))
    engine.dispose()
    assert run(config, "log", "verify") == 1
    assert "broken after 1 good entries: entry 2 was changed" in capsys.readouterr().err


def test_the_log_is_shown_for_people_and_cannot_steer_their_terminal(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(config, "ada")
    engine = open_engine(f"sqlite:///{config.parent / 'data' / 'fleet.sqlite'}", writes=True)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO action_log VALUES (2, 0, 'x' || char(27) || '[2J', '', 'a', 'b', '{}', '', '')")
        )
    engine.dispose()
    capsys.readouterr()
    assert run(config, "log", "show", "--limit", "1") == 0
    assert capsys.readouterr().out == "2\t1970-01-01T00:00:00Z\tx\\u001b[2J\t-\ta\tb\t{}\n"
    assert run(config, "log", "show", "--actor", "nobody") == 0 and not capsys.readouterr().out


@pytest.mark.parametrize(("second", "code"), [(PASSWORD, 0), ("another password", 2)])
def test_the_password_is_asked_for_twice_and_never_shown(config: Path, second: str, code: int) -> None:
    mine, theirs = os.openpty()
    command = [sys.executable, "-m", "cloud_service", "users", "add", "ada", "--role", "admin", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = ""
    for prompt, typed in (("Password for ada: ", PASSWORD), ("Once more: ", second)):
        while prompt not in shown:
            shown += os.read(mine, 1024).decode()
        os.write(mine, f"{typed}\n".encode())
    while chunk := _read(mine):
        shown += chunk
    assert process.wait(60) == code
    os.close(mine)
    assert PASSWORD not in shown and ("the two passwords differ" in shown) is (code == 2)


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 1024).decode()
    except OSError:
        return ""
