"""A request that comes twice is computed once. Rules alone: time comes in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import TandemError

T = TypeVar("T")


class AnotherPayload(TandemError):
    """The request id was used by this device for another payload."""


@dataclass(frozen=True)
class _Entry(Generic[T]):
    digest: bytes
    value: T
    expires_s: float


@dataclass(frozen=True)
class Claim(Generic[T]):
    """What is remembered for a request; `fresh` where it was made just now."""

    value: T
    fresh: bool


class IdempotencyCache(Generic[T]):
    """Remembers a value for each (device, request id) for `ttl_s` seconds, the newest `capacity` of them."""

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._entries: OrderedDict[tuple[str, str], _Entry[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def claim(self, device_id: str, request_id: str, digest: bytes, now_s: float, make: Callable[[], T]) -> Claim[T]:
        """The value remembered for the request, or a new one by `make`.

        Raises:
            AnotherPayload: the id is remembered with another payload `digest`.
            Whatever `make` raises; nothing is remembered then.
        """
        self._forget_expired(now_s)
        key = (device_id, request_id)
        entry = self._entries.get(key)
        if entry is not None:
            if entry.digest != digest:
                raise AnotherPayload(f"request id {request_id!r} was used for another payload; take a new id")
            return Claim(entry.value, fresh=False)
        value = make()
        self._entries[key] = _Entry(digest, value, now_s + self._ttl_s)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return Claim(value, fresh=True)

    def forget(self, device_id: str, request_id: str, value: T) -> None:
        """Drop `value`, so that the request may be tried again; another value under the same id stays."""
        entry = self._entries.get((device_id, request_id))
        if entry is not None and entry.value is value:
            del self._entries[(device_id, request_id)]

    def _forget_expired(self, now_s: float) -> None:
        while self._entries and next(iter(self._entries.values())).expires_s <= now_s:
            self._entries.popitem(last=False)
