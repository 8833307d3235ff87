"""Hears what devices publish and says it again later: old messages, doubled and out of order."""

from __future__ import annotations

import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared import topics

_PATIENCE_S = 5.0
_REMEMBERED = 200


class RetainedEcho:
    """Listens to all telemetry from the broker on `port`; `repeat` publishes what it heard, newest first.

    The repeated messages are not retained, so that a device's newest word stays the broker's.
    """

    def __init__(self, port: int) -> None:
        self._heard: list[tuple[str, bytes]] = []
        self._subscribed = threading.Event()
        self._is_repeating = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="echo")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *rest: self._subscribed.set()
        self._client.on_message = self._remember
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(_PATIENCE_S), "no broker"

    def repeat(self) -> None:
        """Say everything again."""
        self._is_repeating = True
        for topic, payload in reversed(self._heard[:]):
            self._client.publish(topic, payload, qos=1).wait_for_publish(_PATIENCE_S)
        self._is_repeating = False

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, *rest: object) -> None:
        self._client.subscribe(topics.ALL_TELEMETRY, qos=1)

    def _remember(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        if not self._is_repeating:
            self._heard = [*self._heard, (message.topic, bytes(message.payload))][-_REMEMBERED:]
