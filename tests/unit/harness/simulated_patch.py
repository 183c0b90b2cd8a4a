"""A router as the commands of an observation would describe it, for tests that change one thing and ask the checks.

Nothing here runs in a VM: the outputs are written down, in the form in which the real programs print them. A test

1. takes ``world()``: the sections of a healthy router before a patch, right after a good one, and later;
2. changes one output with ``edit`` (or leaves all as they are);
3. asks ``judged(...)`` which checks found something wrong, and why.

So a mutant is one line: what a broken patch would have left behind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from harness.checks import Case, failed, judge
from harness.checks.shipped import Shipped
from harness.guest.collect import ABSENT, Section
from harness.kvmagent.patch import PatchAnswer
from harness.observe import files
from harness.observe.kernel import HOST_CLOCK
from harness.observe.observation import commands, parse

OLD_SIGNATURE = "1" * 32
NEW_SIGNATURE = "2" * 128
FOLDERS = files.FOLDERS


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class File:
    """A path of the guest."""

    content: str = ""
    mode: int = 0o644
    owner: str = "root"
    kind: str = "f"
    link: str = ""
    written: int = 1000
    links: int = 1
    flags: str = ""
    device: str = ""
    size: int = 0

    @property
    def bytes(self) -> int:
        return self.size or len(self.content)


@dataclass
class Unit:
    """A service of the guest with its process numbers; ``start`` stands for all its times."""

    name: str
    main: int
    start: int
    workers: tuple[tuple[int, int], ...] = ()
    active: str = "active"
    sub: str = "running"
    enabled: str = "enabled"
    restarts: int = 0
    load: str = "loaded"
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Program:
    """A process outside services, or one of theirs."""

    pid: int
    file: str
    command: str = ""
    unit: str = ""
    parent: int = 1


@dataclass
class Moment:
    """Everything that one observation says."""

    files: dict[str, File] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    listeners: list[tuple[str, str, str, int]] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    texts: dict[str, str | None] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    signature: str = OLD_SIGNATURE
    kept: str = OLD_SIGNATURE
    boot_code: dict[str, str] = field(default_factory=lambda: {"partition 1": "c0de"})
    nameless: int = 50_000_000
    strange_code: tuple[str, ...] = ()

    def observation(self) -> Any:
        """Return it: a text that is None is a program that failed; of what there is no text, the VM has nothing."""
        texts = self._all_texts()
        outputs = {name: Section(name, ABSENT, b"") for name in (*commands(), HOST_CLOCK)}
        for name, text in texts.items():
            outputs[name] = Section(name, int(text is None), (text or "").encode("utf-8", "surrogateescape"))
        seen = parse(outputs, FOLDERS, name="r-10-VM")
        state = replace(
            seen.state, from_host=bool(self.boot_code), boot_code=self.boot_code, nameless=self.nameless
        )
        unanswered = {name: n for name, n in seen.unanswered.items() if name in texts}
        return replace(seen, state=state, unanswered=unanswered, strange_code=self.strange_code)

    def _all_programs(self) -> list[Program]:
        """Return the programs outside services, and one a process of a service, named after it."""
        return self.programs + [
            Program(pid, f"/usr/sbin/{unit.name.removesuffix('.service')}")
            for unit in self.units.values()
            for pid, _ in ((unit.main, 0), *unit.workers)
            if pid
        ]

    def _all_texts(self) -> Mapping[str, str | None]:
        units = self.units.values()
        return {
            "state.paths": "".join(
                f"{file.kind}\0{file.mode:o}\0{file.owner}\0{file.owner}\0{file.links}\0{crc32(path.encode())}\0{file.bytes}\0"
                f"{file.written}.0\0{file.written}.0\0{path}\0{file.link}\0"
                for path, file in self.files.items()
            ),
            "state.devices": "".join(f"{f.device}  {p}\0" for p, f in self.files.items() if f.device),
            "state.hashes": "".join(
                f"{sha(f.content)}  {p}\0" for p, f in self.files.items() if f.kind == "f" and is_read(p)
            ),
            "state.xattrs": "",
            "state.owners": "",
            "state.clock": "2000.5\n",
            "state.flags": "".join(f"----{f.flags}---- {p}\n" for p, f in self.files.items() if f.flags),
            "services.units": "\n\n".join(map(show, units)),
            "services.manager": "LogLevel=info\nEnvironment=LANG=C PATH=/usr/bin\n",
            "services.stat": "".join(
                f"{pid} (a b) c) S {' '.join(['0'] * 18)} {start} 0 0\n"
                for unit in units
                for pid, start in ((unit.main, unit.start), *unit.workers)
                if pid
            )
            + "".join(
                f"{row.pid} (x) S {row.parent} {' '.join(['0'] * 17)} 7000 0 0\n" for row in self.programs
            ),
            "services.groups": "".join(
                f"/proc/{pid}/cgroup:0::/system.slice/{unit.name}\n"
                for unit in units
                for pid, _ in ((unit.main, 0), *unit.workers)
                if pid
            )
            + "".join(
                f"/proc/{row.pid}/cgroup:0::/system.slice/{row.unit or 'session-1.scope'}\n"
                for row in self.programs
            ),
            "processes.self": "999\n",
            "processes.files": "".join(
                f"/proc/{row.pid}/exe\0root\0{row.file}\0" for row in self._all_programs()
            ),
            "processes.commands": "".join(
                f"/proc/{row.pid}/cmdline:{row.command.replace(' ', chr(10))}\n\n"
                for row in self._all_programs()
            ),
            "processes.gone": "",
            "sockets.unix": UNIX,
            "sockets.raw": "  sl  local_address rem_address\n",
            "sockets.packet": "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n",
            "kernel.settings": "".join(f"/proc/sys/{name}:{value}\n" for name, value in self.sysctls.items()),
            "kernel.modules": "ip_tables 28672 1 - Live 0x0000000000000000\n",
            "kernel.mounts": "".join(f"{row}\n" for row in self.mounts),
            "kernel.swaps": "Filename Type Size Used Priority\n",
            "kernel.clock": "2003.5\n",
            HOST_CLOCK: "2000.0 2004.0",
            "services.states": "".join(
                f"{unit.name} loaded failed failed text\n" for unit in units if unit.active == "failed"
            ),
            "sockets": "Netid State Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n"
            + "".join(
                f'{protocol} LISTEN 0 128 {address} 0.0.0.0:* users:(("{program}",pid={pid},fd=3))\n'
                for protocol, address, program, pid in self.listeners
            ),
            "journal.lines": "\n".join(map(json.dumps, self.journal)),
            "journal.cursor": '{"__CURSOR": "s=1"}',
            "journal.cores": "",
            "journal.crashes": "",
            "scripts.signature": self.signature + "\n",
            "scripts.md5": f"{self.kept}  /usr/share/cloud/cloud-scripts.tgz\n",
            "scripts.sha512": f"{self.kept}  /usr/share/cloud/cloud-scripts.tgz\n",
            "scripts.template": "Cloudstack Release 4.21.0 Sat Jan 31 2026\n",
            **self.texts,
        }


def is_read(path: str) -> bool:
    """Return whether an observation reads the content of a file."""
    return any(path.startswith(f"{folder}/") for folder in FOLDERS)


UNIX = (
    "Num       RefCount Protocol Flags    Type St Inode Path\n"
    "0000000000000000: 00000002 00000000 00010000 0001 01 15216 /run/systemd/private\n"
    "0000000000000000: 00000003 00000000 00000000 0001 03 15217 /run/systemd/notify\n"
)


def show(unit: Unit) -> str:
    return (
        f"Id={unit.name}\nNames={unit.name}\nLoadState={unit.load}\nActiveState={unit.active}\nSubState={unit.sub}\n"
        f"UnitFileState={unit.enabled}\nMainPID={unit.main}\nExecMainStartTimestampMonotonic={unit.start}\n"
        f"InvocationID={unit.start:032x}\nNRestarts={unit.restarts}\nControlGroup=/system.slice/{unit.name}"
        + "".join(f"\n{name}={value}" for name, value in unit.settings.items())
    )


IPTABLES = """# Generated by iptables-save v1.8.9 on Sat Jan 31 00:00:00 2026
*filter
:INPUT DROP [1:60]
:FORWARD DROP [0:0]
[5:300] -A INPUT -i eth1 -p tcp -m tcp --dport 3922 -j ACCEPT
-A INPUT -i eth0 -p udp -m udp --dport 67 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 192.0.2.10/32 -i eth2 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 10.1.1.50:22
COMMIT
"""
CONNTRACK = (
    "ipv4     2 tcp      6 431999 ESTABLISHED src=198.51.100.7 dst=192.0.2.10 sport=40000 dport=2222 "
    "src=10.1.1.50 dst=198.51.100.7 sport=22 dport=40000 [ASSURED] mark=0 zone=0 use=2\n"
    "ipv4     2 tcp      6 431999 ESTABLISHED src=10.1.1.50 dst=192.0.2.10 sport=40001 dport=80 "
    "src=192.0.2.10 dst=10.1.1.50 sport=80 dport=40001 [ASSURED] mark=0 zone=0 use=2\n"
    "ipv4     2 udp      17 29 src=10.1.1.50 dst=10.1.1.1 sport=68 dport=67 src=10.1.1.1 dst=10.1.1.50 sport=67\n"
)
STAT = "# pxname,svname,scur,status,mode\n192_0_2_20-80,FRONTEND,3,OPEN,http\n192_0_2_20-80,192_0_2_20-80_0,1,UP,http\n"
SERVERS = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n"
    "3 192_0_2_20-80 1 s0 10.1.1.50 2 0 80\n"
)
ADDRESSES = json.dumps(
    [{"ifname": "eth2", "addr_info": [{"local": "192.0.2.10", "valid_life_time": 4294967295}]}]
)


def haproxy(stat: str = STAT, servers: str = SERVERS) -> str:
    """Return what haproxy's socket answers to both questions."""
    return f"{stat}\n{servers}\n"


