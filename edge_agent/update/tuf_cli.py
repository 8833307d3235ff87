"""The device's update client as a command: `python -m edge_agent.update.tuf_cli`.

It speaks the client protocol of the public TUF conformance suite
(https://github.com/theupdateframework/tuf-conformance, CLIENT-CLI.md), so that the suite can be run against what
devices run: the same fetcher, limits and store. Two things are the suite's: its old repositories are looked at under a
clock of their time, so there is no build time, and roles may hand on to roles, to any depth that python-tuf follows.

Ends with 0, or with 1 and a line that says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import anyio

from edge_agent.update.http_source import HttpSource
from edge_agent.update.limits import UpdateLimits
from edge_agent.update.trust_memory import write_durably
from edge_agent.update.tuf_client import TufClient
from shared.clock import Clock, SystemClock
from shared.errors import FileNotThere, MessageError, TandemError
from shared.update.names import METADATA, TARGETS

PINNED_ROOT_NAME = "pinned_root"
_ROOT_NAME = "root.json"
_MAX_DELEGATIONS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 0 or 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command != "init" and not options.metadata_url:
        parser.error(f"{options.command} needs --metadata-url")
    if options.command == "download" and not (options.target_name and options.target_base_url and options.target_dir):
        parser.error("download needs --target-name, --target-base-url and --target-dir")
    try:
        if options.command == "init":
            _init(options.metadata_dir, options.trusted_root)
        else:
            anyio.run(_update, options)
    except (TandemError, OSError) as error:
        print(f"tuf_cli: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _init(metadata_dir: Path, trusted_root: Path) -> None:
    root = trusted_root.read_bytes()
    metadata_dir.mkdir(parents=True, exist_ok=True)
    for name in (PINNED_ROOT_NAME, _ROOT_NAME):
        write_durably(metadata_dir / name, root)


async def _update(options: argparse.Namespace) -> None:
    clock, limits = SystemClock(), UpdateLimits()
    addresses = {METADATA: options.metadata_url, TARGETS: options.target_base_url}
    with closing(_Addresses({folder: url for folder, url in addresses.items() if url}, clock)) as source:
        client = TufClient(
            source,
            options.metadata_dir,
            (options.metadata_dir / PINNED_ROOT_NAME).read_bytes(),
            clock,
            limits=limits,
            built_unix_s=0.0,
            max_delegations=_MAX_DELEGATIONS,
        )
        await client.refresh()
        for name in options.target_name if options.command == "download" else ():
            target = await client.find(name)
            if target is None:
                raise FileNotThere(f"no target {name!r} is signed")
            # As python-tuf names it: one file for a target, whatever its content is now.
            await client.fetch(target, options.target_dir / quote(name, ""), most_bytes=limits.target_bytes)


class _Addresses:
    """Implements `RepositorySource` for a repository whose metadata and targets lie under addresses of their own."""

    def __init__(self, urls: Mapping[str, str], clock: Clock) -> None:
        self._sources = {folder: HttpSource(url, clock, checked_path=_checked_path) for folder, url in urls.items()}

    @property
    def bytes_received(self) -> int:
        return sum(source.bytes_received for source in self._sources.values())

    def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        folder, _, name = path.partition("/")
        return self._sources[folder].read(name, most_bytes=most_bytes)

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        for path in paths:
            yield path, b"".join([piece async for piece in self.read(path, most_bytes=most_bytes)])

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


def _checked_path(path: str) -> str:
    """Any name that stays below its address: the suite's roles and targets have names that ours never have."""
    parts = path.split("/")
    if not path.isprintable() or any(part in ("", ".", "..") for part in parts) or "?" in path or "#" in path:
        raise MessageError(f"{path[:80]!r} would not lie below the repository's address")
    return path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """The protocol knows 0 and 1 alone."""
        self.exit(1, f"{self.format_usage()}tuf_cli: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tuf_cli", description="The update client of a Tandem device, for the TUF conformance suite.")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="trust this root").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh", help="fetch the newest metadata")
    commands.add_parser("download", help="fetch targets, unless they are there already")
    return parser


if __name__ == "__main__":
    sys.exit(main())
