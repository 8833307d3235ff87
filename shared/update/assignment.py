"""What the director tells devices to run: a signed target for each ring and model, or for one device.

The assignment names one release for all it is meant for, or arms that split the devices by a hash of their names and
by their labels, so that a part of a ring goes first, or two releases are compared. An arm may also answer a share of
each device's requests alone, by a hash of their keys.

Whoever reads a document refuses a field that it does not know, and a newer format. So an assignment is written in the
oldest format that says all of it: an agent from before there were labels, or shares of requests by key, reads every
assignment that names none, and refuses one that does, instead of taking up what is not meant for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field

from shared.documents import Document, DocumentError, canonical_fields, format_of, read_document
from shared.errors import InputError, UpdateRefused
from shared.types import checked_identifier
from shared.update.labels import NO_LABELS, LabelCondition, Labels, checked_condition, is_met

ASSIGNMENT_FORMAT = 3
_FORMAT_WITH_LABELS = 2
_FORMAT_WITHOUT_LABELS = 1


@dataclass(frozen=True)
class Trial(Document):
    """How long new answers are watched on the device, and what ends the trial badly.

    The trial ends well after `requests` answered requests and `seconds`, or after `longest_s` at the latest if nothing
    is wrong by then. Ratios are of the new bundle's figure to the old one's; shares are of requests, those that failed
    beyond the old bundle's share.
    """

    requests: int = 50
    seconds: float = 30.0
    longest_s: float = 600.0
    max_failed_share: float = 0.01
    max_latency_ratio: float = 1.5
    max_offload_rise: float = 0.15
    max_disagreement: float = 0.25


@dataclass(frozen=True)
class Arm(Document):
    """A release for the devices whose hash falls below `share_until`, in (0, 1], and whose labels meet `labels`.

    `manifest_sha256`: of the manifest target's bytes; `release`: the release's number, which never falls (see
    `Assignment.floor`). `variant` is "" where nothing is compared. `shadow_share`: of requests that the release answers
    beside the active one, for nobody to see; `key_share`: of requests, by the hash of their keys, that it answers in
    its place. One of the two at most is above 0; none means that the release is to become the active one.
    """

    version: str
    manifest_sha256: str
    gate_digest: str
    release: int
    share_until: float = 1.0
    variant: str = ""
    shadow_share: float = 0.0
    labels: LabelCondition = field(default_factory=dict)
    key_share: float = 0.0


@dataclass(frozen=True)
class Assignment(Document):
    """What is to run. `rollout`: whose decision this is; `sequence` grows with each decision for this target.

    `floor`: no release of a lower number is taken, unless a signed exception allows it. `hardware`: the kinds of
    device it is meant for; empty for all. A device takes the first arm that is meant for it, and stays as it is where
    none is. `format`: of the document that it was read from.
    """

    model: str
    rollout: str
    sequence: int
    floor: int
    arms: tuple[Arm, ...]
    hardware: tuple[str, ...] = ()
    trial: Trial = Trial()
    not_before_unix_s: int = 0
    format: int = field(default=ASSIGNMENT_FORMAT, compare=False)

    def arm_of(self, device_id: str, labels: Labels = NO_LABELS) -> Arm | None:
        """The arm of a device; a device stays in it as long as neither the shares before nor its labels change."""
        place = place_of(self.rollout, device_id)
        return next((arm for arm in self.arms if place < arm.share_until and is_met(arm.labels, labels)), None)


def place_of(salt: str, name: str) -> float:
    """The place in [0, 1) of a device, or of a request's key: the same everywhere, another one for each `salt`.

    What lies below a share belongs to it.
    """
    digest = hashlib.sha256(f"{salt}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def encode_assignment(assignment: Assignment) -> bytes:
    """The bytes that are signed, in the oldest format that says all of it."""
    fields = asdict(assignment)
    fields["format"] = _oldest_format(assignment)
    for arm in fields["arms"]:
        for name in ("labels", "key_share"):
            if not arm[name]:
                del arm[name]
    return canonical_fields(fields)


def parse_assignment(data: bytes) -> Assignment:
    """Read an assignment.

    Raises:
        UpdateRefused: it is none, or of a newer format.
    """
    if (found := format_of(data)) > ASSIGNMENT_FORMAT:
        raise UpdateRefused(
            f"the assignment's format {found} is newer than {ASSIGNMENT_FORMAT}; update the agent first"
        )
    try:
        assignment = read_document(Assignment, data)
        checked_identifier("model", assignment.model)
        for arm in assignment.arms:
            checked_identifier("version", arm.version)
            checked_condition(arm.labels)
            _check_shares(arm)
    except (DocumentError, InputError) as error:
        raise UpdateRefused(f"the assignment cannot be read: {error}") from error
    return assignment


def _oldest_format(assignment: Assignment) -> int:
    if any(arm.key_share for arm in assignment.arms):
        return ASSIGNMENT_FORMAT
    return _FORMAT_WITH_LABELS if any(arm.labels for arm in assignment.arms) else _FORMAT_WITHOUT_LABELS


def _check_shares(arm: Arm) -> None:
    if not 0.0 <= arm.key_share <= 1.0:
        raise InputError(f"key_share {arm.key_share:g} does not lie in [0, 1]")
    if arm.key_share and arm.shadow_share:
        raise InputError("a release answers a share of the requests, or is a shadow, not both")
