"""Calibrates the gate of an edge bundle against a full one, on texts with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.gate_maker import GatePlan, Predictions, Provenance, make_gate
from cloud_service.calibration.output_calibration import tuning_count
from cloud_service.calibration.predictions import OUT_OF_SCOPE
from cloud_service.compression.dataset import Questions, read_rows
from cloud_service.serving.onnxruntime_backend import OnnxRuntimeBackend
from shared import __version__
from shared.bundle import Bundle, Tier
from shared.errors import ConfigurationError
from shared.gate import Gate
from shared.text import TextEncoder

ONE_THREAD = 1


@dataclass(frozen=True)
class CalibrationData:
    """Texts that tune and texts that certify, and what the certificate says of the latter."""

    tuning: Questions
    certifying: Questions
    description: str


def read_calibration_data(data: Path, tuning_data: Path | None, labels: Sequence[str], seed: int) -> CalibrationData:
    """Read CSV files with the columns text and category; a category that is no label of the model is out of scope.

    Without `tuning_data` a part of `data`, drawn by `seed`, tunes.

    Raises:
        DatasetError: a file cannot be read as such.
        ConfigurationError: both files hold the same texts, so that what certifies would have chosen.
    """
    questions = _questions(data, labels)
    if tuning_data is not None:
        tuned = _questions(tuning_data, labels)
        if tuned == questions:
            raise ConfigurationError(f"{tuning_data} holds the texts of {data}: what tunes may not certify")
        return CalibrationData(tuned, questions, f"{data.name}: {len(questions)} texts")
    order = np.random.default_rng(seed).permutation(len(questions))
    tuning = tuning_count(len(questions))
    rest = len(questions) - tuning
    name = f"{data.name}: {rest} of {len(questions)} texts drawn at random, seed {seed}"
    return CalibrationData(questions.take(order[:tuning]), questions.take(order[tuning:]), name)


def calibrate_bundle(edge: Bundle, full: Bundle, data: CalibrationData, plan: GatePlan) -> Gate:
    """Let both bundles answer each text alone, as a device does, and make the edge bundle's gate.

    Raises:
        ConfigurationError: the bundles are not an edge and a full one of the same labels.
        InputError: a text cannot be read.
        EngineError: a graph cannot be run here.
    """
    check_pair(edge, full)
    tuning, certifying = (_predictions(edge, full, part) for part in (data.tuning, data.certifying))
    provenance = Provenance(
        edge.identity.digest, full.identity.digest, data.description, data.certifying.digest(), __version__
    )
    return make_gate(tuning, certifying, plan, provenance)


def check_pair(edge: Bundle, full: Bundle) -> None:
    """Raises: ConfigurationError: see `calibrate_bundle`."""
    if edge.manifest.tier is not Tier.EDGE or full.manifest.tier is not Tier.FULL:
        raise ConfigurationError(f"{edge.path} must be an edge bundle and {full.path} a full one")
    if edge.manifest.labels != full.manifest.labels:
        raise ConfigurationError(f"{edge.path} and {full.path} have different labels")


def _questions(path: Path, labels: Sequence[str]) -> Questions:
    places = {label: place for place, label in enumerate(labels)}
    rows = read_rows(path)
    return Questions(tuple(text for text, _ in rows), tuple(places.get(label, OUT_OF_SCOPE) for _, label in rows))


def _predictions(edge: Bundle, full: Bundle, part: Questions) -> Predictions:
    edge_logits, full_logits = (_logits(bundle, part.texts) for bundle in (edge, full))
    return Predictions(edge_logits, np.asarray(part.label_ids, dtype=np.int64), full_logits.argmax(axis=1))


def _logits(bundle: Bundle, texts: Sequence[str]) -> NDArray[np.float32]:
    """On the CPU, where a device computes as well; on others INT8 may come out otherwise."""
    encoder = TextEncoder.of(bundle)
    backend = OnnxRuntimeBackend(bundle, ONE_THREAD, ("CPUExecutionProvider",))
    if not texts:
        return np.empty((0, len(bundle.manifest.labels)), np.float32)
    return np.concatenate([backend.run([encoder.encode(text)]) for text in texts])
