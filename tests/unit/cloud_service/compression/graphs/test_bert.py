"""The exported encoder says what transformers' BERT says: layer by layer, alone, padded and with fewer heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.bert import write_bert_graph
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.bert import BertClassifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from cloud_service.compression.quantization.statistics import expose

VOCABULARY, LABELS, MAX_LENGTH = 200, 5, 20
WHOLE, PRUNED = LayerShape(4, 4, 72), LayerShape(3, 3, 40)


def network_shape(pooling: Pooling, *layers: LayerShape) -> NetworkShape:
    return NetworkShape(
        family=Family.BERT,
        vocabulary_size=VOCABULARY,
        max_length=MAX_LENGTH,
        hidden_size=32,
        head_size=8,
        layers=layers,
        norm_epsilon=1e-12,
        pooling=pooling,
    )


SHAPES = {
    "mean": network_shape(Pooling.MEAN, WHOLE, WHOLE),
    "pooler": network_shape(Pooling.POOLER, WHOLE, WHOLE),
    "mean, fewer heads": network_shape(Pooling.MEAN, PRUNED, WHOLE, PRUNED),
    "pooler, fewer heads in the last layer": network_shape(Pooling.POOLER, WHOLE, PRUNED),
    "one layer": network_shape(Pooling.POOLER, PRUNED),
}


def random_classifier(shape: NetworkShape, seed: int = 0) -> BertClassifier:
    """Weights large enough that a mistake anywhere would be seen in the logits."""
    torch.manual_seed(seed)
    model = BertClassifier(shape, LABELS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=0.0 if parameter.dim() > 1 else 0.5, std=0.15)
    return model


def graph_source(model: BertClassifier) -> GraphSource:
    return GraphSource(model.shape, {name: tensor.numpy() for name, tensor in model.state_dict().items()})


def token_sequences(seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, size).tolist() for size in (5, 1, 17, MAX_LENGTH, 9)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_graph_agrees_with_transformers_bert(shape: NetworkShape, tmp_path: Path) -> None:
    model = random_classifier(shape)
    batch = pad_batch(token_sequences())
    with torch.inference_mode():
        reference = model(batch).numpy()
    files = write_bert_graph(graph_source(model), Float32Weights(), tmp_path)
    np.testing.assert_allclose(GraphSession(files.graph).run(batch), reference, atol=1e-4)


def test_every_layer_agrees_with_transformers(tmp_path: Path) -> None:
    model = random_classifier(SHAPES["mean, fewer heads"])
    batch = pad_batch(token_sequences())
    names = ["embeddings.LayerNorm/out", *(f"encoder.layer.{index}.output.LayerNorm/out" for index in range(3))]
    files = write_bert_graph(graph_source(model), Float32Weights(), tmp_path)
    expose(files.graph, names)
    session = onnxruntime.InferenceSession(str(files.graph), providers=["CPUExecutionProvider"])
    feed = {"input_ids": batch.input_ids.numpy(), "attention_mask": batch.attention_mask().numpy()}
    with torch.inference_mode():
        states = model.body(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask(), output_hidden_states=True
        ).hidden_states
    valid = feed["attention_mask"].astype(bool)
    for found, wanted in zip(session.run(names, feed), states, strict=True):
        np.testing.assert_allclose(found[valid], wanted.numpy()[valid], atol=1e-4)


@pytest.mark.parametrize("name", ["mean", "pooler"])
def test_a_text_gets_the_same_logits_alone_and_padded_in_a_batch(name: str, tmp_path: Path) -> None:
    files = write_bert_graph(graph_source(random_classifier(SHAPES[name])), Float32Weights(), tmp_path)
    session = GraphSession(files.graph)
    together = session.run(pad_batch(token_sequences()))
    np.testing.assert_allclose(together, session.run_each(token_sequences()), atol=1e-5)


def test_the_int8_encoder_stays_close_to_fp32_in_half_the_bytes(tmp_path: Path) -> None:
    source = graph_source(random_classifier(SHAPES["pooler"]))
    wide = write_bert_graph(source, Float32Weights(), tmp_path / "wide")
    narrow = write_bert_graph(source, Int8Dynamic(), tmp_path / "narrow")
    logits = [GraphSession(files.graph).run_each(token_sequences()) for files in (wide, narrow)]
    assert np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] > 0.99
    assert narrow.weights.stat().st_size < 0.5 * wide.weights.stat().st_size


def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    both = [
        write_bert_graph(graph_source(random_classifier(SHAPES["pooler"])), Int8Dynamic(), tmp_path / name)
        for name in "ab"
    ]
    assert both[0].graph.read_bytes() == both[1].graph.read_bytes()
    assert both[0].weights.read_bytes() == both[1].weights.read_bytes()


def test_an_encoder_that_reads_its_last_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no BERT encoder"):
        write_bert_graph(GraphSource(network_shape(Pooling.LAST, WHOLE), {}), Float32Weights(), tmp_path)


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    source = graph_source(random_classifier(SHAPES["mean"]))
    broken = {**source.weights, "body.encoder.layer.0.output.dense.bias": np.full(32, np.nan, np.float32)}
    with pytest.raises(ExportError, match="not finite"):
        write_bert_graph(GraphSource(source.shape, broken), Float32Weights(), tmp_path)