def before() -> Moment:
    """Return the healthy router before the patch."""
    return Moment(
        files={
            "/etc": File(kind="d", mode=0o755),
            "/etc/haproxy/haproxy.cfg": File("listen rules"),
            "/etc/ssh/ssh_host_ed25519_key": File("key", 0o600),
            "/etc/systemd/system/cloud.service": File("[Unit] old"),
            "/opt/cloud/bin": File(kind="d", mode=0o755),
            "/opt/cloud/bin/vr_cfg.sh": File("old", 0o755),
            "/opt/cloud/bin/gone.sh": File("old", 0o755),
            "/opt/cloud/bin/mode.sh": File("same", 0o644),
            "/root": File(kind="d", mode=0o700),
            "/root/notes": File("the operator's own"),
            "/var/cache/cloud/cloud-scripts-signature": File(OLD_SIGNATURE),
            "/usr/share/cloud/cloud-scripts.tgz": File("old archive"),
            "/usr/sbin/logrotate": File("logrotate", 0o755),
            "/boot/vmlinuz": File("kernel"),
            "/boot/initrd.img": File("initrd"),
            "/var/lib/dpkg/status": File("Package: bash"),
            "/dev/null": File(kind="c", mode=0o666, device="1:3"),
        },
        sysctls={"net/ipv4/ip_forward": "1", "kernel/hostname": "r-10-VM", "kernel/random/uuid": "1"},
        mounts=["/dev/vda1 / ext4 rw,relatime 0 0", "tmpfs /run tmpfs rw,nosuid,size=100k 0 0"],
        programs=[Program(410, "/sbin/agetty", "/sbin/agetty ttyS0", "serial-getty@ttyS0.service")],
        units={
            "haproxy.service": Unit("haproxy.service", 100, 1000, ((101, 1001),)),
            "apache2.service": Unit("apache2.service", 200, 1000, ((201, 1001), (202, 1001))),
            "dnsmasq.service": Unit("dnsmasq.service", 300, 1000),
            "ssh.service": Unit("ssh.service", 400, 900),
            "cloud.service": Unit("cloud.service", 0, 0, active="inactive", sub="dead", enabled="disabled"),
            "logrotate.timer": Unit("logrotate.timer", 0, 0, sub="waiting"),
        },
        listeners=[
            ("tcp", "192.0.2.20:80", "haproxy", 101),
            ("tcp", "10.1.1.1:80", "apache2", 201),
            ("udp", "10.1.1.1%eth0:53", "dnsmasq", 300),
            ("tcp", "169.254.12.34:3922", "sshd", 400),
        ],
        texts={
            "services.enabled": "haproxy apache2\ndnsmasq\n",
            "services.disabled": "cloud\n",
            "rules.iptables": IPTABLES,
            "rules.addresses": ADDRESSES,
            "rules.routes": "default via 192.0.2.1 dev eth2\n",
            "rules.haproxy": haproxy(),
            "rules.dhcp-hosts": "02:00:26:c3:00:02,10.1.1.50,vm1,infinite\n",
            "rules.leases": "1769817600 02:00:26:c3:00:02 10.1.1.50 vm1 *\n",
            "rules.metadata": f"{sha('#cloud-config')}  userdata/10.1.1.50/user-data\n",
            "flows": CONNTRACK,
            "identity.keystore": pem("own key"),
            "identity.truststore": pem("ca 1") + pem("ca 2"),
            "identity.properties": "resource=Nfs\nguid=s-1\nhost=10.0.0.5\nkeystore.passphrase=x\nextra=1\n",
            "identity.host-keys": "aa  ssh_host_ed25519_key\n",
        },
    )


