"""A graph that knows its prompt says what the whole text would say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.prefix import write_prefixed_graph
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.shape import Family
from cloud_service.compression.quantization.network import write_network
from tests.support.random_ernie import GROUPED, generator_source, random_generator, with_label_head

PREFIX = [5, 17, 5, 200, 31, 4, 99, 2, 1]
TEXTS = [[7, 8, 9], [250], [3, 3, 120, 11, 64, 7, 2], [41, 17]]


def random_source(prefix: Sequence[int] = PREFIX) -> GraphSource:
    return with_label_head(generator_source(random_generator(), GROUPED.with_prefix(prefix)), labels=7)


def whole_logits(source: GraphSource, folder: Path) -> NDArray[np.float32]:
    """Of prefix and text, both given."""
    files = write_graph(source, Float32Weights(), folder / "whole")
    return GraphSession(files.graph).run(pad_batch([PREFIX + text for text in TEXTS]))


def test_the_prefixed_graph_says_what_the_whole_text_says(tmp_path: Path) -> None:
    source = random_source()
    session = GraphSession(write_prefixed_graph(source, Float32Weights(), tmp_path).graph)
    np.testing.assert_allclose(session.run(pad_batch(TEXTS)), whole_logits(source, tmp_path), atol=1e-4)
    np.testing.assert_allclose(session.run_each(TEXTS), whole_logits(source, tmp_path), atol=1e-4)


def test_a_text_may_fill_what_the_prefix_leaves(tmp_path: Path) -> None:
    source = random_source()
    text = [int(token) for token in np.random.default_rng(1).integers(1, 300, GROUPED.max_length - len(PREFIX))]
    prefixed = GraphSession(write_prefixed_graph(source, Float32Weights(), tmp_path / "prefixed").graph)
    whole = GraphSession(write_graph(source, Float32Weights(), tmp_path / "whole").graph)
    np.testing.assert_allclose(prefixed.run(pad_batch([text])), whole.run(pad_batch([PREFIX + text])), atol=1e-4)


def test_an_int8_graph_keeps_the_prefix_exact(tmp_path: Path) -> None:
    source = random_source()
    expected = whole_logits(source, tmp_path)
    prefixed = GraphSession(write_prefixed_graph(source, Int8Dynamic(), tmp_path / "prefixed").graph)
    whole = GraphSession(write_graph(source, Int8Dynamic(), tmp_path / "int8").graph)
    whole_error = np.abs(whole.run_each([PREFIX + text for text in TEXTS]) - expected).mean()
    assert np.abs(prefixed.run_each(TEXTS) - expected).mean() < 1.1 * whole_error


def test_the_same_network_and_prefix_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_prefixed_graph(random_source(), Int8Dynamic(), tmp_path / "1")
    second = write_prefixed_graph(random_source(), Int8Dynamic(), tmp_path / "2")
    assert first.graph.read_bytes() == second.graph.read_bytes()
    assert first.weights.read_bytes() == second.weights.read_bytes()


@pytest.mark.parametrize(
    ("prefix", "why"), [([], "0 tokens"), ([1] * GROUPED.max_length, "96 tokens"), ([300], "vocabulary has not")]
)
def test_a_prefix_that_cannot_be_is_refused(prefix: list[int], why: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=why):
        write_prefixed_graph(random_source(prefix), Float32Weights(), tmp_path)


def test_a_bert_encoder_has_no_prefix(tmp_path: Path) -> None:
    source = random_source()
    bert = GraphSource(dataclasses.replace(source.shape, family=Family.BERT), source.weights)
    with pytest.raises(ExportError, match="no causal network: bert"):
        write_network(bert, Float32Weights(), tmp_path)
