"""Classifies one text of 128 tokens once and prints the process's peak memory in KiB; of PyTorch without a graph."""

from __future__ import annotations

import sys
from pathlib import Path

TOKENS = 128
THREADS = 2


def main(arguments: list[str]) -> None:
    if arguments:
        run_graph(arguments[0])
    else:
        run_torch()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def run_graph(path: str) -> None:
    """ONNX Runtime alone: nothing of PyTorch is imported."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokens = np.ones((1, TOKENS), np.int64)
    session.run(["logits"], {"input_ids": tokens, "attention_mask": tokens})


def run_torch() -> None:
    """PyTorch FP32, as transformers runs it."""
    import torch

    from tests.bench.bench_full_size import random_classifier, whole_body
    from tests.bench.bench_generation import FULL

    torch.set_num_threads(THREADS)
    whole_body(random_classifier(FULL))([1] * TOKENS)


if __name__ == "__main__":
    main(sys.argv[1:])
