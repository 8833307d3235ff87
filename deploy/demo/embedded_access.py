"""Logins and topic rules for the embedded broker (amqtt), from the files that mosquitto reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from deploy.demo.access import Access, is_allowed, parse_passwords, parse_rules, password_is_right


class DeviceAccess(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]  # amqtt ships no types
    """Refuses who has no password, and keeps everyone to their own topics, last wills included.

    amqtt's own plugins compare no last will with the rules and know no pattern with the user's name.
    """

    @dataclass
    class Config:
        """Paths of the password file and the ACL file."""

        password_file: str
        acl_file: str

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._passwords = parse_passwords(Path(self.config.password_file).read_text(encoding="utf-8"))
        self._rules = parse_rules(Path(self.config.acl_file).read_text(encoding="utf-8"))

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the password is right and the last will lies among the user's own topics."""
        user = session.username or ""
        if not password_is_right(self._passwords, user, session.password or ""):
            return False
        return not session.will_flag or is_allowed(self._rules, user, Access.WRITE, session.will_topic or "")

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether the user may publish, subscribe to or receive this topic."""
        access = Access.WRITE if action is Action.PUBLISH else Access.READ
        return is_allowed(self._rules, (session and session.username) or "", access, topic or "")
