"""The `keys`, `publish` and `registry` commands of `cloud-service`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from cloud_service.late_commands import Commands, add_command

_add = partial(add_command, "cloud_service.registry.commands")


def add_registry_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add all three to the command line."""
    _add_keys(commands)
    _add_publish(commands)
    _add_registry(commands)


def _add_keys(commands: Commands[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="the keys that sign releases").add_subparsers(required=True)
    init = _add(keys, "init", "make all keys and an empty repository", "init_keys")
    init.add_argument("--threshold", type=int, default=2, help="so many root keys must sign a new root (2)")
    init.add_argument("--keys", type=int, default=3, help="so many root keys are made (3)")
    rotate = _add(keys, "rotate", "give a role new keys", "rotate_keys")
    rotate.add_argument("role")
    revoke = _add(keys, "revoke", "put a new key in the place of one, wherever it signs", "revoke_key")
    revoke.add_argument("key", help="the key's id, or its beginning")
    for parser in (init, rotate, revoke):
        parser.add_argument(
            "--passphrase",
            action="store_true",
            help="protect new offline keys with one (asked for)",
        )
    _add(keys, "renew", "sign anew what the offline keys sign, before it expires", "renew_signatures")
    _add(keys, "show", "each role's keys, whether they are here, and until when it is signed", "show_keys")


def _add_publish(commands: Commands[argparse.ArgumentParser]) -> None:
    publish = _add(commands, "publish", "put a bundle into the repository as a release", "publish_bundle")
    publish.add_argument("bundle", type=Path, help="the bundle's folder")
    publish.add_argument("--hardware", action="append", default=[], help="only for this kind of device; repeatable")
    publish.add_argument("--gate-only", action="store_true", help="a new gate for the release that is published")


def _add_registry(commands: Commands[argparse.ArgumentParser]) -> None:
    registry = commands.add_parser("registry", help="releases in the repository").add_subparsers(required=True)
    listing = _add(registry, "list", "the listed releases", "list_releases")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = _add(registry, "show", "a model's releases, or one of them, as JSON", "show_release")
    _add_release(show, "MODEL or MODEL@VERSION")
    _add(registry, "verify", "read everything as a device would; exit code 1 where it is damaged", "verify_all")
    _add(registry, "gc", "take away what nothing names any more", "collect_garbage")
    retire = _add(registry, "retire", "take a release off the list", "retire_release")
    _add_release(retire)
    way_back = "even where a rollback would lead to it, which then fails"
    retire.add_argument("--close-way-back", action="store_true", help=way_back)
    allow = _add(registry, "allow", "let a release be taken below the version floor", "allow_release")
    _add_release(allow)
    reason = allow.add_mutually_exclusive_group(required=True)
    reason.add_argument("--reason", help="why; it is signed")
    reason.add_argument("--withdraw", action="store_true", help="take the exception back")
    _add(registry, "sign", "sign the timestamp, and what else is due, once", "sign_now")


def _add_release(parser: argparse.ArgumentParser, text: str = "MODEL@VERSION") -> None:
    parser.add_argument("release", metavar=text.split(" ")[0], help=text)
