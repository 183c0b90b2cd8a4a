"""Sessions: a person signs in with a password, and then shows a cookie and a key with every call.

The key is a parameter that no other site can know, so a call that a foreign page makes a browser send is refused.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from harness.management.api.accounts import TYPES, Account, Accounts, uid
from harness.management.api.answers import ApiAnswer, Form, write
from harness.management.api.limits import ApiLimits
from harness.management.api.problems import PERMISSION, ApiError, unauthorised
from harness.management.api.request import ApiRequest
from harness.management.api.state import ServerState

COOKIE, KEY = "JSESSIONID", "sessionkey"
SESSION_COMMANDS = frozenset({"login", "logout"})


@dataclass(frozen=True)
class Session:
    """Somebody who has signed in."""

    id: str
    key: str
    account: str
    used: float


class Sessions:
    """The sessions of a server."""

    def __init__(self, limits: ApiLimits, clock: Callable[[], float]) -> None:
        """Take the bounds and the clock, seconds."""
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def carry_out(
        self, service: ServerState, request: ApiRequest, lower: Mapping[str, str], form: Form
    ) -> ApiAnswer:
        """Carry out ``login`` or ``logout``.

        Raises:
            ApiError: 405, a login that is no POST; 531, a wrong name, password or domain.
        """
        if lower["command"] == "logout":
            self.end(request.cookies.get(COOKIE, ""))
            # Only what was sent: CloudStack's page signs out and in at once, and the answers may change places.
            gone = {name: "" for name in (COOKIE, KEY) if name in request.cookies}
            return write("logoutresponse", {"description": "success"}, form, cookies=gone)
        if request.method != "POST":
            raise ApiError(405, "login has to be sent by POST")
        account = self._sign_in(service, lower)
        self.end(request.cookies.get(COOKIE, ""))
        session = self._open(account)
        cookies = {COOKIE: session.id, KEY: session.key}
        return write("loginresponse", self._answer(service, account, session), form, cookies=cookies)

    def _sign_in(self, service: ServerState, lower: Mapping[str, str]) -> Account:
        name = lower.get("username", "")[:255]
        domain = lower.get("domain", "")
        if not domain and (wanted := lower.get("domainid")):
            domain = next((one.domain for one in service.accounts if one.domain_id == wanted), "/nowhere")
        account = None
        if service.throttle.may_sign_in(name):
            account = service.accounts.signed_in(name, lower.get("password", ""), domain)
        if account is None:
            service.throttle.failed_to_sign_in(name)
            raise ApiError(531, "Failed to authenticate user, wrong name, password or domain", PERMISSION)
        return account

    def _open(self, account: Account) -> Session:
        session = Session(secrets.token_hex(24), secrets.token_urlsafe(20), account.name, self._clock())
        with self._lock:
            self._expire()
            if len(self._sessions) >= self._limits.sessions:
                oldest = min(self._sessions.values(), key=lambda one: one.used)
                del self._sessions[oldest.id]
            self._sessions[session.id] = session
        return session

    def _answer(
        self, service: ServerState, account: Account, session: Session
    ) -> dict[str, str | int | None]:
        return {
            "username": account.name,
            "userid": account.user_id,
            "domainid": account.domain_id,
            "timeout": int(self._limits.session_idle),
            "account": account.name,
            "firstname": account.name,
            "lastname": account.name,
            "type": TYPES[account.role],
            "timezone": "UTC",
            "timezoneoffset": "0.0",
            "registered": "false",
            "sessionkey": session.key,
            "is2faenabled": "false",
            "is2faverified": "true",
            "managementserverid": uid("managementserver", service.name) if account.role == "Admin" else None,
        }

    def caller(
        self, request: ApiRequest, lower: Mapping[str, str], accounts: Accounts
    ) -> tuple[Account, str]:
        """Return who calls, and the session's id; the session counts as used.

        Raises:
            ApiError: 401, there is no such session, or the key is not its own: then the session ends.
        """
        wanted = request.cookies.get(COOKIE, "")
        with self._lock:
            self._expire()
            session = self._sessions.get(wanted)
            if session is None:
                raise unauthorised()
            if not hmac.compare_digest(session.key.encode(), lower.get(KEY, "").encode()):
                del self._sessions[wanted]
                raise unauthorised()
            self._sessions[wanted] = replace(session, used=self._clock())
        return accounts.named(session.account), session.id

    def end(self, session_id: str) -> None:
        """End a session; one that is not there is no trouble."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def _expire(self) -> None:
        oldest = self._clock() - self._limits.session_idle
        for session in list(self._sessions.values()):
            if session.used < oldest:
                del self._sessions[session.id]
