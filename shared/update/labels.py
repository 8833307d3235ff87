"""Labels that a device has by its configuration, and conditions on them: who is meant where a ring is too many."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from shared.errors import InputError
from shared.types import checked_identifier

MAX_LABELS = 16
MAX_VALUES = 64

Labels = Mapping[str, str]
"""A device's labels by key, as `{"site": "berlin"}`."""
LabelCondition = Mapping[str, tuple[str, ...]]
"""By key the values of which a device must have one; every key must be met. An empty one is met by all devices."""
NO_LABELS: Labels = MappingProxyType({})


def is_met(condition: LabelCondition, labels: Labels) -> bool:
    """Whether a device of these labels is meant."""
    return all(labels.get(key) in values for key, values in condition.items())


def is_within(narrow: LabelCondition, wide: LabelCondition) -> bool:
    """Whether every device that meets `narrow` meets `wide` too, whatever its labels are."""
    return all(key in narrow and set(narrow[key]) <= set(values) for key, values in wide.items())


def checked_labels(labels: Labels) -> Labels:
    """`labels`, if a device may have them.

    Raises:
        InputError: more than `MAX_LABELS`, or a key or value that is no name.
    """
    if len(labels) > MAX_LABELS:
        raise InputError(f"{len(labels)} device labels are more than {MAX_LABELS}")
    for key, value in labels.items():
        checked_identifier("device label", key)
        checked_identifier(f"device label {key} =", value)
    return labels


def checked_condition(condition: LabelCondition) -> LabelCondition:
    """`condition`, if devices can meet it.

    Raises:
        InputError: more than `MAX_LABELS` keys, none or more than `MAX_VALUES` values of one, or what is no name.
    """
    if len(condition) > MAX_LABELS:
        raise InputError(f"{len(condition)} device labels are more than {MAX_LABELS}")
    for key, values in condition.items():
        checked_identifier("device label", key)
        if not 1 <= len(values) <= MAX_VALUES:
            raise InputError(f"device label {key} has {len(values)} values to choose from, not 1 to {MAX_VALUES}")
        for value in values:
            checked_identifier(f"device label {key} =", value)
    return condition
