from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.codec import decode_sound_telemetry, decode_telemetry, encode_telemetry, read_telemetry_head
from shared.errors import MessageError
from shared.pb import fleet_pb2
from shared.types import Outcome
from shared.wire_checks import MAX_COUNT, TelemetryHead
from tests.support.simulated_device import CountedModel


def told() -> fleet_pb2.DeviceModelTelemetry:
    model = CountedModel("d1", "b1")
    model.serve(Outcome.EDGE, 3)
    return fleet_pb2.DeviceModelTelemetry.FromString(encode_telemetry(model.telemetry()))


def test_a_sound_message_says_which_series_it_tells_of_and_reads_as_if_checked_again() -> None:
    payload = told().SerializeToString()
    assert read_telemetry_head(payload) == TelemetryHead("d1", "b1", 1, "intents", "1", "", "")
    assert decode_sound_telemetry(payload) == decode_telemetry(payload)


def _many(message: Any) -> None:
    message.counters.received = message.counters.accepted = message.counters.edge = MAX_COUNT + 1


_BREAKS: dict[str, Callable[[Any], object]] = {
    "device": lambda m: setattr(m, "device_id", "a/b"),
    "boot": lambda m: setattr(m, "boot_id", ""),
    "model": lambda m: setattr(m, "model", "#"),
    "version": lambda m: setattr(m, "model_version", ""),
    "variant": lambda m: setattr(m, "variant", "+"),
    "ring": lambda m: setattr(m, "ring", "a b"),
    "digest": lambda m: setattr(m, "model_digest", "\n"),
    "link": lambda m: setattr(m, "cloud_link", "\0"),
    "trace": lambda m: setattr(m, "traceparent", "\n"),
    "refusal": lambda m: setattr(m.gate, "refusal", "\n"),
    "threshold": lambda m: setattr(m.gate, "threshold", float("nan")),
    "alpha": lambda m: m.gate.in_force.update({"kept-error": float("inf")}),
    "risk": lambda m: m.gate.in_force.update({"\n": 0.05}),
    "sequence": lambda m: setattr(m, "sequence", MAX_COUNT + 1),
    "many": _many,
    "counters": lambda m: setattr(m.counters, "edge", 4),
    "attempted": lambda m: setattr(m.counters, "attempted", 1),
    "wanted": lambda m: setattr(m.counters, "wanted", 4),
    "outcome": lambda m: m.latency_by_outcome["else"].counts.append(1),
    "buckets": lambda m: m.latency_by_outcome["edge"].counts.append(1),
    "sum": lambda m: setattr(m.latency_by_outcome["edge"], "sum_ms", float("nan")),
    "bucket": lambda m: m.latency_by_outcome["edge"].counts.__setitem__(0, MAX_COUNT + 1),
    "reason": lambda m: m.reasons.update({"confident": MAX_COUNT + 1}),
    "audits": lambda m: setattr(m.audits, "agreed", 1),
    "steps": lambda m: m.audit_steps.add(threshold=0.5, judged=1, wrong=2),
    "step": lambda m: m.label_steps.add(threshold=float("nan")),
    "judged": lambda m: m.label_steps.add(threshold=0.5, judged=MAX_COUNT + 1),
    "label": lambda m: m.labels["a\0b"].CopyFrom(fleet_pb2.LabelCounts(accepted=1)),
    "labels": lambda m: m.labels["a"].CopyFrom(fleet_pb2.LabelCounts(wrong=MAX_COUNT + 1)),
    "scores": lambda m: m.score_counts.append(MAX_COUNT + 1),
}


@pytest.mark.parametrize("broken", _BREAKS)
def test_a_message_that_breaks_one_rule_is_refused_whole(broken: str) -> None:
    message = told()
    _BREAKS[broken](message)
    for read in (read_telemetry_head, decode_telemetry):
        with pytest.raises(MessageError):
            read(message.SerializeToString())


def test_a_message_may_leave_out_what_it_need_not_say() -> None:
    message = fleet_pb2.DeviceModelTelemetry(device_id="d1", boot_id="b1", model="intents", model_version="1")
    assert read_telemetry_head(message.SerializeToString()).sequence == 0
