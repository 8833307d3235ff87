"""What every engine can do. Imported in environments that hold one engine and not the rest of the project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

THREADS = 2
EXPECTED_FILE, HEAD_FILE = "expected.npz", "head.npy"
"""Beside the checkpoint: what PyTorch answers, and a head for labels, float32 [labels, hidden]."""

Floats = NDArray[np.float32]


class Peer(Protocol):
    """One engine, which loads what a call needs at the first such call."""

    def prepare(self, checkpoint: Path) -> None:
        """Convert what `save_pretrained` wrote into what the engine runs."""
        ...

    def classify(self, ids: Sequence[int]) -> Floats:
        """Of the last token: its last state, the labels' logits or the vocabulary's, whichever is had the fastest."""
        ...

    def first_token(self, ids: Sequence[int]) -> int:
        """Begin anew with this prompt; the likeliest token after it."""
        ...

    def step(self) -> int:
        """Append the token answered last; the likeliest one after that."""
        ...
