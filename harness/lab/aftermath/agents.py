"""Later uses of a VM that has an agent: the server asks it how it is, and gives it another certificate."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from bundle.errors import InfrastructureError
from harness.guest.protocols import Guest
from harness.host import wait

if TYPE_CHECKING:
    from harness.site.site import Site

# Seconds: an agent that was restarted by its new certificate is back within some ten under emulation.
_ANSWER, _BACK = 60.0, 120.0


def health(site: Site) -> str:
    """Return what is wrong with the answer of an agent that is asked how it is."""
    try:
        answer = site.agents.ask("check_health", _ANSWER)
    except InfrastructureError as error:
        return str(error)
    return "" if answer.get("result") is True else f"the agent says {answer.get('details', answer)!r}"


def renewed(site: Site, guest: Guest) -> str:
    """Give the agent another certificate; returns what is wrong with how it comes back."""
    before = site.agents.latest
    if before is None:
        return "no agent is connected"
    began = time.monotonic()
    try:
        site.authority.provision(guest, secrets.token_hex(16))
        after = site.agents.wait_for(before.guid, _BACK, since=began)
    except (InfrastructureError, wait.DeadlineExceeded) as error:
        return f"the agent does not come back with another certificate: {error}"
    same = after.fingerprint == before.fingerprint
    return "the agent still shows its old certificate" if same else ""
