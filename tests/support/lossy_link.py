"""A broker for blocks that loses, doubles and reorders what it is given, between real sources and real publishers."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from shared import topics
from shared.errors import BrokerError
from shared.mqtt import Message

Hear = Callable[[Message], Coroutine[object, object, None]]


@dataclass
class LossyLink:
    """Each message takes `delay_s`, and up to as long again, so that later ones overtake earlier ones."""

    tasks: TaskGroup
    lost_share: float = 0.0
    doubled_share: float = 0.0
    delay_s: float = 0.002
    seed: int = 1
    is_down: bool = False
    carried: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ears: dict[str, list[Hear]] = {}
        self._retained: dict[str, bytes] = {}

    def listen(self, topic: str, hear: Hear) -> None:
        """`topic` may end in one wildcard, or be that of all requests; what was retained is heard at once."""
        self._ears.setdefault(topic, []).append(hear)
        for retained, payload in self._retained.items():
            if _matches(topic, retained):
                self.tasks.start_soon(hear, Message(retained, payload, True))

    def forget(self, hear: Hear) -> None:
        for ears in self._ears.values():
            ears[:] = [each for each in ears if each != hear]

    async def publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        """See `shared.mqtt.BrokerLink.publish`; what is retained is not lost."""
        await anyio.lowlevel.checkpoint()
        if self.is_down:
            raise BrokerError("the broker is not connected")
        message = Message(topic, payload)
        self.carried.append(message)
        if retain:
            self._retained[topic] = payload
        elif self._random.random() < self.lost_share:
            return
        for _ in range(2 if not retain and self._random.random() < self.doubled_share else 1):
            for subscribed, ears in self._ears.items():
                if _matches(subscribed, topic):
                    for hear in ears:
                        self.tasks.start_soon(self._carry, hear, message, self.delay_s * (1 + self._random.random()))

    async def _carry(self, hear: Hear, message: Message, delay_s: float) -> None:
        await anyio.sleep(delay_s)
        if not self.is_down:
            await hear(message)


def _matches(subscribed: str, topic: str) -> bool:
    if subscribed == topics.ALL_BLOCK_REQUESTS:
        return topic.endswith("/blocks/request")
    return subscribed == topic or (subscribed.endswith("/+") and topic.startswith(subscribed[:-1]))
