"""What somebody else does to a VM while it is patched, anywhere in it: who must find it, and in which words."""

from __future__ import annotations

import json

from tests.unit.harness.checks.mutate import (
    Mutation,
    change_disk,
    change_file,
    change_text,
    change_unit,
    drop_file,
    listen,
    mount,
    run_program,
    set_field,
    set_kernel,
)
from tests.unit.harness.simulated_patch import (
    SERVERS,
    UNIX,
    File,
    Program,
    SimulatedPatch,
    Unit,
    haproxy,
)


def _overwritten(made: SimulatedPatch) -> None:
    path = "/etc/haproxy/haproxy.cfg"
    made.before.files[path] = File("listen default")
    change_file(path, content="garbage")(made)


def _small_packets(made: SimulatedPatch) -> None:
    route = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth2"}
    made.before.texts["rules.routes"] = json.dumps([route])
    change_text("rules.routes", json.dumps([{**route, "metrics": [{"mtu": 300}]}]))(made)


def _beside_cron(made: SimulatedPatch) -> None:
    for moment in (made.before, made.patched, made.after):
        moment.units["cron.service"] = Unit("cron.service", 600, 900)
    run_program(Program(5555, "/dev/shm/observe.x/miner", "miner", "cron.service"))(made)


def _other_script(made: SimulatedPatch) -> None:
    unit = "cloud-password-server.service"
    for moment in (made.before, made.patched, made.after):
        moment.units[unit] = Unit(unit, 0, 900)
    own = Program(620, "/usr/bin/python3", "python3 /opt/cloud/bin/passwd_server_ip.py", unit)
    made.before.programs.append(own)
    run_program(own, Program(621, "/usr/bin/python3", "python3 /opt/other.py", unit))(made)


def _part_gone(made: SimulatedPatch) -> None:
    made.before.programs.append(Program(640, "/usr/sbin/helper", "helper", "dnsmasq.service"))


def _operators_gone(made: SimulatedPatch) -> None:
    made.before.programs.append(Program(641, "/usr/bin/rsync", "rsync /a /b"))


