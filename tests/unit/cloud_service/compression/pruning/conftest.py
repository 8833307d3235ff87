"""Two tiny networks, one of each family."""

from __future__ import annotations

import pytest

from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling


def _shape(family: Family, layer: LayerShape, pooling: Pooling) -> NetworkShape:
    return NetworkShape(
        family=family,
        vocabulary_size=50,
        max_length=16,
        hidden_size=32,
        head_size=8,
        layers=(layer,) * 3,
        norm_epsilon=1e-6,
        pooling=pooling,
        rope_theta=10000.0 if family is Family.ERNIE else 0.0,
    )


@pytest.fixture
def ernie() -> NetworkShape:
    """Eight query heads in four groups."""
    return _shape(Family.ERNIE, LayerShape(8, 4, 24), Pooling.LAST)


@pytest.fixture
def bert() -> NetworkShape:
    """Four heads, each with keys and values of its own."""
    return _shape(Family.BERT, LayerShape(4, 4, 24), Pooling.MEAN)


@pytest.fixture(params=["ernie", "bert"])
def shape(request: pytest.FixtureRequest) -> NetworkShape:
    """Each of the two in turn."""
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, NetworkShape)
    return chosen
