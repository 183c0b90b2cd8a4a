"""Programs of the host: run one, and turn every way in which it can fail into one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bundle.errors import InfrastructureError

# The Debian package of each program that is not on every Debian.
PACKAGES = {
    "apt-config": "apt",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "git": "git",
    "gpg": "gnupg",
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rpmbuild": "rpm",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "tini": "tini",
    "unshare": "util-linux",
    "virtlogd": "libvirt-daemon",
    "zstd": "zstd",
}
DEADLINE = 600.0


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit status and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The last line that it wrote, on standard error if there is any there; for messages."""
        lines = self.stderr.strip().splitlines() or self.stdout.strip().splitlines()
        return lines[-1] if lines else f"it said nothing and ended with status {self.status}"


def lacks(program: str, what: str = "") -> InfrastructureError:
    """Return the error that a program is not there, for whoever cannot ``what``."""
    name = program.rpartition("/")[2]
    package = PACKAGES.get(name)
    hint = f"install the package {package}" if package else f"see that {name} is in PATH"
    return InfrastructureError(f"{_cannot(what)}{name} is not installed", hint=hint)


def require(program: str, what: str = "") -> None:
    """Raise the error of :func:`lacks` where a program is not there.

    Raises:
        InfrastructureError: it is not installed.
    """
    if shutil.which(program) is None:
        raise lacks(program, what)


@contextmanager
def starting(program: str, what: str = "") -> Iterator[None]:
    """Turn the failure to start a program into one line: around ``Popen``, for what :func:`run` cannot run.

    Args:
        program: the first word of the command.
        what: what it was to do, for the message.

    Raises:
        InfrastructureError: it is not installed, or cannot be started.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise lacks(os.fsdecode(error.filename or program), what) from None
    except OSError as error:
        name = program.rpartition("/")[2]
        raise InfrastructureError(f"{_cannot(what)}{name} cannot be started: {error.strerror}") from None


def _cannot(what: str) -> str:
    return f"cannot {what}: " if what else ""


def run(
    command: Sequence[str], *, what: str = "", check: bool = True, stdin: str = "",
    environment: Mapping[str, str] | None = None, deadline: float = DEADLINE,
) -> Ended:  # fmt: skip
    """Run a program to its end.

    Args:
        command: program and arguments; no shell reads them.
        what: what it was to do, for the message, such as ``make the overlay X``.
        check: raise when it ends with a status other than 0.
        stdin: what it reads.
        environment: its environment; that of this process without one.
        deadline: seconds until it must have ended.

    Returns:
        Its status and output; bytes that are not UTF-8 are replaced.

    Raises:
        InfrastructureError: it is not installed, cannot be started, does not end in time, or fails.
    """
    program = command[0].rpartition("/")[2]
    try:
        with starting(command[0], what):
            done = subprocess.run(
                list(command), input=stdin, env=environment, capture_output=True, text=True, errors="replace",
                check=False, timeout=deadline,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{_cannot(what)}{program} did not end within {deadline:g} s") from None
    ended = Ended(done.returncode, done.stdout, done.stderr)
    if check and ended.status != 0:
        raise InfrastructureError(f"{_cannot(what)}{program} failed: {ended.reason}")
    return ended
