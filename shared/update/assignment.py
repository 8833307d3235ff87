"""What the director tells devices to run: a signed target for each ring and model, or for one device.

The assignment names one release for all it is meant for, or arms that split the devices by a hash of their names, so
that a share of a ring goes first, or two releases are compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shared.documents import Document, DocumentError, canonical_json, format_of, read_document
from shared.errors import InputError, UpdateRefused
from shared.types import checked_identifier

ASSIGNMENT_FORMAT = 1


@dataclass(frozen=True)
class Trial(Document):
    """How long new answers are watched on the device, and what ends the trial badly.

    The trial ends well after `requests` answered requests and `seconds`, or after `longest_s` at the latest if nothing
    is wrong by then. Ratios are of the new bundle's figure to the old one's; shares are of requests.
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
    """A release for the devices whose hash falls below `share_until` and not below the arm's before, in (0, 1].

    `manifest_sha256`: of the manifest target's bytes; `release`: the release's number, which never falls (see
    `Assignment.floor`). `variant` is "" where nothing is compared. `shadow_share`: of requests that the release answers
    beside the active one, for nobody to see; 0 means that it is to become the active one.
    """

    version: str
    manifest_sha256: str
    gate_digest: str
    release: int
    share_until: float = 1.0
    variant: str = ""
    shadow_share: float = 0.0


@dataclass(frozen=True)
class Assignment(Document):
    """What is to run. `rollout`: whose decision this is; `sequence` grows with each decision for this target.

    `floor`: no release of a lower number is taken, unless a signed exception allows it. `hardware`: the kinds of
    device it is meant for; empty for all. Devices whose hash no arm covers stay as they are.
    """

    model: str
    rollout: str
    sequence: int
    floor: int
    arms: tuple[Arm, ...]
    hardware: tuple[str, ...] = ()
    trial: Trial = Trial()
    not_before_unix_s: int = 0
    format: int = ASSIGNMENT_FORMAT

    def arm_of(self, device_id: str) -> Arm | None:
        """The arm of a device; the same device stays in its arm as the shares before it do not move."""
        place = device_share(self.rollout, device_id)
        return next((arm for arm in self.arms if place < arm.share_until), None)


def device_share(salt: str, device_id: str) -> float:
    """A device's place in [0, 1), the same at all times; another one for each `salt`."""
    digest = hashlib.sha256(f"{salt}/{device_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def encode_assignment(assignment: Assignment) -> bytes:
    """The bytes that are signed."""
    return canonical_json(assignment)


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
    except (DocumentError, InputError) as error:
        raise UpdateRefused(f"the assignment cannot be read: {error}") from error
    return assignment
