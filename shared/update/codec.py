"""Between the wire's update messages and the frozen types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from shared.errors import InputError, MessageError
from shared.pb import fleet_pb2
from shared.types import DEFAULT_RING, checked_identifier
from shared.update.blocks import MAX_BLOCK_BYTES, MAX_RANGES, Block, BlockRange, BlockRequest, PublisherPresence
from shared.update.labels import Labels, checked_labels
from shared.update.names import checked_repository_path
from shared.update.report import ErrorKind, InstalledRelease, Phase, TrialFigures, UpdateHint, UpdateReport

MAX_REPORT_BYTES = 16 * 1024
MAX_ERROR_CHARACTERS = 500
MAX_COUNT = 2**48
"""No honest device counts as far; sums over a whole fleet still fit a 64-bit column."""
_M = TypeVar("_M", bound=Message)


def encode_hint(hint: UpdateHint) -> bytes:
    """The MQTT payload of `hint`."""
    return fleet_pb2.UpdateHint(**asdict(hint)).SerializeToString(deterministic=True)


def decode_hint(payload: bytes) -> UpdateHint:
    """Take in a hint.

    Raises:
        MessageError: it is none.
    """
    message = _parsed(fleet_pb2.UpdateHint(), payload, MAX_REPORT_BYTES)
    model, rollout = _identifier("model", message.model), _text(message.rollout, 64)
    return UpdateHint(model, rollout, message.sequence, message.sent_at_unix_ms)


def encode_report(report: UpdateReport) -> bytes:
    """The MQTT payload of `report`."""
    fields, error = asdict(report), report.error[:MAX_ERROR_CHARACTERS]
    # What engines say has several lines; a report that could not be read would be no word of the failure at all.
    error = "".join(one if one.isprintable() else " " for one in error)
    fields.update(phase=report.phase.value, error_kind=report.error_kind.value, error=error)
    return fleet_pb2.UpdateReport(**fields).SerializeToString(deterministic=True)


def decode_report(payload: bytes) -> UpdateReport:
    """Take in a device's report.

    Raises:
        MessageError: it is none: too long, names or labels that are none, an unknown phase, figures that are no
            numbers, or counts beyond `MAX_COUNT`.
    """
    message = _parsed(fleet_pb2.UpdateReport(), payload, MAX_REPORT_BYTES)
    _check_counts(message)
    try:
        phase, kind = Phase(message.phase), ErrorKind(message.error_kind)
    except ValueError as error:
        raise MessageError(f"the report's phase or error is unknown: {error}") from error
    return UpdateReport(
        device_id=_identifier("device", message.device_id),
        boot_id=_identifier("boot_id", message.boot_id),
        sequence=message.sequence,
        sent_at_unix_ms=message.sent_at_unix_ms,
        model=_identifier("model", message.model),
        ring=_identifier("ring", message.ring) if message.ring else DEFAULT_RING,
        hardware=_text(message.hardware, 64),
        agent_version=_text(message.agent_version, 64),
        phase=phase,
        slot=_text(message.slot, 16),
        active=_release(message.active),
        candidate=_release(message.candidate) if message.HasField("candidate") else None,
        rollout=_text(message.rollout, 64),
        assignment_sequence=message.assignment_sequence,
        bytes_done=message.bytes_done,
        bytes_to_fetch=message.bytes_to_fetch,
        bytes_fetched=message.bytes_fetched,
        error=_text(message.error, MAX_ERROR_CHARACTERS),
        error_kind=kind,
        attempts=message.attempts,
        trial=_figures(message.trial),
        crashes=message.crashes,
        labels=_labels(message.labels),
    )


def encode_block_request(request: BlockRequest) -> bytes:
    """The MQTT payload of `request`."""
    message = fleet_pb2.BlockRequest(
        request_id=request.request_id, publisher=request.publisher, block_bytes=request.block_bytes
    )
    for one in request.ranges:
        message.ranges.add(path=one.path, offset=one.offset, length=one.length)
    return message.SerializeToString(deterministic=True)


def decode_block_request(payload: bytes) -> BlockRequest:
    """Take in a device's request.

    Raises:
        MessageError: it is none, asks for too much, or names a path outside the repository.
    """
    message = _parsed(fleet_pb2.BlockRequest(), payload, 2 * MAX_BLOCK_BYTES)
    if not 1 <= len(message.ranges) <= MAX_RANGES or not 1 <= message.block_bytes <= MAX_BLOCK_BYTES:
        raise MessageError(f"a request is for 1 to {MAX_RANGES} ranges in blocks of 1 to {MAX_BLOCK_BYTES} bytes")
    ranges = tuple(BlockRange(checked_repository_path(one.path), one.offset, one.length) for one in message.ranges)
    request_id, publisher = _identifier("request_id", message.request_id), _text(message.publisher, 64)
    return BlockRequest(request_id, ranges, message.block_bytes, publisher)


def encode_block(block: Block) -> bytes:
    """The MQTT payload of `block`."""
    return fleet_pb2.Block(
        request_id=block.request_id,
        publisher=block.publisher,
        path=block.path,
        offset=block.offset,
        file_length=block.file_length,
        data=block.data,
        is_missing=block.is_missing,
        retry_after_ms=block.retry_after_ms,
    ).SerializeToString()


def decode_block(payload: bytes) -> Block:
    """Take in a publisher's block.

    Raises:
        MessageError: it is none, too long, or reaches beyond its file's end.
    """
    message = _parsed(fleet_pb2.Block(), payload, MAX_BLOCK_BYTES + 4096)
    if message.offset + len(message.data) > message.file_length:
        raise MessageError(f"a block of {message.path[:80]!r} reaches beyond the file's end")
    return Block(
        _identifier("request_id", message.request_id),
        _text(message.publisher, 64),
        checked_repository_path(message.path),
        message.offset,
        message.file_length,
        message.data,
        message.is_missing,
        message.retry_after_ms,
    )


def encode_publisher(presence: PublisherPresence) -> bytes:
    """The MQTT payload of `presence`."""
    return fleet_pb2.PublisherPresence(**asdict(presence)).SerializeToString(deterministic=True)


def decode_publisher(payload: bytes) -> PublisherPresence:
    """Take in a publisher's presence.

    Raises:
        MessageError: it is none.
    """
    message = _parsed(fleet_pb2.PublisherPresence(), payload, MAX_REPORT_BYTES)
    name = _identifier("publisher", message.publisher)
    if not 1 <= message.block_bytes <= MAX_BLOCK_BYTES:
        raise MessageError(f"publisher {name} sends blocks of {message.block_bytes} bytes")
    return PublisherPresence(name, message.online, message.sent_at_unix_ms, message.block_bytes, message.ranges_waiting)


def _check_counts(message: fleet_pb2.UpdateReport) -> None:
    trial = message.trial
    bytes_told = (message.bytes_done, message.bytes_to_fetch, message.bytes_fetched)
    counts = (message.sequence, message.assignment_sequence, message.active.release, message.candidate.release)
    judged = (message.attempts, message.crashes, trial.requests, trial.failed, trial.compared, trial.agreed)
    if max(*bytes_told, *counts, *judged, abs(message.sent_at_unix_ms)) > MAX_COUNT:
        raise MessageError(f"a count is larger than {MAX_COUNT}")


def _release(message: fleet_pb2.InstalledRelease) -> InstalledRelease:
    version, variant = _text(message.version, 64), _text(message.variant, 64)
    digests = _text(message.model_digest, 64), _text(message.gate_digest, 64)
    return InstalledRelease(version, *digests, message.release, variant)


def _labels(labels: Mapping[str, str]) -> Labels:
    try:
        return checked_labels(dict(labels))
    except InputError as error:
        raise MessageError(str(error)) from error


def _figures(message: fleet_pb2.TrialFigures) -> TrialFigures:
    ratios = (message.latency_ms, message.old_latency_ms, message.offload, message.old_offload)
    numbers = (*ratios, message.old_failed)
    if not all(math.isfinite(value) and value >= 0 for value in numbers) or message.agreed > message.compared:
        raise MessageError("the trial's figures are no numbers, or more answers agreed than were compared")
    return TrialFigures(message.requests, message.failed, *ratios, message.compared, message.agreed, message.old_failed)


def _parsed(message: _M, payload: bytes, most_bytes: int) -> _M:
    kind = type(message).__name__
    if len(payload) > most_bytes:
        raise MessageError(f"{len(payload)} bytes are more than a {kind} has")
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise MessageError(f"{len(payload)} bytes are not a {kind}") from error
    return message


def _identifier(kind: str, value: str) -> str:
    try:
        return checked_identifier(kind, value)
    except InputError as error:
        raise MessageError(str(error)) from error


def _text(value: str, characters: int) -> str:
    if not value.isprintable():
        raise MessageError(f"{value[:80]!r} is not printable")
    return value[:characters]
