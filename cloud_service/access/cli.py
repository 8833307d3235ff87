"""The `users` and `log` commands of `cloud-service`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from cloud_service.access.roles import Role
from cloud_service.late_commands import Commands, add_command

_ROLES = [role.value for role in Role]
_add = partial(add_command, "cloud_service.access.commands")


def add_access_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add both to the command line."""
    _add_users(commands)
    _add_log(commands)


def _add_users(commands: Commands[argparse.ArgumentParser]) -> None:
    users = commands.add_parser("users", help="who may sign in to the operator's page").add_subparsers(required=True)
    add = _add(users, "add", "make a user; asks for the password", "add_user")
    add.add_argument("name")
    add.add_argument("--role", choices=_ROLES, required=True)
    _add_password_file(add)
    _add(users, "list", "name the users and their roles", "list_users")
    _add(users, "remove", "remove a user and end the user's sessions", "remove_user").add_argument("name")
    role = _add(users, "set-role", "give a user another role", "set_role")
    role.add_argument("name")
    role.add_argument("role", choices=_ROLES)
    password = _add(users, "set-password", "give a user another password", "set_password")
    password.add_argument("name")
    _add_password_file(password)


def _add_log(commands: Commands[argparse.ArgumentParser]) -> None:
    log = commands.add_parser("log", help="the log of actions").add_subparsers(required=True)
    verify = _add(log, "verify", "check the whole chain; exit code 1 where it is broken", "verify_log")
    verify.add_argument("--head", help="a hash noted earlier, which the chain must still hold")
    _add(log, "head", "print the newest hash, to note it elsewhere", "print_head")
    show = _add(log, "show", "print entries, newest first", "show_log")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.add_argument("--limit", type=int, default=50, help="at most so many entries (50)")
    show.add_argument("--actor", default="", help="of this one alone")
    show.add_argument("--action", default="", help="of this action alone")


def _add_password_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-file", type=Path, help="a file that holds the password (default: ask for it)")
