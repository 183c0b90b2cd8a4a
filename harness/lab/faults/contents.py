"""Faults of a bundle: edits of its contents after which something of the VM cannot work.

Every broken bundle is made of the bundle under test and keeps its patch script, so that the verdict about a failing
patch is a verdict about that script. A new fault is one row of ``FAULTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle import catalogue
from bundle.archive.members import Archive
from bundle.derive import EditableArchive, derive
from bundle.errors import UsageError

Edited = dict[Archive, EditableArchive]
_SCRIPTS: Archive = "cloud-scripts.tgz"
_AGENT: Archive = "agent.zip"


@dataclass(frozen=True)
class Fault:
    """A named fault.

    Attributes:
        name: ``service.what``, such as ``haproxy.configuration``.
        service: the word of ``enabled_svcs`` that cannot come back; empty where no service is to blame.
        what: one line for people.
        edit: breaks the contents of a bundle.
        needs: path of the scripts that the fault is in; a bundle without it cannot have the fault.
        stops: nobody can know of it before the service is stopped, so its users have to wait for the rollback.
    """

    name: str
    service: str
    what: str
    edit: Callable[[Edited], None]
    needs: str = ""
    stops: bool = False


# A part of its own: other payloads than the reference one ship the one file that rules rewrite, and a script that keeps
# live configuration never installs that.
_BALANCER = "etc/haproxy/conf.d/00-cloud.cfg"


def _haproxy(contents: Edited) -> None:
    scripts = contents[_SCRIPTS]
    scripts.write(_BALANCER, scripts.read(_BALANCER) + b"\nglobal\n    this-is-no-keyword of haproxy\n")


def _dnsmasq(contents: Edited) -> None:
    contents[_SCRIPTS].write("etc/dnsmasq.d/zz-broken.conf", b"this-is-no-option-of-dnsmasq\n")


def _apache(contents: Edited) -> None:
    contents[_SCRIPTS].write("etc/apache2/conf-enabled/zz-broken.conf", b"ThisIsNoDirective On\n")


def _agent(contents: Edited) -> None:
    contents[_AGENT].write("_run.sh", b"#!/bin/bash\nexit 1\n", 0o555)


def _unit(service: str) -> Callable[[Edited], None]:
    def edit(contents: Edited) -> None:
        path = f"etc/systemd/system/{service}.service.d/zz-broken.conf"
        contents[_SCRIPTS].write(path, b"[Service]\nExecStartPre=/bin/false\n")

    return edit


def _flaps(service: str) -> Callable[[Edited], None]:
    # Long enough that whoever looks once sees a service that is up.
    later = "(/bin/sleep 4; /bin/kill -KILL ${MAINPID}) >/dev/null 2>&1 </dev/null &"

    def edit(contents: Edited) -> None:
        path = f"etc/systemd/system/{service}.service.d/zz-broken.conf"
        contents[_SCRIPTS].write(path, f"[Service]\nExecStartPost=/bin/sh -c '{later}'\n".encode())

    return edit


def _no_agent_archive(contents: Edited) -> None:
    for path in [name for name in contents[_AGENT].items if "/" not in name]:
        contents[_AGENT].remove(path)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "haproxy.configuration",
        "haproxy",
        "a word in its configuration that haproxy does not know",
        _haproxy,
        needs=_BALANCER,
    ),
    Fault("dnsmasq.configuration", "dnsmasq", "an option that dnsmasq does not have", _dnsmasq),
    Fault("apache2.configuration", "apache2", "a directive that apache2 does not have", _apache),
    Fault("cloud.program", "cloud", "an agent that ends at once with status 1", _agent),
    *(
        Fault(f"{word}.unit", word, f"a unit of {word} that cannot start", _unit(word), stops=True)
        for word in ("haproxy", "dnsmasq", "apache2", "cloud", "keepalived", "conntrackd")
    ),
    *(
        Fault(
            f"{word}.flaps",
            word,
            f"a unit of {word} whose process dies four seconds after its start",
            _flaps(word),
        )
        for word in ("haproxy", "dnsmasq", "apache2", "cloud")
    ),
    Fault("agent.empty", "cloud", "an agent.zip with nothing in it", _no_agent_archive),
)


def fault(name: str) -> Fault:
    """Return the fault of a name.

    Raises:
        UsageError: there is none.
    """
    for row in FAULTS:
        if row.name == name:
            return row
    raise UsageError(f"unknown fault {name!r}", hint=f"there are {', '.join(row.name for row in FAULTS)}")


def breakable(vm_type: str, shipped: Container[str] | None = None, *, down: Container[str] = ()) -> Fault:
    """Return the fault that breaks a VM of a type: of the first of its services that can be broken.

    Args:
        vm_type: as in the catalogue.
        shipped: paths of the scripts of the bundle that is to have the fault; None stands for the reference payload.
        down: services that are down before any patch.

    Raises:
        UsageError: the catalogue does not have the type, or nothing of it can be broken.
    """
    enabled = catalogue.load().services_of(vm_type)[0].enabled
    for word in (word for word in enabled if word not in down):
        for row in FAULTS:
            if row.service == word and (shipped is None or not row.needs or row.needs in shipped):
                return row
    raise UsageError(f"no service of a {vm_type} can be broken on purpose ({', '.join(enabled)})")


def build_broken(bundle: Path, broken: Fault, target: Path, digest: Literal["md5", "sha512"]) -> Path:
    """Make a bundle with a fault from a bundle.

    Args:
        bundle: the bundle under test.
        broken: what is wrong with the new one.
        target: the new bundle's folder; one that is there already is returned as it is.
        digest: algorithm of the signature, for a bundle without manifest.
    """
    return target if target.exists() else derive(bundle, target, broken.edit, digest=digest)
