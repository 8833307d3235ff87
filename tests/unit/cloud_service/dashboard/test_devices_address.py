from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from cloud_service.dashboard.devices_address import DevicesAddress, devices_address
from shared.errors import InputError


def parsed(query: str) -> DevicesAddress:
    return devices_address(parse_qsl(query, keep_blank_values=True))


@pytest.mark.parametrize(
    "query", ["", "q=press-0", "q=press&presence=silent&ring=canary&model=m&version=7&policy=refused&sort=-p99&page=3"]
)
def test_a_canonical_address_names_its_list_and_no_other(query: str) -> None:
    assert parsed(query).query() == query


def test_empty_parts_and_defaults_are_left_out() -> None:
    assert parsed("q=&presence=&sort=device&page=1&ring=a").query() == "ring=a"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("presence=away", "presence must be one of online"),
        ("sort=colour", "sort must be one of device"),
        ("sort=--p99", "sort must be one of"),
        ("page=0", "page must be a number"),
        ("page=%E0%A5%A7", "page must be a number"),
        ("page=99999999999999999999", "page must be a number"),
        ("policy=x", "policy must be one of"),
        ("ring=a/b", "is not a name"),
        ("what=1", "'what' is not known here"),
        ("q=a&q=b", "q is given twice"),
        (f"q={'x' * 65}", "longer than 64"),
    ],
)
def test_a_bad_address_is_refused_in_clear_words(query: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        parsed(query)


def test_a_column_sorts_first_the_way_that_tells_most_and_then_the_other() -> None:
    by_name = parsed("page=4")
    by_offload = by_name.sorted_by("offload")
    assert by_offload == DevicesAddress(sort="-offload")
    assert by_offload.sorted_by("offload").sort == "offload"
    assert by_name.sorted_by("device").sort == "-device"
