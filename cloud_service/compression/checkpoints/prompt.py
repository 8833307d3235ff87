"""A prompt as fixed token ids around every text: those before it as a prefix, those after it by the tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.processors import TemplateProcessing

from cloud_service.compression.errors import CheckpointError

PLACEHOLDER = "{text}"

# A word, a number, an ideograph: texts of which one or another leaves the prompt's own tokens alone.
_PROBES = ("a", "1", "字")
_NO_MARK_OF_A_BEGIN: dict[str, dict[str, object]] = {
    "Metaspace": {"prepend_scheme": "never"},
    "ByteLevel": {"add_prefix_space": False},
}


@dataclass(frozen=True)
class PromptTokenizer:
    """The ids that stand before every text, and the tokenizer for all that follows them."""

    prefix: tuple[int, ...]
    tokenizer: Tokenizer


@dataclass(frozen=True)
class _Surroundings:
    """Token ids that go before and after every text."""

    before: list[int]
    after: list[int]


def prompt_tokenizer(tokenizer_json: Path, prompt: str, max_length: int) -> PromptTokenizer:
    """The tokenizer of `tokenizer_json`, changed so that a prefix and `encode(text)` are the ids of the whole prompt.

    `prompt` has `{text}` once, in whose place the text comes. The tokens around it, with those that the
    tokenizer adds by itself, are fixed ids: the prefix, and in the post-processor; white space just before
    `{text}` goes with the text. Texts are truncated so that with the prompt they have at most `max_length` tokens.

    Ids equal those of the original tokenizer on the whole formatted string wherever it begins a token at
    the text's begin (or at the white space before it) and at its end. They may differ where
    - the text's edge merges with the prompt: "un{text}", or a text that ends in "." before a prompt that
      goes on with a line break, where the vocabulary has ".\\n";
    - a normalizer looks beyond the edge: stripping or collapsing white space, composing an accent at the text's begin;
    - the text begins or ends in white space of its own, or is empty.

    Raises:
        CheckpointError: the tokenizer cannot be read, `prompt` does not have `{text}` exactly once or never
            has a token border beside it, or `max_length` leaves no room for a text.
    """
    if prompt.count(PLACEHOLDER) != 1:
        raise CheckpointError(f"a prompt has {PLACEHOLDER} exactly once, not {prompt.count(PLACEHOLDER)} times")
    tokenizer = _load(tokenizer_json)
    before, after = prompt.split(PLACEHOLDER)
    around = _find_surroundings(tokenizer, before, after)
    if max_length <= len(around.before) + len(around.after):
        taken = len(around.before) + len(around.after)
        raise CheckpointError(f"the prompt takes {taken} tokens, and max_length {max_length} leaves none for a text")
    if before:
        tokenizer = _continuing(tokenizer, before)
    tokenizer.post_processor = _followed_by(tokenizer, around.after)
    tokenizer.enable_truncation(max_length - len(around.before))
    return PromptTokenizer(tuple(around.before), tokenizer)


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise CheckpointError(f"{path}: is not a tokenizer ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _find_surroundings(tokenizer: Tokenizer, before: str, after: str) -> _Surroundings:
    """The prompt's tokens as they are in context, taken from a text that does not merge with them."""
    for probe in _PROBES:
        encoding = tokenizer.encode(before + probe + after)
        start, end = len(before.rstrip()), len(before) + len(probe)
        inside = _inside(encoding, start, end)
        if inside:
            return _Surroundings(encoding.ids[: inside[0]], encoding.ids[inside[-1] + 1 :])
    raise CheckpointError(f"no token border lies beside {PLACEHOLDER}; set it off from the prompt by a space")


def _inside(encoding: Encoding, start: int, end: int) -> list[int]:
    """The positions of the tokens between two characters; empty if one lies across either of them."""
    inside: list[int] = []
    for position, (first, last) in enumerate(encoding.offsets):
        # A mark of the text's begin covers no character, and is the text's where nothing comes before it.
        if encoding.sequence_ids[position] is None or 0 < start >= last or first >= end:
            continue
        if first < start or last > end:
            return []
        inside.append(position)
    return inside


def _continuing(tokenizer: Tokenizer, before: str) -> Tokenizer:
    """The tokenizer for a text that goes on after `before`: with its last white space, and no mark of a begin."""
    document = json.loads(tokenizer.to_str())
    normalizers = _parts(document["normalizer"], "normalizers")
    words, space = before.rstrip(), before[len(before.rstrip()) :]
    if words:
        normalizers = [part for part in normalizers if part["type"] != "Prepend"]
        for part in _parts(document["pre_tokenizer"], "pretokenizers"):
            part.update(_NO_MARK_OF_A_BEGIN.get(part["type"], {}))
    if space:
        normalizers.insert(0, {"type": "Prepend", "prepend": space})
    document["normalizer"] = {"type": "Sequence", "normalizers": normalizers} if normalizers else None
    return Tokenizer.from_str(json.dumps(document))


def _parts(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """A component of tokenizer.json, which may be a sequence of others, as a flat list of them."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [part for inner in component[key] for part in _parts(inner, key)]


def _followed_by(tokenizer: Tokenizer, after: list[int]) -> TemplateProcessing:
    if not after:
        return TemplateProcessing(single="$A", special_tokens=[])
    tokens = [tokenizer.id_to_token(token) for token in after]
    special = {"id": "prompt_after", "ids": after, "tokens": tokens}
    return TemplateProcessing(single="$A prompt_after", special_tokens=[special])
