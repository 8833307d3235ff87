"""A checkpoint of ERNIE-4.5-0.3B's size as the hub has it, with random weights in place of the trained ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Ernie4_5Config, Ernie4_5ForCausalLM

PIECES = 101_424
"""Fewer than the table's 103,424 rows: the rest of them belong to no piece."""

_SPECIAL = ("<unk>", "<s>", "</s>")
_SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvz" for vowel in "aeiou"]


def write_full_size_ernie(folder: Path, seed: int = 0) -> None:
    """Write config, weights in bfloat16 and a tokenizer into `folder`."""
    torch.manual_seed(seed)
    model = Ernie4_5ForCausalLM(Ernie4_5Config(dtype=torch.bfloat16)).bfloat16()
    model.save_pretrained(folder)
    _tokenizer(seed).save(str(folder / "tokenizer.json"))


def _tokenizer(seed: int) -> Tokenizer:
    """Byte pairs over made-up words, with bytes for what they do not cover."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=[*_SPECIAL, *every_byte], show_progress=False)
    tokenizer.train_from_iterator(_words(random.Random(seed)), trainer)
    return tokenizer


def _words(chance: random.Random) -> Iterator[str]:
    for _ in range(300_000):
        yield "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 6)))
