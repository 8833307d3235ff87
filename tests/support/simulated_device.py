"""Devices that count without inferring: the truth that telemetry is held against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared import topics
from shared.codec import encode_presence, encode_telemetry
from shared.histogram import HistogramRecorder
from shared.types import (
    DEFAULT_RING,
    AuditCounts,
    GateReport,
    LabelCounts,
    ModelIdentity,
    ModelTelemetry,
    Outcome,
    Presence,
    RequestCounters,
    StepCounts,
)

_OUTCOMES = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED)
_CONNECT_TIMEOUT_S = 5.0
DIGEST = "a" * 64


class CountedModel:
    """One model's counts in one boot of a device, as its agent would keep them.

    `steps` are the gate's certified thresholds, strict to loose, `bins` how many its score histogram has.
    """

    def __init__(
        self,
        device_id: str,
        boot_id: str,
        *,
        model: str = "intents",
        version: str = "1",
        variant: str = "",
        ring: str = DEFAULT_RING,
        gate: GateReport | None = None,
        steps: Sequence[float] = (),
        bins: int = 0,
    ) -> None:
        self.identity = ModelIdentity(model, version, DIGEST)
        self.variant = variant
        self.sequence = 0
        self.in_flight = 0
        self.wanted = 0
        self.rejected = 0
        self.served = 0
        self.call_failed = 0
        self.cloud_link = "closed"
        self.ring = ring
        self.gate = gate or GateReport("max_probability", 0.82)
        self.audits = AuditCounts()
        self.labels: dict[str, LabelCounts] = {}
        self.score_counts = [0] * bins
        self._audit_steps = dict.fromkeys(steps, (0, 0))
        self._label_steps = dict.fromkeys(steps, (0, 0))
        self._device_id = device_id
        self._boot_id = boot_id
        self._ended = dict.fromkeys(_OUTCOMES, 0)
        self._latency = {outcome: HistogramRecorder() for outcome in _OUTCOMES}

    def reject(self, requests: int = 1) -> None:
        self.rejected += requests

    def begin(self, requests: int = 1) -> None:
        """These are in flight until `end`."""
        self.in_flight += requests

    def end(self, outcome: Outcome, requests: int = 1, *, latency_ms: float = 5.0) -> None:
        """Of those in flight, `requests` end so; what did not end at the edge had wanted the cloud."""
        assert requests <= self.in_flight
        self.in_flight -= requests
        self._ended[outcome] += requests
        self.wanted += requests * (outcome in (Outcome.CLOUD, Outcome.DEGRADED))
        self.served += requests * (outcome is Outcome.CLOUD)
        self.call_failed += requests * (outcome is Outcome.DEGRADED)
        for _ in range(requests):
            self._latency[outcome].add(latency_ms)

    def serve(self, outcome: Outcome, requests: int = 1, *, latency_ms: float = 5.0) -> None:
        self.begin(requests)
        self.end(outcome, requests, latency_ms=latency_ms)

    def see(self, label: str, requests: int = 1, *, score_bin: int | None = None, wanted: int = 0) -> None:
        """So many of the requests were answered `label` by the device itself, with scores in `score_bin`."""
        self._add_label(label, accepted=requests, wanted=wanted)
        if score_bin is not None:
            self.score_counts[score_bin] += requests

    def choose_audits(self, audits: int = 1) -> None:
        """These are in flight until `fail_audits`."""
        self.audits = replace(self.audits, chosen=self.audits.chosen + audits, in_flight=self.audits.in_flight + audits)

    def fail_audits(self, audits: int = 1) -> None:
        """Of those in flight, so many found no cloud."""
        self.audits = replace(self.audits, failed=self.audits.failed + audits, in_flight=self.audits.in_flight - audits)

    def judge_audits(self, label: str, score: float, audits: int = 1, *, wrong: int = 0) -> None:
        """So many kept answers `label` at `score` were chosen and judged; the cloud had `wrong` of them otherwise."""
        self.audits = replace(
            self.audits,
            chosen=self.audits.chosen + audits,
            agreed=self.audits.agreed + audits - wrong,
            disagreed=self.audits.disagreed + wrong,
        )
        self._add_label(label, audited=audits, disagreed=wrong)
        _judge(self._audit_steps, score, audits, wrong)

    def judge_labels(self, label: str, score: float, answers: int = 1, *, wrong: int = 0) -> None:
        """The true labels of so many kept answers `label` at `score` came back, `wrong` of them others."""
        self._add_label(label, labelled=answers, wrong=wrong)
        _judge(self._label_steps, score, answers, wrong)

    def _add_label(self, label: str, **more: int) -> None:
        before = self.labels.get(label, LabelCounts())
        grown = {name: getattr(before, name) + count for name, count in more.items()}
        self.labels[label] = replace(before, **grown)

    def counters(self) -> RequestCounters:
        accepted = sum(self._ended.values()) + self.in_flight
        return RequestCounters(
            received=accepted + self.rejected,
            rejected=self.rejected,
            accepted=accepted,
            edge=self._ended[Outcome.EDGE],
            cloud=self._ended[Outcome.CLOUD],
            degraded=self._ended[Outcome.DEGRADED],
            failed=self._ended[Outcome.FAILED],
            in_flight=self.in_flight,
            wanted=self.wanted,
            attempted=self.served + self.call_failed,
            served=self.served,
            call_failed=self.call_failed,
        )

    def telemetry(self) -> ModelTelemetry:
        """The next message."""
        self.sequence += 1
        counters = self.counters()
        reasons = {"confident": counters.edge, "uncertain": counters.cloud, "cloud_unavailable": counters.degraded}
        return ModelTelemetry(
            self._device_id,
            self._boot_id,
            self.sequence,
            0,
            1000,
            self.identity,
            self.variant,
            counters,
            {outcome.value: recorder.snapshot() for outcome, recorder in self._latency.items()},
            {reason: count for reason, count in reasons.items() if count},
            self.gate,
            self.cloud_link,
            self.ring,
            self.audits,
            _steps(self._audit_steps),
            _steps(self._label_steps),
            dict(self.labels),
            tuple(self.score_counts),
        )


def _judge(steps: dict[float, tuple[int, int]], score: float, judged: int, wrong: int) -> None:
    for threshold, (judged_before, wrong_before) in steps.items():
        if score >= threshold:
            steps[threshold] = (judged_before + judged, wrong_before + wrong)


def _steps(steps: dict[float, tuple[int, int]]) -> tuple[StepCounts, ...]:
    return tuple(StepCounts(threshold, judged, wrong) for threshold, (judged, wrong) in steps.items())


class SimulatedDevice:
    """A real MQTT client with a will; `with SimulatedDevice(port, "d1") as device:`.

    Left by `kill`, the broker publishes its will.
    """

    def __init__(
        self,
        port: int,
        device_id: str,
        *,
        boot_id: str = "boot-1",
        password: str | None = None,
        version: str = "1",
        model: CountedModel | None = None,
    ) -> None:
        self.device_id = device_id
        self.boot_id = boot_id
        self.model = model or CountedModel(device_id, boot_id, version=version)
        self._port = port
        self._is_gone = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device_id)
        self._client.reconnect_delay_set(1, 1)
        if password:
            self._client.username_pw_set(device_id, password)
        self._client.will_set(topics.presence(device_id), self._presence(online=False), qos=1, retain=True)
        self._client.on_connect = lambda *rest: self._introduce()

    def __enter__(self) -> SimulatedDevice:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        until_s = time.monotonic() + _CONNECT_TIMEOUT_S
        while not self._client.is_connected():
            assert time.monotonic() < until_s, "no broker"
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_gone and self._client.is_connected():
            self._is_gone = True
            self.say(topics.presence(self.device_id), self._presence(online=False))
            self._client.disconnect()
        self._client.loop_stop()

    def kill(self) -> None:
        """Gone without a word."""
        self._is_gone = True
        self._client.loop_stop()
        socket = self._client.socket()
        if socket is not None:
            socket.close()

    def report(self) -> None:
        self.say(topics.telemetry(self.device_id, self.model.identity.name), encode_telemetry(self.model.telemetry()))

    def report_last_word(self, slot: int = 0) -> None:
        """Say the model's counts as those of a boot that has ended."""
        topic = topics.last_word(self.device_id, self.model.identity.name, slot)
        self.say(topic, encode_telemetry(self.model.telemetry()))

    def say(self, topic: str, payload: bytes) -> None:
        """Publish anything, retained, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(_CONNECT_TIMEOUT_S)

    def _introduce(self) -> None:
        """In the client's own thread: not to be waited for."""
        self._client.publish(topics.presence(self.device_id), self._presence(online=True), qos=1, retain=True)
        if self.model.sequence:
            topic = topics.telemetry(self.device_id, self.model.identity.name)
            self._client.publish(topic, encode_telemetry(self.model.telemetry()), qos=1, retain=True)

    def _presence(self, *, online: bool) -> bytes:
        return encode_presence(Presence(self.device_id, self.boot_id, online, 0, "0.1.0", self.model.ring))
