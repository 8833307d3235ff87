"""A full model ready to serve: bundle, preprocessing and backend, composed."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.config import ServedModelSettings
from cloud_service.serving.backend import Backend
from cloud_service.serving.onnxruntime_backend import OnnxRuntimeBackend
from shared.bundle import Bundle, read_bundle
from shared.errors import EngineError
from shared.text import TextEncoder
from shared.types import LabelScore, ModelIdentity

_AT_ONCE = nullcontext()


@dataclass(frozen=True)
class FullModel:
    """One model that the gateway serves."""

    identity: ModelIdentity
    labels: tuple[str, ...]
    encoder: TextEncoder
    backend: Backend

    @classmethod
    def of(cls, bundle: Bundle, backend: Backend) -> FullModel:
        """Compose `bundle` with the backend that runs it."""
        return cls(bundle.identity, bundle.manifest.labels, TextEncoder.of(bundle), backend)

    def top(self, logits: NDArray[np.float32], count: int) -> tuple[LabelScore, ...]:
        """The `count` most probable labels of one row of logits [labels], best first.

        Raises:
            EngineError: the logits are not numbers, or not one for each label.
        """
        if logits.shape != (len(self.labels),):
            raise EngineError(f"the graph gave logits of shape {logits.shape} for {len(self.labels)} labels")
        chances = logits.astype(np.float64)
        chances -= chances.max()
        np.exp(chances, out=chances)
        total = float(chances.sum())
        if not math.isfinite(total):
            raise EngineError("the graph gave logits that are not numbers")
        best = np.argsort(-chances, kind="stable")[:count].tolist()
        return tuple(LabelScore(self.labels[index], float(chances[index]) / total) for index in best)

    def check_golden_set(self, bundle: Bundle, pace: AbstractContextManager[None] = _AT_ONCE) -> None:
        """Answer the bundle's golden set; each answer is computed within `pace`.

        Raises:
            EngineError: an answer is not the one that the bundle promises.
        """
        for item in bundle.golden.items:
            with pace:
                best = self.top(self.backend.run([self.encoder.encode(item.text)])[0], 1)[0]
            if best.label != item.label or abs(best.score - item.probability) > bundle.golden.tolerance:
                raise EngineError(
                    f"{bundle.path}: golden text {item.text!r} gave {best.label} {best.score:.4f}, "
                    f"the bundle promises {item.label} {item.probability:.4f}"
                )


def load_model(settings: ServedModelSettings) -> FullModel:
    """Read, verify and load a bundle, and let it answer its golden set.

    Raises:
        BundleError: the bundle is not what its manifest says.
        EngineError: no provider runs it, or its golden answers come out otherwise.
    """
    return load_bundle(read_bundle(settings.bundle), settings.threads)


def load_bundle(bundle: Bundle, threads: int = 0, pace: AbstractContextManager[None] = _AT_ONCE) -> FullModel:
    """Load a verified bundle, and let it answer its golden set, each answer within `pace`.

    Raises:
        EngineError: no provider runs it, or its golden answers come out otherwise.
        BundleGraphMismatch: its inputs and outputs are not those that the manifest names.
    """
    model = FullModel.of(bundle, OnnxRuntimeBackend(bundle, threads))
    model.check_golden_set(bundle, pace)
    return model
