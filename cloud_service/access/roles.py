"""What a visitor of the operator's page may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(str, Enum):
    """Each may all that the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        """Whether this role may what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Visitor:
    """Who asks. `name` is empty for one who reads while no user is set up; such a one may not act."""

    name: str
    role: Role

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody has signed in."""
        return not self.name


ANONYMOUS = Visitor("", Role.VIEWER)
