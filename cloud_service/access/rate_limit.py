"""Token buckets by key, in bounded memory. Pure: time comes in."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

_MAX_KEYS = 10_000


class TokenBuckets:
    """Each key may do `burst` things at once, and one more each `every_s` seconds after.

    A key without an entry has a full bucket. Where there would be more than `max_keys`, the one used longest ago is
    forgotten: it is the one most likely to be full again.
    """

    def __init__(self, burst: int, every_s: float, max_keys: int = _MAX_KEYS) -> None:
        self._burst = burst
        self._every_s = every_s
        self._max_keys = max_keys
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at_s)

    def wait_s(self, key: str, now_s: float) -> float:
        """Seconds until `key` may take one; 0 when it may now."""
        missing_s = max(0.0, self._full_at_s.get(key, now_s) - now_s)
        return max(0.0, missing_s - (self._burst - 1) * self._every_s)

    def take(self, key: str, now_s: float) -> float:
        """Take one where there is one. Returns: `wait_s`, 0 when it was taken."""
        wait_s = self.wait_s(key, now_s)
        if wait_s == 0.0:
            self._full_at_s[key] = max(now_s, self._full_at_s.get(key, now_s)) + self._every_s
            self._full_at_s.move_to_end(key)
            if len(self._full_at_s) > self._max_keys:
                self._full_at_s.popitem(last=False)
        return wait_s

    def give_back(self, key: str) -> None:
        """Undo one `take`."""
        if key in self._full_at_s:
            self._full_at_s[key] -= self._every_s


def address_key(address: str) -> str:
    """The key of a client's address: IPv4 as it is, IPv6 by its /64, which one client has whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
