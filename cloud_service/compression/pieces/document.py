"""A tokenizer as its JSON: its model, and where else piece ids stand in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from tokenizers import Tokenizer

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.pieces.merging import MergeModel
from cloud_service.compression.pieces.model import PieceModel, UnigramModel, WordPieceModel

MASK_TOKENS = ("[MASK]", "<mask>")  # these serve pre-training alone


class TokenizerDocument:
    """Normalizer, pre-tokenizer, decoder and settings stay as they are; pieces and their ids change.

    Raises:
        CompressionError: the tokenizer's model is of a kind whose pieces cannot be cut.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._document: dict[str, Any] = json.loads(tokenizer.to_str())
        self._pieces = {index: piece for piece, index in tokenizer.get_vocab(with_added_tokens=True).items()}
        self._added: list[dict[str, Any]] = sorted(self._document["added_tokens"], key=lambda token: int(token["id"]))
        self.model = _model_of(self._document)

    @property
    def decodes(self) -> bool:
        """Whether a decoder puts pieces together to a text again."""
        return self._document["decoder"] is not None

    def named(self) -> set[str]:
        """The pieces that the tokenizer itself speaks of, in its post-processor, its padding and as unknown.

        Raises:
            CompressionError: its post-processor adds an id that is no piece's.
        """
        ids = self._post_processor_ids()
        if not ids <= self._pieces.keys():
            raise CompressionError("the tokenizer cannot be cut: its post-processor adds an id that is no piece's")
        named = {self._pieces[index] for index in ids}
        padding = self._document["padding"]
        if padding and padding["pad_id"] in self._pieces:
            named.add(self._pieces[padding["pad_id"]])
        if self.model.unknown is not None and self.model.unknown in self.model.ids:
            named.add(self.model.unknown)
        return named

    def added(self) -> set[str]:
        """Tokens that are found in a text before the model sees it; mask tokens read as plain text."""
        return {str(token["content"]) for token in self._added} - set(MASK_TOKENS)

    def order(self, kept: Set[str]) -> list[str]:
        """The kept pieces by their new id: the model's as they were, then tokens that the model has not."""
        beyond = [str(token["content"]) for token in self._added if token["content"] not in self.model.ids]
        return [piece for piece in (*self.model.ids, *beyond) if piece in kept]

    def reduced(self, pieces: Sequence[str]) -> Tokenizer:
        """The tokenizer with `pieces`, as `order` has them, alone.

        Raises:
            CompressionError: the library numbers the pieces otherwise.
        """
        ids = {piece: index for index, piece in enumerate(pieces)}
        document = {
            **self._document,
            "model": self.model.reduced([piece for piece in pieces if piece in self.model.ids]),
            "added_tokens": _renumbered(self._added, ids),
            "padding": self._padding(ids),
            "post_processor": self._map_ids(self._document["post_processor"], lambda old: ids[self._pieces[old]]),
        }
        tokenizer = Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
        if tokenizer.get_vocab(with_added_tokens=True) != ids:
            raise CompressionError("the tokenizer cannot be cut: it would number its pieces in another way")
        return tokenizer

    def _padding(self, ids: Mapping[str, int]) -> dict[str, Any] | None:
        padding: dict[str, Any] | None = self._document["padding"]
        if not padding or padding["pad_id"] not in self._pieces:
            return padding
        return {**padding, "pad_id": ids[self._pieces[padding["pad_id"]]]}

    def _post_processor_ids(self) -> set[int]:
        found: set[int] = set()

        def note(index: int) -> int:
            found.add(index)
            return index

        self._map_ids(self._document["post_processor"], note)
        return found

    def _map_ids(self, processor: dict[str, Any] | None, change: Callable[[int], int]) -> dict[str, Any] | None:
        """The post-processor with other ids, whichever of the library's kinds it is."""
        if processor is None:
            return None
        if processor["type"] == "Sequence":
            return {**processor, "processors": [self._map_ids(part, change) for part in processor["processors"]]}
        if processor["type"] == "TemplateProcessing":
            tokens = {
                name: {**token, "ids": [change(index) for index in token["ids"]]}
                for name, token in processor["special_tokens"].items()
            }
            return {**processor, "special_tokens": tokens}
        if processor["type"] in ("BertProcessing", "RobertaProcessing"):
            return processor | {end: [processor[end][0], change(processor[end][1])] for end in ("sep", "cls")}
        return processor


def _model_of(document: Mapping[str, Any]) -> PieceModel:
    model = document["model"]
    kind = model["type"]
    if kind == "WordPiece":
        return WordPieceModel(model)
    if kind == "Unigram":
        return UnigramModel(model)
    if kind == "BPE":
        return MergeModel(model, json.dumps(document["decoder"], ensure_ascii=False))
    raise CompressionError(f"pieces of a {kind} tokenizer cannot be cut: only WordPiece's, BPE's and Unigram's")


def _renumbered(tokens: Sequence[dict[str, Any]], ids: Mapping[str, int]) -> list[dict[str, Any]]:
    kept = [{**token, "id": ids[token["content"]]} for token in tokens if token["content"] in ids]
    return sorted(kept, key=lambda token: int(token["id"]))
