"""The embedded broker: amqtt in a process of its own, for machines without mosquitto. For the demo, not for a fleet."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import signal

from amqtt.broker import Broker
from amqtt.contexts import ListenerConfig
from amqtt.session import Session

_PLUGIN = "deploy.demo.embedded_access.DeviceAccess"


class ClosedBroker(Broker):  # type: ignore[misc]  # amqtt ships no types
    """amqtt 0.12 with three of its doors closed.

    It sends everyone who connects the retained messages that fit anyone's subscription; it hands over or
    drops the session of the same client id before it has looked at the password; and it lets any user take
    any client id. Here retained messages go to those who subscribed, and a session is found by the user's
    name and a secret that no client can send, as mosquitto's `use_username_as_clientid` does it.
    """

    def __init__(self, config: dict[str, object]) -> None:
        super().__init__(config)
        self._secret = secrets.token_hex(16)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        subscribers = [subscriber for subscriber, _ in self._subscriptions.get(subscription[0], ())]
        if session in subscribers:
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def _delete_session(self, client_id: str) -> None:
        """Do nothing: called before the password is known, `_authenticate` does it."""

    async def _authenticate(self, session: Session, listener: ListenerConfig) -> bool:
        accepted: bool = await super()._authenticate(session, listener)
        session.client_id = f"{session.username}-{self._secret if accepted else secrets.token_hex(16)}"
        await self._cleanup_session(session.client_id)
        return accepted


async def serve(port: int, password_file: str, acl_file: str) -> None:
    """Run until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = ClosedBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {_PLUGIN: {"password_file": password_file, "acl_file": acl_file}},
        }
    )
    await broker.start()
    await stopping.wait()
    await broker.shutdown()


def main() -> None:
    """The process's entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--acl-file", required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("transitions").setLevel(logging.WARNING)
    asyncio.run(serve(options.port, options.password_file, options.acl_file))


if __name__ == "__main__":
    main()
