from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from shared.documents import Document, DocumentError, format_of, read_document
from shared.errors import UpdateRefused
from shared.update.assignment import Arm, Assignment, Trial, encode_assignment, parse_assignment, place_of
from shared.update.labels import LabelCondition

NEW = Arm("2.0.0", "2" * 64, "b" * 64, 2, labels={"site": ("berlin", "paris"), "line": ("3",)})
OLD = Arm("1.0.0", "1" * 64, "a" * 64, 1)
PLAIN = Assignment("tiny", "r1", 7, 1, (replace(NEW, labels={}, share_until=0.5), OLD), ("pi-5",))
LABELLED = replace(PLAIN, arms=(NEW, OLD))
SPLIT = replace(PLAIN, arms=(replace(NEW, key_share=0.5), OLD))


@dataclass(frozen=True)
class ArmBeforeLabels(Document):
    version: str
    manifest_sha256: str
    gate_digest: str
    release: int
    share_until: float = 1.0
    variant: str = ""
    shadow_share: float = 0.0


@dataclass(frozen=True)
class AssignmentBeforeLabels(Document):
    """As agents read it that know of no labels; of format 1, and they refuse a newer one."""

    model: str
    rollout: str
    sequence: int
    floor: int
    arms: tuple[ArmBeforeLabels, ...]
    hardware: tuple[str, ...] = ()
    trial: Trial = field(default_factory=Trial)
    not_before_unix_s: int = 0
    format: int = 1


@pytest.mark.parametrize("assignment", [PLAIN, LABELLED, SPLIT])
def test_an_assignment_is_read_as_it_was_written(assignment: Assignment) -> None:
    data = encode_assignment(assignment)
    assert parse_assignment(data) == assignment
    assert encode_assignment(parse_assignment(data)) == data


def test_an_agent_from_before_labels_reads_what_names_none() -> None:
    data = encode_assignment(PLAIN)
    assert format_of(data) == 1
    assert read_document(AssignmentBeforeLabels, data).arms[0].share_until == 0.5


def test_an_agent_from_before_labels_refuses_what_names_some() -> None:
    data = encode_assignment(LABELLED)
    assert format_of(data) == 2
    with pytest.raises(DocumentError):
        read_document(AssignmentBeforeLabels, data)


@dataclass(frozen=True)
class ArmBeforeKeys(ArmBeforeLabels):
    labels: LabelCondition = field(default_factory=dict)


@dataclass(frozen=True)
class AssignmentBeforeKeys(AssignmentBeforeLabels):
    """As agents read it that know of labels and of no shares by key; of format 2, and they refuse a newer one."""

    arms: tuple[ArmBeforeKeys, ...]


def test_an_agent_from_before_shares_by_key_reads_what_names_none_and_refuses_what_names_one() -> None:
    assert read_document(AssignmentBeforeKeys, encode_assignment(LABELLED)).arms[0].labels == NEW.labels
    data = encode_assignment(SPLIT)
    assert format_of(data) == 3
    with pytest.raises(DocumentError, match="key_share"):
        read_document(AssignmentBeforeKeys, data)


@pytest.mark.parametrize("shares", [{"key_share": -0.1}, {"key_share": 1.1}, {"key_share": 0.5, "shadow_share": 0.5}])
def test_a_share_of_requests_that_is_none_is_refused(shares: dict[str, float]) -> None:
    fields = json.loads(encode_assignment(SPLIT))
    fields["arms"][0].update(shares)
    with pytest.raises(UpdateRefused, match="cannot be read"):
        parse_assignment(json.dumps(fields).encode())


def test_a_name_has_one_place_for_each_salt_and_names_spread_evenly() -> None:
    names = [f"customer-{number}" for number in range(2000)]
    first, second = ([place_of(salt, name) < 0.3 for name in names] for salt in ("r1", "r2"))
    assert first == [place_of("r1", name) < 0.3 for name in names]
    assert 500 < sum(first) < 700 and 500 < sum(second) < 700
    assert 120 < sum(map(all, zip(first, second, strict=True))) < 240


def test_a_device_takes_the_first_arm_that_is_meant_for_it() -> None:
    assert LABELLED.arm_of("d1", {"site": "paris", "line": "3"}) == NEW
    assert LABELLED.arm_of("d1", {"site": "rome", "line": "3"}) == OLD
    assert LABELLED.arm_of("d1") == OLD
    assert replace(LABELLED, arms=(NEW,)).arm_of("d1", {"site": "rome"}) is None


@pytest.mark.parametrize("labels", [{"site": []}, {"no name": ["x"]}, {"site": ["no name"]}, {"site": "berlin"}, []])
def test_a_condition_that_is_none_is_refused(labels: object) -> None:
    fields = json.loads(encode_assignment(LABELLED))
    fields["arms"][0]["labels"] = labels
    with pytest.raises(UpdateRefused, match="cannot be read"):
        parse_assignment(json.dumps(fields).encode())
