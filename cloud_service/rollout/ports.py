"""What rollouts need of the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, TypeVar

from cloud_service.rollout.plan import Release
from cloud_service.rollout.records import FieldFigures
from shared.update.assignment import Assignment


class OrderToSign(Protocol):
    """What a ring or a device is to be told; see `RingOrder` and `DeviceOrder`."""

    @property
    def model(self) -> str:
        """The model it is about."""
        ...

    @property
    def rollout_id(self) -> str:
        """Whose decision it is."""
        ...

    @property
    def sequence(self) -> int:
        """Grows with each decision for this target."""
        ...

    @property
    def assignment(self) -> Assignment | None:
        """What is to be signed; None where nothing is said any more."""
        ...

    @property
    def signed_s(self) -> int | None:
        """When it was signed, in seconds since 1970-01-01 UTC; None while it waits."""
        ...

    @property
    def target(self) -> str:
        """The director's target for it."""
        ...

    @property
    def topic(self) -> str:
        """Where the hint is published."""
        ...

    @property
    def whom(self) -> str:
        """Who is told, in words."""
        ...

    @property
    def keeps_a_hint(self) -> bool:
        """Whether the broker keeps the hint for those who come later; else it is told to keep none."""
        ...


OrderT = TypeVar("OrderT", bound=OrderToSign)


class OrderBook(Protocol[OrderT]):
    """Where orders wait; see `RolloutStore` and `PinStore`. Blocking. All raise StorageError."""

    def orders(self, *, unsigned: bool = False) -> Sequence[OrderT]:
        """The newest for each target; `unsigned`: those alone that wait."""
        ...

    def mark_signed(self, order: OrderT, now_s: int) -> None:
        """The director has signed this very order; a newer one still waits."""
        ...

    def renumber(self, order: OrderT, sequence: int) -> OrderT | None:
        """Give this very order another sequence; None where a newer one waits."""
        ...


class Director(Protocol):
    """Signs what rings and devices are to run; see `cloud_service.registry.director.Director`. Blocking."""

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

    def arm_figures(
        self, model: str, ring: str, new: Release, old: Release, opened_s: int, now_s: int, *, by_key: bool = False
    ) -> FieldFigures:
        """Of both arms of an A/B test, all since `opened_s`; `by_key`: it splits requests, not devices.

        Raises:
            StorageError: the store cannot be read.
        """
        ...


class Publish(Protocol):
    """See `shared.mqtt.BrokerLink.publish`."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> Awaitable[None]:
        """Publish, and wait until the broker has it."""
        ...
