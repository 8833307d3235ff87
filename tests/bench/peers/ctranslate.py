"""CTranslate2 with INT8 weights (`compute_type="int8"`), its specification filled in by hand: it knows no ERNIE.

`forward_batch` of a generator computes the head for every token, so the variant `classifier` has one for labels in
place of the vocabulary's. `generator` has the vocabulary's; its steps are the callbacks of `generate_batch`.
"""

from __future__ import annotations

import functools
import json
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from tests.bench.peers.peer import HEAD_FILE, THREADS, Floats, Peer

WAIT_S = 60.0
MOST_STEPS = 256


def peer(folder: Path, variant: str) -> Peer:
    return CTranslate2(folder, variant)


class CTranslate2:
    def __init__(self, folder: Path, variant: str) -> None:
        self._folder, self._variant = folder, variant
        self._steps: Steps | None = None

    def prepare(self, checkpoint: Path) -> None:
        write_model(checkpoint, self._folder, with_label_head=self._variant == "classifier")

    def classify(self, ids: Sequence[int]) -> Floats:
        logits = self._generator.forward_batch([list(ids)])
        answer: Floats = np.array(logits)[0, -1]
        return answer

    def first_token(self, ids: Sequence[int]) -> int:
        if self._steps:
            self._steps.close()
        self._steps = Steps(self._generator, [str(token) for token in ids])
        return self._steps.next()

    def step(self) -> int:
        assert self._steps, "first_token begins"
        return self._steps.next()

    @functools.cached_property
    def _generator(self) -> ctranslate2.Generator:
        return ctranslate2.Generator(str(self._folder), compute_type="int8", intra_threads=THREADS)


class Steps:
    """One greedy continuation, which computes a token whenever one is asked for."""

    def __init__(self, generator: ctranslate2.Generator, prompt: list[str]) -> None:
        self._asked, self._tokens = threading.Semaphore(0), queue.SimpleQueue[int]()
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(generator, prompt), daemon=True)
        self._thread.start()

    def next(self) -> int:
        self._asked.release()
        return self._tokens.get(timeout=WAIT_S)

    def close(self) -> None:
        self._closed = True
        self._asked.release()
        self._thread.join(WAIT_S)

    def _run(self, generator: ctranslate2.Generator, prompt: list[str]) -> None:
        self._asked.acquire()
        generator.generate_batch(
            [prompt],
            max_length=MOST_STEPS,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[],
            callback=self._computed,
        )

    def _computed(self, result: Any) -> bool:
        """Called after each token: hand it over, wait until the next is wanted; True where none will be."""
        self._tokens.put(result.token_id)
        return not self._asked.acquire(timeout=WAIT_S) or self._closed


def write_model(checkpoint: Path, folder: Path, with_label_head: bool) -> None:
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    spec = TransformerDecoderModelSpec.from_config(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        activation=common_spec.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=True,
        rotary_base=config["rope_parameters"]["rope_theta"],
        num_heads_kv=config["num_key_value_heads"],
        head_dim=config["head_dim"],
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights["model.embed_tokens.weight"]
    decoder.layer_norm.gamma = weights["model.norm.weight"]
    decoder.projection.weight = np.load(checkpoint / HEAD_FILE) if with_label_head else decoder.embeddings.weight
    for index, layer in enumerate(decoder.layer):
        set_layer(layer, {name.removeprefix(f"model.layers.{index}."): weight for name, weight in weights.items()})
    spec.register_vocabulary([str(token) for token in range(config["vocab_size"])])
    spec.config.layer_norm_epsilon = config["rms_norm_eps"]
    spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = "0"
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))


def set_layer(layer: Any, weights: dict[str, Floats]) -> None:
    attention, ffn = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = weights["input_layernorm.weight"]
    attention.linear[0].weight = np.concatenate([weights[f"self_attn.{part}_proj.weight"] for part in "qkv"])
    attention.linear[1].weight = weights["self_attn.o_proj.weight"]
    ffn.layer_norm.gamma = weights["post_attention_layernorm.weight"]
    ffn.linear_0.weight = weights["mlp.gate_proj.weight"]
    ffn.linear_0_noact.weight = weights["mlp.up_proj.weight"]
    ffn.linear_1.weight = weights["mlp.down_proj.weight"]
