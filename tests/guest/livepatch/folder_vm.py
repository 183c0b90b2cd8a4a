"""A lab for ``patch-sysvms.sh``: the rendered script runs in a root folder of its own, in a fraction of a second.

A ``FolderVm`` is a folder on tmpfs that becomes ``/`` by chroot in a mount namespace and a process namespace of its
own. It has its own ``/etc /opt /root /usr/local /usr/share /var /run``; programs and libraries come from the machine,
so bash, coreutils, tar, gzip, unzip, openssl, flock and setsid are the real ones, read-only. Stand-ins, in
``/usr/local/sbin``, are:

* ``systemctl`` models units as folders: active, failed, slow, flapping, restarting themselves, refusing a reload; it
  knows a unit's file as it was at the last ``daemon-reload``, and starts it with that;
* ``ss`` lists the ports of active units, ``iptables*`` keep one chain in a file;
* ``sync`` tells the lab what is durable from now on, which is what a power cut leaves: the file systems and files
  that it was asked for, and nothing else.

**Power cut.** Every ``sync -f`` of the script takes a snapshot of the file system. ``power_cut("lost")`` brings that
snapshot back: nothing that was written since survives. ``power_cut("torn")`` is the other end of what a journalling
file system may do: all names are as they were at the cut, but every file whose content was written since the last
``sync`` is empty. A cut at crash point n with names as of an earlier point m is the torn cut at m, so both kinds over
all points cover every order that keeps names in sequence.

**What the lab does not prove.** Real units, their start-up times and sockets; the order in which a real disk loses
writes within one name operation; a file system's own recovery; the Debian releases other than the one it runs on;
anything of the kernel's packet filter. Samples of each group are repeated on virtual machines by the harness.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.guest.livepatch import bundles
from tests.guest.livepatch.states import State, describe, mark, walk_tree

HERE = Path(__file__).resolve().parent
LANDING = ("agent.zip", "cloud-scripts.tgz", "patch-sysvms.sh")
JOURNAL = "var/lib/cloud-livepatch"
AGENT = "usr/local/cloud/systemvm"
# What a rollback has to restore; the rest of the root folder is the lab's.
OWNED = (
    "etc",
    "opt",
    "root",
    "usr/local/cloud",
    "usr/local/data",
    "var/cache/cloud",
    "var/www",
    "usr/share/cloud",
)
# The folders that the stand-in for sync takes a snapshot of.
DURABLE = ("etc", "opt", "root", "usr/local", "usr/share", "var", ".cloud-livepatch")
SERVICES = {
    "router": "haproxy apache2\ndnsmasq\n",
    "secstorage": "cloud apache2 nfs-common portmap\n",
    "consoleproxy": "cloud\n",
    "ilbvm": "haproxy\n",
    "dhcpsrvr": "dnsmasq apache2\n",
}
# Files that a patch replaces, and that an operator gave an ACL and an attribute.
MARKED = ("etc/haproxy/conf.d/00-cloud.cfg", "opt/cloud/bin/gone.sh", f"{AGENT}/_run.sh")
# An older bash, as system VMs have it (4.4 up): a path, from the environment.
OTHER_BASH = Path(os.environ["LIVEPATCH_LAB_BASH"]) if "LIVEPATCH_LAB_BASH" in os.environ else None
# The alternatives with them: without, half of what Debian calls by a plain name, such as awk, is missing.
_MOUNTS = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc/alternatives")
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_RDONLY, _MS_REMOUNT = (
    0x20000,
    0x1000,
    0x4000,
    1 << 18,
    1,
    32,
)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ScriptRun:
    """How one run of the script ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """What the management server reads: standard output, then standard error."""
        return self.stdout + self.stderr


def _mount(source: str, target: str, flags: int, kind: str | None = None, data: str | None = None) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else value.encode()

    if _libc.mount(text(source), text(target), text(kind), flags, text(data)):
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def unit_of(path: Path) -> str:
    """Return the unit that a file of the stand-in is about."""
    return path.name if path.name != "ran" else path.parent.name


