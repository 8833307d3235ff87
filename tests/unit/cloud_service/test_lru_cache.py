from __future__ import annotations

from cloud_service.lru_cache import LruCache


def test_what_takes_most_memory_is_bounded_by_its_size_and_the_oldest_goes_first() -> None:
    kept: LruCache[str, str] = LruCache(10, len)
    kept.put("a", "1234")
    kept.put("b", "12345")
    kept.put("a", "123")
    kept.put("c", "12")
    assert [kept.get(key) for key in "abc"] == ["123", "12345", "12"]
    kept.put("d", "1")
    assert [kept.get(key) for key in "abcd"] == [None, "12345", "12", "1"]
    kept.put("e", "12345678901")
    assert [kept.get(key) for key in "bcde"] == [None] * 4
