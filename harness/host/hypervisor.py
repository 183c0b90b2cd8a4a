"""A libvirt to talk to: the host's own where one answers, else a private daemon.

The private daemon runs under ``tini -s``: libvirt waits until a dead QEMU's process entry is gone, and where process 1
reaps orphans slowly that makes every destroy cost seconds (see docs/adr/0001-private-libvirt.md).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import libvirt

from bundle import programs
from bundle.errors import InfrastructureError, UsageError
from harness.host import accounts, locks, private, wait
from harness.host.cache import GOLDEN, SNAPSHOTS, WORK, cache_root
from harness.host.runtime import runs_folder, state_root

PREFIX = "sysvm-"
START_DEADLINE = 15.0
# Daemons that this process started: kept so that they are reaped when they end, or left to process 1.
_STARTED: list[subprocess.Popen[bytes]] = []
_SYSTEM_SOCKET = Path("/run/libvirt/libvirt-sock")
_HERE = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
# libvirt has no option for where it keeps what it knows of running domains. A second daemon there would adopt the
# domains of the first, or end because the first holds its locks.
_STATE_OF_LIBVIRT = Path("/run/libvirt")
_ENTER = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Say that the machine is at fault when libvirt refuses, or is gone, while the block asks it for something.

    Raises:
        InfrastructureError: it did; ``what`` says of what, or of whom.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        raise InfrastructureError(f"{what}: {error}") from None


@dataclass(frozen=True)
class Hypervisor:
    """An open connection and what must be known of the QEMU behind it.

    Attributes:
        connection: the libvirt connection.
        uri: what it was opened with.
        uid: the user that QEMU runs as.
        gid: its group.
        groups: all its groups: libvirt gives QEMU the supplementary ones, too.
        private: the daemon was started by this project.
    """

    connection: Any
    uri: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    private: bool

    def domains(self) -> list[Any]:
        """Return the active domains that belong to this project."""
        with asking("libvirt does not list its domains"):
            return [d for d in self.connection.listAllDomains() if d.name().startswith(PREFIX)]

    def version(self) -> str:
        """Return the QEMU version that libvirt reports, as digits."""
        with asking("libvirt does not say QEMU's version"):
            return str(self.connection.getVersion())


def quiet() -> None:
    """Stop libvirt from printing its errors: they are raised, too."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


@contextmanager
def hypervisor(uri: str | None = None) -> Iterator[Hypervisor]:
    """Open libvirt, starting a private daemon when nothing answers; stops it again with the last user.

    Args:
        uri: an explicit connection URI; never starts a daemon.

    Raises:
        UsageError: the URI leads to another machine.
        InfrastructureError: libvirt is not reachable and cannot be started.
    """
    quiet()
    given = uri or os.environ.get("SYSVM_LIBVIRT_URI")
    if given:
        require_local(given)
    elif os.geteuid() != 0:
        given = "qemu:///session"
    with ExitStack() as stack:
        connection = _open(given) if given else _open_system()
        own = connection is None
        where = given or "qemu:///system"
        if connection is None:
            where = stack.enter_context(_private_daemon())
            connection = _open(where)
        stack.callback(connection.close)
        host = _describe(connection, where, own=own)
        if connection.getType() == "QEMU":  # libvirt's own test driver starts no machine
            _close_folders(host)
        yield host


def require_local(uri: str) -> None:
    """Refuse a libvirt on another machine, to which none of our paths and ports would mean anything.

    Raises:
        UsageError: the URI names another host.
    """
    host = urlsplit(uri).hostname
    if host and host not in _HERE:
        raise UsageError(
            f"libvirt at {uri} is another machine's: it sees none of the overlays, RAM files, sockets and ports "
            "that are made here",
            hint=f"run sysvm on {host}",
        )


def _open_system() -> Any | None:
    """Open the host's own libvirt, if there is one that answers."""
    return _try_open("qemu:///system") if _SYSTEM_SOCKET.exists() else None


def _try_open(uri: str) -> Any | None:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError:
        return None


def _open(uri: str) -> Any:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise InfrastructureError(
            f"libvirt does not answer at {uri}: {error}", hint="'sysvm doctor' says what is missing"
        ) from None


def _describe(connection: Any, uri: str, *, own: bool) -> Hypervisor:
    uid, gid = os.geteuid(), os.getegid()
    with asking(f"libvirt at {uri} does not say what it can do"):
        told = connection.getCapabilities()
    capabilities = ET.fromstring(told)  # noqa: S314 - libvirt's own document
    label = capabilities.find("host/secmodel[model='dac']/baselabel[@type='qemu']")
    if label is not None and label.text:
        uid, gid = (int(number) for number in label.text.replace("+", "").split(":"))
    return Hypervisor(connection, uri, uid, gid, accounts.groups_of(uid, gid), own)


def _close_folders(host: Hypervisor) -> None:
    """Let QEMU, and no other user of this machine, pass through to sockets, overlays and what machines are made of."""
    for folder in (state_root(), runs_folder(), *(cache_root() / kind for kind in (GOLDEN, SNAPSHOTS, WORK))):
        private.open_to(folder, host.uid, host.gid)


def _folder() -> Path:
    return state_root() / "libvirt"


