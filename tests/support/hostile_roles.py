"""A repository's roles as those see them who attack it."""

from __future__ import annotations

from tuf.api.metadata import Signed

from shared.update.assignment import Arm
from shared.update.names import (
    ROLE_PATHS,
)
from tests.support.hostile_repository import (
    HostileRepository,
)
from tests.support.trusting_device import (
    DELEGATED,
)

SIGNED = ("targets", *ROLE_PATHS)


TOP = ("root", "targets", "snapshot", "timestamp")


def signed_role(repository: HostileRepository, role: str) -> Signed:
    named: dict[str, Signed] = {
        "root": repository.root,
        "targets": repository.targets,
        "snapshot": repository.snapshot,
        "timestamp": repository.timestamp,
    }
    return named.get(role) or repository.delegated[role]


def second_release(repository: HostileRepository) -> Arm:
    arm = repository.release(2)
    repository.assign(arm)
    repository.publish(DELEGATED)
    return arm
