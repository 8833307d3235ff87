"""llama.cpp, through llama-cpp-python's binding of its C functions; a GGUF of architecture `ernie4_5`.

The variant is what the weights are quantized to: `Q8_0` or `Q4_0`, as `llama-quantize` does it.
`classify` decodes the text and takes the last token's logits: the last layer's second half and the vocabulary's head
are computed for that token alone. Its embeddings pooled from the last token take longer, as the head is then computed
for every token, and thrown away.
"""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from tests.bench.peers.peer import THREADS, Floats, Peer

CONTEXT = 512
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def peer(folder: Path, variant: str) -> Peer:
    return LlamaCpp(folder, variant)


class LlamaCpp:
    """`folder` holds one GGUF, for both tasks."""

    def __init__(self, folder: Path, variant: str) -> None:
        llama_cpp.llama_log_set(SILENT, None)
        self._folder, self._variant = folder, variant
        self._path = folder / f"{variant}.gguf"

    def prepare(self, checkpoint: Path) -> None:
        whole = self._folder / "F32.gguf"
        write_gguf(checkpoint, whole)
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{self._variant}")
        options.nthread = THREADS
        failed = llama_cpp.llama_model_quantize(str(whole).encode(), str(self._path).encode(), ctypes.byref(options))
        if failed:
            raise RuntimeError(f"llama_model_quantize: {failed}")
        whole.unlink()

    def classify(self, ids: Sequence[int]) -> Floats:
        return self._begin(ids)

    def first_token(self, ids: Sequence[int]) -> int:
        self._token = int(self._begin(ids).argmax())
        return self._token

    def step(self) -> int:
        self._token = int(self._decode([self._token]).argmax())
        return self._token

    def _begin(self, ids: Sequence[int]) -> Floats:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        return self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> Floats:
        """Append `ids`; the logits after the last, valid until the next call."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        failed = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
        if failed:
            raise RuntimeError(f"llama_decode: {failed}")
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), (vocabulary,))

    @functools.cached_property
    def _model(self) -> Any:
        path = str(self._path).encode()
        return llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())

    @functools.cached_property
    def _context(self) -> Any:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = CONTEXT
        options.n_threads = options.n_threads_batch = THREADS
        return llama_cpp.llama_init_from_model(self._model, options)


def _print_nothing(*_: object) -> None:
    """llama.cpp would else print thousands of lines."""


SILENT = llama_cpp.llama_log_callback(_print_nothing)


def write_gguf(checkpoint: Path, path: Path) -> None:
    import gguf
    from safetensors import safe_open

    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "ernie4_5")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    with safe_open(checkpoint / "model.safetensors", "numpy") as stored:
        for name in stored.keys():  # noqa: SIM118
            writer.add_tensor(gguf_name(name), stored.get_tensor(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"
