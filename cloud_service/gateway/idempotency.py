"""One request is computed once, however often it arrives. Rules alone: time comes in.

A key is (authenticated device, request id); what decides the answer (model, text, top_k) is the payload. Priority,
reason and the device's own answer may differ between copies: an escalation that is spooled and replayed is the same
request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from shared.errors import RequestIdReused
from shared.types import EscalationRequest

P = TypeVar("P")
A = TypeVar("A")


class RequestKey(NamedTuple):
    """A request id is unique for its device alone."""

    device_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class InFlight(Generic[P]):
    """An earlier copy is being computed."""

    digest: bytes
    computation: P


@dataclass(frozen=True, slots=True)
class Remembered(Generic[A]):
    """An earlier copy was answered."""

    digest: bytes
    answer: A
    forget_at_s: float


class IdempotencyTable(Generic[P, A]):
    """Computations `P` in flight and answers `A`, bounded and expiring.

    Failures are not remembered: a retry of what failed is computed again.
    """

    def __init__(self, entries: int, ttl_s: float) -> None:
        """Remember at most `entries` answers, each for `ttl_s` seconds; where there are more, the oldest goes."""
        self._entries = entries
        self._ttl_s = ttl_s
        self._in_flight: dict[RequestKey, InFlight[P]] = {}
        self._remembered: OrderedDict[RequestKey, Remembered[A]] = OrderedDict()

    def __len__(self) -> int:
        """How many answers are remembered."""
        return len(self._remembered)

    def find(self, key: RequestKey, digest: bytes, now_s: float) -> InFlight[P] | Remembered[A] | None:
        """The earlier copy of this request, if there was one.

        Raises:
            RequestIdReused: the same id came with another payload.
        """
        self._expire(now_s)
        found = self._in_flight.get(key) or self._remembered.get(key)
        if found is not None and found.digest != digest:
            raise RequestIdReused(f"request id {key.request_id!r} was used for another payload; ids are used once")
        return found

    def begin(self, key: RequestKey, digest: bytes, computation: P) -> None:
        """A request that `find` does not know is now being computed."""
        self._in_flight[key] = InFlight(digest, computation)

    def finish(self, key: RequestKey, answer: A, now_s: float) -> None:
        """Its computation ended well."""
        done = self._in_flight.pop(key)
        self._remembered[key] = Remembered(done.digest, answer, now_s + self._ttl_s)
        if len(self._remembered) > self._entries:
            self._remembered.popitem(last=False)

    def forget(self, key: RequestKey) -> None:
        """Its computation failed, or nobody waits for it any more."""
        del self._in_flight[key]

    def _expire(self, now_s: float) -> None:
        while self._remembered:
            oldest = next(iter(self._remembered.values()))
            if oldest.forget_at_s > now_s:
                return
            self._remembered.popitem(last=False)


def payload_digest(request: EscalationRequest) -> bytes:
    """SHA-256 of what decides the answer."""
    head = f"{request.model}\0{request.top_k}\0"
    return hashlib.sha256(head.encode() + request.text.encode("utf-8", "surrogatepass")).digest()
