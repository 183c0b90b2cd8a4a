"""Refusals of calls: a status, CloudStack's own code, and a text."""

from __future__ import annotations

from bundle.errors import SysvmError, UsageError

INVALID, PERMISSION, UNAVAILABLE, OTHER = 4350, 4365, 4380, 9999


class ApiError(Exception):
    """A call that is refused, or that failed.

    Attributes:
        status: HTTP status and ``errorcode``.
        text: ``errortext``.
        cs: ``cserrorcode``.
        name: what the answer is called; the command's own name when empty.
    """

    def __init__(self, status: int, text: str, cs: int = OTHER, name: str = "") -> None:
        """Say which status, which text, which code, and what the answer is called."""
        super().__init__(text)
        self.status = status
        self.text = text
        self.cs = cs
        self.name = name


def invalid(text: str) -> ApiError:
    """Return the refusal of a parameter."""
    return ApiError(431, text, INVALID)


def missing(command: str, parameter: str) -> ApiError:
    """Return the refusal of a call that lacks a parameter."""
    return invalid(f"Unable to execute API command {command.lower()} due to missing parameter {parameter}")


def unusable(command: str, parameter: str, value: str, expected: str) -> ApiError:
    """Return the refusal of a value."""
    shown = value if len(value) <= 80 else f"{value[:77]}..."
    return invalid(
        f"Unable to execute API command {command.lower()} due to invalid value. "
        f"Invalid parameter {parameter} value={shown} ({expected})"
    )


def unauthorised(
    text: str = "unable to verify user credentials and/or request signature",
) -> ApiError:
    """Return the one answer to every wrong key, signature or session: it says nothing of what was wrong."""
    return ApiError(401, text)


def not_for_role(command: str, account: str) -> ApiError:
    """Return the refusal of a command that the caller's role does not have."""
    return ApiError(
        432,
        f"The API [{command}] does not exist or is not available for the account {account}.",
        name="errorresponse",
    )


def not_yours(what: str) -> ApiError:
    """Return the refusal of an object that belongs to somebody else."""
    return ApiError(531, f"The caller does not have permission to operate with {what}.", PERMISSION)


def unexpected() -> ApiError:
    """Return what a defect is told as: what went wrong is for the journal, not for whoever called."""
    return ApiError(530, "Internal error executing command, please contact your system administrator")


def of_job(error: SysvmError) -> ApiError:
    """Return what a job fails with: an invalid parameter is told apart, the rest is an internal error."""
    if isinstance(error, UsageError):
        return ApiError(431, error.diagnostics(), INVALID)
    return ApiError(530, error.diagnostics())
