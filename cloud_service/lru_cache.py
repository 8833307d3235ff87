"""A cache that is bounded by the size of what it holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class LruCache(Generic[_Key, _Value]):
    """What was asked for last, as much as has a `size` of at most `most` together. Used by several threads."""

    def __init__(self, most: int, size: Callable[[_Value], int] = lambda value: 1) -> None:
        self._most = most
        self._size = size
        self._kept: OrderedDict[_Key, _Value] = OrderedDict()
        self._kept_size = 0
        self._lock = Lock()

    def get(self, key: _Key) -> _Value | None:
        """What is there under this key."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, key: _Key, value: _Value) -> None:
        """Add it; what was asked for least lately goes, even this where it alone is too large."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept_size += self._size(value) - (0 if before is None else self._size(before))
            self._kept[key] = value
            while self._kept_size > self._most:
                _, gone = self._kept.popitem(last=False)
                self._kept_size -= self._size(gone)