def _socket() -> Path:
    return _folder() / "libvirt-sock"


def _own_state() -> Path:
    """Return the folder that our daemons see as ``/run/libvirt``."""
    return _folder() / "run"


def _logs(*folders: Path) -> bool:
    """Tell whether the log daemon answers in one of the folders."""
    return any(_answers(folder / "virtlogd-sock") for folder in folders)


def _apart() -> list[str]:
    """Return the start of a command whose ``/run/libvirt`` is ours; empty where mounts are refused.

    Mounts that are made on the host later, such as those of network namespaces, are seen by the daemon, too.
    """
    own = private.closed_folder(_own_state())
    own.chmod(0o711)  # QEMU's user passes through it; the folder above is closed
    _STATE_OF_LIBVIRT.mkdir(mode=0o755, exist_ok=True)
    enter = ["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", _ENTER, "sh", str(own)]
    enter.append(str(_STATE_OF_LIBVIRT))
    return enter if programs.run([*enter, "true"], what="start libvirt", check=False).status == 0 else []


@contextmanager
def _private_daemon() -> Iterator[str]:
    folder = private.closed_folder(_folder())
    private.socket_name(folder / "run" / "virtlogd-sock")
    uri = f"qemu+unix:///system?socket={_socket()}"
    users = locks.shared(folder / "users.lock")
    try:
        with locks.exclusive(folder / "start.lock"):
            if not (
                _logs(_own_state(), _STATE_OF_LIBVIRT) and _alive(folder / "libvirtd.pid") and _try_open(uri)
            ):
                _start(folder, uri)
        yield uri
    finally:
        with locks.exclusive(folder / "start.lock"):
            if locks.upgrade(users) and not _kept_domains(uri):
                _stop(folder)
        os.close(users)


def _kept_domains(uri: str) -> bool:
    """Say whether a domain may be there that outlives us; when the daemon dies of the question, nobody can deny it."""
    connection = _try_open(uri)
    if connection is None:
        return False
    try:
        return any(d.name().startswith(PREFIX) for d in connection.listAllDomains())
    except libvirt.libvirtError:
        return True
    finally:
        connection.close()


def _start(folder: Path, uri: str) -> None:
    _stop(folder)
    config = folder / "libvirtd.conf"
    config.write_text(
        f'unix_sock_dir = "{folder}"\nauth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n'
        'unix_sock_ro_perms = "0700"\n'
    )
    log_path = folder / "libvirtd.log"
    started: list[subprocess.Popen[bytes]] = []
    with log_path.open("wb") as log:
        apart = _apart()
        seen = _own_state() if apart else _STATE_OF_LIBVIRT
        if not _logs(seen):
            started.append(_spawn([*apart, "virtlogd", "-p", str(folder / "virtlogd.pid")], log))
        daemon = ["tini", "-s", "--", "libvirtd", "-f", str(config), "-p", str(folder / "libvirtd.pid")]
        started.append(_spawn([*apart, *daemon], log))
    (folder / "tini.pid").write_text(str(started[-1].pid))

    def answers() -> bool:
        if (status := started[-1].poll()) is not None:
            for process in started:  # a daemon may not have written down its process id yet
                process.terminate()
            raise InfrastructureError(
                f"libvirtd ended with status {status}: {_first_error(log_path)} ({log_path})"
            )
        return _logs(seen) and _answers(_socket()) and _try_open(uri) is not None

    wait.until(answers, f"libvirtd to answer (log: {log_path})", START_DEADLINE)


def _first_error(log_path: Path) -> str:
    """Return the first error that libvirtd told, without date and process: those after it follow from it."""
    errors = [line.rpartition(" error : ") for line in log_path.read_text(errors="replace").splitlines()]
    return next((said[:300] for _, mark, said in errors if mark), "it names no error")


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a daemon that outlives this process if others use it by then."""
    with programs.starting(command[0], "start libvirt"):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    # Whoever uses it last ends it by its process id; Popen must not complain that it still runs.
    _STARTED.append(process)
    return process


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _stop(folder: Path) -> None:
    """End the daemons that an earlier start of this project left its process ids of."""
    for name, program in (("tini.pid", "tini"), ("libvirtd.pid", "libvirtd"), ("virtlogd.pid", "virtlogd")):
        pid = _alive(folder / name, program)
        if pid:
            os.kill(pid, signal.SIGTERM)
    for name, program in (("libvirtd.pid", "libvirtd"), ("virtlogd.pid", "virtlogd")):
        wait.until(partial(_ended, folder / name, program), f"{program} to end", START_DEADLINE)
        (folder / name).unlink(missing_ok=True)
    for process in _STARTED:
        process.poll()
    _socket().unlink(missing_ok=True)


def _ended(pid_file: Path, program: str) -> bool:
    return not _alive(pid_file, program)


def _alive(pid_file: Path, program: str = "libvirtd") -> int:
    """Return the process id in the file when that process still is ``program``, else 0."""
    try:
        pid = int(pid_file.read_text())
        status = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return 0
    name, state = status[status.index("(") + 1 : status.rindex(")")], status[status.rindex(")") + 2]
    return pid if name == program and state != "Z" else 0
