"""What one device is to be told, whatever its ring is told: a pin, or its end."""

from __future__ import annotations

from dataclasses import dataclass

from shared import topics
from shared.update.assignment import Assignment
from shared.update.names import device_target

PIN_PREFIX = "pin-"
"""An assignment says so in the place of a rollout; no rollout's id begins like this."""


@dataclass(frozen=True)
class DeviceOrder:
    """The newest for a device and model. `assignment` None: it follows its ring again. `signed_s`: None until it is.

    `rollout_id`: the pin's own name, another one each time. Times in seconds since 1970-01-01 UTC.
    """

    device_id: str
    model: str
    rollout_id: str
    sequence: int
    assignment: Assignment | None
    decided_s: int
    decided_by: str
    reason: str = ""
    signed_s: int | None = None

    @property
    def target(self) -> str:
        """The director's target for it."""
        return device_target(self.device_id, self.model)

    @property
    def topic(self) -> str:
        """Where the device is told of it."""
        return topics.desired(self.device_id, self.model)

    @property
    def whom(self) -> str:
        """Who is told, in words."""
        return f"device {self.device_id}"

    @property
    def keeps_a_hint(self) -> bool:
        """Where the ring's word counts again, nothing stays at the broker."""
        return self.assignment is not None

    @property
    def version(self) -> str:
        """What it is pinned to; "" where it follows its ring."""
        return self.assignment.arms[0].version if self.assignment else ""
