"""A running domain: start it, talk to its monitor and guest agent, save and load its device state, end it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import libvirt
import libvirt_qemu

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.host.hypervisor import Hypervisor, asking
from harness.machine import domain as domains
from harness.machine import lockup
from harness.machine.ram import Ram
from harness.machine.technique import CAPABILITY

AGENT_TIMEOUT = 5
STATE_DEADLINE = 60.0
IDLE_DEADLINE = 3.0
# A guest is idle when it takes less than this part of a core for that many ticks (an idle one was seen at 0.02).
_IDLE_SHARE, _IDLE_TICK, _CALM_TICKS = 0.15, 0.05, 3
_BANDWIDTH = 8 << 30
# What a kernel prints last when it switches its machine off; and how long, in seconds, the log may lag behind.
_POWER_DOWN, _TAIL, _LAST_WORDS = b"reboot: Power down", 200, 2.0
_CPU_TIME = 4  # its place in what libvirt's domain info returns; nanoseconds


@dataclass(frozen=True)
class Turns:
    """Turns of a machine's virtual CPUs at the host's cores, in seconds since its start: running, and in the queue."""

    ran: float
    waited: float

    def stretch_since(self, before: Turns) -> float:
        """Return how many times longer than alone on the host its work took since then; 1 when it never waited."""
        ran, waited = self.ran - before.ran, self.waited - before.waited
        return (ran + waited) / ran if ran > 0 and waited > 0 else 1.0


@dataclass(frozen=True)
class Machine:
    """One domain that libvirt runs.

    Attributes:
        name: the libvirt name.
        handle: libvirt's domain.
        folder: its sockets and logs.
        ram_in_file: states leave out what lies in a shared RAM file.
        ram: that file, while it is to become a snapshot's.
        printed_before: bytes of its console's log that are of an earlier machine of the same name.
    """

    name: str
    handle: Any
    folder: Path
    ram_in_file: bool = False
    ram: Ram | None = None
    printed_before: int = 0

    @property
    def console_log(self) -> Path:
        """Everything that the serial console printed."""
        return self.folder / "console.log"

    def printed(self) -> int:
        """Return how many bytes the serial console has printed so far."""
        try:
            return self.console_log.stat().st_size
        except OSError:
            return 0

    def alive(self) -> bool:
        """Say whether libvirt still runs it."""
        try:
            return bool(self.handle.isActive())
        except libvirt.libvirtError:
            return False

    def halted(self) -> str:
        """Return why QEMU has stopped the machine by itself; nothing when it has not, or nobody can say."""
        try:
            state, reason = self.handle.state()
        except libvirt.libvirtError:
            return ""
        if (state, reason) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
            return ""
        return "QEMU has stopped the VM, for whose disk the host has no room left or cannot write"

    def locked_up(self) -> str:
        """Return how long the kernel of its guest has stood still, by its console; nothing while it does not."""
        return lockup.locked_up(self.console_log, self.printed_before)

    def host_fault(self) -> str:
        """Return why the host does not run it; nothing while it does, or when its guest has switched it off itself."""
        if self.alive():
            return self.halted()
        with contextlib.suppress(wait.DeadlineExceeded):  # libvirt's log daemon may be a moment behind
            wait.until(self._switched_off, f"{self.name}: its last words", _LAST_WORDS)
            return ""
        return "QEMU has ended without a word of the guest's, or libvirt does not answer"

    def _switched_off(self) -> bool:
        try:
            with self.console_log.open("rb") as log:
                log.seek(self.printed_before)
                said = log.read().rstrip()
        except OSError:
            return False
        return _POWER_DOWN in said[-_TAIL:]

    def monitor(self, command: str, **arguments: object) -> Any:
        """Run a QMP command and return what it returns.

        Raises:
            InfrastructureError: QEMU refuses it.
        """
        return self._tell(command, arguments)

    def hand_over(self, descriptor: int, name: str) -> None:
        """Give QEMU an open file of ours, which one later monitor command may use by that name.

        Raises:
            InfrastructureError: libvirt cannot pass it on.
        """
        self._tell("getfd", {"fdname": name}, descriptor)

    def _tell(self, command: str, arguments: dict[str, object], descriptor: int | None = None) -> Any:
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        with asking(f"{self.name}: monitor command {command} failed"):
            if descriptor is None:
                said = libvirt_qemu.qemuMonitorCommand(self.handle, request, 0)
            else:
                said, _ = libvirt_qemu.qemuMonitorCommandWithFiles(self.handle, request, [descriptor])
        answer = json.loads(said)
        if "error" in answer:
            raise InfrastructureError(f"{self.name}: QEMU refuses {command}: {answer['error']['desc']}")
        return answer.get("return")

    def guest_agent(self, command: str, **arguments: object) -> Any:
        """Run a command of QEMU's guest agent and return what it returns; None while that does not answer."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            answer = libvirt_qemu.qemuAgentCommand(self.handle, json.dumps(request), AGENT_TIMEOUT, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED):
                return None
            raise InfrastructureError(f"{self.name}: guest agent refuses {command}: {error}") from None
        return json.loads(answer)["return"]

    def silence(self) -> str:
        """Return what libvirt and QEMU say of a guest agent that does not answer; for a message."""
        request = json.dumps({"execute": "guest-ping"})
        try:
            libvirt_qemu.qemuAgentCommand(self.handle, request, AGENT_TIMEOUT, 0)
            said = "it answers again"
        except libvirt.libvirtError as error:
            said = str(error)
        try:
            state = self.monitor("query-status")["status"]
        except InfrastructureError as error:
            return f"{said}; {error}"
        return f"{said}; QEMU says that the machine is {state}"

    def reset(self) -> None:
        """Press the reset button; not for a restored machine, whose QEMU 7.2 dies of it under emulation.

        Raises:
            InfrastructureError: the machine is gone.
        """
        with asking(f"{self.name}: cannot reset it"):
            self.handle.reset()

    def pause(self) -> None:
        """Stop the virtual CPUs.

        Raises:
            InfrastructureError: the machine is gone.
        """
        with asking(f"{self.name}: cannot stop its virtual CPUs"):
            self.handle.suspend()

    def resume(self) -> None:
        """Let the virtual CPUs run.

        Raises:
            InfrastructureError: the machine is gone.
        """
        with asking(f"{self.name}: cannot resume"):
            self.handle.resume()

    def wait_idle(self, deadline: float = IDLE_DEADLINE) -> bool:
        """Wait until the guest has nothing to do any more; says whether that came before the deadline.

        Raises:
            InfrastructureError: the machine is gone.
        """
        end = time.monotonic() + deadline
        calm = 0
        before, moment = self._worked(), time.monotonic()
        while calm < _CALM_TICKS and time.monotonic() < end:
            time.sleep(_IDLE_TICK)
            now, then = self._worked(), time.monotonic()
            calm = calm + 1 if (now - before) / 1e9 < _IDLE_SHARE * (then - moment) else 0
            before, moment = now, then
        return calm == _CALM_TICKS

    def _worked(self) -> int:
        """Return how long it has had cores of the host, in nanoseconds."""
        with asking(f"{self.name}: libvirt does not say what it does"):
            return int(self.handle.info()[_CPU_TIME])

    def turns(self) -> Turns:
        """Return how long its virtual CPUs ran and waited for a core of the host, from the kernel's scheduler.

        Raises:
            InfrastructureError: libvirt does not say.
        """
        try:
            [(_, told)] = self.handle.connect().domainListGetStats(
                [self.handle], libvirt.VIR_DOMAIN_STATS_VCPU
            )
        except (libvirt.libvirtError, ValueError) as error:
            raise InfrastructureError(
                f"{self.name}: libvirt says nothing of its virtual CPUs: {error}"
            ) from None
        rows = [
            (told.get(f"vcpu.{n}.time"), told.get(f"vcpu.{n}.delay")) for n in range(told["vcpu.current"])
        ]
        if not all(ran is not None and waited is not None for ran, waited in rows):
            raise InfrastructureError(f"{self.name}: this libvirt does not say how long virtual CPUs wait")
        return Turns(sum(ran for ran, _ in rows) / 1e9, sum(waited for _, waited in rows) / 1e9)

    def stretch(self) -> Callable[[], float]:
        """Return what says how many times longer than alone on the host its work takes from now on.

        No allowance is made, which is 1, where nobody can say.
        """
        begin = self._told_turns()

        def until_now() -> float:
            now = self._told_turns()
            return now.stretch_since(begin) if begin and now else 1.0

        return until_now

    def _told_turns(self) -> Turns | None:
        try:
            return self.turns()
        except InfrastructureError:
            return None

    def link(self, nic: int, *, up: bool) -> None:
        """Plug or pull the cable of a NIC, by its place."""
        self.monitor("set_link", name=f"nic{nic}", up=up)

    def forward(self, nic: int, host_port: int, address: str, port: int) -> None:
        """Let a port of loopback lead to an address and TCP port behind a NIC on QEMU's user-mode network.

        Raises:
            InfrastructureError: QEMU refuses it.
        """
        rule = f"hostfwd_add net{nic} tcp:127.0.0.1:{host_port}-{address}:{port}"
        if refusal := self.monitor("human-monitor-command", **{"command-line": rule}):
            raise InfrastructureError(f"{self.name}: QEMU refuses {rule!r}: {refusal.strip()}")

    def crash(self) -> None:
        """Cut the power: the process dies at once, and what the guest had not synced is lost."""
        self.destroy()

    def destroy(self) -> None:
        """End the domain at once; one that is gone already is fine."""
        with contextlib.suppress(libvirt.libvirtError):
            self.handle.destroy()
        if self.ram:
            self.ram.close()

    def save_state(self, target: Path) -> None:
        """Write the device state, and the RAM unless that lies in a shared file; the machine stays stopped.

        Raises:
            InfrastructureError: QEMU cannot, or the state is incomplete.
        """
        self.pause()
        self._choose_ram()
        path = self.folder / "save.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)  # the folder is closed to all but QEMU's user and ours
            listener.listen(1)
            listener.settimeout(STATE_DEADLINE)
            self.monitor("migrate", uri=f"unix:{path}")
            temporary = target.with_name(target.name + ".new")
            try:
                stream, _ = listener.accept()
                with stream, temporary.open("wb") as file:
                    stream.settimeout(STATE_DEADLINE)
                    while chunk := stream.recv(1 << 20):
                        file.write(chunk)
            except OSError as error:
                raise InfrastructureError(f"{self.name}: its device state cannot be saved: {error}") from None
        path.unlink()
        status = wait.until(
            self._migration_ended, f"{self.name}: the device state to be saved", STATE_DEADLINE
        )
        if status != "completed":
            raise InfrastructureError(f"{self.name}: saving the device state ended as {status!r}")
        temporary.replace(target)

    def load_state(self, source: Path) -> None:
        """Feed a device state to a machine that was started with ``incoming``, and let it run.

        Raises:
            InfrastructureError: QEMU does not take it.
        """
        self._choose_ram()
        path = self.folder / "load.sock"
        self.monitor("migrate-incoming", uri=f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(path))
            # The status below says what QEMU disliked.
            with source.open("rb") as file, contextlib.suppress(BrokenPipeError):
                stream.sendfile(file)
        wait.until(self._loaded, f"{self.name}: the device state to be loaded", STATE_DEADLINE, tick=0.005)
        path.unlink(missing_ok=True)
        self.resume()

    def _choose_ram(self) -> None:
        there = {row["capability"]: row["state"] for row in self.monitor("query-migrate-capabilities")}
        if there.get(CAPABILITY, False) != self.ram_in_file:
            wanted = {"capability": CAPABILITY, "state": self.ram_in_file}
            self.monitor("migrate-set-capabilities", capabilities=[wanted])
        if not self.ram_in_file:
            # QEMU's own limit is 128 MiB/s.
            self.monitor("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH})

    def _migration_ended(self) -> str:
        status = cast(str, self.monitor("query-migrate").get("status", ""))
        return status if status in ("completed", "failed", "cancelled") else ""

    def _loaded(self) -> bool:
        if not self.alive():
            log = self.folder / "console.log"
            raise InfrastructureError(f"{self.name}: QEMU ended while its state was loaded (console: {log})")
        return bool(self.monitor("query-status")["status"] != "inmigrate")


def attach(hypervisor: Hypervisor, name: str, folder: Path) -> Machine:
    """Return a running domain that another process started; its states are full copies.

    Raises:
        InfrastructureError: it does not run.
    """
    try:
        return Machine(name, hypervisor.connection.lookupByName(name), folder)
    except libvirt.libvirtError:
        raise InfrastructureError(f"{name} does not run any more", hint="read its console log") from None


def start(hypervisor: Hypervisor, spec: domains.DomainSpec, folder: Path, *, owned: bool = True) -> Machine:
    """Define nothing, start a transient domain, and check that libvirt made what was asked for.

    Args:
        hypervisor: where.
        spec: what.
        folder: for its sockets; exists and belongs to QEMU's user.
        owned: libvirt ends the domain when our connection closes, however that happens.

    Raises:
        InfrastructureError: libvirt refuses, or changed something that matters.
    """
    flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if owned else 0
    if spec.incoming:
        flags |= libvirt.VIR_DOMAIN_START_PAUSED
    with asking(f"{spec.name}: libvirt cannot start it"):
        handle = hypervisor.connection.createXML(domains.render(spec), flags)
        machine = Machine(spec.name, handle, folder, spec.ram_file is not None)
        domains.check(spec, handle.XMLDesc(0))
    return machine
