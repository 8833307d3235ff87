"""A smaller WordPiece vocabulary cut from the encoder's, with a fallback to smaller pieces for any text.

Kept: the special tokens, every piece that the training texts use, every single character alone and as
a continuation, then the most frequent pieces (BERT's are ordered by frequency) up to the size asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL_TOKENS = (PADDING, UNKNOWN, START, END)
CONTINUATION = "##"
MAX_WORD_CHARACTERS = 100


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
