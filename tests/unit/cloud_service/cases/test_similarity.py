from __future__ import annotations

import numpy as np

from cloud_service.cases.similarity import MOST_GROUPS, alike, tf_idf


def groups_of(texts: list[str]) -> list[list[str]]:
    return [[texts[member] for member in group.members] for group in alike(texts)]


def test_texts_alike_come_together_largest_group_first() -> None:
    texts = [
        "why was my transfer declined",
        "where is my new card",
        "my transfer was declined, why",
        "where is my card, the new one",
        "my transfer was declined",
    ]
    assert groups_of(texts) == [[texts[0], texts[2], texts[4]], [texts[1], texts[3]]]


def test_chinese_is_told_apart_without_words() -> None:
    texts = ["我的信用卡在哪里", "转账为什么失败了", "信用卡在哪里?", "为什么转账失败"]
    assert groups_of(texts) == [[texts[0], texts[2]], [texts[1], texts[3]]]


def test_case_width_and_spaces_do_not_matter() -> None:
    vectors = tf_idf(["Card  lost", "ｃａｒｄ lost", "something else"])
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-6)


def test_it_is_deterministic_and_every_text_is_in_one_group() -> None:
    texts = [f"text {number * 7919 % 1000} about {chr(97 + number % 26) * 5}" for number in range(300)]
    first, again = alike(texts), alike(texts)
    assert first == again
    assert sorted(member for group in first for member in group.members) == list(range(300))


def test_groups_are_bounded_and_empty_texts_do_no_harm() -> None:
    random = np.random.default_rng(0)
    texts = ["".join(chr(c) for c in random.integers(0x4E00, 0x9FFF, size=12)) for _ in range(200)]
    assert len(alike(texts)) <= MOST_GROUPS
    assert len(alike(["", " ", "\0"])) >= 1
    assert alike([]) == ()
