"""From the configuration's list of models to loaded models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.config import ModelSettings
from edge_agent.engine import Engine
from edge_agent.engine.onnxruntime_engine import OnnxRuntimeEngine
from edge_agent.model import EdgeModel
from shared.bundle import Bundle, read_bundle
from shared.errors import ConfigurationError
from shared.text import TextEncoder


def load_model(folder: Path, threads: int = 1, variant: str = "") -> EdgeModel:
    """Read, verify, load and warm up the bundle in `folder`; blocks.

    Raises:
        BundleError: the bundle cannot be used.
        EngineError: ONNX Runtime cannot load it or run it.
    """
    return load_bundle(read_bundle(folder), threads, variant)


def load_bundle(bundle: Bundle, threads: int = 1, variant: str = "") -> EdgeModel:
    """Load and warm up a verified bundle; blocks.

    Raises:
        BundleError, EngineError: see `load_model`.
    """
    model = EdgeModel(bundle, TextEncoder.of(bundle), load_engine(bundle, threads), variant)
    model.warm_up()
    return model


def load_engine(bundle: Bundle, threads: int = 1) -> Engine:
    """What runs a verified bundle's graph on this device; blocks.

    Raises:
        BundleError, EngineError: see `load_model`.
    """
    return OnnxRuntimeEngine(bundle, threads)


def load_models(settings: Sequence[ModelSettings]) -> tuple[EdgeModel, ...]:
    """Load every configured model, in the configuration's order; blocks.

    Raises:
        BundleError, EngineError: see `load_model`.
        ConfigurationError: two bundles hold a model of the same name.
    """
    models = tuple(load_model(one.bundle, one.threads, one.variant) for one in settings)
    names = [model.identity.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"models: two bundles hold a model called {name!r}; a device runs each name once")
    return models
