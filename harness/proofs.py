"""Proofs that the rules of a network work: for each declared rule, a request that arrives from the right side."""

from __future__ import annotations

import http.client
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bundle.errors import InfrastructureError
from harness import wait
from harness.engine import SystemVm
from harness.network import Network
from harness.network.model import Forward, LoadBalancer, Machine

REQUEST_TIMEOUT = 5.0
# A router has just been told its rules: its proxies may need a moment under emulation.
DEADLINE = 30.0


@dataclass(frozen=True)
class Proof:
    """One rule and what became of a request to it; ``reason`` is empty when it was answered as declared."""

    name: str
    reason: str


def prove(vm: SystemVm, network: Network, *, deadline: float = DEADLINE) -> list[Proof]:
    """Send a request through every rule; each may be repeated until ``deadline`` seconds have passed."""
    return [_attempt(name, request, deadline) for name, request in _requests(vm, network)]


def _requests(vm: SystemVm, network: Network) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield name and request of each rule; a request returns what is wrong, or nothing."""
    for machine in network.machines:
        if machine.name in vm.tenants:
            yield f"DHCP gives {machine.address} to {machine.name}", _dhcp(vm, machine)
            server = str(network.inside_of(machine.address).address.ip)
            yield f"DNS knows {machine.name}", _dns(vm, machine, server)
            if machine.user_data:
                yield f"user data of {machine.name}", _user_data(vm, machine, server)
    for balancer in network.load_balancers:
        yield f"load balancer {balancer.public}:{balancer.port}", _balancer(vm, network, balancer)
    for forward in network.forwards:
        if forward.protocol == "tcp":
            yield f"port forward {forward.public}:{forward.public_ports.first}", _forward(vm, forward)


def _attempt(name: str, request: Callable[[], str], deadline: float) -> Proof:
    last = "no attempt"

    def answered() -> bool:
        nonlocal last
        try:
            last = request()
        except (OSError, http.client.HTTPException, InfrastructureError) as error:
            last = f"{type(error).__name__}: {error}"
        return not last

    try:
        wait.until(answered, name, deadline, tick=0.1)
    except wait.DeadlineExceeded:
        return Proof(name, last)
    return Proof(name, "")


def _differs(what: str, seen: str, expected: str) -> str:
    return "" if seen == expected else f"{what} is {seen!r} instead of {expected!r}"


def _dhcp(vm: SystemVm, machine: Machine) -> Callable[[], str]:
    return lambda: _differs("the lease", vm.tenants[machine.name].dhcp(), str(machine.address))


def _dns(vm: SystemVm, machine: Machine, server: str) -> Callable[[], str]:
    def request() -> str:
        answer = vm.tenants[machine.name].resolve(machine.name, server)
        return "" if str(machine.address) in answer else f"the answer names no {machine.address}: {answer!r}"

    return request


def _user_data(vm: SystemVm, machine: Machine, server: str) -> Callable[[], str]:
    def request() -> str:
        body = vm.tenants[machine.name].http(f"http://{server}/latest/user-data")
        return _differs("user data", body.rstrip("\n"), machine.user_data.rstrip("\n"))

    return request


def _balancer(vm: SystemVm, network: Network, balancer: LoadBalancer) -> Callable[[], str]:
    addresses = {member.address for member in balancer.members}
    behind = {f"tenant {m.name}\n" for m in network.machines if m.address in addresses}

    def request() -> str:
        port = vm.endpoints[(str(balancer.public), balancer.port)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        finally:
            connection.close()
        return "" if body in behind else f"status {response.status}, body {body[:80]!r}: none of its members"

    return request


def _forward(vm: SystemVm, forward: Forward) -> Callable[[], str]:
    def request() -> str:
        token = secrets.token_hex(8).encode() + b"\n"
        port = vm.endpoints[(str(forward.public), forward.public_ports.first)]
        with socket.create_connection(("127.0.0.1", port), timeout=REQUEST_TIMEOUT) as stream:
            stream.settimeout(REQUEST_TIMEOUT)
            stream.sendall(token)
            echo = b""
            while len(echo) < len(token) and (chunk := stream.recv(len(token))):
                echo += chunk
        return _differs("the echo", echo.decode(errors="replace"), token.decode())

    return request
