"""The parameters of a system VM's command line: who gets them, since when, and what a good value looks like.

What the guest does with each is told in docs/payload.md. A value that is not good is left out and logged: a VM that
starts without one parameter can be reached, one that does not start cannot.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from . import fields, system
from .errors import Refused
from .fields import Check

_ROUTERS = ("router", "dhcpsrvr", "vpcrouter")
_ISOLATED = ("router", "dhcpsrvr")
_REDUNDANT = ("router", "vpcrouter")
_AGENTS = ("secstorage", "consoleproxy")
_VPC, _STORAGE, _CONSOLE = ("vpcrouter",), ("secstorage",), ("consoleproxy",)
_RULED = (*_ROUTERS, "ilbvm", "elbvm")
EVERY = (*_RULED, *_AGENTS)
NEVER: Tuple[str, ...] = ()


class Parameter(NamedTuple):
    """One parameter: ``name`` with ``#`` for the number of an interface, and the types of VM that are given it."""

    name: str
    types: Tuple[str, ...]
    check: Check = fields.text
    since: str = "4.14.0"


_YES = fields.choice("true", "false")
_NUMBER = fields.integer(0, 2**63)
_MTU = fields.integer(68, 65535)


def _dotted(value: Any) -> str:
    """Accept a netmask; it stays as it is."""
    fields.netmask(value)
    return str(value)


