"""The demo's broker: mosquitto where it is installed, else the embedded one, both under the same logins and rules."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from deploy.demo.access import password_line
from deploy.demo.errors import DemoError
from deploy.demo.private_files import write_private

ACL_FILE = Path(__file__).resolve().parent.parent / "mosquitto" / "acl"
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"


class BrokerKind(str, Enum):
    """Which broker to run; `auto` takes mosquitto where it is installed."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class BrokerPlan:
    """What to start: the kind that `auto` came to, and the command."""

    kind: BrokerKind
    command: tuple[str, ...]


def find_mosquitto() -> str | None:
    """The path of mosquitto, also where it lies outside an ordinary user's search path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_SYSTEM_FOLDERS)


def plan_broker(wanted: BrokerKind, folder: Path, port: int, passwords: Mapping[str, str]) -> BrokerPlan:
    """Write the broker's files to `folder` and say how to start it on 127.0.0.1:`port`.

    `passwords` are by user name; a device's user name is its id.

    Raises:
        DemoError: mosquitto is wanted and not installed.
    """
    mosquitto = find_mosquitto() if wanted is not BrokerKind.EMBEDDED else None
    if wanted is BrokerKind.MOSQUITTO and mosquitto is None:
        raise DemoError("mosquitto is not installed: install it, or let the demo take --broker embedded")
    folder.mkdir(parents=True, exist_ok=True)
    password_file, acl_file = folder / "passwords", folder / "acl"
    lines = [password_line(user, password, secrets.token_bytes(12)) for user, password in sorted(passwords.items())]
    write_private(password_file, "\n".join(lines) + "\n")
    write_private(acl_file, ACL_FILE.read_text(encoding="utf-8"))
    if mosquitto is None:
        files = ("--password-file", str(password_file), "--acl-file", str(acl_file))
        return BrokerPlan(
            BrokerKind.EMBEDDED, (sys.executable, "-m", "deploy.demo.embedded_broker", "--port", str(port), *files)
        )
    configuration = folder / "mosquitto.conf"
    write_private(configuration, _mosquitto_configuration(port, password_file, acl_file))
    return BrokerPlan(BrokerKind.MOSQUITTO, (mosquitto, "-c", str(configuration)))


def _mosquitto_configuration(port: int, password_file: Path, acl_file: Path) -> str:
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {password_file}",
        f"acl_file {acl_file}",
        "use_username_as_clientid true",
        "persistence false",
        "log_dest stderr",
    ]
    if os.getuid() == 0:
        # Started by root, mosquitto would become another user, who cannot read these files.
        lines.append(f"user {pwd.getpwuid(0).pw_name}")
    return "\n".join(lines) + "\n"
