"""Texts in groups of likes: character n-grams, TF-IDF, cosine, and leaders in order of time. Pure numpy.

Characters need no words to be told apart, so it serves Chinese, where each stands for itself as well, as it serves
English. Leader clustering (Hartigan 1975) reads the texts once: each joins the nearest group whose leader is near
enough, or leads a new one. It is deterministic, its cost is bounded by texts · groups, and nothing is fitted.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_TEXTS = 2000
MOST_GROUPS = 60
NEAR_ENOUGH = 0.35
_DIMENSIONS = 4096
_SIZES = (2, 3)
_LONGEST_TEXT = 400
_FIRST_IDEOGRAPH = "\u2e80"


@dataclass(frozen=True)
class TextGroup:
    """Texts alike, by their places in what was given; the leader is the first."""

    members: tuple[int, ...]

    @property
    def leader(self) -> int:
        """The text that stands for the group."""
        return self.members[0]


def alike(texts: Sequence[str], near_enough: float = NEAR_ENOUGH) -> tuple[TextGroup, ...]:
    """Groups of `texts`, largest first; texts beyond `MOST_TEXTS` are left out.

    Texts without a near group when there are `MOST_GROUPS` already join the nearest.
    """
    vectors = tf_idf(texts[:MOST_TEXTS])
    leaders = np.zeros((0, vectors.shape[1]), dtype=np.float32)
    members: list[list[int]] = []
    for place, vector in enumerate(vectors):
        cosines = leaders @ vector
        nearest = int(cosines.argmax()) if len(cosines) else -1
        if nearest >= 0 and (cosines[nearest] >= near_enough or len(members) >= MOST_GROUPS):
            members[nearest].append(place)
        else:
            leaders = np.vstack([leaders, vector])
            members.append([place])
    return tuple(TextGroup(tuple(each)) for each in sorted(members, key=lambda each: (-len(each), each[0])))


def tf_idf(texts: Sequence[str]) -> NDArray[np.float32]:
    """One row of length 1 a text, float32 [n, dimensions]; a row of zeros for a text without characters.

    N-grams of 2 and 3 characters, and single ideographs, hashed (Weinberger et al., arXiv 0902.2206); counts enter by
    1 + log, weighed by log((1 + n) / (1 + texts with it)) + 1.
    """
    place_of: dict[str, int] = {}
    places: list[int] = []
    counts: list[int] = []
    for row, text in enumerate(texts):
        for gram, count in _grams(text).items():
            place = place_of.get(gram)
            if place is None:
                place = place_of[gram] = zlib.crc32(gram.encode("utf-8", "surrogatepass")) % _DIMENSIONS
            places.append(row * _DIMENSIONS + place)
            counts.append(count)
    weights = 1.0 + np.log(np.array(counts, dtype=np.float64))
    flat = np.bincount(np.array(places, dtype=np.int64), weights, minlength=len(texts) * _DIMENSIONS)
    matrix = flat.reshape(len(texts), _DIMENSIONS).astype(np.float32)
    matrix *= (np.log((1.0 + len(texts)) / (1.0 + (matrix > 0).sum(axis=0))) + 1.0).astype(np.float32)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return matrix


def _grams(text: str) -> Counter[str]:
    """Width and case do not matter, nor how much space stands between."""
    plain = " ".join(unicodedata.normalize("NFKC", text[:_LONGEST_TEXT]).casefold().split())
    padded = f" {plain} " if plain else ""
    grams = Counter(padded[i : i + size] for size in _SIZES for i in range(len(padded) - size + 1))
    grams.update(character for character in plain if character >= _FIRST_IDEOGRAPH)
    return grams
