"""A machine that comes later: it takes a lease, is known by name, and finds its user data and its password.

A tenant's host plays it for a moment, with the other machine's MAC address, and is itself again afterwards: the router
sees a client that it has never seen.
"""

from __future__ import annotations

import base64
import shlex

from bundle.errors import InfrastructureError
from harness.network.model import DeclaredMachine
from harness.vm.tenant.tenant import Tenant

# Seconds for one question; the lease may take a little longer under emulation.
_PATIENCE = 8
_PASSWORD_PORT = 8080
_LEASE = "ip -4 -o address show dev eth0 | awk '{ print $4 }'"
_FETCH = f"timeout {_PATIENCE} wget -q -O -"


def password_questions(server: str) -> dict[str, str]:
    """Return what a machine asks of its router to get its password: for it, that it has it, and for it again."""
    password = f"{_FETCH} http://{server}:{_PASSWORD_PORT}/ --header"
    return {
        "password": f"{password} 'DomU_Request: send_my_password'",
        "confirmed": f"{password} 'DomU_Request: saved_password'",
        "password-again": f"{password} 'DomU_Request: send_my_password'",
    }


def questions(machine: DeclaredMachine, server: str) -> dict[str, str]:
    """Return what a new machine asks of its router, by name, as commands of busybox."""
    return {
        "lease": _LEASE,
        "name": f"nslookup {shlex.quote(machine.name)} {server}",
        "user-data": f"{_FETCH} http://{server}/latest/user-data",
        "hostname": f"{_FETCH} http://{server}/latest/meta-data/local-hostname",
        **password_questions(server),
    }


def ask(asked: dict[str, str]) -> list[str]:
    """Return the lines of a script that ask all questions; each answer is a line."""
    return [
        f'echo "{name} $({{ {command}; }} 2>/dev/null | base64 | tr -d "\\n")"'
        for name, command in asked.items()
    ]


def script(mac: str, asked: dict[str, str], patience: str = "-t 10 -T 2") -> str:
    """Return what a host runs to be another machine for a moment.

    Args:
        mac: of the other machine.
        asked: its questions, as commands by name.
        patience: of its DHCP client: how often it asks, and how many seconds it waits.
    """
    lease = "udhcpc -i eth0 -n -q -f {} -s /bin/udhcpc.script >/dev/null 2>&1"
    become = (
        "ip address flush dev eth0; ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up"
    )
    return "\n".join(
        [
            # Not from /sys, which shows the guest's own devices and not those of its hosts.
            "own=$(ip link show dev eth0 | awk '/link.ether/ { print $2 }')",
            f"{become.format(mac)}; {lease.format(patience)}",
            *ask(asked),
            # Whether it got its own lease again is for the proofs to say.
            f"{become.format('$own')}; {lease.format('-t 10 -T 2')}; true",
            "",
        ]
    )


def visit(host: Tenant, machine: DeclaredMachine, server: str, password: str) -> dict[str, str]:
    """Let a host be a new machine for a moment.

    Args:
        host: who plays it; on the machine's network.
        machine: what the router was told of it.
        server: the router's address on that network.
        password: that the router was given for it.

    Returns:
        What is wrong with each use, empty where all is well, by name.

    Raises:
        InfrastructureError: the host does not answer.
    """
    asked = questions(machine, server)
    return problems(_answers(host, script(machine.mac, asked), asked), machine, password)


def still_served(host: Tenant, machine: DeclaredMachine, server: str) -> str:
    """Return what is wrong when a machine that is gone for good asks for its address again, or is asked for by name.

    Raises:
        InfrastructureError: the host does not answer.
    """
    asked = {"lease": _LEASE}
    answer = _answers(host, script(machine.mac, asked, "-t 2 -T 1"), asked)["lease"]
    if answer:
        return f"a machine that is gone still gets {answer}"
    asked = {"name": f"nslookup {shlex.quote(machine.name)} {server}"}
    answer = _answers(host, "\n".join([*ask(asked), "true"]), asked)["name"]
    return (
        f"a machine that is gone is still known as {machine.name}"
        if str(machine.address) in answer.split()
        else ""
    )


def new_password(host: Tenant, server: str, password: str) -> str:
    """Let a machine fetch its new password; returns what is wrong.

    Raises:
        InfrastructureError: the host does not answer.
    """
    asked = password_questions(server)
    return _password_problem(_answers(host, "\n".join([*ask(asked), "true"]), asked), password)


def _answers(host: Tenant, text: str, asked: dict[str, str]) -> dict[str, str]:
    answers = {}
    for line in host.run(text, deadline=_PATIENCE * len(asked) + 60.0).stdout.splitlines():
        name, _, coded = line.partition(" ")
        if name in asked:
            answers[name] = base64.b64decode(coded).decode(errors="replace").strip()
    if missing := asked.keys() - answers.keys():
        raise InfrastructureError(f"tenant {host.name} did not say what became of {sorted(missing)[0]}")
    return answers


def problems(answers: dict[str, str], machine: DeclaredMachine, password: str) -> dict[str, str]:
    """Return what is wrong with the answers that a new machine got, by use."""
    lease = answers["lease"].partition("/")[0]
    known = str(machine.address) in answers["name"].split()
    return {
        "new machine gets its lease": _differs("the lease", lease, str(machine.address)),
        "new machine is known by name": ""
        if known
        else f"DNS names no {machine.address}: {answers['name']!r}",
        "new machine gets its user data": _differs(
            "the user data", answers["user-data"], machine.user_data.strip()
        ),
        "new machine gets its metadata": _differs("the host name", answers["hostname"], machine.name),
        "new machine gets its password once": _password_problem(answers, password),
    }


def _password_problem(answers: dict[str, str], password: str) -> str:
    return (
        _differs("the password", answers["password"], password)
        or _differs("the answer to its confirmation", answers["confirmed"], "saved_password")
        or _differs("the second answer", answers["password-again"], "saved_password")
    )


def _differs(what: str, seen: str, expected: str) -> str:
    return "" if seen == expected else f"{what} is {seen[:80]!r} instead of {expected!r}"
