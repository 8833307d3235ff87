from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from cloud_service.dashboard.offload_address import Dimension, OffloadAddress, offload_address
from cloud_service.dashboard.ranges import Axis, Stretch, axis_before, axis_for
from cloud_service.fleet.buckets import DAY_S, FINE_S, HOUR_S, MINUTE_S, Retention
from shared.errors import InputError

NOW_S = 1_800_000_000


def parsed(query: str) -> OffloadAddress:
    return offload_address(parse_qsl(query, keep_blank_values=True), NOW_S)


def test_nothing_asked_for_is_the_default_view_with_an_empty_address() -> None:
    address = parsed("by=&range=&model=&left=&right=")
    assert address == OffloadAddress()
    assert address.query() == ""


@pytest.mark.parametrize(
    "query",
    [
        "by=device&range=7d",
        "by=label&from=2026-11-23T14:00Z&to=2026-11-24T14:00:30Z",
        "range=1h&model=intents&ring=canary&version=7&variant=-",
        "against=before",
        "with_from=2026-11-01T00:00Z&with_to=2026-11-02T00:00Z",
        "by=version&left=intents/7&right=intents/8",
        "by=label&left=%E5%8D%A1%E7%89%87%E4%B8%A2%E5%A4%B1&right=a+b%26c",
        "by=variant&left=-&right=new",
    ],
)
def test_a_canonical_address_names_its_view_and_no_other(query: str) -> None:
    assert parsed(query).query() == query


def test_order_and_empty_parts_do_not_matter() -> None:
    assert parsed("ring=canary&by=device&model=&range=7d").query() == "by=device&range=7d&ring=canary"


def test_a_moment_in_another_zone_or_without_one_is_the_same_moment() -> None:
    for written in ("2026-11-23T22:00%2B08:00", "2026-11-23T14:00", "2026-11-23T14:00:00Z"):
        assert parsed(f"from={written}&to=2026-11-24").stretch.since_s == 1_795_442_400


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("by=colour", "by must be one of device, ring"),
        ("range=2w", "range must be one of 15m"),
        ("from=yesterday", "from must be a time like"),
        ("from=0001-01-01", "from must be a time like"),
        ("to=2026-11-23", "to needs a from"),
        ("from=2026-11-24&to=2026-11-23", "from must be before to"),
        ("from=2020-01-01&to=2026-01-01", "two years"),
        ("ring=a%20b", "ring 'a b' is not a name"),
        ("against=after", "against must be before"),
        ("against=before&left=a&right=b", "compare with one thing"),
        ("left=a", "left and right are both needed"),
        ("left=a&right=a", "are the same"),
        ("with_to=2026-11-23", "with_to needs a with_from"),
        ("with_from=x", "with_from"),
        ("colour=red", "'colour' is not known here"),
        ("by=ring&by=ring", "by is given twice"),
        (f"left={'x' * 300}&right=b", "longer than"),
    ],
)
def test_a_bad_address_is_refused_in_clear_words(query: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        parsed(query)


def test_another_dimension_keeps_all_but_the_pair() -> None:
    address = parsed("by=ring&range=7d&left=a&right=b&model=intents").by_dimension(Dimension.LABEL)
    assert address.query() == "by=label&range=7d&model=intents"


@pytest.mark.parametrize(
    ("query", "width_s"),
    [("range=15m", FINE_S), ("range=1h", MINUTE_S), ("range=24h", 600), ("range=7d", HOUR_S), ("range=1y", DAY_S)],
)
def test_the_server_picks_the_finest_width_that_can_be_drawn(query: str, width_s: int) -> None:
    axis = axis_for(parsed(query).stretch, NOW_S, Retention().kept_since(NOW_S))
    assert axis.width_s == width_s
    assert axis.until_s > NOW_S and axis.since_s % width_s == axis.until_s % width_s == 0


def test_a_stretch_of_long_ago_is_drawn_in_what_is_still_kept() -> None:
    long_ago = Stretch(None, NOW_S - 90 * DAY_S, NOW_S - 90 * DAY_S + HOUR_S)
    axis = axis_for(long_ago, NOW_S, Retention().kept_since(NOW_S))
    assert axis.width_s == DAY_S and axis.since_s <= long_ago.since_s and axis.until_s >= long_ago.until_s


def test_the_stretch_before_ends_where_this_one_begins() -> None:
    assert axis_before(Axis(7200, 10_800, 60)) == Axis(3600, 7200, 60)
