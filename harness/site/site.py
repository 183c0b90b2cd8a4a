"""An agent VM's management network: the server's port 8250, and a hypervisor's VNC server.

One :class:`Site` serves one VM. Its authority is the one that signed the VM's certificate, so a restored copy of a
golden snapshot gets a site with the authority that lies beside that snapshot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Self

from harness.host import wait
from harness.site import relay, vnc
from harness.site.authority import Authority
from harness.site.relay import Relay
from harness.site.vm_agent_link import VmAgentLink
from harness.site.vm_agent_port import VmAgentPort, VmAgentSession
from harness.traffic.measurement import Recorder
from harness.vm.cables import HostForward
from harness.vm.loopback import UdpCable

SERVER, SERVER_PORT = "10.0.0.5", 8250
VNC_PORT = 5900
# Signs of life a second: the VM agent's connection is a probe of the traffic, too.
PINGS = 5.0
# Seconds that a VM agent may be away: a restart, its start under emulation, and its pause between two attempts.
AWAY_LIMIT = 60.0
# Seconds for a VM agent to find the site of its restored VM: after a wait it pauses up to 30 s between two attempts.
CONNECT_DEADLINE = 150.0
_VNC_LOG = "vnc-server.log"


class Site:
    """The management network of one agent VM, as a context manager."""

    def __init__(
        self, authority: Authority, cable: UdpCable, network: str, gateway: str, log: Path,
        services: Sequence[HostForward] = (),
    ) -> None:  # fmt: skip
        """Prepare it.

        Args:
            authority: who signs certificates.
            cable: this side's end of the cable to the VM's management NIC.
            network: the management network's addresses.
            gateway: its gateway.
            log: file for what the network's QEMU says; the VNC server's lies beside it.
            services: what the VM finds there besides, by address and port.
        """
        self.authority = authority
        self._vnc_log = log.with_name(_VNC_LOG)
        with tempfile.TemporaryDirectory() as keys:
            context = authority.server_context(Path(keys))
        self.agents = VmAgentPort(context, ping_interval=1 / PINGS, console=(SERVER, VNC_PORT))
        self._network: Callable[[Sequence[HostForward]], AbstractContextManager[Relay]] = lambda outward: (
            relay.run(cable, network, gateway, outward, log)
        )
        self._services = tuple(services)
        self._relay: Relay | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Start server, VNC server and network."""
        with ExitStack() as stack:
            stack.enter_context(self.agents)
            screen = stack.enter_context(vnc.serve(self._vnc_log))
            outward = [
                HostForward(self.agents.port, SERVER, SERVER_PORT),
                HostForward(screen, SERVER, VNC_PORT),
                *self._services,
            ]
            self._relay = stack.enter_context(self._network(outward))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all of them."""
        self._open.close()

    def require(self) -> None:
        """Make sure that the network runs: a VM agent that does not answer otherwise is at fault itself.

        Raises:
            InfrastructureError: it has ended.
        """
        if self._relay is not None:
            self._relay.require()

    def connected(self, deadline: float = CONNECT_DEADLINE) -> VmAgentSession:
        """Return the VM agent's connection, waiting for it.

        Raises:
            InfrastructureError: there is none in time, or the network is gone.
        """

        def look() -> VmAgentSession | None:
            self.require()
            return self.agents.latest

        return wait.until(look, "the agent's connection to the management server", deadline)

    @contextmanager
    def followed(self, recorder: Recorder) -> Iterator[None]:
        """Count every sign of life of the VM agent as an answer to a probe."""

        def count(_guid: str) -> None:
            recorder.sent()
            recorder.answered()

        self.agents.on_ping = count
        try:
            yield
        finally:
            self.agents.on_ping = None

    def link_since(self, before: VmAgentSession, limit: float = AWAY_LIMIT) -> VmAgentLink:
        """Return what became of a VM agent's connection; waits up to ``limit`` seconds for one that is away."""
        try:
            after = self.connected(limit)
        except wait.DeadlineExceeded:
            return VmAgentLink(before.fingerprint, "", before.resource, "", limit, limit)
        seen = [row for row in self.agents.sessions if before.began <= row.began <= after.began]
        ends = [row.ended if row.ended is not None else row.began for row in seen[:-1]]
        pauses = [later.began - end for end, later in zip(ends, seen[1:], strict=True)]
        return VmAgentLink(
            before.fingerprint, after.fingerprint, before.resource, after.resource,
            max([0.0, *pauses]), limit,
        )  # fmt: skip
