"""Byte-pair encoding: pieces made of smaller ones by merges, whose order decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from cloud_service.compression.pieces.model import ALL_BYTES

BYTE_DECODER = "ByteFallback"


class MergeModel:
    """Characters (or bytes, each shown as a character) to pieces: of neighbours, the pair with the first merge joins.

    A merge of the smaller vocabulary is one of the larger, so a word in which every merge that happened is
    kept comes out the same: at each step the first merge of all is the first of those kept.
    """

    def __init__(self, document: Mapping[str, Any], decoder: str) -> None:
        """`decoder` is the tokenizer's, as JSON.

        Where it puts byte pieces together again, they can replace characters, but for those that it
        treats apart: a mark that stands for a space would be read as itself from its bytes.
        """
        self._document = document
        self._prefix: str = document["continuing_subword_prefix"] or ""
        self._suffix: str = document["end_of_word_suffix"] or ""
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(document["merges"])}
        self.ids: dict[str, int] = dict(sorted(document["vocab"].items(), key=lambda item: item[1]))
        self.unknown: str | None = document["unk_token"]
        self._bytes = ALL_BYTES if document["byte_fallback"] else frozenset()
        replaceable = BYTE_DECODER in decoder and bool(self._bytes) and self._bytes <= self.ids.keys()
        self._indispensable = frozenset(decoder) if replaceable else None

    def needed(self, used: Set[str]) -> set[str]:
        """Also byte pieces, the single characters that these cannot replace, and all on the way to `used`."""
        kept = set(self._bytes & self.ids.keys())
        for piece in used:
            kept |= self.with_parts(piece)
        return kept | {piece for piece in self.ids if self._must_stay(piece)}

    def frequent(self) -> Iterator[str]:
        """In the order of their ids, which is that of their merges; none that merges cannot make."""
        return (piece for piece in self.ids if self._reaches(piece))

    def with_parts(self, piece: str) -> Set[str]:
        """A piece and all that merges make on the way to it."""
        return {piece} if piece in self._bytes else {piece, *self._way_to(piece)} & self.ids.keys()

    def reduced(self, pieces: Sequence[str]) -> dict[str, Any]:
        """Renumbered, with the merges whose parts and result are kept, in their order."""
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        merges = [
            [left, right]
            for left, right in self._ranks
            if left in vocabulary and right in vocabulary and self._merged(left, right) in vocabulary
        ]
        return {**self._document, "vocab": vocabulary, "merges": merges}

    def _must_stay(self, piece: str) -> bool:
        character = piece.removeprefix(self._prefix).removesuffix(self._suffix)
        return len(character) == 1 and (self._indispensable is None or character in self._indispensable)

    def _reaches(self, piece: str) -> bool:
        way = self._way_to(piece)
        return bool(way) and way[-1] == piece

    def _way_to(self, piece: str) -> list[str]:
        """The characters of `piece`, then what merges make of them, in the order in which it happens."""
        parts = self._characters(piece)
        way = list(parts)
        while len(parts) > 1:
            unmergeable = len(self._ranks)
            ranks = [self._ranks.get(pair, unmergeable) for pair in zip(parts, parts[1:], strict=False)]
            place = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[place] == unmergeable:
                break
            parts[place : place + 2] = [self._merged(parts[place], parts[place + 1])]
            way.append(parts[place])
        return way

    def _characters(self, piece: str) -> list[str]:
        text = piece.removeprefix(self._prefix)
        starts = "" if len(text) == len(piece) else self._prefix
        body = text.removesuffix(self._suffix)
        characters = [(self._prefix if place else starts) + character for place, character in enumerate(body)]
        if len(body) < len(text) and characters:
            characters[-1] += self._suffix
        return characters

    def _merged(self, left: str, right: str) -> str:
        return left + right.removeprefix(self._prefix)
