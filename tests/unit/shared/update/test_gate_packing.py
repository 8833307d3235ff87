from __future__ import annotations

import zstandard

from shared.documents import sha256
from shared.gate import gate_document
from shared.update.gate_packing import DICTIONARY, packed_gate
from tests.support.tiny_bundle import tiny_gate


def unpacked(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor(dict_data=DICTIONARY).stream_reader(packed).read()


def test_a_gate_comes_out_as_it_went_in() -> None:
    document = gate_document(tiny_gate("a" * 64, 0.123456789012345))

    assert unpacked(packed_gate(document)) == document


def test_a_gate_that_was_packed_without_the_dictionary_can_be_read_too() -> None:
    document = gate_document(tiny_gate("a" * 64, 0.9))

    assert unpacked(zstandard.ZstdCompressor().compress(document)) == document


def test_the_dictionary_is_what_devices_have() -> None:
    """Another one would make every gate that is out there unreadable."""
    assert sha256(DICTIONARY.as_bytes()) == "abe2f1f2e7f592ae9092f11f1478987c138af06678f670c2680c1ee78b723fa7"
