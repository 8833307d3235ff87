from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.update.labels import MAX_LABELS, MAX_VALUES, checked_condition, checked_labels, is_met, is_within

_key, _value = st.sampled_from(["site", "line"]), st.sampled_from(["a", "b", "c"])
labels = st.dictionaries(_key, _value)
conditions = st.dictionaries(_key, st.lists(_value, min_size=1, unique=True).map(tuple))


def test_all_named_labels_must_match_and_any_value_of_each_will_do() -> None:
    condition = {"site": ("berlin", "paris"), "line": ("3",)}
    assert is_met(condition, {"site": "paris", "line": "3", "floor": "2"})
    assert not is_met(condition, {"site": "paris", "line": "4"})
    assert not is_met(condition, {"site": "paris"})
    assert is_met({}, {}) and not is_met(condition, {})


@given(conditions, conditions, labels)
def test_who_meets_a_condition_meets_every_one_that_it_is_within(
    narrow: dict[str, tuple[str, ...]], wide: dict[str, tuple[str, ...]], device: dict[str, str]
) -> None:
    assert is_within(narrow, narrow) and is_within(narrow, {})
    if is_within(narrow, wide) and is_met(narrow, device):
        assert is_met(wide, device)


@given(conditions, conditions)
def test_a_condition_that_is_not_within_another_has_a_device_outside(
    one: dict[str, tuple[str, ...]], other: dict[str, tuple[str, ...]]
) -> None:
    devices = [
        {key: value for key, value in (("site", site), ("line", line)) if value}
        for site in ("", "a", "b", "c")
        for line in ("", "a", "b", "c")
    ]
    outside = [device for device in devices if is_met(one, device) and not is_met(other, device)]
    assert bool(outside) == (not is_within(one, other))


@pytest.mark.parametrize("bad", [{"a b": "x"}, {"a": ""}, {"a": "x" * 65}, {"": "x"}, {"a": "b:c"}])
def test_labels_are_names(bad: dict[str, str]) -> None:
    with pytest.raises(InputError, match="device label"):
        checked_labels(bad)
    with pytest.raises(InputError, match="device label"):
        checked_condition({key: (value,) for key, value in bad.items()})


def test_labels_and_conditions_have_an_end() -> None:
    most = {f"k{number}": "v" for number in range(MAX_LABELS)}
    assert checked_labels(most) == most
    with pytest.raises(InputError, match="more than 16"):
        checked_labels({**most, "one-more": "v"})
    with pytest.raises(InputError, match="more than 16"):
        checked_condition(dict.fromkeys((*most, "one-more"), ("v",)))
    for values in ((), tuple(f"v{number}" for number in range(MAX_VALUES + 1))):
        with pytest.raises(InputError, match="not 1 to 64"):
            checked_condition({"site": values})
