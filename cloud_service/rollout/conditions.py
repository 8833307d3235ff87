"""Conditions on devices' labels as people write and read them. Pure."""

from __future__ import annotations

from shared.errors import InputError, RolloutError
from shared.update.labels import LabelCondition, checked_condition


def parse_condition(text: str) -> LabelCondition:
    """The condition that `text` writes as "site:berlin,site:paris,line:3": each key, and any of its values.

    Raises:
        RolloutError: it writes none.
    """
    condition: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        key, separator, value = part.strip().partition(":")
        if not separator:
            raise RolloutError(f"labels {text!r}: write them as KEY:VALUE, several by commas")
        condition[key] = (*condition.get(key, ()), value)
    try:
        return checked_condition(condition)
    except InputError as error:
        raise RolloutError(f"labels {text!r}: {error}") from error


def condition_words(condition: LabelCondition) -> str:
    """ "whose site is berlin or paris and whose line is 3"; "" where all devices are meant."""
    return " and ".join(f"whose {key} is {' or '.join(values)}" for key, values in sorted(condition.items()))
