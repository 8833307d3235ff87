"""Preprocessing and histograms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff
from shared.bundle import Preprocessing, read_bundle
from shared.errors import BundleMalformed, InputError
from shared.histogram import BOUNDS_MS, HistogramRecorder, quantile_ms
from shared.text import MAX_TEXT_CHARACTERS, TextEncoder
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny_bundle(folder, max_tokens=4)
    return TextEncoder.of(read_bundle(folder))


def test_words_become_ids(encoder: TextEncoder) -> None:
    assert encoder.encode("Card 卡 LOAN").tolist() == [1, 0, 3]


def test_a_long_text_is_cut_to_the_most_tokens(encoder: TextEncoder) -> None:
    assert len(encoder.encode("card " * 100)) == 4


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "x" * (MAX_TEXT_CHARACTERS + 1), "half \ud800 a pair"])
def test_a_text_that_cannot_be_read_is_refused(encoder: TextEncoder, text: str) -> None:
    with pytest.raises(InputError):
        encoder.encode(text)


def test_a_tokenizer_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleMalformed, match="tokenizer"):
        TextEncoder(tmp_path / "tokenizer.json", Preprocessing("tokenizer.json", 4))


@given(st.lists(st.floats(0.01, 50_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_one_bucket_of_the_truth(values: list[float], quantile: float) -> None:
    recorder = HistogramRecorder()
    for value in values:
        recorder.add(value)
    found = quantile_ms(recorder.snapshot().counts, quantile)
    true = float(np.quantile(values, quantile, method="inverted_cdf"))
    assert found is not None
    assert true / 1.2 - 0.25 <= found <= true * 1.2 + 0.25


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile_ms(HistogramRecorder().snapshot().counts, 0.5) is None


def test_a_value_beyond_the_last_bound_counts_as_that_bound() -> None:
    recorder = HistogramRecorder()
    recorder.add(1e12)
    assert quantile_ms(recorder.snapshot().counts, 0.5) == BOUNDS_MS[-1]


@given(st.integers(1, 1000), st.floats(0, 0.999))
def test_backoff_grows_to_its_cap_and_is_never_nothing(failures: int, number: float) -> None:
    delay_s = Backoff(0.2, 10.0).delay_s(failures, lambda: number)
    assert 0.02 <= delay_s <= 10.0
