"""The way to a CloudStack API, as the rest of this room sees it: one call, one answer, or what is known without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from bundle.errors import CheckFailed, InfrastructureError
from harness.record.events import Json

Parameters: TypeAlias = Mapping[str, str | int | bool]


class LostAnswer(InfrastructureError):
    """No answer, or none that can be read: nobody knows whether the call was carried out."""


class Busy(InfrastructureError):
    """The server takes no call at the moment (429, 503); ``after`` is how many seconds it asks to wait, if it says."""

    def __init__(self, message: str, after: float | None = None) -> None:
        """Say what the server said."""
        super().__init__(message)
        self.after = after


class SessionEnded(InfrastructureError):
    """The server does not know who calls (401); it has carried nothing out."""


class Rejected(CheckFailed):
    """The server has answered that it does not do it.

    Attributes:
        code: CloudStack's error code, such as 431.
        text: its words.
    """

    def __init__(self, command: str, code: int, text: str) -> None:
        """Say which call was refused, and why."""
        super().__init__(f"{command}: {code} {text}")
        self.code = code
        self.text = text


# CloudStack's code for a parameter that is at fault, such as an id that it does not know.
BAD_PARAMETER = 431


class Transport(Protocol):
    """One way to call a server; never repeats a call."""

    def send(self, command: str, parameters: Parameters, timeout: float) -> dict[str, Json]:
        """Send one call and return what the answer holds.

        Args:
            command: name of the call.
            parameters: of the call.
            timeout: seconds until its answer is given up.

        Raises:
            LostAnswer: nobody knows whether it was carried out.
            Busy: it was not carried out now.
            SessionEnded: it was not carried out, for the session has ended or the keys are refused.
            Rejected: it was not carried out, and why.
        """
        ...

    def renew(self) -> bool:
        """Open a new session; says whether there is such a thing."""
        ...

    def hide(self, text: str) -> str:
        """Return a text without any secret in it."""
        ...
