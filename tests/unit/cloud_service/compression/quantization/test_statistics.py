"""Calibration sees what each product is given, of every token and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.plan import product_names
from cloud_service.compression.quantization.statistics import InputStatistics, collect_statistics
from tests.support.random_network import NETWORKS, random_network, source_of, token_sequences


@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_product_but_the_table_is_watched(shape: NetworkShape) -> None:
    statistics = collect_statistics(source_of(random_network(shape)), token_sequences())
    assert set(statistics.products) == set(product_names(shape)[1:])


def test_the_extremes_of_a_channel_are_those_torch_sees() -> None:
    model = random_network(NETWORKS["bert, mean"])
    seen: list[torch.Tensor] = []
    watched = model.get_submodule("body.encoder.layer.1.output.dense")
    hook = watched.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with torch.inference_mode():
        for sequence in token_sequences():
            model(pad_batch([sequence]))
    hook.remove()
    values = torch.cat(seen).numpy()
    found = collect_statistics(source_of(model), token_sequences()).products["encoder.layer.1.output.dense.weight"]
    np.testing.assert_allclose(found.low, values.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.high, values.max(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.sample, values, atol=1e-5)


def test_a_range_of_less_than_all_leaves_the_outliers_out() -> None:
    sample = np.linspace(-1.0, 3.0, 10_000, dtype=np.float32).reshape(-1, 4)
    sample[0, 0] = 500.0
    statistics = InputStatistics(sample.min(axis=0), sample.max(axis=0), sample)
    assert statistics.range(1.0).high == 500.0
    assert statistics.range(0.999).high < 3.01
    assert statistics.range(0.999).low == pytest.approx(-1.0, abs=0.01)


def test_dividing_channels_divides_all_that_is_known_of_them() -> None:
    sample = np.array([[-2.0, 4.0], [1.0, 8.0]], dtype=np.float32)
    statistics = InputStatistics(sample.min(axis=0), sample.max(axis=0), sample)
    divided = statistics.divided(np.array([2.0, 4.0], dtype=np.float32))
    assert divided.absolute_maximum().tolist() == [1.0, 2.0]
    assert divided.range(1.0).high == 2.0


def test_no_texts_are_refused() -> None:
    with pytest.raises(ExportError, match="no calibration texts"):
        collect_statistics(source_of(random_network(NETWORKS["ernie"])), [])