def _write(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


@dataclass
class FolderVm:
    """One virtual machine that is only a folder."""

    root: Path
    type: str = "router"
    foreign: bool = False  # a script that is not ours runs here, with words and statuses of its own
    split_var: bool = False  # /var is a file system of its own, as templates up to 4.15 have it
    environment: dict[str, str] = field(default_factory=dict)
    bash: Path | None = field(default_factory=lambda: OTHER_BASH)  # instead of the machine's

    # -- building ----------------------------------------------------------------------------------------------------

    def build(self) -> FolderVm:
        """Make the folder a VM of the old release, booted and healthy."""
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        for name in (
            *_MOUNTS,
            "proc",
            "dev",
            "tmp",
            "run/lab",
            "sys/fs/cgroup",
            "usr/local/cloud",
            "var/log",
            "var/lib",
            "usr/local/sbin",
        ):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("null", "zero", "urandom", "full"):
            os.mknod(self.root / "dev" / name, 0o666 | stat.S_IFCHR, Path("/dev", name).stat().st_rdev)
            (self.root / "dev" / name).chmod(0o666)
        for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            (self.root / "dev" / name).symlink_to(f"/proc/self/{target}")
        for program in (HERE / "standins").iterdir():
            shutil.copy(program, self.root / "usr/local/sbin" / program.name)
        self._install()
        self._identity()
        self.boot_services()
        return self

    def _install(self) -> None:
        content, bundle = bundles.old_content(), bundles.old()
        for path, (data, mode) in content.scripts.items():
            _write(self.root / path, data, mode)
        if self.type in ("consoleproxy", "secstorage"):
            for path, (data, mode) in content.agent.items():
                _write(self.root / AGENT / path, data, mode)
        (self.root / "root").chmod(0o700)
        _write(self.root / "usr/share/cloud/cloud-scripts.tgz", bundle.scripts)
        _write(self.root / "var/cache/cloud/cloud-scripts-signature", bundle.signature + "\n")
        _write(self.root / JOURNAL / "installed.manifest", bundle.manifest)
        _write(self.root / JOURNAL / "installed.signature", bundle.signature + "\n")

    def _identity(self) -> None:
        """Write what boot and rules leave behind."""
        cache = self.root / "var/cache/cloud"
        words = f"template=domP type={self.type} host=10.0.0.5 port=8250 guid=X.1 zone=1"
        words += " resource=org.apache.NfsSecondaryStorageResource instance=SecStorage" * (
            self.type == "secstorage"
        )
        _write(cache / "cmdline", f" {words}\n")
        _write(cache / "enabled_svcs", SERVICES[self.type])
        _write(cache / "disabled_svcs", "conntrackd\n")
        self._boot_is_done()
        _write(self.root / "etc/cloudstack-release", "Cloudstack Release 4.20.2 Wed May 14 2025\n")
        _write(self.root / "etc/os-release", 'NAME="Debian"\nVERSION_ID="12"\n')
        _write(self.root / "etc/haproxy/haproxy.cfg", "frontend tenant\n  bind 192.0.2.10:80\n")
        _write(self.root / "etc/ssh/sshd_config", "Port 3922\nListenAddress 169.254.1.9\n")
        _write(self.root / "etc/ipsec.secrets", ': PSK "vpn"\n', 0o600)
        _write(self.root / "var/www/html/latest/.htaccess", "Options\nRewriteRule ^user-data$\n")
        _write(self.root / "etc/systemd/system/sysinit.target.wants/.keep", "")
        for path in MARKED:
            if (self.root / path).exists():
                mark(self.root / path)
        if self.type in ("consoleproxy", "secstorage"):
            conf = self.root / AGENT / "conf"
            _write(
                conf / "agent.properties",
                "".join(f"{word}\n" for word in words.split() if "=" in word),
                0o640,
            )
            _write(conf / "cloud.jks", b"\xfe\xed\xfe\xed identity", 0o600)
            _write(self.root / AGENT / "certs/realhostip.keystore", "keystore with additions\n")
        if self.type == "consoleproxy":
            _write(self.root / "root/vncport", "8443\n")

    def boot_services(self) -> None:
        """Start every enabled unit afresh, as after a power cycle."""
        for folder in ("run", "sys/fs/cgroup"):
            shutil.rmtree(self.root / folder)
        (self.root / "run/lab").mkdir(parents=True)
        pid = 100
        rows = {
            "haproxy": ("yes", "tcp 192.0.2.10:80\n"),
            "apache2": ("yes", "tcp 10.1.1.1:80\n"),
            "dnsmasq": ("no", "udp 10.1.1.1:53\ntcp 10.1.1.1:53\n"),
            "rpcbind": ("no", "tcp 0.0.0.0:111\n"),
            "cloud": ("no", "tcp 0.0.0.0:8001\n"),
        }
        words = (self.root / "var/cache/cloud/enabled_svcs").read_text().replace("portmap", "rpcbind").split()
        for name, (reload, ports) in rows.items():
            unit = self.root / f"run/lab/units/{name}.service"
            active = name in words
            _write(unit / "state", "active\n" if active else "inactive\n")
            _write(unit / "pid", f"{pid if active else 0}\n")
            _write(unit / "last-pid", f"{pid * 1000}\n")
            _write(unit / "reload", reload + "\n")
            _write(unit / "ports", ports)
            self._load(name, running=active)
            members = f"{pid}\n{pid + 1}\n" if active else ""
            _write(self.root / f"sys/fs/cgroup/system.slice/{name}.service/cgroup.procs", members)
            pid += 10
        (self.root / "run/lab/units/portmap.service").symlink_to("rpcbind.service")
        _write(self.unit("haproxy") / "checks", "/etc/haproxy/conf.d/00-cloud.cfg\n")
        _write(self.unit("cloud") / "checks", "/opt/cloud/bin/configure.py\n")
        rule = "-A INPUT -i eth2 -p tcp -m tcp --dport 8443 -m state --state NEW -j ACCEPT\n"
        _write(
            self.root / "run/lab/filter", "-A INPUT -i lo -j ACCEPT\n" + rule * (self.type == "consoleproxy")
        )

    def _load(self, name: str, *, running: bool) -> None:
        """Let systemd know a unit as it stands on the disk, and the unit run with that."""
        file = self.root / f"etc/systemd/system/{name}.service"
        if file.exists():
            _write(self.root / f"run/lab/loaded/{name}.service", file.read_bytes())
            if running:
                _write(self.unit(name) / "ran", file.read_bytes())

    def stale_units(self) -> list[str]:
        """Name the units that systemd knows, or that run, with another content than the disk has."""
        known = [self.root / "run/lab/loaded" / path.name for path in (self.root / "run/lab/units").iterdir()]
        ran = [path / "ran" for path in (self.root / "run/lab/units").iterdir() if not path.is_symlink()]
        return [
            str(path.relative_to(self.root / "run/lab"))
            for path in (*known, *ran)
            if path.exists()
            and path.read_bytes() != (self.root / "etc/systemd/system" / unit_of(path)).read_bytes()
        ]

    def clone(self, root: Path) -> FolderVm:
        """Copy the VM to another folder."""
        subprocess.run(["cp", "-a", "--", self.root, root], check=True)
        return FolderVm(root, self.type, self.foreign, self.split_var, dict(self.environment))

    # -- looking -----------------------------------------------------------------------------------------------------

    def unit(self, name: str) -> Path:
        """Return the folder of a unit of the stand-in."""
        return self.root / f"run/lab/units/{name}.service"

    def is_active(self, name: str) -> bool:
        """Say whether a unit is active."""
        return (self.unit(name) / "state").read_text() == "active\n"

    def active(self) -> dict[str, bool]:
        """Return the states of all units."""
        return {name: self.is_active(name) for name in ("haproxy", "apache2", "dnsmasq", "rpcbind", "cloud")}

    def read(self, path: str) -> str:
        """Return the text of a file below the root folder."""
        return (self.root / path).read_text()

    def processes(self, name: str) -> list[str]:
        """Return the numbers of the processes of a unit of the stand-in."""
        return self.read(f"sys/fs/cgroup/system.slice/{name}.service/cgroup.procs").split()

    def jars(self) -> list[str]:
        """Return the names of the agent's jars."""
        return sorted(path.name for path in (self.root / AGENT).glob("*.jar"))

    def filter_rules(self) -> list[str]:
        """Return the rules of the packet filter."""
        return self.read("run/lab/filter").splitlines()

    def signature(self) -> str:
        """Return the first line of the signature file."""
        return self.read("var/cache/cloud/cloud-scripts-signature").strip()

    def systemctl_log(self) -> list[str]:
        """Return what the script asked of systemctl."""
        log = self.root / "run/lab/systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def status(self) -> dict[str, Any]:
        """Return what ``--status`` says."""
        return json.loads(self.run("--status").stdout or '{"state": "none"}')

    def state(self, *, times: bool | None = None) -> State:
        """Return every path that a patch may touch, with kind, mode, owner and content; landing files apart.

        Times of modification belong to it where our own script runs, unless ``times`` says otherwise.
        """
        times = not self.foreign if times is None else times
        found: State = {}
        skip = {f"var/cache/cloud/{name}" for name in LANDING}
        for top in OWNED:
            for path in walk_tree(self.root / top):
                name = str(path.relative_to(self.root))
                if name not in skip:
                    found[name] = describe(path, times)
        return found

    # -- acting ------------------------------------------------------------------------------------------------------

    def land(self, bundle: bundles.Bundle) -> None:
        """Put the three files where the management server uploads them."""
        cache = self.root / "var/cache/cloud"
        _write(cache / "agent.zip", bundle.agent, 0o755)
        _write(cache / "cloud-scripts.tgz", bundle.scripts, 0o755)
        _write(cache / "patch-sysvms.sh", bundle.script, 0o755)

    def patch(self, bundle: bundles.Bundle, *arguments: str, **environment: str) -> ScriptRun:
        """Upload a bundle and run its script."""
        self.land(bundle)
        return self.run(*arguments, **environment)

    def run(
        self, *arguments: str, script: str = "/var/cache/cloud/patch-sysvms.sh", **environment: str
    ) -> ScriptRun:
        """Run the script; when it is gone from the landing folder, the copy in the journal."""
        landed = self.root / script.lstrip("/")
        if not landed.exists() or not landed.stat().st_size:
            script = f"/{JOURNAL}/patch-sysvms.sh"
        done = self.start(script, *arguments, **environment)
        try:
            stdout, stderr = done.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            done.kill()
            raise
        return ScriptRun(done.returncode, stdout.decode(), stderr.decode())

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command in the VM; the end of the process ends everything that it left behind.

        A crash point stands for the death of the whole run, unless ``LIVEPATCH_CRASH_WHOLE`` says otherwise.
        """
        if "LIVEPATCH_CRASH_AT" in environment:
            environment = {"LIVEPATCH_CRASH_WHOLE": "1"} | environment
        return subprocess.Popen(
            [
                "/usr/bin/unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--propagation",
                "unchanged",
                "--mount-proc",
                "/usr/bin/bash",
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": "/usr/local/sbin:/usr/bin:/usr/sbin",
                "LIVEPATCH_SOAK": "0",
                "LIVEPATCH_TICK": "0.02",
            }
            | self.environment
            | environment,
            preexec_fn=self._enter,
        )

    def _enter(self) -> None:
        root = str(self.root)
        if _libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        _mount("none", "/", _MS_REC | _MS_PRIVATE)
        for name in _MOUNTS:
            _mount(f"/{name}", f"{root}/{name}", _MS_BIND | _MS_REC)
            # A bundle under test may name any path: the machine's own programs are out of its reach.
            _mount("none", f"{root}/{name}", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        if self.split_var:  # no rename leaves a mount, also when it leads to the same file system
            _mount(f"{root}/var", f"{root}/var", _MS_BIND)
        if self.bash:
            _mount(str(self.bash), f"{root}/usr/bin/bash", _MS_BIND)
        _mount("proc", f"{root}/proc", 0, "proc")
        os.chroot(root)
        os.chdir("/")
        # Neither Python's choice nor that of whoever started the tests.
        for name in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
            signal.signal(name, signal.SIG_DFL)

    def recover_at_boot(self, **environment: str) -> ScriptRun:
        """Boot: run what the recovery unit runs, if it would run, then start the services."""
        (self.root / "var/cache/cloud/boot_up_done").unlink(missing_ok=True)
        run = ScriptRun(0, "", "")
        if (self.root / JOURNAL / "attempt").exists():
            run = self.run("--recover", "--boot", script=f"/{JOURNAL}/patch-sysvms.sh", **environment)
        self.boot_services()
        self._boot_is_done()
        return run

    def _boot_is_done(self) -> None:
        done = self.root / "var/cache/cloud/boot_up_done"
        _write(done, "done\n")
        os.utime(
            done, (1_700_000_000, 1_700_000_000)
        )  # not the patch's business, so no difference between states

    def power_on(self) -> None:
        """From now on, model what a power cut leaves; everything so far is durable."""
        _write(self.root / "run/lab/power", "")
        self.start("/usr/local/sbin/sync", "-f", "/", "/var").communicate(timeout=60)

    def power_cut(self, kind: Literal["lost", "torn"]) -> None:
        """Cut the power: see the text at the top of this module for the two kinds."""
        durable = self.root / "run/lab/durable"
        if kind == "lost":
            for name in DURABLE:
                if (self.root / name).exists():
                    shutil.rmtree(self.root / name)
                if (durable / name).exists():
                    (durable / name).rename(self.root / name)
            return
        known = {line for file in durable.glob("inodes*") for line in file.read_text().splitlines()}
        for name in DURABLE:
            for path in walk_tree(self.root / name):
                info = path.lstat()
                seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
                # find prints ten digits of a fraction.
                identity = f"{info.st_ino} {info.st_size} {seconds}.{nanoseconds:09d}0"
                if stat.S_ISREG(info.st_mode) and identity not in known:
                    os.truncate(path, 0)

    def unit_is_armed(self) -> bool:
        """Would systemd find and start the recovery unit at the next boot?"""
        units = self.root / "etc/systemd/system"
        name = "cloud-livepatch-recover.service"
        link = units / "sysinit.target.wants" / name
        return (units / name).is_file() and link.is_symlink()


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """Give a folder on tmpfs, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="livepatch-lab-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
