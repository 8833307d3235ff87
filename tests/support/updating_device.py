"""Devices that follow rollouts without installing anything: they look assignments up, and report as an agent would."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared import topics
from shared.update.assignment import Assignment
from shared.update.codec import decode_hint, encode_report
from shared.update.labels import NO_LABELS, Labels
from shared.update.names import device_target, ring_target
from shared.update.report import ErrorKind, InstalledRelease, Phase, UpdateReport

_CONNECT_TIMEOUT_S = 5.0
LookUp = Callable[[], Mapping[str, Assignment]]
"""Reads what the director has signed, by target name."""


class UpdatingDevice:
    """A real MQTT client; `with UpdatingDevice(port, "d1", "canary", active, look_up) as device:`.

    A version in `refuses` is bad for it: it rolls back and says why.
    """

    def __init__(
        self,
        port: int,
        device_id: str,
        ring: str,
        active: InstalledRelease,
        look_up: LookUp,
        *,
        model: str = "tiny",
        refuses: tuple[str, ...] = (),
        password: str | None = None,
        labels: Labels = NO_LABELS,
    ) -> None:
        self.device_id = device_id
        self.ring = ring
        self.active = active
        self.labels = dict(labels)
        self.ran = [active.version]
        self.hints = 0
        self._model = model
        self._look_up = look_up
        self._refuses = refuses
        self._port = port
        self._reports = 0
        self._obeyed = ("", 0)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device_id)
        self._client.reconnect_delay_set(1, 1)
        if password:
            self._client.username_pw_set(device_id, password)
        self._client.on_connect = lambda *rest: self._introduce()
        self._client.on_message = lambda client, data, message: self._follow(bytes(message.payload))

    def __enter__(self) -> UpdatingDevice:
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
        self._client.disconnect()
        self._client.loop_stop()

    def _introduce(self) -> None:
        for topic in (topics.ring_desired(self.ring, self._model), topics.desired(self.device_id, self._model)):
            self._client.subscribe(topic, qos=1)
        self._report(Phase.IDLE)

    def _follow(self, payload: bytes) -> None:
        self.hints += 1
        assert not payload or decode_hint(payload).model == self._model
        signed = self._look_up()
        of_its_own = signed.get(device_target(self.device_id, self._model))
        assignment = of_its_own or signed.get(ring_target(self.ring, self._model))
        if assignment is None or (assignment.rollout, assignment.sequence) == self._obeyed:
            return
        self._obeyed = assignment.rollout, assignment.sequence
        arm = assignment.arm_of(self.device_id, self.labels)
        if arm is None:
            return
        told = InstalledRelease(arm.version, "d" * 64, arm.gate_digest, arm.release, arm.variant)
        self.ran.append(told.version)
        if told.version in self._refuses:
            self.ran.append(self.active.version)
            self._report(Phase.ROLLED_BACK, assignment, told, ErrorKind.PROVING)
            return
        self.active = told
        self._report(Phase.COMMITTED, assignment)

    def _report(
        self,
        phase: Phase,
        assignment: Assignment | None = None,
        candidate: InstalledRelease | None = None,
        kind: ErrorKind = ErrorKind.NONE,
    ) -> None:
        """In the client's own thread: not to be waited for."""
        self._reports += 1
        report = UpdateReport(
            self.device_id,
            "boot-1",
            self._reports,
            0,
            self._model,
            self.ring,
            "cpu",
            "0.1.0",
            phase,
            "a",
            self.active,
            candidate,
            assignment.rollout if assignment else "",
            assignment.sequence if assignment else 0,
            error="the golden set is answered otherwise" if kind is ErrorKind.PROVING else "",
            error_kind=kind,
            labels=self.labels,
        )
        self._client.publish(topics.reported(self.device_id, self._model), encode_report(report), qos=1, retain=True)
