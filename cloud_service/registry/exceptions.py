"""Signed exceptions: a release below the version floor that devices may take all the same, in an emergency."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.registry.catalogue import find_release
from cloud_service.registry.repository import Repository
from shared.documents import Document, canonical_json
from shared.errors import RegistryError
from shared.update.names import EXCEPTIONS_ROLE, exception_target


@dataclass(frozen=True)
class FloorException(Document):
    """What the exceptions' key signs."""

    model: str
    version: str
    reason: str
    allowed_unix_s: int
    format: int = 1


def allow(repository: Repository, model: str, version: str, reason: str) -> None:
    """Let a listed release be assigned, and taken by devices, below any floor.

    Raises:
        RegistryError: the release is not listed, no reason is given, or the exceptions' key is not here.
    """
    if not reason.strip() or not reason.isprintable():
        raise RegistryError("an exception needs a reason, in one line")
    exception = FloorException(model, version, reason.strip(), int(repository.clock.unix_s()))
    with repository.changing() as change:
        find_release(change, model, version)
        change.put_target(EXCEPTIONS_ROLE, exception_target(model, version), canonical_json(exception))


def withdraw_exception(repository: Repository, model: str, version: str) -> None:
    """Take an exception back.

    Raises:
        RegistryError: there is none, or the exceptions' key is not here.
    """
    name = exception_target(model, version)
    with repository.changing() as change:
        if name not in change.role(EXCEPTIONS_ROLE).targets:
            raise RegistryError(f"{model} {version} has no exception")
        change.edit(EXCEPTIONS_ROLE).targets.pop(name)
