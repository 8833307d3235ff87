"""What is pruned is gone, and what stays computes what it did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_service.compression.costs import network_cost
from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.build import classifier_of, new_classifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.layout import LAYOUTS
from cloud_service.compression.pruning.surgery import KeptLayer, KeptParts, all_parts, prune

BATCH = pad_batch([[3, 7, 9, 2], [5, 6], [8, 8, 1]])
SOME = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def silence(model: TextClassifier, kept: KeptParts) -> None:
    """Make every part that is not kept contribute nothing, where it is."""
    layout, head_size = LAYOUTS[model.shape.family], model.shape.head_size
    weights = model.state_dict()
    with torch.no_grad():
        for part in kept.layers:
            heads = weights[f"{layout.prefix}{part.source}.{layout.head_columns}"]
            for head in set(range(model.shape.layers[part.source].attention_heads)) - set(part.heads):
                heads[:, head * head_size : (head + 1) * head_size] = 0.0
            channels = weights[f"{layout.prefix}{part.source}.{layout.channel_columns}"]
            channels[:, sorted(set(range(channels.shape[1])) - set(part.channels))] = 0.0


@st.composite
def kept_layers(draw: st.DrawFn, source: int, layer: LayerShape) -> KeptLayer:
    per_group = layer.attention_heads // layer.key_value_heads
    count = draw(st.integers(1, per_group))
    groups = draw(st.sets(st.integers(0, layer.key_value_heads - 1), min_size=1))
    numbers = st.sets(st.integers(0, per_group - 1), min_size=count, max_size=count)
    heads = sorted(group * per_group + head for group in groups for head in draw(numbers))
    channels = draw(st.sets(st.integers(0, layer.ffn_size - 1), min_size=1))
    return KeptLayer(source, tuple(heads), tuple(sorted(channels)))


@SOME
@given(st.data())
def test_what_contributed_nothing_can_go_and_the_answers_stay(shape: NetworkShape, data: st.DataObject) -> None:
    model = new_classifier(shape, 5, seed=0).eval()
    kept = KeptParts(tuple(data.draw(kept_layers(n, layer)) for n, layer in enumerate(shape.layers)))
    silence(model, kept)
    weights, smaller = prune(model.state_dict(), shape, kept)
    torch.testing.assert_close(classifier_of(smaller, weights)(BATCH), model(BATCH))
    assert sum(tensor.numel() for tensor in weights.values()) == network_cost(smaller, 5, 16).parameters


def test_layers_leave_and_the_rest_close_up(shape: NetworkShape) -> None:
    weights = new_classifier(shape, 5, seed=0).state_dict()
    first, _, last = all_parts(shape).layers
    pruned, smaller = prune(weights, shape, KeptParts((first, last)))
    assert len(smaller.layers) == 2
    prefix = LAYOUTS[shape.family].prefix
    moved = {name: value for name, value in weights.items() if name.startswith(f"{prefix}2.")}
    assert moved and all(torch.equal(pruned[name.replace("2.", "1.", 1)], value) for name, value in moved.items())
    assert not any(name.startswith(f"{prefix}2.") for name in pruned)


def test_keeping_all_changes_nothing(shape: NetworkShape) -> None:
    weights = new_classifier(shape, 5, seed=0).state_dict()
    same, unchanged = prune(weights, shape, all_parts(shape))
    assert unchanged == shape and set(same) == set(weights)
    assert all(torch.equal(same[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (0, 1, 2)}, "as many heads"),
        ({"heads": ()}, "heads of layer 0"),
        ({"heads": (2, 0)}, "ascending"),
        ({"channels": (3, 24)}, "0 to 23"),
        ({"source": 9}, "layers to keep"),
    ],
)
def test_parts_that_cannot_be_kept_are_refused(
    ernie: NetworkShape, change: dict[str, int | tuple[int, ...]], message: str
) -> None:
    weights = new_classifier(ernie, 5, seed=0).state_dict()
    kept = replace(all_parts(ernie).layers[0], **change)  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match=message):
        prune(weights, ernie, KeptParts((kept,)))
