"""Whether a loaded graph is the one that the manifest describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.bundle.manifest import GraphSpec, TensorSpec
from shared.errors import BundleGraphMismatch


def check_signature(
    path: Path, spec: GraphSpec, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], label_count: int
) -> None:
    """Compare the graph's own `inputs` and `outputs` with the manifest's `spec`.

    Raises:
        BundleGraphMismatch: they differ, or the logits do not have one column for each label.
    """
    _compare(path, "input", spec.inputs, inputs)
    _compare(path, "output", spec.outputs, outputs)
    columns = outputs[0].shape[-1] if outputs[0].shape else None
    if isinstance(columns, int) and columns != label_count:
        raise BundleGraphMismatch(path, f"gives {columns} logits for {label_count} labels")


def _compare(path: Path, kind: str, said: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> None:
    said_names = [tensor.name for tensor in said]
    found_names = [tensor.name for tensor in found]
    if said_names != found_names:
        raise BundleGraphMismatch(path, f"{kind}s are {found_names}, the manifest says {said_names}")
    for one, other in zip(said, found, strict=True):
        if one.type != other.type or len(one.shape) != len(other.shape):
            raise BundleGraphMismatch(
                path,
                f"{kind} {one.name} is {other.type} of rank {len(other.shape)}, "
                f"the manifest says {one.type} of rank {len(one.shape)}",
            )
