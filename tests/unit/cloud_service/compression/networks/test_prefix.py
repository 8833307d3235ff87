"""A network that knows how every text begins says of the rest what it would say of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.evaluation import compute_opinion
from cloud_service.compression.graphs.export import export_reference, graph_source, largest_difference
from cloud_service.compression.graphs.formats import Float32Weights
from cloud_service.compression.networks.build import classifier_of
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import LayerShape
from cloud_service.compression.pruning.surgery import KeptLayer, KeptParts, prune
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.smoothing import smooth
from cloud_service.compression.quantization.statistics import collect_statistics
from cloud_service.compression.sources import classifier_from, open_checkpoint, open_tokenizer, write_model
from tests.support.random_network import LABELS, NETWORKS, VOCABULARY, random_network

PREFIX = (5, 17, 5, 199, 31)
PLAIN = NETWORKS["ernie"]
PREFIXED = PLAIN.with_prefix(PREFIX)
TEXTS = [[7, 8, 9], [150], list(range(20, 20 + PREFIXED.max_text_length)), [41, 17, 3, 3, 120, 11]]


def whole(texts: Sequence[Sequence[int]], prefix: Sequence[int] = PREFIX) -> list[list[int]]:
    return [[*prefix, *text] for text in texts]


def assert_says_what_it_says_of_the_whole(model: TextClassifier) -> None:
    """Against the same weights without a prefix, which are given all tokens."""
    plain = classifier_of(model.shape.with_prefix(()), model.state_dict())
    found = compute_opinion(model, TEXTS)
    expected = compute_opinion(plain, whole(TEXTS, model.shape.prefix))
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.pooled, expected.pooled, atol=1e-5)


def test_the_prefix_stands_before_every_text() -> None:
    assert_says_what_it_says_of_the_whole(random_network(PREFIXED))
    model = random_network(PREFIXED)
    assert not np.allclose(compute_opinion(model, TEXTS).logits, compute_opinion(random_network(PLAIN), TEXTS).logits)


def test_learning_reaches_the_prefix() -> None:
    model = random_network(PREFIXED)
    model(pad_batch([[7, 8]])).sum().backward()
    gradient = model.get_parameter("body.embed_tokens.weight").grad
    assert gradient is not None
    assert set(gradient.abs().sum(dim=1).nonzero().flatten().tolist()) == {*PREFIX, 7, 8}


def test_a_pruned_network_keeps_its_prefix() -> None:
    model = random_network(PREFIXED)
    kept = KeptParts((KeptLayer(0, (0, 3, 4), tuple(range(0, 72, 3))), KeptLayer(1, (1, 2), tuple(range(40)))))
    weights, shape = prune(model.state_dict(), model.shape, kept)
    assert shape.prefix == PREFIX and shape.layers[0] == LayerShape(3, 3, 24)
    assert_says_what_it_says_of_the_whole(classifier_of(shape, weights))


def test_over_fewer_pieces_the_prefix_has_other_ids_and_the_answers_stay() -> None:
    model, weights = random_network(PREFIXED), random_network(PREFIXED).state_dict()
    source_ids = [token for token in range(VOCABULARY) if token % 4 in (1, 3)]  # all of the prefix
    weights["body.embed_tokens.weight"] = weights["body.embed_tokens.weight"][source_ids]
    cut = classifier_of(model.shape.with_pieces(source_ids), weights)
    assert cut.shape.vocabulary_size == len(source_ids)
    assert [source_ids[token] for token in cut.shape.prefix] == list(PREFIX)
    texts = [[7, 9, 11], [151]]
    expected = compute_opinion(model, texts).logits
    found = compute_opinion(cut, [[source_ids.index(token) for token in text] for text in texts]).logits
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_checkpoint_keeps_the_prefix_and_its_tokenizer_leaves_room_for_it(tmp_path: Path) -> None:
    labels = tuple(f"label{index}" for index in range(LABELS))
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    model = random_network(PREFIXED)
    write_model(tmp_path, model, labels, tokenizer)
    checkpoint = open_checkpoint(str(tmp_path), max_length=12)
    assert checkpoint.shape.prefix == PREFIX and checkpoint.shape.max_text_length == 12 - len(PREFIX)
    read = classifier_from(checkpoint, labels, seed=1)
    np.testing.assert_array_equal(compute_opinion(read, TEXTS[:2]).logits, compute_opinion(model, TEXTS[:2]).logits)
    truncation = open_tokenizer(checkpoint, 12).truncation
    assert truncation is not None and truncation["max_length"] == 12 - len(PREFIX)


def test_its_graph_takes_the_text_alone(tmp_path: Path) -> None:
    model = random_network(PREFIXED)
    files = export_reference(model, tmp_path, TEXTS)
    assert largest_difference(model, files.graph, TEXTS) < 1e-4


def test_calibration_sees_the_tokens_that_are_given_and_no_other() -> None:
    plain = random_network(PLAIN)
    seen: list[torch.Tensor] = []
    watched = plain.get_submodule("body.layers.1.self_attn.q_proj")
    hook = watched.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, len(PREFIX) :]))
    with torch.inference_mode():
        for sequence in whole(TEXTS):
            plain(pad_batch([sequence]))
    hook.remove()
    products = collect_statistics(graph_source(random_network(PREFIXED)), TEXTS).products
    found = products["layers.1.self_attn.qkv_proj.weight"]
    np.testing.assert_allclose(found.low, torch.cat(seen).numpy().min(axis=0), atol=1e-4)
    np.testing.assert_allclose(found.high, torch.cat(seen).numpy().max(axis=0), atol=1e-4)


def test_balancing_leaves_the_answers_as_they_were(tmp_path: Path) -> None:
    model = random_network(PREFIXED)
    source = graph_source(model)
    balanced, _ = smooth(source, collect_statistics(source, TEXTS))
    files = write_network(balanced, Float32Weights(), tmp_path)
    assert largest_difference(model, files.graph, TEXTS) == pytest.approx(0.0, abs=2e-4)
