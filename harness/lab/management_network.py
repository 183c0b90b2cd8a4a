"""The management network around an agent VM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from harness.vm import topology
from harness.vm.cables import HostForward
from harness.vm.system import SystemVm

if TYPE_CHECKING:
    from harness.site.site import Site

# Who signed the VM agent's certificate, beside the snapshot that holds it.
AUTHORITY = "authority.pem"
# What the network says, by the name among the results.
MANAGEMENT_LOG = "management-network.log"
_SITES: WeakKeyDictionary[SystemVm, Site] = WeakKeyDictionary()


@contextmanager
def management_of(
    vm: SystemVm, snapshot: Path, log: Path, services: Sequence[HostForward] = (), *, agent: bool = True
) -> Iterator[None]:
    """Play the management network of an agent VM, with the authority of its snapshot.

    Args:
        vm: the VM; one without a management network is left alone.
        snapshot: folder of the golden snapshot that it is from.
        log: file for what the network says.
        services: what the VM finds there besides its server, by address and port.
        agent: whether the VM has an agent that can start; nobody plays the network for one that has not.
    """
    uplink = vm.uplinks.get("management")
    if uplink is None or not agent:
        yield
        return
    # Only agent VMs need it.
    from harness.site.authority import Authority
    from harness.site.site import Site

    authority = Authority.load(snapshot / AUTHORITY)
    with Site(
        authority, uplink.other_end, topology.MANAGEMENT_NETWORK, topology.MANAGEMENT_GATEWAY, log, services
    ) as site:
        _SITES[vm] = site
        try:
            yield
        finally:
            del _SITES[vm]


def site_of(vm: SystemVm) -> Site | None:
    """Return who plays the management network of a VM at this moment; None while nobody does."""
    return _SITES.get(vm)
