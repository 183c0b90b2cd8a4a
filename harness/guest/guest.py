"""A guest: its connection, file transfer in both directions, and waiting for what it does."""

from __future__ import annotations

import contextlib
import shlex

from harness.guest import transfer
from harness.guest.connection import Connection, ConnectionLost, GuestError
from harness.guest.transfer import CLEAR, LineConditions, TransferProtocol
from harness.host import wait


class UnitFailed(GuestError):
    """A systemd unit that was waited for has failed."""


class SshGuest(Connection):
    """A guest that is reached over SSH; the constructor's arguments are those of :class:`Connection`."""

    def put(
        self, data: bytes, path: str, mode: int = 0o644, *, deadline: float = 180.0,
        protocol: TransferProtocol = "scp", line: LineConditions = CLEAR, resume: bool = False,
    ) -> None:  # fmt: skip
        """Upload a file by the legacy SCP protocol, as CloudStack's agents do, or as asked for: ``transfer.send``."""
        transfer.send(self, data, path, mode, deadline, protocol=protocol, line=line, resume=resume)

    def wait_for_unit(self, unit: str, deadline: float = 60.0) -> None:
        """Wait until a systemd unit is active; a failed one ends the wait at once.

        Raises:
            UnitFailed: the unit has failed.
        """
        quoted = shlex.quote(unit)

        def active() -> str:
            state = self.run(f"systemctl is-active {quoted}", check=False).stdout.strip()
            if state == "failed":
                said = self.run(f"journalctl -u {quoted} -n 3 -o cat --no-pager", check=False).stdout
                why = "; ".join(said.strip().splitlines()[-3:]) or "its journal is empty"
                raise UnitFailed(f"{self.name}: unit {unit} has failed: {why}")
            return "active" if state == "active" else ""

        wait.until(active, f"{self.name}: unit {unit} to be active", deadline, tick=0.05)

    def wait_for_port(self, port: int, address: str = "127.0.0.1", deadline: float = 60.0) -> None:
        """Wait until something inside the guest listens on a TCP port."""
        probe = f"exec 3<>/dev/tcp/{address}/{port}"
        command = f"bash -c {shlex.quote(probe)} 2>/dev/null"
        wait.until(
            lambda: self.run(command, check=False).status == 0,
            f"{self.name}: port {port} on {address} to answer", deadline, tick=0.05,
        )  # fmt: skip

    def wait_for_file(self, path: str, deadline: float = 60.0) -> None:
        """Wait until a file exists."""
        quoted = shlex.quote(path)
        patience = wait.Patience(f"{self.name}: file {path}", deadline)
        while True:
            span = max(0.1, min(patience.left, wait.TOLD_EVERY))
            # One command that waits inside the guest: no round trip per look. Its looks are counted, and a busy guest
            # takes longer for each, so that the command itself has all the time that is left.
            loop = f"i=0; until [ -e {quoted} ]; do i=$((i+1)); [ $i -le {int(span * 10)} ] || exit 9; sleep 0.1; done"
            if self.run(loop, deadline=max(span * 2, patience.left) + 10, check=False).status == 0:
                return
            if patience.ended():
                raise wait.DeadlineExceeded(f"{self.name}: file {path} did not appear within {deadline:g} s")

    def boot_id(self) -> str:
        """Return the kernel's identifier of this boot."""
        return self.get("/proc/sys/kernel/random/boot_id").decode().strip()

    def reboot(self, deadline: float = 180.0) -> None:
        """Reboot, and wait until a new boot answers."""
        before = self.boot_id()
        with contextlib.suppress(ConnectionLost):
            self.run("systemctl reboot", check=False)

        def rebooted() -> bool:
            self.close()
            try:
                self.connect(deadline=5.0)
                return self.boot_id() != before
            except GuestError:
                return False

        wait.until(rebooted, f"{self.name}: a new boot", deadline, tick=0.05)
