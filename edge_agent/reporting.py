"""Makes out what the device tells of itself: each model's telemetry, encoded, and its presence."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.escalation.breaker import BreakerState
from edge_agent.lanes import Lanes, SeriesWord
from edge_agent.state.file import PolicyKey
from shared import __version__
from shared.clock import Clock
from shared.codec import encode_presence, encode_telemetry
from shared.tracing import TRACING
from shared.types import ModelTelemetry, Presence


class Reporter:
    """One boot of a device. Every telemetry it makes has a sequence of its own, later ones a higher one."""

    def __init__(
        self,
        device_id: str,
        boot_id: str,
        ring: str,
        lanes: Lanes,
        link_state: Callable[[], BreakerState | None],
        clock: Clock,
    ) -> None:
        self.device_id = device_id
        self.boot_id = boot_id
        self.ring = ring
        self.lanes = lanes
        self._link_state = link_state
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._sequence = 0

    def payloads(self) -> dict[str, bytes]:
        """Every active model's telemetry of this moment."""
        return {word.series.model: self.telemetry(word) for word in self.lanes.words() if word.is_current}

    def policies(self) -> dict[PolicyKey, bytes]:
        """The policies in force, by ring, model and gate, as they came."""
        return {
            (self.ring, lane.model.identity.name, lane.model.gate_digest): lane.control.payload
            for lane in self.lanes.answering()
            if lane.control.payload is not None
        }

    def telemetry(self, word: SeriesWord) -> bytes:
        """The payload that tells of a series."""
        state, snapshot = self._link_state(), word.snapshot
        judgements = snapshot.judgements
        self._sequence += 1
        return encode_telemetry(
            ModelTelemetry(
                device_id=self.device_id,
                boot_id=self.boot_id,
                sequence=self._sequence,
                sent_at_unix_ms=self._unix_ms(),
                uptime_ms=round((self._clock.monotonic_s() - self._began_s) * 1e3),
                model=word.identity,
                variant=word.series.variant,
                counters=snapshot.counters,
                latency_by_outcome=snapshot.latency_by_outcome,
                reasons=snapshot.reasons,
                gate=word.gate,
                cloud_link=state.value if state else "none",
                ring=self.ring,
                audits=judgements.audits,
                audit_steps=judgements.audit_steps,
                label_steps=judgements.label_steps,
                labels=judgements.labels,
                score_counts=judgements.score_counts,
                traceparent=TRACING.traceparent(),
            )
        )

    def presence(self, *, online: bool) -> bytes:
        """The payload that says whether the device is there."""
        return encode_presence(Presence(self.device_id, self.boot_id, online, self._unix_ms(), __version__, self.ring))

    def _unix_ms(self) -> int:
        return round(self._clock.unix_s() * 1e3)
