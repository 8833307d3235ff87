"""Writes the network that all engines run, seeded and random, and what PyTorch computes with it.

`python -m tests.bench.peers.checkpoint FOLDER`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import Ernie4_5ForCausalLM

from tests.bench.bench_generation import FULL, LABELS, prompt
from tests.bench.peers.peer import EXPECTED_FILE, HEAD_FILE
from tests.support.random_ernie import random_generator

DEVIATION, ATTENDING_DEVIATION = 0.02, 0.05
"""Of usual beginnings, so that INT8 and 4 bits stay near FP32; of queries and keys it is larger, so that it shows in
the answer where a token stands."""
FIRST_TOKENS = 64


def main(folder: Path) -> None:
    model = quiet_generator()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    write_expected(model, folder)


def quiet_generator() -> Ernie4_5ForCausalLM:
    """The network of `FULL`."""
    model = random_generator(FULL)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                wanted = ATTENDING_DEVIATION if "q_proj" in name or "k_proj" in name else DEVIATION
                parameter.mul_(wanted / parameter.std())
    return model


def write_tokenizer(folder: Path) -> None:
    """One that knows nothing: onnxruntime-genai's builder wants one to copy."""
    unknown = "<unk>"
    model = Tokenizer(models.WordLevel({unknown: 0}, unk_token=unknown))
    model.save(str(folder / "tokenizer.json"))
    names = {f"{role}_token": unknown for role in ("unk", "bos", "eos", "pad")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@torch.inference_mode()
def write_expected(model: Ernie4_5ForCausalLM, folder: Path) -> None:
    """Store a head for labels, float32 [labels, hidden], and PyTorch's answers, as `Expected` reads them."""
    head = np.random.default_rng(0).normal(0, DEVIATION, (LABELS, FULL.hidden_size)).astype(np.float32)
    np.save(folder / HEAD_FILE, head)
    ids = torch.tensor([prompt()])
    state = model.model(ids).last_hidden_state[0, -1]
    logits = model.lm_head(state)
    first_tokens = logits.topk(FIRST_TOKENS).indices
    longer = torch.cat([ids.expand(FIRST_TOKENS, -1), first_tokens[:, None]], dim=1)
    answers = {"state": state.numpy(), "labels": head @ state.numpy(), "logits": logits.numpy()}
    seconds = model(longer, logits_to_keep=1).logits[:, 0].numpy()
    np.savez(folder / EXPECTED_FILE, ids=ids[0], first_tokens=first_tokens, second_logits=seconds, **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
