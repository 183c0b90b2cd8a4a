"""The server's API without a socket: a request goes in, an answer comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from harness.management.api import signature
from harness.management.api.accounts import Account
from harness.management.api.answers import ApiAnswer, failure, form_of, write
from harness.management.api.call import ApiCall, Command
from harness.management.api.commands import table
from harness.management.api.problems import ApiError, not_for_role, unauthorised, unexpected
from harness.management.api.request import ApiRequest
from harness.management.api.sessions import SESSION_COMMANDS, Sessions
from harness.management.api.state import ServerState


@dataclass
class ApiService(ServerState):
    """A management server as its clients see it.

    Attributes:
        table: its commands, by name.
    """

    table: Mapping[str, Command] = field(default_factory=table)

    def __post_init__(self) -> None:
        """Make what lives as long as the server."""
        super().__post_init__()
        self.sessions = Sessions(self.limits, self.clock)

    def answer(self, request: ApiRequest) -> ApiAnswer:
        """Carry out a request; whatever goes wrong is an answer."""
        lower = {name.lower(): value for name, value in request.sent.items()}
        form = form_of(lower.get("response", "xml"))
        name = lower.get("command", "")
        answer_name = self._answer_name(name)

        try:
            if name in SESSION_COMMANDS:
                return self.sessions.carry_out(self, request, lower, form)
            caller, session = self._caller(request, lower, name)
            self.throttle.count(caller)
            command = self._command(name, caller)
            values = command.read(request.sent, self.limits)
            call = ApiCall(self, self.table, command, caller, values, lower, session)
            return write(answer_name, command.handler(call), form, version=self.version)
        except ApiError as problem:
            return failure(problem, answer_name, form)
        except Exception as error:  # a defect is one call's trouble, and for the journal
            self.journal.emit("api_defect", command=name, error=f"{type(error).__name__}: {error}")
            return failure(unexpected(), answer_name, form)

    def _caller(self, request: ApiRequest, lower: Mapping[str, str], name: str) -> tuple[Account, str]:
        """Return who calls, and with which session.

        Raises:
            ApiError: 401, nobody that is known; 432, a role that does not have the command, which is decided first.
        """
        if "apikey" not in lower:
            return self.sessions.caller(request, lower, self.accounts)
        account = self.accounts.with_key(lower["apikey"])
        if account is None or name not in self.table:
            raise unauthorised()
        if account.role not in self.table[name].roles:
            raise not_for_role(name, account.name)
        self._in_time(request, name)
        if not signature.is_signed(request.sent, account.secret):
            raise unauthorised()
        return account, ""

    def _in_time(self, request: ApiRequest, name: str) -> None:
        try:
            expires = signature.expiry(request.sent)
        except ValueError:
            raise unauthorised() from None
        now = datetime.fromtimestamp(self.clock(), UTC)
        if expires is not None and expires < now:
            raise unauthorised()
        if not self.limits.enforce_post:
            return
        if expires is None or expires > now + timedelta(seconds=self.limits.expiry_ahead):
            raise unauthorised()
        if request.method != "POST" and not name.startswith(("get", "list", "query", "find")):
            raise ApiError(400, f"{name} has to be sent by POST")

    def _command(self, name: str, caller: Account) -> Command:
        command = self.table.get(name)
        if command is None and caller.role == "Admin":
            raise ApiError(432, f"Unknown API command: {name[:80]}", name="errorresponse")
        if command is None or caller.role not in command.roles:
            raise not_for_role(name[:80], caller.name)
        return command

    def _answer_name(self, name: str) -> str:
        """Return what the answer to a command is called, also to one that is refused."""
        if name in SESSION_COMMANDS:
            return f"{name}response"
        return self.table[name].answer_name if name in self.table else "errorresponse"
