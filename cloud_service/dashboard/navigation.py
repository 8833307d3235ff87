"""What stands around every page: the ways to the other pages, and who is signed in. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cloud_service.access.roles import ANONYMOUS, Role, Visitor


@dataclass(frozen=True)
class Link:
    """One entry of the navigation; shown to those whose role covers `role`."""

    path: str
    text: str
    role: Role = Role.VIEWER


LINKS = (
    Link("/", "Overview"),
    Link("/offload", "Offload"),
    Link("/risk", "Risk"),
    Link("/hard-cases", "Hard cases"),
    Link("/devices", "Devices"),
    Link("/updates", "Updates"),
    Link("/log", "Log", Role.OPERATOR),
)


@dataclass(frozen=True)
class Frame:
    """What `base.html` shows. `visitor` is None on the page where one signs in; `current` is a link's path or empty."""

    links: tuple[Link, ...] = ()
    current: str = ""
    visitor: Visitor | None = ANONYMOUS
    csrf_token: str = ""


NO_FRAME = Frame()
"""Around a page that stands alone."""


def frame(path: str, served: Collection[str], visitor: Visitor | None, csrf_token: str) -> Frame:
    """The frame of the page at `path`; links lead to paths that are `served`, and a page below one counts as its."""
    if visitor is None:
        return Frame(visitor=None, csrf_token=csrf_token)
    links = tuple(link for link in LINKS if link.path in served and visitor.role.covers(link.role))
    current = next((link.path for link in links if path == link.path or path.startswith(f"{link.path}/")), "")
    return Frame(links, current, visitor, csrf_token)
