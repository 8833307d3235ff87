"""Rewritten questions are the same for the same seed, never empty, and close to what they came from."""

from __future__ import annotations

import numpy as np

from cloud_service.compression.augmentation import drop_words, mistype, rewritten_texts, splice

TEXTS = ["I am still waiting on my card", "Why?", "card", "what is the exchange rate for yen", "我的卡丢了"]


def test_the_same_seed_gives_the_same_rewritings() -> None:
    assert rewritten_texts(TEXTS, 3, seed=1) == rewritten_texts(TEXTS, 3, seed=1)
    assert rewritten_texts(TEXTS, 3, seed=1) != rewritten_texts(TEXTS, 3, seed=2)


def test_no_rewriting_is_empty() -> None:
    rewritten = rewritten_texts(TEXTS, 200, seed=0)
    assert len(rewritten) == 200 * len(TEXTS)
    assert all(text.strip() for text in rewritten)


def test_dropped_words_leave_the_others_in_order() -> None:
    words = TEXTS[0].split()
    for seed in range(50):
        kept = drop_words(TEXTS[0], np.random.default_rng(seed)).split()
        remaining = iter(words)
        assert all(word in remaining for word in kept)


def test_a_typing_error_changes_a_word_by_at_most_a_letter_or_two() -> None:
    for seed in range(50):
        mistyped = mistype("exchange", np.random.default_rng(seed))
        assert abs(len(mistyped) - len("exchange")) <= 1
        assert mistyped[0] == "e"


def test_a_splice_begins_with_one_question_and_ends_with_another() -> None:
    for seed in range(20):
        words = splice("alpha beta gamma", "delta epsilon", np.random.default_rng(seed)).split()
        assert words[0] == "alpha"
        assert words[-1] in {"epsilon", "alpha", "beta", "gamma"}
