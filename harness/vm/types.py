"""The topology of each VM type as it is without a declared network; what else is known of a type has the catalogue.

NIC order and cmdline parameters are CloudStack's (its KVM agent and management server, release 4.22); the addresses are
ours, from the documentation ranges.
"""

from __future__ import annotations

from collections.abc import Callable

from bundle import catalogue
from bundle.errors import UsageError
from harness.vm.tenant.tenant import TenantHost, TenantSpec
from harness.vm.topology import NicPlan, Topology

_CONTROL_MASK = "255.255.0.0"
_MASK = "255.255.255.0"


def _control(last: int) -> NicPlan:
    """Return a control NIC at 169.254.12.``last``; CloudStack derives its MAC from the address."""
    return NicPlan("control", f"0e:00:a9:fe:0c:{last:02x}", f"169.254.12.{last}", _CONTROL_MASK)


def _public(last: int) -> NicPlan:
    return NicPlan("public", f"1e:00:c0:00:02:{last:02x}", f"192.0.2.{last}", _MASK)


def _guest(address: str) -> NicPlan:
    last = int(address.rsplit(".", 1)[1])
    return NicPlan("guest", f"02:00:0a:01:01:{last:02x}", address, _MASK)


def _management(last: int) -> NicPlan:
    return NicPlan("management", f"06:00:0a:00:00:{last:02x}", f"10.0.0.{last}", _MASK)


# Name of the tenant guest of every topology; one holds all hosts.
TENANTS = "tenants"
TENANT = TenantSpec(TENANTS, (TenantHost("vm1", "02:00:0a:01:01:32", "eth0", "10.1.1.50"),))
_DNS = "dns1=192.0.2.53"
_GUEST_NETWORK = (
    "domain=cs1.cloud.internal",
    "cidrsize=24",
    "dhcprange=10.1.1.1",
    "disable_rp_filter=true",
    _DNS,
    "logrotatefrequency=*:00:00",
)


def router() -> Topology:
    """Return a router of an isolated network with one tenant."""
    return Topology(
        "router", "r-10-VM", (_guest("10.1.1.1"), _control(34), _public(10)),
        ("gateway=192.0.2.1", "publicMtu=1500", "privateMtu=1500", *_GUEST_NETWORK, "type=router"),
        tenants=(TENANT,),
    )  # fmt: skip


def dhcpsrvr() -> Topology:
    """Return the DHCP, DNS and user-data server of a shared network with one tenant."""
    return Topology(
        "dhcpsrvr", "r-30-VM", (_guest("10.1.1.5"), _control(35)),
        ("gateway=10.1.1.1", "privateMtu=null", *_GUEST_NETWORK, "type=dhcpsrvr"),
        tenants=(TENANT,),
    )  # fmt: skip


def ilbvm() -> Topology:
    """Return an internal load balancer with one tenant behind it."""
    return Topology(
        "ilbvm", "b-40-VM", (_guest("10.1.1.100"), _control(36)),
        ("gateway=10.1.1.1", "dns1=10.1.1.1", "domain=cs2.cloud.internal", "type=ilbvm"),
        tenants=(TENANT,),
    )  # fmt: skip


def elbvm() -> Topology:
    """Return an elastic load balancer."""
    return Topology(
        "elbvm", "l-50-VM", (_guest("10.1.1.9"), _control(37)),
        ("gateway=10.1.1.1", "domain=cs3.cloud.internal", _DNS, "type=elbvm"),
    )  # fmt: skip


def vpcrouter() -> Topology:
    """Return the router of a VPC as it boots: its control NIC alone."""
    return Topology(
        "vpcrouter", "r-20-VM", (_control(38),),
        ("vpccidr=10.20.0.0/16", "domain=cs2.cloud.internal", "publicMtu=1500", _DNS, "has_public_network=true",
         "type=vpcrouter", "disable_rp_filter=true", "logrotatefrequency=*:00:00"),
    )  # fmt: skip


_AGENT = ("host=10.0.0.5", "port=8250", "zone=1", "pod=1", "mgmtcidr=10.0.0.0/24", "localgw=10.0.0.1")


def secstorage() -> Topology:
    """Return a secondary-storage VM."""
    return Topology(
        "secstorage", "s-1-VM", (_control(39), _management(30), _public(30)),
        (*_AGENT, "guid=s-1-VM", "workers=5",
         "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource", "instance=SecStorage",
         "sslcopy=false", "role=templateProcessor", "mtu=1500", "gateway=192.0.2.1",
         "public.network.device=eth2", "private.network.device=eth1", "internaldns1=10.0.0.2", _DNS,
         "nfsVersion=null", "keystore_password=UGFzc3dvcmQxMjM0NTY3OA==", "useHttpsToUpload=true",
         "type=secstorage"),
        exposed=(("192.0.2.30", 443),),
    )  # fmt: skip


def consoleproxy() -> Topology:
    """Return a console proxy."""
    return Topology(
        "consoleproxy", "v-2-VM", (_control(40), _management(32), _public(31)),
        (*_AGENT, "guid=Proxy.2", "proxy_vm=2", "disable_rp_filter=true", "gateway=192.0.2.1",
         "internaldns1=10.0.0.2", _DNS, "vncport=8080", "keystore_password=UGFzc3dvcmQxMjM0NTY3OA==",
         "type=consoleproxy"),
        exposed=(("192.0.2.31", 8080), ("192.0.2.31", 80)),
    )  # fmt: skip


_TOPOLOGIES: dict[str, Callable[[], Topology]] = {
    make.__name__: make for make in (router, dhcpsrvr, ilbvm, elbvm, vpcrouter, secstorage, consoleproxy)
}


def of_type(vm_type: str) -> Topology:
    """Return the default topology of a VM type.

    Raises:
        UsageError: the catalogue has no such type, or nobody has said here which NICs it has.
    """
    name = catalogue.vm_type(vm_type).name
    if name not in _TOPOLOGIES:
        raise UsageError(
            f"VM type {name!r} has no topology (there are those of {', '.join(_TOPOLOGIES)})",
            hint="harness/vm/types.py says which NICs and parameters a type has",
        )
    return _TOPOLOGIES[name]()
