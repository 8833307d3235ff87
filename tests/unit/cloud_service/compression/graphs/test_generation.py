"""The generator's graphs say what transformers says, prompt and every token after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Ernie4_5ForCausalLM

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.blocks import Blocks, quantize_blocks
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.generation import write_generation_graph, write_generation_pair
from cloud_service.compression.graphs.generation_session import GenerationSession, generate_greedily, perplexity
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.vocabulary import BlockVocabulary
from cloud_service.compression.networks.shape import Family, LayerShape
from tests.support.random_ernie import (
    GROUPED,
    MAX_LENGTH,
    VOCABULARY,
    generator_source,
    random_generator,
)

TOLERANCE = 1e-4


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(1, VOCABULARY, count)]


def torch_logits(model: Ernie4_5ForCausalLM, sequence: list[int]) -> NDArray[np.float32]:
    """Logits after every token, computed at once without a cache."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([sequence]), use_cache=False).logits[0].numpy()
    return logits


def fp32_session(model: Ernie4_5ForCausalLM, folder: Path, last_token_only: bool = True) -> GenerationSession:
    files = write_generation_graph(generator_source(model), Float32Weights(), folder, last_token_only)
    return GenerationSession(files.graph)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_64_greedy_tokens_are_transformers_own(tied: bool, tmp_path: Path) -> None:
    model = random_generator(tied=tied)
    prompt, expected = tokens(11), []
    output = model(torch.tensor([prompt]), use_cache=True)
    for _ in range(64):
        expected.append(int(output.logits[0, -1].argmax()))
        output = model(torch.tensor([expected[-1:]]), past_key_values=output.past_key_values, use_cache=True)
    assert generate_greedily(prompt, 64, fp32_session(model, tmp_path)) == expected


@pytest.mark.parametrize("length", [1, 2, 17, MAX_LENGTH])
def test_a_prompts_logits_are_transformers_own(length: int, tmp_path: Path) -> None:
    model, prompt = random_generator(), tokens(length)
    logits, _ = fp32_session(model, tmp_path).start([prompt])
    np.testing.assert_allclose(logits[0], torch_logits(model, prompt)[-1], atol=TOLERANCE)


def test_every_tokens_logits_are_transformers_own(tmp_path: Path) -> None:
    model, sequence = random_generator(), tokens(20)
    stepped = fp32_session(model, tmp_path / "last").logits_of_each(sequence)
    at_once = fp32_session(model, tmp_path / "every", last_token_only=False).logits_of_each(sequence)
    np.testing.assert_allclose(stepped, torch_logits(model, sequence), atol=TOLERANCE)
    np.testing.assert_allclose(at_once, torch_logits(model, sequence), atol=TOLERANCE)


def fp32_pair(model: Ernie4_5ForCausalLM, folder: Path) -> tuple[GenerationSession, GenerationSession]:
    pair = write_generation_pair(generator_source(model), Float32Weights(), Float32Weights(), folder)
    return GenerationSession(pair.prefill.graph), GenerationSession(pair.decode.graph)


@pytest.mark.parametrize("paired", [True, False], ids=["pair", "one graph"])
def test_texts_of_differing_lengths_go_on_together_as_they_would_alone(paired: bool, tmp_path: Path) -> None:
    model, prompts = random_generator(), [tokens(size, size) for size in (9, 3, 14)]
    first, session = fp32_pair(model, tmp_path) if paired else (fp32_session(model, tmp_path),) * 2
    logits, cache = first.start(prompts)
    for step in range(5):
        for row, prompt in enumerate(prompts):
            np.testing.assert_allclose(logits[row], torch_logits(model, prompt)[-1], atol=TOLERANCE)
        following = tokens(len(prompts), 100 + step)
        prompts = [[*prompt, token] for prompt, token in zip(prompts, following, strict=True)]
        logits, cache = session.proceed(np.array(following)[:, None], cache)


@pytest.mark.parametrize("paired", [True, False], ids=["a pair's prompt", "one graph"])
def test_a_text_alone_goes_on_by_several_tokens_at_once(paired: bool, tmp_path: Path) -> None:
    model, sequence = random_generator(), tokens(21)
    session = fp32_pair(model, tmp_path)[0] if paired else fp32_session(model, tmp_path)
    _, cache = session.start([sequence[:8]])
    logits, cache = session.proceed(np.array([sequence[8:]]), cache)
    np.testing.assert_allclose(logits[0], torch_logits(model, sequence)[-1], atol=TOLERANCE)
    assert cache.tensors["0.key"].shape == (1, 2, 21, 16)


def handed_over(prefill: Path, decode: Path, sequence: list[int], prompt_length: int) -> NDArray[np.float32]:
    """Logits after the prompt and after every token that follows it, the cache passing from graph to graph."""
    later = GenerationSession(decode)
    logits, cache = GenerationSession(prefill).start([sequence[:prompt_length]])
    rows = [logits]
    for token in sequence[prompt_length:]:
        logits, cache = later.proceed(np.array([[token]]), cache)
        rows.append(logits)
    return np.concatenate(rows)


