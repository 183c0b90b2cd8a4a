"""Tries the flows of a network: all of a side at once, from loopback or from a tenant's host."""

from __future__ import annotations

import base64
import http.client
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address

from harness.network.flows import HTTP_PORT, LOOPBACK, Flow
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant

# Seconds for one attempt: emulated machines answer within a tenth of it.
TIMEOUT = 2
# Prints who is asked, and the address that it was asked from.
PEER = "/cgi-bin/peer"
# What ping prints of an answer.
PONG = "bytes from"
# From a host outside to one behind the router.
_HOPS = 2


def attempt(vm: SystemVm, flows: Sequence[Flow]) -> list[str]:
    """Try flows once; returns what is wrong with each, or nothing where the declaration was kept."""
    sides: dict[str, list[int]] = {}
    for number, flow in enumerate(flows):
        sides.setdefault(flow.source, []).append(number)
    found = [""] * len(flows)
    arrived = _arrivals(vm, flows)
    with ThreadPoolExecutor(max_workers=len(sides) or 1) as pool:
        jobs = {
            side: pool.submit(_from_side, vm, side, [flows[number] for number in numbers])
            for side, numbers in sides.items()
        }
        for side, numbers in sides.items():
            for number, problem in zip(numbers, jobs[side].result(), strict=True):
                found[number] = problem
    now = _arrivals(vm, flows)
    return [problem or _lost(flow, arrived, now) for flow, problem in zip(flows, found, strict=True)]


def _arrivals(vm: SystemVm, flows: Sequence[Flow]) -> dict[str, int]:
    """Return how many datagrams came to ports that nobody serves, for each host that UDP is to reach."""
    hosts = {name for flow in flows if flow.protocol == "udp" and flow.allowed for name in flow.reaches}
    count = "awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp"
    return {name: int(vm.tenants[name].run(count).stdout) for name in hosts}


def _lost(flow: Flow, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Return what is wrong with a datagram that was answered, but not by the host that it was sent to."""
    if flow.protocol != "udp" or not flow.allowed or any(after[name] > before[name] for name in flow.reaches):
        return ""
    return f"it was answered, but nothing arrived at {' or '.join(flow.reaches) or 'any host'}"


def _from_side(vm: SystemVm, side: str, flows: list[Flow]) -> list[str]:
    token = secrets.token_hex(8)
    answers = (
        _from_loopback(vm, flows, token) if side == LOOPBACK else _from_host(vm.tenants[side], flows, token)
    )
    return [verdict(flow, answer, token) for flow, answer in zip(flows, answers, strict=True)]


def verdict(flow: Flow, answer: str, token: str) -> str:
    """Compare an answer, empty when there was none, with what the network declares; returns what is wrong."""
    answered = _is_answer(flow, answer)
    if not flow.allowed:
        return f"it was answered: {answer[:80]!r}" if answered else ""
    if not answered:
        return f"no answer within {TIMEOUT} s"
    if flow.port is None or flow.protocol == "udp":
        return ""
    if flow.inner_port != HTTP_PORT:
        return "" if answer == token else f"the echo is {answer[:80]!r} instead of {token!r}"
    who, _, seen = answer.partition("\n")
    if who.removeprefix("tenant ") not in flow.reaches:
        return f"{who[:80]!r} answers instead of {' or '.join(flow.reaches)}"
    if flow.seen_as is not None and seen != str(flow.seen_as):
        return f"{who} sees the address {seen} instead of {flow.seen_as}"
    return ""


def _is_answer(flow: Flow, answer: str) -> bool:
    if flow.protocol == "udp":
        return re.search(rf"^ *{_HOPS} +{re.escape(str(flow.target))} ", answer, re.MULTILINE) is not None
    return PONG in answer if flow.port is None else bool(answer)


def _from_loopback(vm: SystemVm, flows: list[Flow], token: str) -> list[str]:
    def ask(flow: Flow) -> str:
        port = vm.endpoints[(str(flow.target), flow.port or 0)]
        try:
            return _http(port) if flow.inner_port == HTTP_PORT else _echo(port, token)
        except (OSError, http.client.HTTPException):
            return ""

    with ThreadPoolExecutor(max_workers=len(flows)) as pool:
        return list(pool.map(ask, flows))


def _http(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", PEER)
        return connection.getresponse().read().decode(errors="replace").strip()
    finally:
        connection.close()


def _echo(port: int, token: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as stream:
        stream.sendall(f"{token}\n".encode())
        seen = b""
        while not seen.endswith(b"\n") and len(seen) <= len(token) and (chunk := stream.recv(4096)):
            seen += chunk
    return seen.decode(errors="replace").strip()


def _from_host(host: Tenant, flows: list[Flow], token: str) -> list[str]:
    """Let a host try all flows side by side, in one script."""
    # The shell says of each process that it ended; only answers are wanted.
    lines = [f"exec 2>/dev/null; cd /tmp; echo {token} >token; pids="]
    for number, flow in enumerate(flows):
        # One process a flow, for the guest is small; output to files, for that of processes side by side would mix.
        lines.append(f'{_command(flow)} <token >try.{number} 2>/dev/null & pids="$pids $!"')
    # Who is answered need not wait for the others' time to be up.
    lines.append(f"{{ sleep {TIMEOUT}; kill $pids; }} >/dev/null 2>&1 & late=$!")
    lines.append("wait $pids; kill $late")
    lines += [f'echo "$(base64 try.{number} | tr -d "\\n")"' for number in range(len(flows))]
    output = host.run("\n".join(lines), deadline=TIMEOUT + 30.0).stdout
    # The shell strips the last lines where nothing was heard.
    answers = [base64.b64decode(line).decode(errors="replace").strip() for line in output.split("\n")]
    return answers + [""] * (len(flows) - len(answers))


def udp_command(target: IPv4Address | IPv6Address, port: int, timeout: float) -> str:
    """Return the command that sends one datagram through a router, and prints who answers that nobody serves the port.

    A datagram that the router were to keep for itself would not be let in; the host behind it is one hop farther.
    """
    # The first datagram goes to the port after the given one.
    return f"traceroute -n -q 1 -w {timeout:.0f} -f {_HOPS} -m {_HOPS} -p {port - 1} {target}"


def _command(flow: Flow) -> str:
    if flow.port is not None and flow.protocol == "udp":
        return udp_command(flow.target, flow.port, TIMEOUT)
    if flow.port is None:
        return f"ping -c 1 -W {TIMEOUT} {flow.target}"
    if flow.inner_port == HTTP_PORT:
        return f"wget -q -O - http://{flow.host}:{flow.port}{PEER}"
    return f"nc {flow.target} {flow.port}"
