"""What a graph is built from: a network's shape and its weights as float32 matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.networks.shape import NetworkShape

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class GraphSource:
    """A trained network: its shape, and weights under transformers' names, matrices [out, in].

    The network's own are behind `body.` (`body.embed_tokens.weight`, `body.layers.N...`); a classifier has
    `head.weight` and `head.bias`, a generator whose output matrix is not its embedding `lm_head.weight`.
    """

    shape: NetworkShape
    weights: Weights
