"""What a ring is to be told: decided, then signed by the director, then hinted at."""

from __future__ import annotations

from dataclasses import dataclass

from shared.update.assignment import Assignment


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
