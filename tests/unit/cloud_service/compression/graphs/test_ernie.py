"""The exported graph says what torch says, alone, padded and in a batch."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.compression.encoding import TokenBatch, pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.export import export_reference, graph_source, largest_difference
from cloud_service.compression.graphs.formats import Float16Storage, Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.classifier import last_valid
from cloud_service.compression.networks.ernie import ErnieClassifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

VOCABULARY, LABELS, MAX_LENGTH = 300, 7, 24


def shape_of(hidden_size: int, *layers: LayerShape) -> NetworkShape:
    return NetworkShape(
        family=Family.ERNIE,
        vocabulary_size=VOCABULARY,
        max_length=MAX_LENGTH,
        hidden_size=hidden_size,
        head_size=16,
        layers=layers,
        norm_epsilon=1e-5,
        pooling=Pooling.LAST,
        rope_theta=500_000.0,
    )


SHAPES = {
    "grouped": shape_of(64, *[LayerShape(8, 2, 96)] * 3),
    "one layer": shape_of(48, LayerShape(3, 3, 40)),
    "heads wider than the model": shape_of(64, *[LayerShape(6, 3, 80)] * 2),
    "layers of differing size": shape_of(64, LayerShape(8, 2, 96), LayerShape(3, 1, 24), LayerShape(2, 2, 56)),
}


def random_classifier(shape: NetworkShape, seed: int = 0) -> ErnieClassifier:
    """Weights large enough that a mistake anywhere would be seen in the logits."""
    torch.manual_seed(seed)
    model = ErnieClassifier(shape, LABELS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=0.0 if parameter.dim() > 1 else 1.0, std=0.12)
    return model


def token_sequences(seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, size).tolist() for size in (5, 1, 17, MAX_LENGTH, 9)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_graph_agrees_with_transformers_ernie(shape: NetworkShape, tmp_path: Path) -> None:
    model = random_classifier(shape)
    batch = pad_batch(token_sequences())
    with torch.inference_mode():
        last = last_valid(hidden_states(model, batch)[-1], batch)
        reference = model.head(last).numpy()
    files = write_graph(graph_source(model), Float32Weights(), tmp_path)
    np.testing.assert_allclose(GraphSession(files.graph).run(batch), reference, atol=1e-4)
    np.testing.assert_allclose(compute_logits(model, token_sequences()), reference, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_layer_agrees_with_transformers_ernie(shape: NetworkShape, tmp_path: Path) -> None:
    model = random_classifier(shape)
    batch = pad_batch([token_sequences()[0]])
    files = write_graph(graph_source(model), Float32Weights(), tmp_path)
    sums = [f"layers.{index}.input_layernorm/sum" for index in range(1, len(shape.layers))]
    names = ["embed_tokens.weight/out", *sums, "norm/out"]
    expected = hidden_states(model, batch)
    for name, state in zip(names, expected, strict=True):
        exposed = run_up_to(files.graph, name, batch)
        whole = state[:, -1] if name == "norm/out" else state
        np.testing.assert_allclose(exposed, whole.numpy(), atol=1e-4, err_msg=name)


def hidden_states(model: ErnieClassifier, batch: TokenBatch) -> list[Tensor]:
    """Embeddings, what each layer but the last gives, and the final norm, all as transformers computes them."""
    states: list[Tensor] = []
    model.body.config.num_hidden_layers = len(model.body.layers)  # as many layers as its forward runs
    for layer in model.body.layers:
        layer.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    with torch.inference_mode():
        output = model.body(input_ids=batch.input_ids, attention_mask=batch.attention_mask(), use_cache=False)
    return [*states, output.last_hidden_state]


def run_up_to(graph: Path, name: str, batch: TokenBatch) -> NDArray[np.float32]:
    """What the graph has under `name` on the way to its logits."""
    model = onnx.load(graph, load_external_data=False)
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    exposed = graph.with_name("exposed.onnx")
    exposed.write_bytes(model.SerializeToString())
    feeds = {"input_ids": batch.input_ids.numpy(), "attention_mask": batch.attention_mask().numpy()}
    session = onnxruntime.InferenceSession(str(exposed), providers=["CPUExecutionProvider"])
    return cast("NDArray[np.float32]", session.run([name], feeds)[0])


def test_a_text_gets_the_same_fp32_logits_alone_and_padded_in_a_batch(tmp_path: Path) -> None:
    files = write_graph(graph_source(random_classifier(SHAPES["grouped"])), Float32Weights(), tmp_path)
    session = GraphSession(files.graph)
    together = session.run(pad_batch(token_sequences()))
    np.testing.assert_allclose(together, session.run_each(token_sequences()), atol=1e-4)


def test_fp16_storage_halves_the_file_and_hardly_moves_the_logits(tmp_path: Path) -> None:
    model = random_classifier(SHAPES["grouped"])
    wide = write_graph(graph_source(model), Float32Weights(), tmp_path / "wide")
    narrow = write_graph(graph_source(model), Float16Storage(), tmp_path / "narrow")
    assert narrow.weights.stat().st_size < 0.6 * wide.weights.stat().st_size
    assert largest_difference(model, narrow.graph, token_sequences()) < 0.02


def test_the_int8_graph_stays_close_to_fp32(tmp_path: Path) -> None:
    model = random_classifier(SHAPES["grouped"])
    files = write_graph(graph_source(model), Int8Dynamic(), tmp_path)
    logits = GraphSession(files.graph).run_each(token_sequences())
    reference = compute_logits(model, token_sequences())
    assert np.abs(logits - reference).max() < 0.1 * np.abs(reference).max()
    np.testing.assert_array_equal(logits.argmax(axis=1), reference.argmax(axis=1))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_graph(graph_source(random_classifier(SHAPES["grouped"])), Int8Dynamic(), tmp_path / "1")
    second = write_graph(graph_source(random_classifier(SHAPES["grouped"])), Int8Dynamic(), tmp_path / "2")
    assert first.graph.read_bytes() == second.graph.read_bytes()
    assert first.weights.read_bytes() == second.weights.read_bytes()


def test_retrained_weights_leave_the_graph_file_as_it_was(tmp_path: Path) -> None:
    first = write_graph(graph_source(random_classifier(SHAPES["grouped"], 1)), Int8Dynamic(), tmp_path / "1")
    second = write_graph(graph_source(random_classifier(SHAPES["grouped"], 2)), Int8Dynamic(), tmp_path / "2")
    assert first.graph.read_bytes() == second.graph.read_bytes()
    assert first.weights.read_bytes() != second.weights.read_bytes()


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    model = random_classifier(SHAPES["one layer"])
    with torch.no_grad():
        model.get_parameter("body.layers.0.mlp.down_proj.weight")[0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"layers\.0\.mlp\.down_proj"):
        write_graph(graph_source(model), Float32Weights(), tmp_path)


def test_the_graph_of_a_network_with_large_logits_is_held_to_as_many_digits(tmp_path: Path) -> None:
    model = random_classifier(SHAPES["grouped"])
    with torch.no_grad():
        model.head.weight.mul_(1e5)
    files = export_reference(model, tmp_path, token_sequences())
    assert largest_difference(model, files.graph, token_sequences()) > 1e-4


def test_an_export_whose_graph_disagrees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_classifier(SHAPES["one layer"])
    source = graph_source(model)
    wrong = {**source.weights, "head.bias": source.weights["head.bias"] + 1.0}
    monkeypatch.setattr(
        "cloud_service.compression.graphs.export.graph_source", lambda _: type(source)(source.shape, wrong)
    )
    with pytest.raises(ExportError, match="differ from the model's"):
        export_reference(model, tmp_path, token_sequences())