def pem(name: str) -> str:
    import base64

    body = base64.b64encode(name.encode()).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def patched() -> Moment:
    """Return the router after a good patch: haproxy and apache2 reloaded, dnsmasq restarted."""
    moment = before()
    moment.files |= {
        "/etc/systemd/system/cloud.service": File("[Unit] new"),
        "/opt/cloud/bin/vr_cfg.sh": File("new", 0o755),
        "/opt/cloud/bin/added.sh": File("added", 0o755),
        "/opt/cloud/bin/mode.sh": File("same", 0o755),
        "/var/cache/cloud/cloud-scripts-signature": File(NEW_SIGNATURE),
        "/usr/share/cloud/cloud-scripts.tgz": File("new archive"),
    }
    del moment.files["/opt/cloud/bin/gone.sh"]
    moment.units["haproxy.service"] = Unit("haproxy.service", 100, 1000, ((101, 1001), (151, 5000)))
    moment.units["apache2.service"] = Unit("apache2.service", 200, 1000, ((251, 5000),))
    moment.units["dnsmasq.service"] = Unit("dnsmasq.service", 350, 5000)
    moment.listeners[:3] = [
        ("tcp", "192.0.2.20:80", "haproxy", 151),
        ("tcp", "10.1.1.1:80", "apache2", 251),
        ("udp", "10.1.1.1%eth0:53", "dnsmasq", 350),
    ]
    moment.signature = moment.kept = NEW_SIGNATURE
    return moment


