"""What rollouts need of the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

from cloud_service.rollout.plan import Release
from cloud_service.rollout.records import FieldFigures
from shared.update.assignment import Assignment


class Director(Protocol):
    """Signs what rings are to run; see `cloud_service.registry.director.Director`. Blocking."""

    def assign_many(self, assignments: Mapping[str, Assignment]) -> None:
        """Let these targets say this; signed when it returns.

        Raises:
            RegistryError: they cannot be signed as they are.
        """
        ...

    def withdraw(self, *target_names: str) -> None:
        """Let these targets say nothing any more.

        Raises:
            RegistryError: it cannot be signed.
        """
        ...

    def assignments(self) -> Mapping[str, Assignment]:
        """What is in force, by target name; what cannot be read is left out.

        Raises:
            RegistryError: the repository cannot be read.
        """
        ...


class FieldSource(Protocol):
    """What telemetry counted; see `cloud_service.storage.rollout_reader.RolloutReader`. Blocking."""

    def field_figures(
        self, model: str, ring: str, release: Release, before: Release | None, opened_s: int, now_s: int
    ) -> FieldFigures:
        """Of a release in a ring since `opened_s`, and of what ran there before.

        Raises:
            StorageError: the store cannot be read.
        """
        ...

    def arm_figures(self, model: str, ring: str, new: Release, old: Release, opened_s: int, now_s: int) -> FieldFigures:
        """Of both arms of an A/B test, all since `opened_s`.

        Raises:
            StorageError: the store cannot be read.
        """
        ...


class Publish(Protocol):
    """See `shared.mqtt.BrokerLink.publish`."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> Awaitable[None]:
        """Publish, and wait until the broker has it."""
        ...
