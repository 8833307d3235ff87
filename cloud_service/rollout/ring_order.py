"""What a ring is to be told: decided, then signed by the director, then hinted at."""

from __future__ import annotations

from dataclasses import dataclass

from shared import topics
from shared.update.assignment import Assignment
from shared.update.names import ring_target


@dataclass(frozen=True)
class RingOrder:
    """The newest for a ring and model. `assignment` None: the ring is told nothing. `signed_s`: None until it is.

    Times in seconds since 1970-01-01 UTC.
    """

    ring: str
    model: str
    rollout_id: str
    sequence: int
    assignment: Assignment | None
    decided_s: int
    signed_s: int | None = None

    @property
    def target(self) -> str:
        """The director's target for it."""
        return ring_target(self.ring, self.model)

    @property
    def topic(self) -> str:
        """Where the ring is told of it."""
        return topics.ring_desired(self.ring, self.model)

    @property
    def whom(self) -> str:
        """Who is told, in words."""
        return f"ring {self.ring}"

    @property
    def keeps_a_hint(self) -> bool:
        """Devices that come later look it up as well."""
        return True
