"""What `cloud-service users` and `cloud-service log` do."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone

from cloud_service.access.action_log import LoggedAction
from cloud_service.access.host import host_entry
from cloud_service.access.passwords import Passwords
from cloud_service.access.roles import Role
from cloud_service.config import load_cloud_settings
from cloud_service.storage.access_store import AccessStore, User
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from cloud_service.storage.transactions import open_durable_engine
from shared.errors import ConfigurationError
from shared.secret_files import read_secret
from shared.types import checked_identifier

_BROKEN = 1
_HEXADECIMAL = frozenset("0123456789abcdef")


def add_user(options: argparse.Namespace) -> int:
    """Make a user."""
    name = checked_identifier("user", options.name)
    password_hash = _new_password_hash(options)
    entry = host_entry("user.add", name, {"role": options.role})
    with _store(options) as store:
        store.add_user(User(name, Role(options.role), password_hash, entry.at_unix_ms), entry)
    return 0


def list_users(options: argparse.Namespace) -> int:
    """Print names and roles."""
    with _store(options) as store:
        for user in store.users():
            _say(f"{user.name}\t{user.role.value}")
    return 0


def remove_user(options: argparse.Namespace) -> int:
    """Remove a user."""
    with _store(options) as store:
        store.remove_user(options.name, host_entry("user.remove", options.name))
    return 0


def set_role(options: argparse.Namespace) -> int:
    """Give a user another role."""
    with _store(options) as store:
        entry = host_entry("user.set_role", options.name, {"role": options.role})
        store.set_role(options.name, Role(options.role), entry)
    return 0


def set_password(options: argparse.Namespace) -> int:
    """Give a user another password."""
    password_hash = _new_password_hash(options)
    with _store(options) as store:
        store.set_password(options.name, password_hash, host_entry("user.set_password", options.name))
    return 0


def verify_log(options: argparse.Namespace) -> int:
    """Walk the chain; 1 where it is broken."""
    head = options.head
    if head is not None and (len(head) != 64 or not _HEXADECIMAL.issuperset(head)):
        raise ConfigurationError(f"--head {head}: a hash has 64 hexadecimal digits")
    with _log(options) as log:
        verdict = log.verify(head)
    if verdict.problem:
        sys.stderr.write(f"cloud-service: the log is broken after {verdict.count} good entries: {verdict.problem}\n")
        return _BROKEN
    _say(f"{verdict.count} entries, each follows the one before it; head {verdict.head}")
    return 0


def print_head(options: argparse.Namespace) -> int:
    """Print the newest hash."""
    with _log(options) as log:
        _say(log.head())
    return 0


def show_log(options: argparse.Namespace) -> int:
    """Print entries, newest first."""
    with _log(options) as log:
        actions = log.read(Wanted(max(0, options.limit), options.actor, options.action))
    for action in actions:
        _say(_as_json(action) if options.json else _as_line(action))
    return 0


def _as_json(action: LoggedAction) -> str:
    fields = {"seq": action.seq, **asdict(action.entry), "previous_hash": action.previous_hash, "hash": action.hash}
    return json.dumps(fields, ensure_ascii=False)


def _as_line(action: LoggedAction) -> str:
    entry = action.entry
    moment = datetime.fromtimestamp(entry.at_unix_ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = (action.seq, moment, entry.actor, entry.role or "-", entry.action, entry.subject, entry.detail)
    return "\t".join(_printable(str(each)) for each in fields)


def _printable(text: str) -> str:
    """So that what stands in an entry can neither break the line nor steer the terminal."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[AccessStore]:
    """Set up where it is not yet, so that users can be made before anything runs."""
    url = load_cloud_settings(options.config).storage_url()
    writing = open_durable_engine(url)
    try:
        migrate(writing)
        yield AccessStore(writing, writing)
    finally:
        writing.dispose()


@contextmanager
def _log(options: argparse.Namespace) -> Iterator[ActionLog]:
    url = load_cloud_settings(options.config).storage_url()
    engine = open_engine(url, writes=False)
    try:
        yield ActionLog(engine)
    finally:
        engine.dispose()


def _new_password_hash(options: argparse.Namespace) -> str:
    if options.password_file:
        return Passwords().hash(read_secret("--password-file", options.password_file))
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask for the password: use --password-file")
    password = getpass.getpass(f"Password for {options.name}: ")
    if getpass.getpass("Once more: ") != password:
        raise ConfigurationError("the two passwords differ; nothing was changed")
    return Passwords().hash(password)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
