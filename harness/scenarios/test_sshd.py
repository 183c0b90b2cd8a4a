"""The SSH daemon's reach: the control network, and nobody else, before the patch and after it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from harness.scenario import GuestError, Lab, SshGuest, SystemVm, Tenant, Trial
from harness.vm.topology import SSH_PORT

_BANNER = "SSH-"
# Seconds for a daemon to say who it is; an emulated one needs about one.
_PATIENCE = 5
_ECHO_PORT = 7


@pytest.mark.scenario("S24-sshd-on-control-address-only")
def test_sshd_stays_on_the_control_address(lab: Lab, live_patch: Trial) -> None:
    """Also after its restart, sshd answers on the control address, takes the next login, and is shut to all others."""
    vm = live_patch.vm
    _require_shut(live_patch, "before")
    live_patch.patch(lab.new_bundle)
    vm.guest.run("systemctl restart ssh.service")
    login = SshGuest(vm.name, "127.0.0.1", vm.guest.port, lab.golden.ssh_key)
    try:
        login.connect(deadline=30)
        listening = login.run(f"ss -ltnH sport = :{SSH_PORT}").stdout.split("\n")
        reason = ""
    except GuestError as error:
        listening, reason = [], str(error)
    finally:
        login.close()
    live_patch.require("sshd.next-login", reason)
    own = [line.split()[3] for line in listening if line]
    where = f"it listens on {', '.join(own) or 'no address'}"
    alone = own == [f"{vm.topology.control.address}:{SSH_PORT}"]
    live_patch.require("sshd.after-restart", "" if alone else where)
    _require_shut(live_patch, "after")


def _require_shut(trial: Trial, when: str) -> None:
    """Require that whoever is on another network of the VM than the control one finds no daemon."""
    vm = trial.vm
    told = [*_told_tenants(vm), *_told_public_side(vm)]
    if not told:
        trial.skip(
            f"sshd.shut-{when}", f"nobody but the harness is on a network of this {vm.topology.vm_type}"
        )
        return
    # The control: whoever asks in the same way where a daemon is hears it.
    answer = _heard(vm.guest.port)
    trial.require(f"sshd.heard-{when}", "" if _BANNER in answer else f"the control address says {answer!r}")
    reached = [who for who, answer in told if _BANNER in answer]
    trial.require(f"sshd.shut-{when}", f"reached by {'; '.join(reached)}" if reached else "")


def _told_tenants(vm: SystemVm) -> Iterator[tuple[str, str]]:
    """Yield what tenants hear when they connect to each address of the VM."""
    addresses = [nic.address for nic in vm.topology.nics]
    for tenant in vm.tenants.values():
        for address, answer in zip(addresses, _ask_all(tenant, addresses), strict=True):
            yield f"{tenant.name} on {address}", answer


def _ask_all(tenant: Tenant, addresses: list[str]) -> list[str]:
    """Let a tenant connect to all addresses side by side; return what each says.

    Raises:
        GuestError: the tenant would not hear anybody.
    """
    ask = f"timeout {_PATIENCE + 1} nc -w {_PATIENCE}"
    lines = [f'cd /tmp; test "$(echo {_BANNER} | {ask} 127.0.0.1 {_ECHO_PORT})" = {_BANNER} || exit 1; pids=']
    for number, address in enumerate(addresses):
        lines.append(f'{ask} {address} {SSH_PORT} </dev/null >ssh.{number} 2>/dev/null & pids="$pids $!"')
    lines.append("wait $pids")
    lines += [
        f"head -c 40 ssh.{number} | head -n 1 | tr -d '\\r\\n'; echo" for number in range(len(addresses))
    ]
    answers = tenant.run("\n".join(lines), deadline=_PATIENCE + 30.0).stdout.split("\n")
    return answers + [""] * (len(addresses) - len(answers))


def _told_public_side(vm: SystemVm) -> Iterator[tuple[str, str]]:
    """Yield what loopback hears on the public addresses of a VM whose public side is QEMU's own network."""
    for number, nic in enumerate(vm.topology.nics):
        if nic.role == "public" and f"eth{number}" not in vm.topology.segments:
            port = vm.ports.take()
            vm.machine.forward(number, port, nic.address, SSH_PORT)
            yield f"the public side on {nic.address}", _heard(port)


def _heard(port: int) -> str:
    """Return the first thing that is said on a port of loopback; nothing when nobody says anything."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            return connection.recv(40).decode(errors="replace").strip()
    except OSError:
        return ""