def relative_error(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of the difference, as a share of that of `expected`."""
    return float(np.sqrt(np.square(logits - expected).mean() / np.square(expected).mean()))


def test_a_cache_passes_from_graph_to_graph(tmp_path: Path) -> None:
    model, sequence = random_generator(), tokens(24)
    pair = write_generation_pair(generator_source(model), Float32Weights(), Float32Weights(), tmp_path)
    logits = handed_over(pair.prefill.graph, pair.decode.graph, sequence, 16)
    np.testing.assert_allclose(logits, torch_logits(model, sequence)[15:], atol=TOLERANCE)


def test_an_int8_prompt_leaves_a_decoder_of_blocks_no_worse_off_than_its_own(tmp_path: Path) -> None:
    model, sequence = random_generator(), tokens(60)
    expected = torch_logits(model, sequence)[15:]
    source, vocabulary = generator_source(model), BlockVocabulary(8, 32)
    for bits, bound in ((4, 0.5), (8, 0.1)):
        pair = write_generation_pair(source, Int8Dynamic(), Blocks(bits, 32), tmp_path / str(bits), vocabulary)
        mixed = relative_error(handed_over(pair.prefill.graph, pair.decode.graph, sequence, 16), expected)
        alone = relative_error(handed_over(pair.decode.graph, pair.decode.graph, sequence, 16), expected)
        assert mixed < bound
        assert mixed < alone + 0.05


def test_what_both_graphs_of_a_pair_have_in_common_is_stored_once(tmp_path: Path) -> None:
    source = generator_source(random_generator())
    pair = write_generation_pair(source, Int8Dynamic(), Blocks(4, 128), tmp_path / "pair")
    alone = [
        write_generation_graph(source, form, tmp_path / form.name).weights.stat().st_size
        for form in (Int8Dynamic(), Blocks(4, 128))
    ]
    fp32 = write_generation_pair(source, Float32Weights(), Float32Weights(), tmp_path / "fp32")
    lone = write_generation_graph(source, Float32Weights(), tmp_path / "alone")
    assert fp32.decode.weights.stat().st_size == pytest.approx(lone.weights.stat().st_size, rel=0.01)
    assert pair.prefill.weights == pair.decode.weights
    assert sum(alone) - pair.decode.weights.stat().st_size > VOCABULARY * GROUPED.hidden_size // 2
    assert sorted(path.name for path in (tmp_path / "pair").iterdir()) == [
        "decode.onnx",
        "model.onnx.data",
        "prefill.onnx",
    ]


@pytest.mark.parametrize("bits", [4, 8])
def test_a_tied_matrix_in_blocks_is_one_tensor_for_rows_and_scores(bits: int, tmp_path: Path) -> None:
    model, sequence = random_generator(), tokens(12)
    vocabulary = BlockVocabulary(bits, 32)
    files = write_generation_graph(
        generator_source(model), Float32Weights(), tmp_path, last_token_only=False, vocabulary=vocabulary
    )
    table = model.get_parameter("model.embed_tokens.weight")
    values, scales = quantize_blocks(table.detach().numpy(), bits, 32)
    with torch.no_grad():
        table.copy_(torch.from_numpy(values * scales.repeat(32, axis=1)))
    logits = GenerationSession(files.graph).logits_of_each(sequence)
    assert relative_error(logits, torch_logits(model, sequence)) < 0.01
    fp32 = sum(value.nbytes for value in generator_source(model).weights.values())
    rotary = MAX_LENGTH * GROUPED.head_size * 4
    assert files.weights.stat().st_size < fp32 + rotary - 4 * table.numel() * (0.7 if bits == 8 else 0.8) + 16 * 4096


def test_pruned_layers_may_differ_in_size(tmp_path: Path) -> None:
    source = generator_source(random_generator())
    layers = (LayerShape(4, 1, 64), *GROUPED.layers[1:])
    weights = dict(source.weights)
    for name, rows in (("self_attn.q_proj", 64), ("self_attn.k_proj", 16), ("self_attn.v_proj", 16)):
        weights[f"body.layers.0.{name}.weight"] = weights[f"body.layers.0.{name}.weight"][:rows]
    for name in ("mlp.gate_proj", "mlp.up_proj"):
        weights[f"body.layers.0.{name}.weight"] = weights[f"body.layers.0.{name}.weight"][:64]
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        weights[f"body.layers.0.{name}.weight"] = weights[f"body.layers.0.{name}.weight"][:, :64]
    files = write_generation_graph(GraphSource(GROUPED.with_layers(layers), weights), Float32Weights(), tmp_path)
    logits, cache = GenerationSession(files.graph).start([tokens(5)])
    assert np.isfinite(logits).all()
    assert cache.tensors["0.key"].shape[1] == 1
    assert cache.tensors["1.key"].shape[1] == 2


def test_perplexity_is_that_of_transformers_loss(tmp_path: Path) -> None:
    model, texts = random_generator(), [tokens(15, 1), tokens(1, 2), tokens(7, 3)]
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(torch.tensor(torch_logits(model, text)[:-1]), torch.tensor(text[1:]))
            for text in texts
            if len(text) > 1
        ]
    mean = (float(losses[0]) * 14 + float(losses[1]) * 6) / 20
    session = fp32_session(model, tmp_path, last_token_only=False)
    assert perplexity(session, texts) == pytest.approx(np.exp(mean), rel=1e-4)
    with pytest.raises(ValueError, match="two tokens"):
        perplexity(session, [[1]])


def test_a_bert_encoder_does_not_generate(tmp_path: Path) -> None:
    source = generator_source(random_generator())
    shape = type(GROUPED)(**{**vars(GROUPED), "family": Family.BERT})
    with pytest.raises(ExportError, match="no network that generates: bert"):
        write_generation_graph(GraphSource(shape, source.weights), Float32Weights(), tmp_path)


def test_a_table_that_is_no_whole_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no whole blocks of 256"):
        write_generation_graph(
            generator_source(random_generator()), Int8Dynamic(), tmp_path, vocabulary=BlockVocabulary(8, 256)
        )