# What somebody else does to the VM meanwhile, anywhere in it.
DAMAGES: dict[str, tuple[Mutation, str, str]] = {
    "plants a job of cron while rules are sent": (
        lambda made: made.after.files.update({"/etc/cron.d/job": File("* * * * * root x")}),
        "files.by-rules",
        "/etc/cron.d/job: added (file, 0644, root:root)",
    ),
    "leaves a setuid shell": (
        change_file("/usr/bin/.sh", content="sh", mode=0o4755),
        "files.setuid",
        "/usr/bin/.sh: mode 4755, runs as root:root whoever starts it",
    ),
    "plants a crontab": (
        change_file("/var/spool/cron/crontabs/root", content="* * * * * x", mode=0o600),
        "files.explained",
        "/var/spool/cron/crontabs/root: added (file, 0600, root:root)",
    ),
    "replaces logrotate": (
        change_file("/usr/sbin/logrotate", content="#!/bin/sh", written=1500),
        "files.explained",
        "/usr/sbin/logrotate: content 9 bytes of 1970-01-01 00:16:40 -> 9 bytes of 1970-01-01 00:25:00",
    ),
    "removes kernel and initrd": (
        drop_file("/boot/vmlinuz", "/boot/initrd.img"),
        "files.explained",
        "/boot/initrd.img: removed (file, 0644, root:root) (and 1 more)",
    ),
    "empties dpkg's status": (
        change_file("/var/lib/dpkg/status", content="", written=1500),
        "files.explained",
        "/var/lib/dpkg/status: content 13 bytes of 1970-01-01 00:16:40 -> 0 bytes of",
    ),
    "leaves much behind": (
        change_file("/var/tmp/leftover", content="0" * 200),
        "files.explained",
        "/var/tmp/leftover: added",
    ),
    "makes a script immutable": (
        change_file("/opt/cloud/bin/vr_cfg.sh", flags="i"),
        "files.explained",
        "/opt/cloud/bin/vr_cfg.sh: flags none -> immutable",
    ),
    "links a secret to where others look": (
        change_file("/etc/ssh/ssh_host_ed25519_key", links=2),
        "files.explained",
        "ssh_host_ed25519_key: hard links 1 -> 2",
    ),
    "stops forwarding": (
        set_kernel(net__ipv4__ip_forward="0"),
        "kernel.settings",
        "the kernel's setting net.ipv4.ip_forward was 1 and is 0 (right after the patch)",
    ),
    "renames the host": (
        set_kernel(kernel__hostname="evil"),
        "kernel.settings",
        "the host name was r-10-VM and is evil",
    ),
    "changes the time zone": (
        change_file("/etc/localtime", kind="l", link="/usr/share/zoneinfo/Mars"),
        "files.explained",
        "/etc/localtime: added (link",
    ),
    "sets the clock": (
        change_text("kernel.clock", "503.5\n"),
        "kernel.clock",
        "the clock was set back by 1500 s (right after the patch)",
    ),
    "mounts something over the scripts": (
        mount("tmpfs /opt tmpfs rw 0 0"),
        "kernel.mounts",
        "/opt: tmpfs of tmpfs (rw) was mounted",
    ),
    "loads a module": (
        change_text("kernel.modules", "ip_tables 1 1 - Live 0x0\ndummy 1 0 - Live 0x0\n"),
        "kernel.modules",
        "module dummy is loaded, it was not before",
    ),
    "unloads a module": (
        change_text("kernel.modules", "x_tables 1 1 - Live 0x0\n"),
        "kernel.modules",
        "module x_tables is loaded, it was not before (right after the patch) (and 3 more)",
    ),
    "swaps to a file": (
        change_text("kernel.swaps", "Filename Type Size Used Priority\n/swap file 9 0 -2\n"),
        "kernel.swap",
        "memory is swapped to /swap",
    ),
    "limits apache2": (
        change_unit("apache2.service", settings={"CPUQuotaPerSecUSec": "50ms"}),
        "units.settings",
        "apache2.service: CPUQuotaPerSecUSec was nothing and is 50ms",
    ),
    "does not let systemd read a unit": (
        change_unit("apache2.service", settings={"NeedDaemonReload": "yes"}),
        "units.read",
        "apache2.service: its files were changed and systemd was not told to read them",
    ),
    "stops a timer": (
        change_unit("logrotate.timer", active="inactive", sub="dead"),
        "units.same",
        "logrotate.timer was active and is inactive",
    ),
    "leaves a process outside services": (
        run_program(Program(990, "/usr/bin/python3.11", "python3 /tmp/miner.py --key=secret")),
        "processes.none-new",
        "process python3.11 /tmp/miner.py runs outside services as root, it did not before (right after",
    ),
    "runs another script where it ran its own": (
        _other_script,
        "processes.none-new",
        "process python3 /opt/other.py runs in cloud-password-server.service as root, it did not before",
    ),
    "ends a part of a service": (
        _part_gone,
        "processes.none-gone",
        "process helper no longer runs in dnsmasq.service as root (right after the patch)",
    ),
    "ends what an operator runs": (
        _operators_gone,
        "processes.none-gone",
        "process rsync no longer runs outside services as root (right after the patch)",
    ),
    "makes a device another one": (
        change_file("/dev/null", device="1:5"),
        "files.explained",
        "/dev/null: device 1:3 -> 1:5",
    ),
    "writes over the boot code": (
        change_disk(boot_code={"partition 1": "dead"}),
        "disk.boot-code",
        "partition 1 is not as it was before (right after the patch)",
    ),
    "fills the disk with a file without a name": (
        change_disk(nameless=250_000_000),
        "disk.nameless",
        "200 MB of the disk are taken by files without a name, which were not before (right after",
    ),
    "runs other code than the source": (
        change_disk(strange_code=("/opt/cloud/bin/__pycache__/merge.cpython-311.pyc",)),
        "files.byte-code",
        "/opt/cloud/bin/__pycache__/merge.cpython-311.pyc is not what its source is (right after the patch)",
    ),
    "runs on with the old program": (
        change_text(
            "processes.gone", "/proc/251/maps:55d0-55e0 r-xp 00000000 fe:01 77 /usr/sbin/apache2 (deleted)\n"
        ),
        "processes.on-disk",
        "apache2 still runs /usr/sbin/apache2 as it was before the patch",
    ),
    "opens a high port": (
        listen(("tcp", "0.0.0.0:40000", "python3", 990)),
        "ports.none-new",
        "tcp 0.0.0.0:40000 (python3)",
    ),
    "opens a UNIX socket": (
        change_text("sockets.unix", f"{UNIX}0: 2 0 10000 1 1 9 /run/evil.sock\n"),
        "sockets.same",
        "UNIX socket /run/evil.sock was not there before",
    ),
    "listens to every packet": (
        change_text("sockets.packet", "sk RefCnt Type Proto Iface R\n0 3 3 0003 2 1 0 0 99\n"),
        "sockets.same",
        "packet socket for protocol 0003 on interface 2 was not there before",
    ),
    "starts something that is never up": (
        change_unit("evil.service", active="activating", sub="start", enabled="transient"),
        "services.not-started",
        "evil.service was unknown and is activating (start)",
    ),
    "starts what finishes a patch at boot": (
        change_unit("cloud-livepatch-recover.service"),
        "services.not-started",
        "cloud-livepatch-recover.service was unknown and runs",
    ),
    "sets a variable for every service": (
        change_text("services.manager", "LogLevel=info\nEnvironment=LANG=C LD_PRELOAD=/x.so PATH=/usr/bin\n"),
        "units.settings",
        "systemd itself: Environment was LANG=C PATH=/usr/bin and is LANG=C LD_PRELOAD=/x.so PATH=/usr/bin",
    ),
    "masks a service until the next boot": (
        change_unit("ssh.service", main=400, start=900, load="masked"),
        "units.masked",
        "ssh.service was loaded and is masked (right after the patch)",
    ),
    "lets everybody write to the kept archive": (
        change_file("/usr/share/cloud/cloud-scripts.tgz", mode=0o666),
        "files.explained",
        "; mode 0644 -> 0666",
    ),
    "gives the kept archive away": (
        change_file("/usr/share/cloud/cloud-scripts.tgz", owner="nobody"),
        "files.explained",
        "/usr/share/cloud/cloud-scripts.tgz: content",
    ),
    "lets others change a script by an access list": (
        change_text("state.xattrs", "# file: /opt/cloud/bin/vr_cfg.sh\nsystem.posix_acl_access=0x02\n"),
        "files.explained",
        "/opt/cloud/bin/vr_cfg.sh: attributes none -> system.posix_acl_access=0x02",
    ),
    "overwrites live configuration that stood as it was shipped": (
        _overwritten,
        "files.live",
        "/etc/haproxy/haproxy.cfg: content",
    ),
    "takes a server out of a balancer": (
        change_text("rules.haproxy", haproxy(servers=SERVERS.replace(" 2 0 80", " 0 1 80"))),
        "rules.haproxy-servers",
        "1 gone, 1 new: - 192_0_2_20-80 s0 10.1.1.50 80",
    ),
    "lets a lease end": (
        change_text("rules.leases", "1700 02:00:26:c3:00:02 10.1.1.50 vm1 *\n"),
        "rules.leases",
        "1 gone, 1 new: - 02:00:26:c3:00:02 10.1.1.50 vm1 *",
    ),
    "makes packets of a route small": (_small_packets, "rules.routes", "1 gone, 1 new: - route to default"),
    "runs a program among the jobs of cron": (
        _beside_cron,
        "processes.none-new",
        "process miner runs in cron.service as root, it did not before",
    ),
    "deletes the journal": (
        change_text("journal.cursor", ""),
        "journal.quiet",
        "the journal has lost every line, right after the patch",
    ),
    "panics while all lines are excused": (
        set_field(trouble=(".",), console="[ 1.0] Kernel panic - not syncing: x\n"),
        "console.quiet",
        "kernel panic: [ 1.0]",
    ),
}
