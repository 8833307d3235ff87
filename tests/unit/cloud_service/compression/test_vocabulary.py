"""The reduced vocabulary reads any text; what it lacks falls apart into smaller pieces."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from cloud_service.compression.vocabulary import UNKNOWN, Vocabulary, build_tokenizer, reduce_vocabulary

WORDS = ["the", "card", "payment", "transfer", "lost", "##s", "##ment", "pay", "zebra", "##bra", "harpsichord"]
TRAINING_TEXTS = ["The card payments", "lost zebra"]


@pytest.fixture
def source() -> Tokenizer:
    """A little BERT: letters, digits and some Chinese alone and continuing, then words by frequency."""
    characters = [*string.ascii_lowercase, *string.digits, *"?!.,'", *"我的卡丢了ü"]
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += characters + [f"##{c}" for c in characters] + WORDS
    tokenizer = Tokenizer(models.WordPiece(vocab={p: i for i, p in enumerate(pieces)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.fixture
def vocabulary(source: Tokenizer) -> Vocabulary:
    return reduce_vocabulary(source, TRAINING_TEXTS, size=0)


def test_training_texts_read_as_before(source: Tokenizer, vocabulary: Vocabulary) -> None:
    reduced = build_tokenizer(vocabulary, 32)
    for text in TRAINING_TEXTS:
        assert reduced.encode(text).tokens == ["[CLS]", *source.encode(text).tokens, "[SEP]"]


def test_a_word_that_was_cut_falls_apart_into_pieces_and_never_to_unknown(vocabulary: Vocabulary) -> None:
    tokens = build_tokenizer(vocabulary, 64).encode("harpsichord transfers").tokens
    assert UNKNOWN not in tokens
    assert "".join(t.removeprefix("##") for t in tokens[1:-1]) == "harpsichordtransfers"


@pytest.mark.parametrize("text", ["我的卡丢了", "Überweisung", "Card?! 42"])
def test_other_languages_read_character_by_character(vocabulary: Vocabulary, text: str) -> None:
    assert UNKNOWN not in build_tokenizer(vocabulary, 64).encode(text).tokens


@pytest.mark.parametrize("text", ["😀", "a 😀 card", "\u200b", "ไทย", "\ufeffcard", "𝒞𝒶𝓇𝒹"])
def test_any_text_reads_as_something(vocabulary: Vocabulary, text: str) -> None:
    ids = build_tokenizer(vocabulary, 16).encode(text).ids
    assert 2 <= len(ids) <= 16
    assert all(0 <= i < len(vocabulary) for i in ids)


def test_room_goes_to_the_most_frequent_pieces(source: Tokenizer, vocabulary: Vocabulary) -> None:
    roomier = reduce_vocabulary(source, TRAINING_TEXTS, size=len(vocabulary) + 1)
    assert set(roomier.pieces) - set(vocabulary.pieces) == {"transfer"}
    assert not any(piece.startswith("[unused") or piece == "[MASK]" for piece in roomier.pieces)


def test_long_texts_are_cut_and_end_in_the_end_token(vocabulary: Vocabulary) -> None:
    encoding = build_tokenizer(vocabulary, 8).encode("card " * 100)
    assert len(encoding.ids) == 8 and encoding.tokens[-1] == "[SEP]"


def test_the_tokenizer_survives_its_file(vocabulary: Vocabulary, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(vocabulary, 8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.encode("lost payments, 我的卡").ids == tokenizer.encode("lost payments, 我的卡").ids


def test_embedding_rows_follow_their_pieces(source: Tokenizer, vocabulary: Vocabulary) -> None:
    table = torch.arange(source.get_vocab_size(), dtype=torch.float32)[:, None]
    rows = vocabulary.rows_of(table)
    assert rows[vocabulary.pieces.index("card")].item() == source.token_to_id("card")
