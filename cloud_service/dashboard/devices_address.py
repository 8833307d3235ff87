"""The address of a view of the Devices page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from shared.errors import InputError
from shared.types import IDENTIFIER

PAGE_ROWS = 50
SORTS = ("device", "presence", "seen", "agent", "ring", "model", "version", "accepted", "offload", "p99", "link",
         "gate", "policy")  # fmt: skip
_DESCENDING_FIRST = frozenset({"seen", "accepted", "offload", "p99"})
PRESENCES = ("online", "silent", "offline")
POLICIES = ("refused", "obeyed", "none")
_KEYS = ("q", "presence", "ring", "model", "version", "policy", "sort", "page")
_LAST_PAGE = 100_000


@dataclass(frozen=True)
class DevicesAddress:
    """What is searched for and how it is ordered; "" means any. `sort` has a minus in front when it descends."""

    search: str = ""
    presence: str = ""
    ring: str = ""
    model: str = ""
    version: str = ""
    policy: str = ""
    sort: str = "device"
    page: int = 1

    @property
    def sort_key(self) -> str:
        """Which column."""
        return self.sort.removeprefix("-")

    @property
    def is_descending(self) -> bool:
        """Largest first."""
        return self.sort.startswith("-")

    def query(self) -> str:
        """The canonical query: defaults left out, the rest in a fixed order."""
        parts = {"q": self.search}
        parts |= {name: getattr(self, name) for name in ("presence", "ring", "model", "version", "policy")}
        parts["sort"] = "" if self.sort == "device" else self.sort
        parts["page"] = "" if self.page == 1 else str(self.page)
        return urlencode({name: value for name, value in parts.items() if value})

    def sorted_by(self, key: str) -> DevicesAddress:
        """From its first page on by `key`; the other way round where it is sorted so already."""
        if key == self.sort_key:
            return replace(self, sort=key if self.is_descending else f"-{key}", page=1)
        return replace(self, sort=f"-{key}" if key in _DESCENDING_FIRST else key, page=1)

    def at_page(self, page: int) -> DevicesAddress:
        """Another page of the same."""
        return replace(self, page=page)


def devices_address(items: Sequence[tuple[str, str]]) -> DevicesAddress:
    """The view that the parts of a query name; empty ones count as left out.

    Raises:
        InputError: a part is unknown, given twice or out of its range; the text says which.
    """
    values: dict[str, str] = {}
    for key, value in items:
        if key not in _KEYS:
            raise InputError(f"{key[:40]!r} is not known here; use {', '.join(_KEYS)}")
        if key in values:
            raise InputError(f"{key} is given twice")
        values[key] = value.strip()
    address = DevicesAddress(
        search=_search(values.get("q", "")),
        presence=_one_of("presence", values.get("presence", ""), PRESENCES),
        policy=_one_of("policy", values.get("policy", ""), POLICIES),
        sort=_sort(values.get("sort", "")),
        page=_page(values.get("page", "")),
        **{name: _name(name, values.get(name, "")) for name in ("ring", "model", "version")},
    )
    return address


def _search(text: str) -> str:
    if len(text) > 64:
        raise InputError("q is longer than 64 characters, and so than any device's name")
    return text


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value and value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, not {value[:80]!r}")
    return value


def _name(kind: str, value: str) -> str:
    if value and not IDENTIFIER.fullmatch(value):
        raise InputError(f"{kind} {value[:80]!r} is not a name: use letters, digits, '.', '_' or '-', 64 at most")
    return value


def _sort(value: str) -> str:
    if value.removeprefix("-") not in ("", *SORTS):
        raise InputError(f"sort must be one of {', '.join(SORTS)}, or that with a minus in front, not {value[:80]!r}")
    return value or "device"


def _page(value: str) -> int:
    if not value:
        return 1
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= _LAST_PAGE):
        raise InputError(f"page must be a number from 1 on, not {value[:80]!r}")
    return int(value)
