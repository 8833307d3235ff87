"""Rewritten questions for distillation: they have no label of their own, only the teacher's opinion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORD_DROP_RATIO = 0.15
TYPOS_PER_WORD = 0.12
NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo",
    "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et",
    "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip


def rewritten_texts(texts: Sequence[str], copies: int, seed: int) -> list[str]:
    """`copies` rewritings of every text, copy by copy in the order of `texts`; the same for the same seed."""
    random = np.random.default_rng([seed, 0xA06])
    return [rewrite(text, texts[int(random.integers(len(texts)))], random) for _ in range(copies) for text in texts]


def rewrite(text: str, other: str, random: np.random.Generator) -> str:
    """Drop words, mistype, or splice with half of `other`; never empty."""
    kind = random.random()
    if kind < 0.35:
        return drop_words(text, random)
    if kind < 0.65:
        return mistype(text, random)
    return splice(text, other, random)


def drop_words(text: str, random: np.random.Generator) -> str:
    """Leave out each word with probability `WORD_DROP_RATIO`; at least one stays."""
    words = text.split()
    kept = [word for word in words if random.random() >= WORD_DROP_RATIO]
    return " ".join(kept or words[:1])


def mistype(text: str, random: np.random.Generator) -> str:
    """Put one typing error into some of the longer words."""
    return " ".join(
        _mistype_word(word, random) if len(word) > 3 and random.random() < TYPOS_PER_WORD else word
        for word in text.split()
    )


def splice(text: str, other: str, random: np.random.Generator) -> str:
    """The beginning of one question and the end of another."""
    first, second = text.split(), other.split()
    cut = max(1, round(len(first) * random.uniform(0.3, 1.0)))
    return " ".join(first[:cut] + second[round(len(second) * random.uniform(0.0, 0.7)) :])


def _mistype_word(word: str, random: np.random.Generator) -> str:
    place = int(random.integers(1, len(word) - 1))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    kind = int(random.integers(4))
    if kind == 0:
        return before + after
    if kind == 1:
        return before + letter + letter + after
    if kind == 2:
        return before + after[0] + letter + after[1:]
    choices = NEIGHBOURS.get(letter.lower(), letter)
    return before + choices[int(random.integers(len(choices)))] + after
