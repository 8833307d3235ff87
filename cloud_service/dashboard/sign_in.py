"""Signing in and out: password, limits, session and log. What blocks runs in worker threads."""

from __future__ import annotations

from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.access.rate_limit import TokenBuckets, address_key
from cloud_service.access.roles import Visitor
from cloud_service.access.sessions import Session, SessionLimits, id_hash_of, new_session_id
from cloud_service.dashboard.site import Site
from cloud_service.storage.access_store import User
from shared.errors import InputError, Overloaded
from shared.types import IDENTIFIER

_ADDRESS_SHARE = 4
"""Several users may share an address."""
_HASHES_AT_ONCE = 2
_HASHES_WAITING = 16
_NOBODY = "(unknown name)"
"""In the log in place of a name that no user has: it may be a password typed into the wrong field."""


@dataclass(frozen=True)
class Attempt:
    """What someone typed. `in_place_of` is the session that the browser had, if any."""

    name: str
    password: str
    address: str
    in_place_of: str


class SignIn:
    """One for the process: it remembers who tried how often."""

    def __init__(self, site: Site) -> None:
        web = site.settings.web
        every_s = web.login_attempt_every_ms / 1e3
        self._site = site
        self._limits = SessionLimits(web.session_idle_ms, web.session_longest_ms)
        self._by_name = TokenBuckets(web.login_attempts, every_s)
        self._by_address = TokenBuckets(web.login_attempts * _ADDRESS_SHARE, every_s / _ADDRESS_SHARE)
        self._threads = CapacityLimiter(_HASHES_AT_ONCE)

    async def sign_in(self, attempt: Attempt) -> str | None:
        """A new session's id for the cookie; None where name or password is wrong.

        Raises:
            Overloaded: this name or this address has tried too often, or too many try at this moment.
            StorageError: the store cannot be read or written.
        """
        name, address = _key_of(attempt.name), address_key(attempt.address)
        now_s = self._site.clock.monotonic_s()
        wait_s = max(self._by_name.wait_s(name, now_s), self._by_address.wait_s(address, now_s))
        if wait_s:
            raise Overloaded("too many attempts to sign in", wait_s)
        if self._threads.statistics().tasks_waiting >= _HASHES_WAITING:
            raise Overloaded("too many sign in at this moment", 1.0)
        self._by_name.take(name, now_s)
        self._by_address.take(address, now_s)
        session_id = await to_thread.run_sync(self._try, attempt, limiter=self._threads)
        if session_id:
            self._by_name.give_back(name)
            self._by_address.give_back(address)
        return session_id

    async def sign_out(self, visitor: Visitor, session_id: str) -> None:
        """End the session.

        Raises:
            StorageError: the store cannot be written.
        """
        entry = Entry(self._site.now_ms(), visitor.name, visitor.role.value, "user.sign_out", visitor.name)
        await self._site.read(self._site.access.end_session, id_hash_of(session_id), entry)

    def _try(self, attempt: Attempt) -> str | None:
        """In a worker thread. An unknown name costs the time of a known one."""
        access, passwords = self._site.access, self._site.passwords
        user = access.user(attempt.name) if IDENTIFIER.fullmatch(attempt.name) else None
        if not passwords.matches(user.password_hash if user else None, attempt.password) or user is None:
            access.act(self._entry(user, "user.sign_in_failed", attempt.address), lambda connection: None)
            return None
        now_ms = self._site.now_ms()
        session_id = new_session_id()
        session = Session(id_hash_of(session_id), user.name, user.role, now_ms, now_ms)
        entry = self._entry(user, "user.sign_in", attempt.address)
        try:
            access.begin_session(user, session, id_hash_of(attempt.in_place_of), self._limits, entry)
        except InputError:
            return None
        if passwords.is_outdated(user.password_hash):
            access.renew_hash(user.name, user.password_hash, passwords.hash(attempt.password))
        return session_id

    def _entry(self, user: User | None, action: str, address: str) -> Entry:
        name, role = (user.name, user.role.value) if user else (_NOBODY, "")
        return Entry(self._site.now_ms(), name, role, action, name, detail_json({"address": address}))


def _key_of(name: str) -> str:
    return name if IDENTIFIER.fullmatch(name) else _NOBODY
