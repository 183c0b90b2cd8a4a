"""The errors that reach a person, and the exit status each one means."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the ``sysvm`` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    INTERRUPTED = 130


class SysvmError(Exception):
    """Base of every error that is reported as one line.

    Attributes:
        exit_status: what the process ends with.
        hint: what to do next, or an empty string.
    """

    exit_status = Exit.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Say what failed, where and with which value; ``hint`` says what to do."""
        super().__init__(message)
        self.hint = hint

    def diagnostics(self) -> str:
        """Return the one line for a person."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class CheckFailed(SysvmError):
    """Something was judged and found wrong: a bundle that does not verify, a patch that failed."""


class UsageError(SysvmError):
    """The input is at fault: a wrong option, an unreadable source, an unknown release."""

    exit_status = Exit.USAGE


class InfrastructureError(SysvmError):
    """The machine is at fault: libvirt does not answer, an image cannot be built, SSH is refused.

    Attributes:
        once_more: whether what it ended is made once more without anybody asking for it.
    """

    exit_status = Exit.INFRASTRUCTURE
    once_more = False


def worth_another_attempt(error: BaseException | None) -> bool:
    """Say whether an error, or one that it was raised from, ended what is made once more without anybody asking."""
    while error is not None:
        if isinstance(error, InfrastructureError) and error.once_more:
            return True
        error = error.__cause__
    return False
