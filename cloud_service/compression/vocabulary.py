"""A smaller vocabulary cut from a tokenizer's own: texts of the domain keep their very pieces.

Any other text falls apart into smaller ones, down to characters or bytes, and never to an unknown token
where the source has none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.pieces.document import TokenizerDocument
from cloud_service.compression.pieces.fidelity import Fidelity, Reader, compare


@dataclass(frozen=True)
class ReducedVocabulary:
    """A tokenizer over fewer pieces, each one's id in the source (an embedding's row), and how faithful it is."""

    tokenizer: Tokenizer
    source_ids: tuple[int, ...]
    fidelity: Fidelity


def reduce_tokenizer(
    tokenizer: Tokenizer | Path,
    texts: Sequence[str],
    size: int | None,
    outside: Sequence[str] = (),
    needed_ids: Sequence[int] = (),
) -> ReducedVocabulary:
    """Cut the pieces of a WordPiece, BPE or Unigram `tokenizer` (or a tokenizer.json) down to `size`.

    Kept: pieces that `texts`, the domain's, use (in NFC, as in serving); added tokens, mask tokens apart;
    what the kind needs to make those pieces and to read any text; the pieces of `needed_ids`; then the most
    frequent pieces. `size` is exceeded where the pieces that must be kept are more; None keeps those alone.
    Truncation, padding and all else stay as they are. `outside` are texts from elsewhere to compare both
    tokenizers on.

    Raises:
        CompressionError: the file is no tokenizer, or its kind cannot be cut.
    """
    source = _read(tokenizer) if isinstance(tokenizer, Path) else tokenizer
    document = TokenizerDocument(source)
    domain = [unicodedata.normalize("NFC", text) for text in texts]
    pieces = document.order(_kept(document, _used(source, domain), _pieces(source, needed_ids), size or 0))
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


def _kept(document: TokenizerDocument, used: set[str], needed: set[str], size: int) -> set[str]:
    model = document.model
    added = document.added()
    kept = added | document.named() | needed | used
    kept |= model.needed((used - added) & model.ids.keys())
    for piece in model.frequent():
        if len(kept) >= size:
            break
        new = model.with_parts(piece) - kept
        if len(kept) + len(new) <= size:
            kept |= new
    return kept


def _used(source: Tokenizer, texts: Sequence[str]) -> set[str]:
    return _pieces(source, {index for encoding in source.encode_batch(list(texts)) for index in encoding.ids})


def _pieces(source: Tokenizer, ids: Iterable[int]) -> set[str]:
    return {piece for index in ids if (piece := source.id_to_token(index)) is not None}


def _unknown_id(tokenizer: Tokenizer, document: TokenizerDocument) -> int | None:
    unknown = document.model.unknown
    return None if unknown is None else tokenizer.token_to_id(unknown)


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise CompressionError(f"{path}: not a tokenizer: {error}") from error
