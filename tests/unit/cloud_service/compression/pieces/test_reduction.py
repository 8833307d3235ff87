"""Any kind of tokenizer can be cut to a domain: its texts read as before, all others still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from cloud_service.compression.checkpoints.prompt import prompt_tokenizer
from cloud_service.compression.errors import CompressionError
from cloud_service.compression.vocabulary import ReducedVocabulary, reduce_tokenizer

DOMAIN = ["where is my card payment?", "the transfer has not arrived", "我的卡丢了"]
SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pieces_of(tokenizer: Tokenizer) -> dict[str, int]:
    return tokenizer.get_vocab(with_added_tokens=True)


def source_ids_of(reduced: ReducedVocabulary, text: str) -> list[int]:
    return [reduced.source_ids[index] for index in reduced.tokenizer.encode(text).ids]


def document_of(tokenizer: Tokenizer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def test_texts_of_the_domain_keep_their_pieces(source: Tokenizer) -> None:
    reduced = reduce_tokenizer(source, DOMAIN, size=None)
    assert len(reduced.source_ids) < source.get_vocab_size()
    for text in DOMAIN:
        assert source_ids_of(reduced, text) == source.encode(text).ids


def test_every_piece_is_the_sources_under_another_id(source: Tokenizer) -> None:
    reduced = reduce_tokenizer(source, DOMAIN, size=None)
    before, after = pieces_of(source), pieces_of(reduced.tokenizer)
    assert sorted(after.values()) == list(range(len(reduced.source_ids)))
    assert all(reduced.source_ids[index] == before[piece] for piece, index in after.items())


def test_the_check_finds_nothing_amiss_in_any_script(source: Tokenizer) -> None:
    reduced = reduce_tokenizer(source, DOMAIN, size=None, outside=["harpsichord 🎹", "<think> señor <|end|>"])
    assert reduced.fidelity.faithful, reduced.fidelity
    assert reduced.fidelity.length_ratio > 1.0


@SOME
@given(st.lists(st.text(max_size=12), max_size=4), st.integers(0, 500), st.text(max_size=20))
def test_any_domain_stays_as_it_is_and_any_text_reads(
    source: Tokenizer, domain: list[str], size: int, other: str
) -> None:
    assume("[MASK]" not in other and "<mask>" not in other)
    reduced = reduce_tokenizer(source, domain, size, outside=[other])
    assert reduced.fidelity.faithful, reduced.fidelity


def test_a_mask_token_is_plain_text_unless_the_domain_has_it(tokenizers: dict[str, Tokenizer]) -> None:
    plain = reduce_tokenizer(tokenizers["wordpiece"], DOMAIN, None, outside=["[MASK]"])
    assert plain.fidelity.altered == ("[MASK]",)
    assert reduce_tokenizer(tokenizers["wordpiece"], ["my [MASK]"], None, outside=["[MASK]"]).fidelity.faithful


def test_room_goes_to_frequent_pieces_and_no_further(source: Tokenizer) -> None:
    smallest = reduce_tokenizer(source, DOMAIN, size=None)
    room = len(smallest.source_ids) + 5
    roomier = reduce_tokenizer(source, DOMAIN, size=room)
    assert set(smallest.source_ids) < set(roomier.source_ids)
    assert len(roomier.source_ids) <= room


def test_a_size_above_the_sources_keeps_nearly_all_and_reads_the_same(source: Tokenizer) -> None:
    reduced = reduce_tokenizer(source, DOMAIN, size=10_000)
    texts = ["please freeze the account", "señor, das Überweisungsgerät"]
    assert [source_ids_of(reduced, text) for text in texts] == [source.encode(text).ids for text in texts]
    assert not {"[MASK]", "<mask>"} & pieces_of(reduced.tokenizer).keys()


def test_all_but_pieces_and_ids_stays_as_it_was(source: Tokenizer) -> None:
    source = Tokenizer.from_str(source.to_str())
    source.enable_truncation(7)
    before, after = document_of(source), document_of(reduce_tokenizer(source, DOMAIN, None).tokenizer)
    for part in ("truncation", "normalizer", "pre_tokenizer", "decoder"):
        assert after[part] == before[part]
    flags = [{key: value for key, value in token.items() if key != "id"} for token in before["added_tokens"]]
    kept = [{key: value for key, value in token.items() if key != "id"} for token in after["added_tokens"]]
    assert kept == [token for token in flags if token["content"] not in ("[MASK]", "<mask>")]


def test_merges_keep_their_order(tokenizers: dict[str, Tokenizer]) -> None:
    for kind in ("byte_level", "byte_fallback"):
        before = document_of(tokenizers[kind])["model"]["merges"]
        after = document_of(reduce_tokenizer(tokenizers[kind], DOMAIN, None).tokenizer)["model"]["merges"]
        places = [before.index(merge) for merge in after]
        assert 0 < len(after) < len(before) and places == sorted(places)


def test_a_long_piece_stays_with_all_on_the_way_to_it(tokenizers: dict[str, Tokenizer]) -> None:
    reduced = reduce_tokenizer(tokenizers["byte_level"], [" payment"], None).tokenizer
    assert reduced.encode(" payment").tokens == ["Ġpayment", "<|end|>"]
    assert {"Ġpay", "Ġpaymen"} <= pieces_of(reduced).keys()
    assert "Ġcard" not in pieces_of(reduced)


def test_characters_that_bytes_can_replace_leave(tokenizers: dict[str, Tokenizer]) -> None:
    reduced = reduce_tokenizer(tokenizers["byte_fallback"], ["card"], None)
    assert "我" in pieces_of(tokenizers["byte_fallback"]) and "我" not in pieces_of(reduced.tokenizer)
    assert reduced.tokenizer.encode("我").tokens == ["<s>", "<0xE6>", "<0x88>", "<0x91>"]
    assert reduced.tokenizer.decode(reduced.tokenizer.encode("我 card").ids) == "我 card"


def test_padding_and_ends_go_by_their_new_ids(tokenizers: dict[str, Tokenizer]) -> None:
    reduced = reduce_tokenizer(tokenizers["byte_level"], DOMAIN, None).tokenizer
    short, long = reduced.encode_batch(["a", "where is my card"])
    assert short.tokens[-1] == "<|pad|>" and short.ids[-1] == reduced.token_to_id("<|pad|>")
    assert long.ids[-1] == reduced.token_to_id("<|end|>")


def test_added_tokens_are_still_found_in_a_text(tokenizers: dict[str, Tokenizer]) -> None:
    reduced = reduce_tokenizer(tokenizers["byte_level"], ["card"], None)
    assert "<think>" in reduced.tokenizer.encode("the <think> card").tokens


def test_a_prompt_around_every_text_stays(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    tokenizers["byte_level"].save(str(tmp_path / "tokenizer.json"))
    prompted = prompt_tokenizer(tmp_path / "tokenizer.json", "please account: {text}\nrates:", max_length=60)
    reduced = reduce_tokenizer(prompted.tokenizer, ["my card"], None, needed_ids=prompted.prefix)
    assert source_ids_of(reduced, "my card") == prompted.tokenizer.encode("my card").ids
    assert set(prompted.prefix) <= set(reduced.source_ids)
    assert not set(prompted.prefix) <= set(reduce_tokenizer(prompted.tokenizer, ["my card"], None).source_ids)
    assert reduced.fidelity.faithful


def test_an_unknown_character_is_judged_as_before(tokenizers: dict[str, Tokenizer]) -> None:
    domain = ["card ☂ payment☂☂", "☂"]
    reduced = reduce_tokenizer(tokenizers["unigram"], domain, None)
    assert reduced.fidelity.changed == ()


def test_a_file_serves_as_well(source: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    source.save(str(path))
    assert reduce_tokenizer(path, DOMAIN, None).source_ids == reduce_tokenizer(source, DOMAIN, None).source_ids
    path.write_text("{}")
    with pytest.raises(CompressionError, match="not a tokenizer"):
        reduce_tokenizer(path, DOMAIN, None)


def test_a_kind_that_cannot_be_cut_is_named() -> None:
    with pytest.raises(CompressionError, match="WordLevel"):
        reduce_tokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), DOMAIN, None)
