"""From text to token ids, the same on both tiers. The one place that touches the tokenizers library."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.bundle.manifest import Preprocessing
from shared.bundle.reader import Bundle
from shared.errors import BundleMalformed, InputError

MAX_TEXT_CHARACTERS = 8192
_HALF_A_SURROGATE_PAIR = re.compile("[\ud800-\udfff]")


class TextEncoder:
    """A bundle's preprocessing, ready to use from one thread or several."""

    def __init__(self, tokenizer_path: Path, preprocessing: Preprocessing) -> None:
        """Raises: BundleMalformed: the tokenizer file cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_path))
        except Exception as error:  # the library raises bare Exception for every fault of the file
            raise BundleMalformed(tokenizer_path, f"is not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(preprocessing.max_tokens)
        self._form = cast(Literal["NFC", "NFD", "NFKC", "NFKD"], preprocessing.normalization)

    @classmethod
    def of(cls, bundle: Bundle) -> TextEncoder:
        """The encoder that `bundle` asks for."""
        return cls(bundle.tokenizer_path, bundle.manifest.preprocessing)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids [tokens] of `text`, at least one and at most the bundle's `max_tokens`.

        Raises:
            InputError: the text is empty, too long, or not valid Unicode.
        """
        if not text.strip():
            raise InputError("the text is empty")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InputError(f"the text has {len(text)} characters, at most {MAX_TEXT_CHARACTERS} are taken")
        if _HALF_A_SURROGATE_PAIR.search(text):
            raise InputError("the text holds half a surrogate pair; send valid Unicode")
        try:
            ids = self._tokenizer.encode(unicodedata.normalize(self._form, text)).ids
        except Exception as error:  # the library raises bare Exception for every fault
            raise InputError(f"the tokenizer cannot read the text: {error}") from error
        if not ids:
            raise InputError("the text holds nothing that the model can read")
        return np.asarray(ids, dtype=np.int64)
