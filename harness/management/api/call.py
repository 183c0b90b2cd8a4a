"""A command as the table declares it, and one call of it with its parameters read and checked."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from harness.management.api.accounts import Account, AccountRole
from harness.management.api.limits import ApiLimits
from harness.management.api.problems import ApiError, invalid, missing, unusable
from harness.management.api.state import ServerState

Kind: TypeAlias = Literal["uuid", "boolean", "string", "integer", "date", "list", "map"]
# Every command takes them; they are no parameters of its own.
ALWAYS = frozenset(
    {
        "command",
        "response",
        "apikey",
        "signature",
        "signatureversion",
        "expires",
        "sessionkey",
        "ctxuserid",
        "_",
    }
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DATES = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command.

    Attributes:
        name: in lower case.
        kind: how its value is read.
        text: what it is, for listApis.
        required: whether a call without it is refused.
        since: release that brought it, where that is later than the command's.
    """

    name: str
    kind: Kind
    text: str
    required: bool = False
    since: str = ""

    def read(self, command: str, value: str) -> Any:
        """Return the typed value.

        Raises:
            ApiError: 431, it is unreadable.
        """
        if self.kind == "boolean":
            return value.lower() == "true"  # Java reads every other word as false
        if self.kind == "integer":
            if not re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
                raise unusable(command, self.name, value, "a whole number is expected")
            return int(value)
        if self.kind == "uuid":
            try:
                return str(uuid.UUID(value)) if value != "-1" else value
            except ValueError:
                raise unusable(command, self.name, value, "an id is expected") from None
        if self.kind == "date":
            return _date(command, self.name, value)
        if self.kind == "list":
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


def _date(command: str, name: str, value: str) -> float:
    for pattern in _DATES:
        try:
            return datetime.strptime(value, pattern).timestamp()
        except ValueError:
            continue
    raise unusable(command, name, value, "a date is expected: yyyy-MM-dd or yyyy-MM-dd'T'HH:mm:ssZ")


@dataclass(frozen=True)
class Command:
    """A row of the table of commands.

    Attributes:
        name: as clients send it, to the letter.
        text: what it does, for listApis.
        roles: who may call it; empty for commands that need no session.
        handler: does it.
        parameters: its own; paging and scope are added where they belong.
        since: release that brought it; empty for one that was always there.
        is_async: whether the answer is a job.
        object: what a row of its answer is called; empty where the answer has fields of its own.
        answer: name of its answer, where that is not the rule's.
        java: its class, as ``cmd`` of a job says it.
    """

    name: str
    text: str
    roles: frozenset[AccountRole]
    handler: Callable[[ApiCall], Mapping[str, Any]]
    parameters: tuple[Parameter, ...] = ()
    since: str = ""
    is_async: bool = False
    object: str = ""
    answer: str = ""
    java: str = ""

    @property
    def answer_name(self) -> str:
        """Name of the answer: the command in lower case, and ``response``."""
        return self.answer or f"{self.name.lower()}response"

    def read(self, sent: Mapping[str, str], limits: ApiLimits) -> dict[str, Any]:
        """Return the typed values of a call's parameters; unknown ones are passed over.

        Raises:
            ApiError: 431, one is missing, unreadable or out of bounds.
        """
        lower = {name.lower(): value for name, value in sent.items()}
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            given = lower.get(parameter.name)
            if given is None or given == "":
                if parameter.required:
                    raise missing(self.name, parameter.name)
                continue
            if len(given) > limits.value:
                raise unusable(self.name, parameter.name, given, f"at most {limits.value} characters")
            if _CONTROL.search(given):
                raise invalid(f"Received value with control characters for parameter {parameter.name}")
            values[parameter.name] = parameter.read(self.name, given)
        return values


@dataclass(frozen=True)
class ApiCall:
    """One call.

    Attributes:
        service: the server that carries it out.
        table: all its commands, by name.
        command: which.
        caller: whose.
        values: its own parameters, typed.
        sent: everything that was sent, names in lower case.
        session: id of the session; empty for a signed call.
    """

    service: ServerState
    table: Mapping[str, Command]
    command: Command
    caller: Account
    values: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    session: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a parameter."""
        return self.values.get(name, default)

    def need(self, name: str) -> str:
        """Return a parameter that the command declares as optional and still demands.

        Raises:
            ApiError: 431, it is missing.
        """
        value: str | None = self.values.get(name)
        if value is None:
            raise missing(self.command.name, name)
        return value

    def unknown(self, name: str, what: str) -> ApiError:
        """Return the refusal of an id that names nothing."""
        value = str(self.values.get(name, ""))
        return unusable(
            self.command.name, name, value, f"incorrect long value format, or there is no such {what}"
        )

    def page(self) -> slice:
        """Return which rows of a list are asked for.

        Raises:
            ApiError: 431, one of page and pagesize without the other, or a size out of bounds.
        """
        page, size = self.get("page"), self.get("pagesize")
        most = self.service.limits.page_size
        if (page is None) != (size is None):
            lacking = "page" if page is None else "pagesize"
            raise invalid(
                f'"page" and "pagesize" parameters can be specified only together: {lacking} is missing'
            )
        if page is None:
            return slice(0, most)
        if size > most or size < 1:
            raise invalid(f"Page size can not exceed max allowed page size value: {most}, nor be below 1")
        if page < 1:
            raise invalid("Page number can not be below 1")
        return slice((page - 1) * size, page * size)
