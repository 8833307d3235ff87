"""What the models of a tokenizer have in common when their pieces are cut, and the kinds there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
CONTROL_PIECE = re.compile(r"\[.+\]|<.+>", re.DOTALL)
ALL_BYTES = frozenset(f"<0x{value:02X}>" for value in range(256))


class PieceModel(Protocol):
    """A tokenizer's model as its JSON has it: text to pieces, by a rule of its kind."""

    @property
    def ids(self) -> Mapping[str, int]:
        """Each piece's id, the lowest first."""

    @property
    def unknown(self) -> str | None:
        """The piece that stands for what no other covers."""

    def needed(self, used: Set[str]) -> set[str]:
        """The pieces that must stay so that `used` come about as before, and any text falls apart into some."""

    def frequent(self) -> Iterator[str]:
        """The pieces that may fill up what room is left, the most frequent first."""

    def with_parts(self, piece: str) -> Set[str]:
        """A piece and those without which it would never come about."""

    def reduced(self, pieces: Sequence[str]) -> dict[str, Any]:
        """The model's JSON with `pieces` alone, numbered in their order."""


class WordPieceModel:
    """The longest piece that fits, again and again; a word with a place where none fits is unknown as a whole."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._prefix: str = document["continuing_subword_prefix"]
        self.ids = _in_order(document["vocab"])
        self.unknown: str | None = document["unk_token"]

    def needed(self, used: Set[str]) -> set[str]:
        """Also every single character, alone and continuing, and what these cannot replace."""
        characters = {piece for piece in self.ids if len(piece.removeprefix(self._prefix)) == 1}
        whole = {piece for piece in self.ids if not _is_control(piece) and not self._falls_apart(piece)}
        return set(used) | characters | whole

    def frequent(self) -> Iterator[str]:
        """In the order of their ids, as BERT's are."""
        return (piece for piece in self.ids if not _is_control(piece))

    def with_parts(self, piece: str) -> Set[str]:
        """Only the piece."""
        return {piece}

    def reduced(self, pieces: Sequence[str]) -> dict[str, Any]:
        """Renumbered."""
        return {**self._document, "vocab": _numbered(pieces)}

    def _falls_apart(self, piece: str) -> bool:
        text = piece.removeprefix(self._prefix)
        continues = len(text) < len(piece)
        return all(
            (self._prefix + character if continues or place else character) in self.ids
            for place, character in enumerate(text)
        )


class UnigramModel:
    """The likeliest way to cut a text into pieces, each with its logarithmic probability."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._scores: dict[str, float] = dict(document["vocab"])
        self.ids = {piece: index for index, (piece, _) in enumerate(document["vocab"])}
        unknown = document["unk_id"]
        self.unknown: str | None = None if unknown is None else document["vocab"][unknown][0]

    def needed(self, used: Set[str]) -> set[str]:
        """Also bytes, every single character, what these cannot replace, and the least likely piece.

        An unknown character is judged by the lowest score there is: without that piece, a text with
        unknown characters could be cut in another way.
        """
        least = min(self._scores, key=self._scores.__getitem__)
        return set(used) | {least} | {piece for piece in self.ids if self._must_stay(piece)}

    def frequent(self) -> Iterator[str]:
        """By probability."""
        ordinary = (piece for piece in self.ids if not _is_control(piece))
        return iter(sorted(ordinary, key=lambda piece: -self._scores[piece]))

    def with_parts(self, piece: str) -> Set[str]:
        """Only the piece."""
        return {piece}

    def reduced(self, pieces: Sequence[str]) -> dict[str, Any]:
        """With their scores as they were."""
        unknown = None if self.unknown is None else pieces.index(self.unknown)
        return {**self._document, "unk_id": unknown, "vocab": [[piece, self._scores[piece]] for piece in pieces]}

    def _must_stay(self, piece: str) -> bool:
        if self._document.get("byte_fallback") and piece in ALL_BYTES:
            return True
        return len(piece) == 1 or (not _is_control(piece) and any(character not in self.ids for character in piece))


def _is_control(piece: str) -> bool:
    return CONTROL_PIECE.fullmatch(piece) is not None


def _in_order(vocabulary: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def _numbered(pieces: Sequence[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(pieces)}
