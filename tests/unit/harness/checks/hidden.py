"""What somebody does to a VM in places that may differ, or by halves that stand: who must find it, in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.checks.shipped import Shipped
from tests.unit.harness.checks.mutate import Mutation, change_file, change_text, drop_file
from tests.unit.harness.simulated_patch import (
    CONNTRACK,
    SERVERS,
    STAT,
    File,
    Moment,
    Program,
    SimulatedPatch,
    Unit,
    haproxy,
    sha,
    shipped,
)

RECOVERY = "/etc/systemd/system/cloud-livepatch-recover.service"
WANTED_BY = f"/etc/systemd/system/sysinit.target.wants/{RECOVERY.rpartition('/')[2]}"
AGENT = "/usr/local/cloud/systemvm"
DOWN = Unit("ssh.service", 0, 0, (), "inactive", "dead")
ENDED = Unit("netfilter-persistent.service", 0, 900, sub="exited")
KEYSTORE = f"{AGENT}/certs/realhostip.keystore"


def each(act: Callable[[Moment], object], *moments: str) -> Mutation:
    """Return what does something to moments; without any, to those after the patch."""

    def each_of_them(made: SimulatedPatch) -> None:
        for name in moments or ("patched", "after"):
            act(getattr(made, name))

    return each_of_them


def everywhere(act: Callable[[Moment], object]) -> Mutation:
    return each(act, "before", "patched", "after")


def then(*acts: Mutation) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for one in acts:
            one(made)

    return act


def has_file(path: str, file: File) -> Mutation:
    return everywhere(lambda moment: moment.files.update({path: file}))


def has_unit(unit: Unit) -> Mutation:
    return everywhere(lambda moment: moment.units.update({unit.name: unit}))


def ships(*rows: Shipped) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        more = {row.path: row for row in rows}
        made.fields |= {"old": {**made.fields["old"], **more}, "new": {**made.fields["new"], **more}}

    return act


def _of_agent(**changes: object) -> Mutation:
    path = f"{AGENT}/_run.sh"
    return then(
        ships(Shipped(path, "file", None, sha("run"))),
        has_file(path, File("run", 0o755)),
        change_file(path, **changes),
    )


def _stopped(moment: Moment) -> None:
    text = moment._all_texts()["services.stat"]
    moment.texts["services.stat"] = text.replace("400 (a b) c) S", "400 (a b) c) T")


def _show(first: str) -> Callable[[Moment], None]:
    def act(moment: Moment) -> None:
        lines = "Id=x.service\nNames=x.service\nLoadState=loaded\nActiveState=active\nSubState=exited\n"
        steps = "".join(f"ExecStartPre={{ path={path} ; argv[]={path} ; }}\n" for path in (first, "/bin/b"))
        moment.texts["services.units"] = f"{moment._all_texts()['services.units']}\n\n{lines}{steps}"

    return act


def _kept_store(made: SimulatedPatch) -> None:
    made.fields["old"] = {**made.fields["old"], **shipped((KEYSTORE, "old", 0o644))}
    made.fields["new"] = {**made.fields["new"], **shipped((KEYSTORE, "new", 0o644))}
    made.before.files[KEYSTORE] = File("imported", 0o640)
    each(lambda moment: moment.files.update({KEYSTORE: File("imported", 0o640, owner="www-data")}))(made)


def _in_transient(made: SimulatedPatch) -> None:
    path = "/run/systemd/transient/cloud.service.d/50.conf"
    change_file(path, content="[Service]")(made)


def _weights(servers: str, weight: int) -> str:
    head = servers.replace("srv_admin_state", "srv_admin_state srv_uweight")
    return haproxy(servers=head.replace(" 2 0 80", f" 2 0 {weight} 80"))


def _balancers(text: str) -> Mutation:
    return each(lambda moment: moment.texts.update({"rules.haproxy": text}))


def _journal_cut(moment: Moment) -> None:
    moment.texts["journal.began"] = 's=1;i=1\n{"__CURSOR": "s=1;i=7", "MESSAGE": "x"}\n'


HIDDEN: dict[str, tuple[Mutation, str, str]] = {
    "leaves an archive where the next boot installs it": (
        change_file("/var/cache/cloud/cloud-scripts.tgz", content="evil"),
        "files.none-landed",
        "the next boot would install: /var/cache/cloud/cloud-scripts.tgz: new since the patch",
    ),
    "has another recovery unit than its script": (
        change_file(RECOVERY, content="[Service]\nExecStart=/evil"),
        "files.explained",
        f"{RECOVERY}: added",
    ),
    "links another unit into the boot": (
        change_file(WANTED_BY, kind="l", mode=0o777, link="/tmp/x.service"),
        "files.explained",
        f"{WANTED_BY}: added (link",
    ),
    "lets everybody write where Python looks for modules": (
        then(
            has_file("/opt/cloud/bin/__pycache__", File(kind="d", mode=0o755)),
            change_file("/opt/cloud/bin/__pycache__", mode=0o777),
        ),
        "files.explained",
        "/opt/cloud/bin/__pycache__: mode 0755 -> 0777",
    ),
    "makes a log that everybody may write": (
        change_file("/var/log/new", mode=0o666),
        "files.explained",
        "/var/log/new: added (file, 0666",
    ),
    "hides more than a try in a name that Python would draw": (
        change_file("/tmp/m_5prwxz", content="x" * 5, mode=0o600),
        "files.explained",
        "/tmp/m_5prwxz: added",
    ),
    "sets a clock that was off wrong in the other way": (
        then(change_text("kernel.clock", "2033.5\n", "before"), change_text("kernel.clock", "1983.5\n")),
        "kernel.clock",
        "the clock was set back by 50 s",
    ),
    "removes what has a name that Python would draw, and was no try": (
        then(has_file("/tmp/m_5prwxz", File("x" * 5, 0o600)), drop_file("/tmp/m_5prwxz")),
        "files.explained",
        "/tmp/m_5prwxz: removed",
    ),
    "puts a link in the place of a pid file": (
        then(
            has_file("/run/haproxy.pid", File("100")),
            change_file("/run/haproxy.pid", kind="l", mode=0o777, link="/etc/shadow"),
        ),
        "files.explained",
        "/run/haproxy.pid: ",
    ),
    "removes the folder of a service's logs": (
        then(has_file("/var/log/apache2", File(kind="d", mode=0o750)), drop_file("/var/log/apache2")),
        "files.explained",
        "/var/log/apache2: removed (folder",
    ),
    "fills the disk with logs": (
        change_file("/var/log/x", size=400_000_000),
        "disk.grown",
        "files that may differ take 400 MB more, /var/log/x most of it (right after the patch)",
    ),
    "plants beside a shipped file what no operator had": (
        change_file("/opt/cloud/bin/vr_cfg.sh.dist-old", content="evil", mode=0o755),
        "files.explained",
        "/opt/cloud/bin/vr_cfg.sh.dist-old: added",
    ),
    "takes the agent the right to be started": (
        _of_agent(mode=0o644),
        "files.modes",
        f"{AGENT}/_run.sh: a script with mode 0644",
    ),
    "closes a file of the agent for its owner": (
        _of_agent(mode=0o000),
        "files.installed",
        f"{AGENT}/_run.sh: mode 0000, its owner cannot read it",
    ),
    "makes a folder of the agent that everybody may write": (
        then(
            ships(Shipped(f"{AGENT}/lib/a.jar", "file", None, sha("jar"))),
            change_file(f"{AGENT}/lib/a.jar", content="jar"),
            change_file(f"{AGENT}/lib", kind="d", mode=0o777),
        ),
        "files.explained",
        f"{AGENT}/lib: added (folder, 0777",
    ),
    "gives the kept trust store away": (
        _kept_store,
        "files.installed",
        f"{KEYSTORE}: it was 0640 root:root and is 0640 www-data:www-data",
    ),
    "stops a process that nobody asks": (
        each(_stopped),
        "processes.running",
        "was stopped and stands still (right after the patch)",
    ),
    "leaves a program among the jobs of cron for which cron does not wait": (
        then(
            has_unit(Unit("cron.service", 600, 900)),
            each(
                lambda moment: moment.programs.append(
                    Program(5555, "/usr/bin/perl", "perl -e x", "cron.service")
                )
            ),
        ),
        "processes.none-new",
        "process perl runs in cron.service as root, it did not before",
    ),
    "shrinks what may be written to memory": (
        each(lambda moment: moment.mounts.__setitem__(1, "tmpfs /run tmpfs rw,nosuid,size=4k 0 0")),
        "kernel.mounts",
        "/run: was tmpfs of tmpfs (rw,nosuid,size=100k) and is tmpfs of tmpfs (rw,nosuid,size=4k)",
    ),
    "opens on every interface what was on one": (
        then(
            each(
                lambda moment: moment.listeners.append(("udp", "0.0.0.0%eth0:67", "dnsmasq", 300)), "before"
            ),
            each(lambda moment: moment.listeners.append(("udp", "0.0.0.0:67", "dnsmasq", 350))),
        ),
        "ports.none-new",
        "udp 0.0.0.0:67 (dnsmasq)",
    ),
    "changes the first of two steps of a service": (
        then(each(_show("/bin/a"), "before"), each(_show("/evil"))),
        "units.settings",
        "x.service: ExecStartPre was { path=/bin/a",
    ),
    "ends what a service has done": (
        then(
            has_unit(ENDED),
            each(lambda moment: moment.units.update({ENDED.name: replace(DOWN, name=ENDED.name)})),
        ),
        "services.up",
        "netfilter-persistent.service was active and is inactive (dead)",
    ),
    "restarts a service while rules are sent": (
        each(lambda moment: moment.units.update({"ssh.service": Unit("ssh.service", 499, 9000)}), "after"),
        "services.untouched",
        "ssh.service was restarted (after the rules were sent again)",
    ),
    "has a service down until rules are sent": (
        each(lambda moment: moment.units.update({DOWN.name: DOWN}), "patched"),
        "services.up",
        "ssh.service was active and is inactive (dead) (right after the patch)",
    ),
    "changes a unit of the bundle by a file that is in none": (
        _in_transient,
        "files.explained",
        "/run/systemd/transient/cloud.service.d/50.conf: added",
    ),
    "forgets connections while rules are sent": (
        each(lambda moment: moment.texts.update({"flows": CONNTRACK.splitlines()[1] + "\n"}), "after"),
        "flows.tracked",
        "is forgotten (after the rules were sent again)",
    ),
    "says of the agent what it did not say": (
        each(
            lambda moment: moment.texts.update(
                {"identity.properties": str(moment.texts["identity.properties"]) + "zone=other\n"}
            )
        ),
        "identity.agent-properties",
        "zone was ",
    ),
    "sends nothing to a server of a balancer": (
        then(
            each(lambda moment: moment.texts.update({"rules.haproxy": _weights(SERVERS, 1)}), "before"),
            _balancers(_weights(SERVERS, 0)),
        ),
        "rules.haproxy-servers",
        "1 gone, 1 new: ",
    ),
    "stops a balancer": (
        _balancers(haproxy(stat=STAT.replace("OPEN", "STOP"))),
        "rules.haproxy",
        "1 gone, 1 new: ",
    ),
    "cuts what the journal had": (
        each(_journal_cut),
        "journal.quiet",
        "the journal has lost lines that it had, right after the patch",
    ),
}


def healthy_recovery(made: SimulatedPatch) -> None:
    """The recovery unit of the bundle's own script, and the link to it."""
    made.fields["recovery"] = sha("unit")
    change_file(RECOVERY, content="unit")(made)
    change_file(WANTED_BY, kind="l", mode=0o777, link=RECOVERY)(made)


def kept_by_operator(made: SimulatedPatch) -> None:
    """An operator's version of a shipped file, kept beside."""
    path = "/opt/cloud/bin/vr_cfg.sh"
    made.before.files[path] = replace(made.before.files[path], content="mine")
    change_file(f"{path}.dist-old", content="mine", mode=0o755)(made)
