"""ERNIE-4.5 as a generator: one graph form for a prompt and for every token after it, over one cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.decoder import (
    EMBEDDINGS,
    Attention,
    DecoderLayers,
    Projected,
    axis_length,
    less_one,
    rotary_tables,
    valid_lengths,
)
from cloud_service.compression.graphs.ernie import Positions, causal_attention, valid_tokens
from cloud_service.compression.graphs.formats import Float32Weights, WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.vocabulary import BlockVocabulary, FloatVocabulary, VocabularyFormat
from cloud_service.compression.graphs.writer import CONTRIB, GraphFiles, GraphWriter, write_weights
from cloud_service.compression.networks.shape import Family, NetworkShape

LM_HEAD = "lm_head.weight"
LAST, GIVEN, TOTAL = "last", "sequence_length", "total"
"""Each row's last valid position, int64 [batch, 1]; tokens that a row is given, and has with its cache, int64 [1]."""

Attending = Callable[[GraphWriter, NetworkShape], Attention]


@dataclass(frozen=True)
class GenerationPair:
    """Two graphs over one cache and one weights file: a prompt runs through `prefill`, each later token through
    `decode`."""

    prefill: GraphFiles
    decode: GraphFiles


def write_generation_graph(
    source: GraphSource,
    form: WeightFormat,
    folder: Path,
    last_token_only: bool = True,
    vocabulary: VocabularyFormat | None = None,
) -> GraphFiles:
    """Write the graph and its weights into `folder`.

    Inputs: `input_ids`, int64 [batch, sequence]; `attention_mask`, int64 [batch, total], which counts the
    tokens in the cache too; `past_key_values.N.key` and `.value`, float32 [batch, kv_heads, past, head_size].
    Outputs: `logits`, float32 [batch, vocabulary], of each row's last valid token (of every token, [batch,
    sequence, vocabulary], without `last_token_only`); `present.N.key` and `.value`, with total tokens.

    A prompt has past 0 and may be a batch of differing lengths, padded on the right. After it, a batch goes
    on token by token: a row's ones stay in front, and its new token takes the place of its padding. A single
    text may go on by several tokens at once.

    `vocabulary` holds embeddings and output matrix, by default in FP32 where `form` is, else in 4-bit
    blocks. Where the source has no `lm_head.weight` they are one tensor.

    Raises:
        ExportError: not an ERNIE network, or a weight is not finite.
    """
    graph = _generation_graph(source, form, vocabulary or _vocabulary_for(form), after_cache, last_token_only)
    return graph.save(folder, _inputs(source.shape), _outputs(source.shape, last_token_only))


def write_generation_pair(
    source: GraphSource,
    prefill: WeightFormat,
    decode: WeightFormat,
    folder: Path,
    vocabulary: VocabularyFormat | None = None,
) -> GenerationPair:
    """Write `prefill.onnx` and `decode.onnx` into `folder`, and `model.onnx.data` for both.

    Each is a graph as `write_generation_graph` writes it, but that after a prompt `prefill` goes on with texts of one
    length only. The vocabulary and what else the two have in common is stored once; `vocabulary` is 4-bit blocks by
    default.

    Raises:
        ExportError: not an ERNIE network, or a weight is not finite.
    """
    chosen = vocabulary or _vocabulary_for(decode)
    step = partial(after_cache, packed=prefill.name != decode.name)
    graphs = [
        _generation_graph(source, form, chosen, attending) for form, attending in ((prefill, of_prompt), (decode, step))
    ]
    stored, names = _common_store(graphs)
    folder.mkdir(parents=True, exist_ok=True)
    data = write_weights(folder / "model.onnx.data", stored)
    inputs, outputs = _inputs(source.shape), _outputs(source.shape, last_token_only=True)
    files = [
        graph.save_graph(folder / file, inputs, outputs, data, stored_as)
        for graph, file, stored_as in zip(graphs, ("prefill.onnx", "decode.onnx"), names, strict=True)
    ]
    return GenerationPair(*files)


def _common_store(graphs: Sequence[GraphWriter]) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """All graphs' tensors, equal ones of one name once; and under which name each graph finds its own."""
    stored: dict[str, np.ndarray] = {}
    names: list[dict[str, str]] = []
    for number, graph in enumerate(graphs):
        found: dict[str, str] = {}
        for name, tensor in graph.weights.items():
            known = stored.get(name)
            same = known is None or (known.dtype == tensor.dtype and np.array_equal(known, tensor))
            found[name] = name if same else f"{name}/{number}"
            stored[found[name]] = tensor
        names.append(found)
    return stored, names


def _vocabulary_for(form: WeightFormat) -> VocabularyFormat:
    return FloatVocabulary() if isinstance(form, Float32Weights) else BlockVocabulary()


