from __future__ import annotations

import pytest

from cloud_service.cases.export import request_table, training_table
from cloud_service.cases.grouping import Case, PairCount, pair_groups, score_bands

CASE = Case(1_800_000_000, "d1", "r1", "1.0.0", False, "card", 0.5, "cash", "where is my cash")


def test_pairs_are_listed_most_frequent_first_with_their_share() -> None:
    counts = [PairCount("b", "c", 10, 0.5, 1), PairCount("a", "a", 30, 0.6, 2), PairCount("a", "c", 10, 0.5, 3)]
    groups = pair_groups(counts)
    assert [(each.edge_label, each.right_label) for each in groups] == [("a", "a"), ("a", "c"), ("b", "c")]
    assert groups[0].share == pytest.approx(0.6)
    assert [each.agrees for each in groups] == [True, False, False]
    assert pair_groups([]) == ()


def test_every_probability_lies_in_one_band() -> None:
    scores = [0.0, 0.2499, 0.25, 0.75, 0.9, 1.0, 1.0000001]
    assert [band.cases for band in score_bands(scores)] == [2, 1, 0, 1, 3]


def test_the_table_for_training_holds_texts_with_the_right_label_and_the_other_names_requests() -> None:
    without = Case(1, "d2", "r2", "1", True, "card", 0.5, "loan")
    assert training_table([CASE, without]) == (("text", "category"), [("where is my cash", "cash")])
    assert request_table([without]) == (
        ("device_id", "request_id", "edge_label", "category"),
        [("d2", "r2", "card", "loan")],
    )