TABLE: Tuple[Parameter, ...] = (
    Parameter("template", EVERY),
    Parameter("name", EVERY, fields.host),
    Parameter("type", EVERY, fields.name),
    Parameter("vmpassword", (*_ROUTERS, *_AGENTS, "ilbvm")),
    Parameter("authorized_key", EVERY, since="4.16.0"),
    Parameter("eth#ip", EVERY, fields.address),
    Parameter("eth#mask", EVERY, _dotted),
    Parameter("eth#ip6", _ROUTERS, fields.address6),
    Parameter("eth#ip6prelen", _ROUTERS, fields.integer(0, 128)),
    Parameter("gateway", EVERY, fields.address),
    Parameter("ip6gateway", _ISOLATED, fields.address6),
    Parameter("localgw", EVERY, fields.address),
    Parameter("mgmtcidr", EVERY),
    Parameter("sshonguest", (*_ROUTERS, "elbvm"), _YES),
    Parameter("redundant_router", _REDUNDANT, fields.name),
    Parameter("advert_int", _REDUNDANT, fields.integer(1, 255)),
    Parameter("router_id", _VPC, _NUMBER),
    Parameter("router_password", _VPC, fields.word),
    Parameter("redundant_state", _REDUNDANT, fields.name),
    Parameter("guestgw", ("router",), fields.address),
    Parameter("guestbrd", ("router",), fields.address),
    Parameter("guestcidrsize", ("router",), fields.integer(0, 32)),
    Parameter("guestgw6", ("router",), fields.address6, "4.17.0"),
    Parameter("guestcidr6size", ("router",), fields.integer(0, 128), "4.17.0"),
    Parameter("privateMtu", _ISOLATED, _MTU, "4.18.0"),
    Parameter("publicMtu", _REDUNDANT, _MTU, "4.18.0"),
    Parameter("is_routed", _ROUTERS, _YES, "4.20.0"),
    Parameter("ip6firewall", _ISOLATED, _YES, "4.17.0"),
    Parameter("domain", _RULED, fields.host),
    Parameter("cidrsize", _ISOLATED, fields.integer(0, 32)),
    Parameter("dhcprange", _ISOLATED, fields.address),
    Parameter("disable_rp_filter", (*_ROUTERS, "consoleproxy"), _YES),
    Parameter("dnssearchorder", _ROUTERS, fields.joined(fields.host)),
    Parameter("extra_pubnics", _ROUTERS, _NUMBER),
    Parameter("nic_macs", EVERY),
    Parameter("dns1", EVERY, fields.any_address),
    Parameter("dns2", EVERY, fields.any_address),
    Parameter("ip6dns1", _ROUTERS, fields.address6),
    Parameter("ip6dns2", _ROUTERS, fields.address6),
    Parameter("useextdns", _ROUTERS, _YES),
    Parameter("userouteripresolver", _VPC, _YES, "4.21.0"),
    Parameter("exposedns", _ROUTERS, _YES),
    Parameter("baremetalnotificationsecuritykey", _ROUTERS),
    Parameter("baremetalnotificationapikey", _ROUTERS),
    Parameter("logrotatefrequency", _ROUTERS, since="4.18.0"),
    Parameter("userdata", EVERY, since="4.22.0"),
    Parameter("vpccidr", _VPC, fields.network),
    Parameter("has_public_network", _VPC, _YES, "4.21.0"),
    Parameter("source_nat_ip", _VPC, fields.address, "4.18.2"),
    Parameter("host", (*_ROUTERS, *_AGENTS)),
    Parameter("port", (*_ROUTERS, *_AGENTS)),
    Parameter("zone", _AGENTS),
    Parameter("pod", _AGENTS),
    Parameter("guid", _AGENTS),
    Parameter("workers", _STORAGE),
    Parameter("instance", _STORAGE),
    Parameter("resource", _STORAGE),
    Parameter("sslcopy", _STORAGE, _YES),
    Parameter("role", _STORAGE),
    Parameter("mtu", _STORAGE, _MTU),
    Parameter("ntpserverlist", _AGENTS),
    Parameter("private.network.device", _STORAGE, fields.name),
    Parameter("public.network.device", _STORAGE, fields.name),
    Parameter("storageip", _STORAGE, fields.address),
    Parameter("storagenetmask", _STORAGE, _dotted),
    Parameter("storagegateway", _STORAGE, fields.address),
    Parameter("secondaryStorageServerAddress", _STORAGE, since="4.18.0"),
    Parameter("bootproto", _AGENTS),
    Parameter("internaldns1", _AGENTS, fields.any_address),
    Parameter("internaldns2", _AGENTS, fields.any_address),
    Parameter("nfsVersion", _STORAGE),
    Parameter("keystore_password", _AGENTS, since="4.17.0"),
    Parameter("useHttpsToUpload", _STORAGE, _YES, "4.18.0"),
    Parameter("premium", _CONSOLE),
    Parameter("proxy_vm", _CONSOLE),
    Parameter("vncport", _CONSOLE, fields.port, "4.18.0"),
    Parameter("certificate", NEVER, since="4.17.0"),
    Parameter("cacertificate", NEVER, since="4.17.0"),
    Parameter("privatekey", NEVER, since="4.17.0"),
    Parameter("validity", NEVER, since="4.17.0"),
    Parameter("router_pr", NEVER),
    Parameter("defaultroute", NEVER),
    Parameter("storagecidr", NEVER),
)
_BY_NAME = {parameter.name: parameter for parameter in TABLE}
_INTERFACE = re.compile(r"eth[0-9]{1,2}(ip|mask|ip6|ip6prelen)")


def find(name: str) -> Optional[Parameter]:
    """Return the row of a parameter, or None for an unknown one."""
    found = _INTERFACE.fullmatch(name)
    return _BY_NAME.get(f"eth#{found.group(1)}" if found else name)


def _words(value: Dict[Any, Any]) -> Iterator[Tuple[str, str]]:
    for key, word in value.items():
        if word is None or word == "null":
            continue
        row = find(fields.text(key))
        try:
            yield key, str((row.check if row else fields.text)(word))
        except Refused as error:
            # Only the name is logged: some values are secrets.
            secret = key in ("vmpassword", "router_password", "keystore_password")
            system.log(f"the parameter {key} is left out: {'it is malformed' if secret else error}")


def check(value: Any) -> Dict[str, str]:
    """Accept the parameters of the command line, without those that are absent or malformed.

    Raises:
        Refused: it is no object, or nothing names the type of the VM.
    """
    if not isinstance(value, dict):
        raise Refused(f"not an object: {value!r}")
    found = dict(_words(value))
    if not found.get("type"):
        raise Refused("no parameters, or none that names the type")
    return found