def _generation_graph(
    source: GraphSource,
    form: WeightFormat,
    vocabulary: VocabularyFormat,
    attending: Attending,
    last_token_only: bool = True,
) -> GraphWriter:
    if source.shape.family is not Family.ERNIE:
        raise ExportError(f"no network that generates: {source.shape.family.value}")
    graph = GraphWriter(f"ernie4_5-generator-{form.name}-{vocabulary.name}")
    less_one(graph, valid_lengths(graph), LAST)
    axis_length(graph, "input_ids", GIVEN)
    axis_length(graph, "attention_mask", TOTAL)
    rotary_tables(graph, source.shape)
    newest = _last_of_given(graph) if last_token_only else None
    embedded = _lookup(source, graph, vocabulary)
    states = DecoderLayers(source, form, graph, attending(graph, source.shape)).build(embedded, newest)
    graph.node("Identity", [_scores(source, graph, vocabulary, states)], "logits")
    return graph


@dataclass(frozen=True)
class PromptAttention:
    """Attention over the tokens given and those whose keys and values come in; the quicker one for many tokens."""

    shape: NetworkShape
    positions: Positions
    takes_last_query: bool = True
    takes_packed: bool = False

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """See `Attention`."""
        past, present = (_cache_names(kind, index) for kind in ("past_key_values", "present"))
        return causal_attention(graph, projected, self.shape, index, self.positions, past, present)


@dataclass(frozen=True)
class CacheAttention:
    """The same, quicker for a single token, and for rows of differing lengths.

    Packed is quicker still, but leaves no tensors to share with a graph of `PromptAttention`.
    """

    shape: NetworkShape
    takes_packed: bool
    takes_last_query: bool = False

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """See `Attention`."""
        layer, name = self.shape.layers[index], f"layers.{index}.self_attn"
        past, present = (_cache_names(kind, index) for kind in ("past_key_values", "present"))
        asked = [projected.query, projected.key, projected.value]
        graph.nodes_of(
            "GroupQueryAttention",
            [*asked, *past, "seqlens_k", "total_length", "rotary.cos", "rotary.sin"],
            [f"{name}/out", *present],
            domain=CONTRIB,
            num_heads=layer.attention_heads,
            kv_num_heads=layer.key_value_heads,
            do_rotary=1,
            rotary_interleaved=1,
        )
        return f"{name}/out"


def of_prompt(graph: GraphWriter, shape: NetworkShape) -> Attention:
    """Many tokens at once."""
    first = graph.node("Sub", [TOTAL, GIVEN], "first")
    return PromptAttention(shape, Positions(first, LAST, valid_tokens(graph)))


def after_cache(graph: GraphWriter, shape: NetworkShape, packed: bool = True) -> Attention:
    """A token after those in the cache."""
    graph.node("Cast", [LAST], "seqlens_k", to=TensorProto.INT32)
    flat = graph.node("Squeeze", [TOTAL], f"{TOTAL}/scalar")
    graph.node("Cast", [flat], "total_length", to=TensorProto.INT32)
    return CacheAttention(shape, packed)


def _last_of_given(graph: GraphWriter) -> str:
    """Where each row's last valid token stands among the tokens given, int64 [batch, 1].

    In a prompt that is its last position; later, the last of those given, as only a prompt is padded.
    """
    return graph.node("Min", [LAST, less_one(graph, GIVEN, "final")], "newest")


def _lookup(source: GraphSource, graph: GraphWriter, vocabulary: VocabularyFormat) -> str:
    table = source.weights[f"body.{EMBEDDINGS}"]
    if LM_HEAD in source.weights:
        return vocabulary.separate.lookup(graph, "input_ids", EMBEDDINGS, table)
    return vocabulary.tied_lookup(graph, "input_ids", EMBEDDINGS, table)


def _scores(source: GraphSource, graph: GraphWriter, vocabulary: VocabularyFormat, states: str) -> str:
    if LM_HEAD in source.weights:
        return vocabulary.separate.matmul(graph, states, LM_HEAD, source.weights[LM_HEAD].T)
    return vocabulary.tied_scores(graph, states, EMBEDDINGS, source.weights[f"body.{EMBEDDINGS}"])


def _cache_names(prefix: str, index: int) -> tuple[str, str]:
    return f"{prefix}.{index}.key", f"{prefix}.{index}.value"


def _inputs(shape: NetworkShape) -> list[onnx.ValueInfoProto]:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"])
    return [ids, mask, *_cache(shape, "past_key_values", "past")]


def _outputs(shape: NetworkShape, last_token_only: bool) -> list[onnx.ValueInfoProto]:
    axes: list[str | int | None] = ["batch", *([] if last_token_only else ["sequence"]), shape.vocabulary_size]
    return [helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes), *_cache(shape, "present", "total")]


def _cache(shape: NetworkShape, prefix: str, tokens: str) -> list[onnx.ValueInfoProto]:
    infos = []
    for index, layer in enumerate(shape.layers):
        axes: list[str | int | None] = ["batch", layer.key_value_heads, tokens, shape.head_size]
        infos += [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in _cache_names(prefix, index)]
    return infos
