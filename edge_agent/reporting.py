"""Makes out what the device tells of itself: each model's telemetry, encoded, and its presence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.accounting import LedgerSnapshot
from edge_agent.escalation.breaker import BreakerState
from edge_agent.pipeline import Lane
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
        lanes: Mapping[str, Lane],
        link_state: Callable[[], BreakerState | None],
        clock: Clock,
    ) -> None:
        self.device_id = device_id
        self.boot_id = boot_id
        self._ring = ring
        self._lanes = lanes
        self._link_state = link_state
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._sequence = 0

    def snapshots(self) -> dict[str, LedgerSnapshot]:
        """Every model's counts of this moment."""
        return {name: lane.ledger.snapshot() for name, lane in self._lanes.items()}

    def payloads(self) -> dict[str, bytes]:
        """Every model's telemetry of this moment."""
        return {name: self.telemetry(name, snapshot) for name, snapshot in self.snapshots().items()}

    def policies(self) -> dict[tuple[str, str], bytes]:
        """The policies in force, by ring and model, as they came."""
        payloads = {(self._ring, name): lane.control.payload for name, lane in self._lanes.items()}
        return {key: payload for key, payload in payloads.items() if payload is not None}

    def telemetry(self, model: str, snapshot: LedgerSnapshot) -> bytes:
        """The payload that tells of `snapshot`."""
        lane, state = self._lanes[model], self._link_state()
        judgements = snapshot.judgements
        self._sequence += 1
        return encode_telemetry(
            ModelTelemetry(
                device_id=self.device_id,
                boot_id=self.boot_id,
                sequence=self._sequence,
                sent_at_unix_ms=self._unix_ms(),
                uptime_ms=round((self._clock.monotonic_s() - self._began_s) * 1e3),
                model=lane.model.identity,
                variant=lane.model.variant,
                counters=snapshot.counters,
                latency_by_outcome=snapshot.latency_by_outcome,
                reasons=snapshot.reasons,
                gate=lane.control.report(),
                cloud_link=state.value if state else "none",
                ring=self._ring,
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
        return encode_presence(Presence(self.device_id, self.boot_id, online, self._unix_ms(), __version__, self._ring))

    def _unix_ms(self) -> int:
        return round(self._clock.unix_s() * 1e3)
