"""The connection between a VM agent and the management server, as a patch leaves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VmAgentLink:
    """The connection between a VM agent and the management server.

    Attributes:
        before: fingerprint of the certificate that the VM agent showed before the patch.
        after: fingerprint that it showed after it; empty when it did not come back.
        resource_before: what it said it serves.
        resource_after: what it says now.
        away: seconds without a connection.
        limit: seconds that it may be away.
    """

    before: str
    after: str
    resource_before: str = ""
    resource_after: str = ""
    away: float = 0.0
    limit: float = 60.0
