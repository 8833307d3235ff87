"""A smaller vocabulary cut from a tokenizer's own: texts of the domain keep their very pieces.

Any other text falls apart into smaller ones, down to characters or bytes, and never to an unknown token
where the source has none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.pieces.document import TokenizerDocument
from cloud_service.compression.pieces.fidelity import Fidelity, Reader, compare

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL_TOKENS = (PADDING, UNKNOWN, START, END)
CONTINUATION = "##"
MAX_WORD_CHARACTERS = 100


@dataclass(frozen=True)
class ReducedVocabulary:
    """A tokenizer over fewer pieces, each one's id in the source (an embedding's row), and how faithful it is."""

    tokenizer: Tokenizer
    source_ids: tuple[int, ...]
    fidelity: Fidelity


def reduce_tokenizer(
    tokenizer: Tokenizer | Path, texts: Sequence[str], size: int | None, outside: Sequence[str] = ()
) -> ReducedVocabulary:
    """Cut the pieces of a WordPiece, BPE or Unigram `tokenizer` (or a tokenizer.json) down to `size`.

    Kept: pieces that `texts`, the domain's, use (in NFC, as in serving); added tokens, mask tokens apart;
    what the kind needs to make those pieces and to read any text; then the most frequent pieces. `size` is
    exceeded where the pieces that must be kept are more; None keeps those alone. Truncation, padding and
    all else stay as they are. `outside` are texts from elsewhere to compare both tokenizers on.

    Raises:
        CompressionError: the file is no tokenizer, or its kind cannot be cut.
    """
    source = _read(tokenizer) if isinstance(tokenizer, Path) else tokenizer
    document = TokenizerDocument(source)
    domain = [unicodedata.normalize("NFC", text) for text in texts]
    pieces = document.order(_kept(document, _used(source, domain), size or 0))
    reduced = document.reduced(pieces)
    old_ids = source.get_vocab(with_added_tokens=True)
    source_ids = tuple(old_ids[piece] for piece in pieces)
    fidelity = compare(
        Reader(source, range(max(old_ids.values()) + 1), _unknown_id(source, document)),
        Reader(reduced, source_ids, _unknown_id(reduced, document)),
        domain,
        outside,
        document.decodes,
    )
    return ReducedVocabulary(reduced, source_ids, fidelity)


def _kept(document: TokenizerDocument, used: set[str], size: int) -> set[str]:
    model = document.model
    added = document.added()
    kept = added | document.named() | used
    kept |= model.needed((used - added) & model.ids.keys())
    for piece in model.frequent():
        if len(kept) >= size:
            break
        new = model.with_parts(piece) - kept
        if len(kept) + len(new) <= size:
            kept |= new
    return kept


def _used(source: Tokenizer, texts: Sequence[str]) -> set[str]:
    ids = {index for encoding in source.encode_batch(list(texts)) for index in encoding.ids}
    return {piece for index in ids if (piece := source.id_to_token(index)) is not None}


def _unknown_id(tokenizer: Tokenizer, document: TokenizerDocument) -> int | None:
    unknown = document.model.unknown
    return None if unknown is None else tokenizer.token_to_id(unknown)


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise CompressionError(f"{path}: not a tokenizer: {error}") from error


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by their new id, and each one's id in the vocabulary they were cut from."""

    pieces: tuple[str, ...]
    source_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pieces)

    def rows_of(self, source: Tensor) -> Tensor:
        """The rows of `source` [source pieces, width] that belong to the pieces, in their order."""
        return source[torch.as_tensor(self.source_ids)].clone()


def reduce_vocabulary(source: Tokenizer, texts: Sequence[str], size: int) -> Vocabulary:
    """Choose the pieces.

    `size` is exceeded where the pieces that must be kept are more.
    """
    source_ids = source.get_vocab()
    by_frequency = sorted(source_ids, key=source_ids.__getitem__)
    used = {piece for encoding in source.encode_batch(list(texts)) for piece in encoding.tokens}
    needed = {piece for piece in by_frequency if piece in used or _is_character(piece)}
    needed -= set(SPECIAL_TOKENS)
    room = size - len(SPECIAL_TOKENS) - len(needed)
    frequent = [p for p in by_frequency if p not in needed and not _is_special(p)][: max(0, room)]
    kept = needed.union(frequent)
    pieces = (*SPECIAL_TOKENS, *(piece for piece in by_frequency if piece in kept))
    return Vocabulary(pieces, tuple(source_ids[piece] for piece in pieces))


def build_tokenizer(vocabulary: Vocabulary, max_length: int) -> Tokenizer:
    """A lower-casing BERT tokenizer over the pieces, truncating to `max_length` tokens, padding nothing.

    Chinese and Japanese characters become words of their own, accents are stripped.
    """
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab=ids,
            unk_token=UNKNOWN,
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
            continuing_subword_prefix=CONTINUATION,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, ids[START]), (END, ids[END])],
    )
    tokenizer.enable_truncation(max_length)
    return tokenizer


def _is_character(piece: str) -> bool:
    return len(piece.removeprefix(CONTINUATION)) == 1


def _is_special(piece: str) -> bool:
    return piece.startswith("[") and piece.endswith("]") and len(piece) > 2
