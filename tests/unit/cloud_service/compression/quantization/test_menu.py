"""Every choice of the menu builds, is close to torch, and says why it cannot be built otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.menu import Choice, build, menu
from cloud_service.compression.quantization.plan import Precision, PrecisionPlan, Scheme, uniform
from cloud_service.compression.quantization.statistics import collect_statistics
from tests.support.random_network import NETWORKS, random_network, source_of, token_sequences

CHOICES = {choice.name: choice for choice in menu()}


def closeness(name: str) -> float:
    """Least correlation with torch's logits."""
    return 0.9 if name.startswith("int4") else 0.995 if name.startswith("int8") else 0.99999


@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_choice_stays_close_to_torch(shape: NetworkShape, tmp_path: Path) -> None:
    model = random_network(shape)
    source, reference = source_of(model), compute_logits(model, token_sequences())
    # Few texts would not do: the head sees one token of each, and balancing trusts what it has seen.
    calibration = [sequence for seed in range(1, 21) for sequence in token_sequences(seed)]
    statistics = collect_statistics(source, calibration)
    for name, choice in CHOICES.items():
        files = build(source, choice, statistics, tmp_path / name)
        logits = GraphSession(files.graph).run_each(token_sequences())
        assert np.corrcoef(logits.ravel(), reference.ravel())[0, 1] > closeness(name), name


@pytest.mark.parametrize("name", ["int8-static", "int8-static-smoothed", "int8-blocks-32", "int4-blocks-16"])
def test_a_text_scores_the_same_alone_and_among_others(name: str, tmp_path: Path) -> None:
    source = source_of(random_network(NETWORKS["ernie"]))
    files = build(source, CHOICES[name], collect_statistics(source, token_sequences()), tmp_path)
    session = GraphSession(files.graph)
    together = session.run(pad_batch(token_sequences()))
    np.testing.assert_allclose(together, session.run_each(token_sequences()), atol=1e-5)


@pytest.mark.parametrize("name", ["int8-dynamic-smoothed", "int8-static", "int4-blocks-32"])
def test_two_builds_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    source = source_of(random_network(NETWORKS["bert, pooler"]))
    both = [
        build(source, CHOICES[name], collect_statistics(source, token_sequences()), tmp_path / folder)
        for folder in "ab"
    ]
    assert both[0].graph.read_bytes() == both[1].graph.read_bytes()
    assert both[0].weights.read_bytes() == both[1].weights.read_bytes()


@pytest.mark.parametrize("name", ["int8-static", "int8-dynamic-smoothed"])
def test_a_choice_that_needs_statistics_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="calibration texts"):
        build(source_of(random_network(NETWORKS["ernie"])), CHOICES[name], None, tmp_path)


def test_a_plan_for_a_product_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plan = PrecisionPlan("typo", Precision(Scheme.FP32), {"layers.9.down": Precision(Scheme.FP16)})
    with pytest.raises(ExportError, match=r"no product is named layers\.9\.down"):
        build(source_of(random_network(NETWORKS["ernie"])), Choice(plan), None, tmp_path)


def test_blocks_that_onnx_runtime_has_not_are_refused(tmp_path: Path) -> None:
    choice = Choice(uniform(Precision(Scheme.INT4_BLOCKS, 48)))
    with pytest.raises(ExportError, match="no blocks of 48"):
        build(source_of(random_network(NETWORKS["ernie"])), choice, None, tmp_path)
