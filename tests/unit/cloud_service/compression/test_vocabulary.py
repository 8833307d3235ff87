"""A vocabulary cut from a BERT's reads any text; what it lacks falls apart into smaller pieces."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cloud_service.compression.vocabulary import ReducedVocabulary, reduce_tokenizer

UNKNOWN = "[UNK]"
WORDS = ["the", "card", "payment", "transfer", "lost", "##s", "##ment", "pay", "zebra", "##bra", "harpsichord"]
TRAINING_TEXTS = ["The card payments", "lost zebra"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def source() -> Tokenizer:
    """A little BERT: letters, digits and some Chinese alone and continuing, then words by frequency."""
    characters = [*string.ascii_lowercase, *string.digits, *"?!.,'", *"我的卡丢了ü"]
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += characters + [f"##{c}" for c in characters] + WORDS
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


@pytest.fixture
def reduced(source: Tokenizer) -> ReducedVocabulary:
    return reduce_tokenizer(source, TRAINING_TEXTS, size=None)


def pieces_of(vocabulary: ReducedVocabulary) -> list[str]:
    ids = vocabulary.tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def test_training_texts_read_as_before(source: Tokenizer, reduced: ReducedVocabulary) -> None:
    for text in TRAINING_TEXTS:
        assert reduced.tokenizer.encode(text).tokens == source.encode(text).tokens


def test_a_word_that_was_cut_falls_apart_into_pieces_and_never_to_unknown(reduced: ReducedVocabulary) -> None:
    tokens = reduced.tokenizer.encode("harpsichord transfers").tokens
    assert UNKNOWN not in tokens
    assert "".join(t.removeprefix("##") for t in tokens[1:-1]) == "harpsichordtransfers"


@pytest.mark.parametrize("text", ["我的卡丢了", "Überweisung", "Card?! 42"])
def test_other_languages_read_character_by_character(reduced: ReducedVocabulary, text: str) -> None:
    assert UNKNOWN not in reduced.tokenizer.encode(text).tokens


@pytest.mark.parametrize("text", ["😀", "a 😀 card", "\u200b", "ไทย", "\ufeffcard", "𝒞𝒶𝓇𝒹"])
def test_any_text_reads_as_something(reduced: ReducedVocabulary, text: str) -> None:
    ids = reduced.tokenizer.encode(text).ids
    assert len(ids) >= 2
    assert all(0 <= i < len(reduced.source_ids) for i in ids)


def test_room_goes_to_the_most_frequent_pieces(source: Tokenizer, reduced: ReducedVocabulary) -> None:
    roomier = reduce_tokenizer(source, TRAINING_TEXTS, size=len(reduced.source_ids) + 1)
    assert set(pieces_of(roomier)) - set(pieces_of(reduced)) == {"transfer"}
    assert not any(piece.startswith("[unused") or piece == "[MASK]" for piece in pieces_of(roomier))


def test_special_pieces_come_first_and_the_rest_in_their_order(source: Tokenizer, reduced: ReducedVocabulary) -> None:
    assert pieces_of(reduced)[:4] == SPECIAL[:4]
    assert list(reduced.source_ids) == sorted(reduced.source_ids)


def test_long_texts_are_cut_and_end_in_the_end_token(source: Tokenizer) -> None:
    source.enable_truncation(8)
    encoding = reduce_tokenizer(source, TRAINING_TEXTS, size=None).tokenizer.encode("card " * 100)
    assert len(encoding.ids) == 8 and encoding.tokens[-1] == "[SEP]"


def test_the_tokenizer_survives_its_file(reduced: ReducedVocabulary, tmp_path: Path) -> None:
    reduced.tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.encode("lost payments, 我的卡").ids == reduced.tokenizer.encode("lost payments, 我的卡").ids


def test_embedding_rows_follow_their_pieces(source: Tokenizer, reduced: ReducedVocabulary) -> None:
    assert reduced.source_ids[pieces_of(reduced).index("card")] == source.token_to_id("card")
