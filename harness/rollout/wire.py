"""The way to a server by ``cs``: signed calls with keys, or a session that a password opens."""

from __future__ import annotations

from typing import Any

import cs
import requests

from bundle.errors import InfrastructureError, UsageError
from harness.record.events import Json
from harness.rollout.access import Access
from harness.rollout.transport import Busy, LostAnswer, Parameters, Rejected, SessionEnded

_BUSY = {429, 503}
# What a proxy says when the server behind it did not: the call may have arrived.
_LOST = {408, 500, 502, 504}
_LONGEST = 400


class CsTransport:
    """Calls of one account through ``cs``, one at a time."""

    def __init__(self, access: Access) -> None:
        """Prepare; nothing is sent yet."""
        self._access = access
        options = dict(access.options)
        self._least = float(options.pop("timeout", 10))
        method = "post" if access.user else str(options.pop("method", "get"))
        options.pop("method", None)
        session = requests.Session()
        # A redirect would take a signed call elsewhere, and send it twice.
        session.max_redirects = 0
        # cs prints whole addresses when it traces: never here. Its own repetitions know nothing of what they repeat.
        self._client = cs.CloudStack(
            endpoint=access.endpoint,
            key=access.key or None,
            secret=access.secret or None,
            method=method,
            trace=False,
            retry=0,
            session=session,
            headers=dict(options.pop("headers", {})),
            **options,
        )
        self._session = session
        self._sessionkey = ""

    def hide(self, text: str) -> str:
        """Return a text without any secret in it."""
        return self._access.hide(text)

    def renew(self) -> bool:
        """Sign in; says whether this account does that.

        Raises:
            Rejected: name or password is wrong.
            LostAnswer: no answer.
        """
        if not self._access.user:
            return False
        self._session.cookies.clear()
        self._client.headers.pop("Cookie", None)
        self._sessionkey = ""
        account = {
            "username": self._access.user,
            "password": self._access.password,
            "domain": self._access.domain,
        }
        answer = self._call("login", account, 60.0)
        key = answer.get("sessionkey")
        if not isinstance(key, str) or not key:
            raise InfrastructureError("login: the answer has no session key")
        self._sessionkey = key
        self._access.keep_secret(key)
        for cookie in self._session.cookies:
            self._access.keep_secret(cookie.value or "")
        # cs prepares its requests beside the session, which would add them.
        crumbs = (f"{cookie.name}={cookie.value}" for cookie in self._session.cookies)
        self._client.headers["Cookie"] = "; ".join(crumbs)
        return True

    def send(self, command: str, parameters: Parameters, timeout: float) -> dict[str, Json]:
        """Send one call and return what the answer holds; see :class:`harness.rollout.transport.Transport`."""
        if self._access.user and not self._sessionkey:
            self.renew()
        more = {"sessionkey": self._sessionkey} if self._sessionkey else {}
        return self._call(command, {**parameters, **more}, timeout)

    def _call(self, command: str, parameters: Parameters, timeout: float) -> dict[str, Json]:
        self._client.timeout = int(max(timeout, self._least))
        try:
            answer = getattr(self._client, command)(**parameters)
        except cs.CloudStackException as error:
            raise self._said(command, error) from None
        except requests.exceptions.TooManyRedirects:
            raise UsageError(f"{self._access.endpoint} leads elsewhere; name the API's own address") from None
        except requests.exceptions.RequestException as error:
            raise self._unanswered(command, error) from None
        if not isinstance(answer, dict):
            raise LostAnswer(f"{command}: the answer is no object")
        return answer

    def _unanswered(self, command: str, error: requests.exceptions.RequestException) -> Exception:
        """Return what a failed connection means; the words of ``requests`` hold the whole address, and are not told."""
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return UsageError(
                f"{self._access.endpoint}: its certificate is not trusted",
                hint="set verify to the file of the authority's certificate",
            )
        return LostAnswer(f"{command}: no answer ({type(error).__name__})")

    def _said(self, command: str, error: cs.CloudStackException) -> Exception:
        response: Any = error.response
        status = getattr(response, "status_code", None)
        said = getattr(error, "error", None)
        text = said.get("errortext") if isinstance(said, dict) else None
        words = self.hide(str(text or f"HTTP {status}"))[:_LONGEST]
        if status in _BUSY:
            return Busy(f"{command}: {status} {words}", _after(response))
        if status == 401:
            hint = "" if self._access.user else " (wrong keys, or clocks that differ)"
            return SessionEnded(f"{command}: 401 {words}{hint}")
        if status is None or status == 200 or (status in _LOST and not text):
            return LostAnswer(f"{command}: no answer that can be read (HTTP {status})")
        code = said.get("errorcode") if isinstance(said, dict) else None
        return Rejected(command, code if isinstance(code, int) else status, words)


def _after(response: Any) -> float | None:
    """Return how many seconds a server asks to wait; None when it does not say."""
    value = str(response.headers.get("Retry-After", ""))
    return min(float(value), 600.0) if value.isdigit() else None