def shipped(*rows: tuple[str, str, int]) -> dict[str, Shipped]:
    return {path: Shipped(path, "file", mode, sha(content)) for path, content, mode in rows}


OLD_PAYLOAD = shipped(
    ("/etc/haproxy/haproxy.cfg", "listen default", 0o644),
    ("/etc/systemd/system/cloud.service", "[Unit] old", 0o644),
    ("/opt/cloud/bin/vr_cfg.sh", "old", 0o755),
    ("/opt/cloud/bin/gone.sh", "old", 0o755),
    ("/opt/cloud/bin/mode.sh", "same", 0o644),
)
NEW_PAYLOAD = shipped(
    ("/etc/haproxy/haproxy.cfg", "listen default", 0o644),
    ("/etc/systemd/system/cloud.service", "[Unit] new", 0o644),
    ("/opt/cloud/bin/vr_cfg.sh", "new", 0o755),
    ("/opt/cloud/bin/added.sh", "added", 0o755),
    ("/opt/cloud/bin/mode.sh", "same", 0o755),
)


@dataclass
class SimulatedPatch:
    """The three moments of one patch, and what was asked and answered."""

    before: Moment
    patched: Moment
    after: Moment
    fields: dict[str, Any]

    def case(self) -> Case:
        moments = {name: getattr(self, name).observation() for name in ("before", "patched", "after")}
        return Case(**moments, **self.fields)

    def found(self) -> dict[str, str]:
        """Return the reasons of the checks that found something wrong, by name."""
        return {outcome.name: outcome.reason for outcome in failed(judge(self.case()))}

    def answer(self, **changes: Any) -> None:
        self.fields["answer"] = replace(self.fields["answer"], **changes)


def world() -> SimulatedPatch:
    """Return a good patch."""
    answer = PatchAnswer(True, "Successfully patched", "4.21", NEW_SIGNATURE, patched=True, ran=True)
    fields = {
        "vm_type": "router",
        "expected": "patched",
        "signature": NEW_SIGNATURE,
        "answer": answer,
        "recorded": NEW_SIGNATURE,
        "old": OLD_PAYLOAD,
        "new": NEW_PAYLOAD,
        "live_paths": ("etc/haproxy/haproxy.cfg",),
        "control_address": "169.254.12.34",
    }
    return SimulatedPatch(before(), patched(), patched(), fields)


def failed_world() -> SimulatedPatch:
    """Return a patch that failed and was rolled back without a trace."""
    made = world()
    made.patched, made.after = before(), before()
    made.fields |= {
        "expected": "kept",
        "recorded": OLD_SIGNATURE,
        "answer": PatchAnswer(False, "haproxy is not active", "4.21", OLD_SIGNATURE, ran=True),
    }
    return made
