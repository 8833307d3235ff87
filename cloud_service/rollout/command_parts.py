"""What the `rollout` commands share: the store, who gives the order, and how it is answered."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from cloud_service.access.host import host_entry
from cloud_service.config import CloudSettings
from cloud_service.rollout.log_entries import Actor
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from cloud_service.storage.transactions import open_durable_engine


def host_actor() -> Actor:
    """Who sits at this machine's terminal."""
    entry = host_entry("", "")
    return Actor(entry.actor, entry.role)


@contextmanager
def writing(settings: CloudSettings) -> Iterator[Engine]:
    """The store is set up where it is not yet, so that a rollout can be planned before anything runs."""
    engine = open_durable_engine(settings.storage_url())
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(settings: CloudSettings) -> Iterator[Engine]:
    """The store, which need not be there."""
    engine = open_engine(settings.storage_url(), writes=False)
    try:
        yield engine
    finally:
        engine.dispose()


def say(lines: Iterable[str]) -> None:
    """Print them."""
    sys.stdout.writelines(line + "\n" for line in lines)


def say_if_not_carried_out(settings: CloudSettings) -> None:
    """Warn where no rollout service is set up."""
    if settings.rollout is None:
        sys.stderr.write("cloud-service: cloud.toml has no section [rollout]: nothing carries rollouts out yet\n")
