"""Mutants of a good patch and of a good rollback: what they leave behind, who must find it, and in which words."""

from __future__ import annotations

from harness.site.vm_agent_link import VmAgentLink
from harness.traffic.measurement import Budget
from tests.unit.harness.checks.damages import DAMAGES
from tests.unit.harness.checks.hidden import HIDDEN
from tests.unit.harness.checks.mutate import (
    Mutation,
    change_answer,
    change_file,
    change_text,
    change_unit,
    drop_file,
    listen,
    log_line,
    set_field,
    stop_listening,
)
from tests.unit.harness.simulated_patch import (
    IPTABLES,
    NEW_SIGNATURE,
    SERVERS,
    STAT,
    SimulatedPatch,
    Unit,
    haproxy,
    pem,
)


def _old_haproxy(made: SimulatedPatch) -> None:
    for moment in (made.patched, made.after):
        moment.units["haproxy.service"] = Unit("haproxy.service", 100, 1000, ((101, 1001),))
        moment.listeners[0] = ("tcp", "192.0.2.20:80", "haproxy", 101)


def _old_worker_listens(made: SimulatedPatch) -> None:
    for moment in (made.patched, made.after):
        moment.listeners.append(("tcp", "192.0.2.20:8080", "haproxy", 101))
        made.before.listeners.append(("tcp", "192.0.2.20:8080", "haproxy", 101))


def _signature(value: str) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        made.patched.signature = made.after.signature = value

    return act


def _kept(made: SimulatedPatch) -> None:
    made.patched.kept = made.after.kept = "f" * 32


# What a broken patch leaves behind, the check that must find it, and words that its reason must hold.
PATCH_MUTANTS: dict[str, tuple[Mutation, str, str]] = {
    "drops a port forward": (
        change_text("rules.iptables", IPTABLES.replace("-A PREROUTING", "#"), "after"),
        "rules.iptables",
        "after the rules were sent again: 1 gone, 0 new: - nat: -A PREROUTING -d 192.0.2.10/32",
    ),
    "forgets the connections that go through": (
        change_text("flows", ""),
        "flows.tracked",
        "the connection from 198.51.100.7:40000 to 192.0.2.10:2222 (10.1.1.50) is forgotten",
    ),
    "leaves haproxy on its old process": (
        _old_haproxy,
        "services.renewed",
        "haproxy still runs on its old process 100",
    ),
    "lets an old worker listen on": (
        _old_worker_listens,
        "services.renewed",
        "haproxy still runs on its old process 100",
    ),
    "opens sshd to the public side": (
        listen(("tcp", "0.0.0.0:3922", "sshd", 400)),
        "sshd.control-only",
        "sshd listens on tcp 0.0.0.0:3922, not only on 169.254.12.34",
    ),
    "opens sshd on port 22": (
        listen(("tcp", "[::]:22", "sshd", 400)),
        "sshd.control-only",
        "sshd listens on tcp [::]:22",
    ),
    "kills sshd": (stop_listening("sshd"), "sshd.control-only", "nobody listens on port 3922"),
    "loses a CA": (
        change_text("identity.truststore", pem("ca 1")),
        "identity.truststore",
        "1 of 2 certificates are lost",
    ),
    "loses the trust store": (change_text("identity.truststore", None), "identity.truststore", "is gone"),
    "makes a new key": (
        change_text("identity.keystore", pem("other")),
        "identity.keystore",
        "entries differ",
    ),
    "writes an extra line": (
        change_answer(fault="a line on standard output that is no version line: 'hello'"),
        "answer.protocol",
        "'hello'",
    ),
    "fails": (
        change_answer(success=False, patched=False, details="no space on /var\nmore"),
        "answer.outcome",
        "the patch failed: no space on /var",
    ),
    "does nothing": (
        change_answer(patched=False, details="No change"),
        "answer.outcome",
        "nothing was patched: No change",
    ),
    "drops a public address": (
        change_text("rules.addresses", "[]"),
        "rules.addresses",
        "1 gone, 0 new: - interface eth2 has address 192.0.2.10",
    ),
    "drops a route": (change_text("rules.routes", ""), "rules.routes", "- default via 192.0.2.1 dev eth2"),
    "resets the load balancer": (
        change_text("rules.haproxy", haproxy(STAT.replace("192_0_2_20-80", "cloud-default")), "patched"),
        "rules.haproxy",
        "right after the patch: 2 gone, 2 new",
    ),
    "loses haproxy's socket": (
        change_text("rules.haproxy", None),
        "rules.haproxy",
        "are there any more",
    ),
    "moves a server": (
        change_text("rules.haproxy", haproxy(servers=SERVERS.replace("10.1.1.50", "10.1.1.51"))),
        "rules.haproxy-servers",
        "1 gone, 1 new",
    ),
    "forgets a reservation": (
        change_text("rules.dhcp-hosts", ""),
        "rules.dhcp-hosts",
        "- 02:00:26:c3:00:02,10.1.1.50",
    ),
    "forgets a lease": (
        change_text("rules.leases", ""),
        "rules.leases",
        "- 02:00:26:c3:00:02 10.1.1.50 vm1 *",
    ),
    "changes user data": (
        change_text("rules.metadata", "00  userdata/10.1.1.50/user-data\n"),
        "rules.metadata",
        "1 gone, 1 new",
    ),
    "adds a rule twice": (
        change_text(
            "rules.iptables",
            IPTABLES.replace(
                "COMMIT\n*nat", "-A INPUT -i eth0 -p udp -m udp --dport 67 -j ACCEPT\nCOMMIT\n*nat"
            ),
        ),
        "rules.none-doubled",
        "iptables has a rule twice: filter: -A INPUT -i eth0",
    ),
    "swaps two rules": (
        change_text(
            "rules.iptables",
            IPTABLES.replace("eth1 -p tcp -m tcp --dport 3922", "X")
            .replace("eth0 -p udp -m udp --dport 67", "eth1 -p tcp -m tcp --dport 3922")
            .replace("X", "eth0 -p udp -m udp --dport 67"),
        ),
        "rules.iptables",
        "1 gone, 1 new",
    ),
    "leaves a dropped file": (
        change_file("/opt/cloud/bin/gone.sh", content="old", mode=0o755),
        "files.removed",
        "gone.sh: dropped by the new",
    ),
    "leaves an old file": (
        change_file("/opt/cloud/bin/vr_cfg.sh", content="old"),
        "files.installed",
        "vr_cfg.sh: not the content of",
    ),
    "does not add a file": (drop_file("/opt/cloud/bin/added.sh"), "files.installed", "added.sh: missing"),
    "does not change a mode": (
        change_file("/opt/cloud/bin/mode.sh", mode=0o644),
        "files.installed",
        "mode.sh: mode 0644, the bundle has 0755",
    ),
    "changes an owner": (
        change_file("/opt/cloud/bin/vr_cfg.sh", owner="daemon"),
        "files.installed",
        "belongs to daemon:daemon",
    ),
    "touches an operator's file": (
        change_file("/root/notes", content="gone"),
        "files.explained",
        "/root/notes: content",
    ),
    "adds a file of its own": (
        change_file("/etc/evil.conf", content="x"),
        "files.explained",
        "/etc/evil.conf: added",
    ),
    "resets live configuration": (
        change_file("/etc/haproxy/haproxy.cfg", content="listen default"),
        "files.live",
        "/etc/haproxy/haproxy.cfg: content",
    ),
    "opens a host key": (
        change_file("/etc/ssh/ssh_host_ed25519_key", mode=0o644),
        "files.secrets",
        "ssh_host_ed25519_key: mode 0644",
    ),
    "opens the home of root": (change_file("/root", mode=0o755), "files.secrets", "/root: mode 0755"),
    "makes units executable": (
        change_file("/etc/systemd/system/cloud.service", mode=0o755),
        "files.modes",
        "a unit with mode 0755",
    ),
    "makes a script plain": (
        change_file("/opt/cloud/bin/vr_cfg.sh", mode=0o644),
        "files.modes",
        "a script with mode 0644",
    ),
    "lets everybody write": (
        change_file("/opt/cloud/bin/vr_cfg.sh", mode=0o777),
        "files.modes",
        "lets everybody write",
    ),
    "forgets its backup": (
        change_file("/var/cache/cloud/bkpup_live_patch", kind="d"),
        "files.no-leftovers",
        "bkpup_live_patch",
    ),
    "writes another signature": (
        _signature("3" * 128),
        "version.agreement",
        "the VM's signature file says 333333333333…",
    ),
    "writes no signature": (_signature(""), "version.agreement", "says ''"),
    "keeps another archive": (_kept, "version.agreement", "the archive that the VM kept is not the one"),
    "answers another version": (
        change_answer(scripts_version="4" * 128),
        "version.agreement",
        "the VM's answer says 4444",
    ),
    "is recorded wrongly": (
        set_field(recorded="1" * 32),
        "version.agreement",
        "the management server says 1111",
    ),
    "changes the template": (
        change_text("scripts.template", "Cloudstack Release 4.22.0\n"),
        "version.template",
        "and is 'Cloudstack Release 4.22.0'",
    ),
    "only reloads dnsmasq": (
        change_unit("dnsmasq.service", main=300, start=1000, workers=((399, 5000),)),
        "services.renewed",
        "dnsmasq was only reloaded: its main process 300 is the old one",
    ),
    "stops apache2": (
        change_unit("apache2.service", active="failed", sub="failed", main=0, workers=()),
        "services.up",
        "apache2.service was active and is failed (failed)",
    ),
    "leaves a failed unit": (
        change_unit("logrotate.service", active="failed", sub="failed", main=0),
        "services.none-failed",
        "logrotate.service",
    ),
    "makes haproxy flap": (
        change_unit("haproxy.service", main=160, start=7000, restarts=3),
        "services.stable",
        "systemd restarted haproxy by itself 3 times",
    ),
    "restarts ssh": (
        change_unit("ssh.service", main=444, start=5000),
        "services.untouched",
        "ssh.service was restarted",
    ),
    "starts a service that was off": (
        change_unit("cloud.service", main=500, start=5000, active="active", sub="running"),
        "services.not-started",
        "cloud.service was inactive (dead) and runs",
    ),
    "enables a service": (
        change_unit("cloud.service", enabled="enabled"),
        "services.not-started",
        "was disabled and is enabled",
    ),
    "loses the list of services": (
        change_text("services.enabled", None),
        "services.listed",
        "missing or empty",
    ),
    "changes the list of services": (
        change_text("services.enabled", "haproxy\n"),
        "services.listed",
        "it named haproxy apache2 dnsmasq and names haproxy",
    ),
    "closes a port": (stop_listening("dnsmasq"), "ports.open", "nobody listens any more on udp 10.1.1.1:53"),
    "opens a port": (
        listen(("tcp", "0.0.0.0:8081", "haproxy", 151)),
        "ports.none-new",
        "tcp 0.0.0.0:8081 (haproxy)",
    ),
    "makes new host keys": (
        change_text("identity.host-keys", "bb  ssh_host_ed25519_key\n"),
        "sshd.host-keys",
        "changed: ssh_host_ed25519_key",
    ),
    "changes the agent's resource": (
        change_text(
            "identity.properties", "resource=Proxy\nguid=s-1\nhost=10.0.0.5\nkeystore.passphrase=x\nextra=1\n"
        ),
        "identity.agent-properties",
        "resource was 'Nfs' and is 'Proxy'",
    ),
    "loses a property": (
        change_text("identity.properties", "resource=Nfs\nguid=s-1\nhost=10.0.0.5\nkeystore.passphrase=x\n"),
        "identity.agent-properties",
        "extra was '1' and is missing",
    ),
    "changes a property that says nothing of who it is": (
        change_text(
            "identity.properties", "resource=Nfs\nguid=s-1\nhost=10.0.0.5\nkeystore.passphrase=x\nextra=2\n"
        ),
        "identity.agent-properties",
        "extra was '1' and is '2'",
    ),
    "loses its agent": (
        set_field(agent=VmAgentLink("aa", "", limit=60.0)),
        "identity.agent-connected",
        "the agent did not come back within 60 s",
    ),
    "gives the agent another certificate": (
        set_field(agent=VmAgentLink("aa", "bb")),
        "identity.agent-connected",
        "another certificate: aa… before, bb… now",
    ),
    "makes the agent serve something else": (
        set_field(agent=VmAgentLink("aa", "aa", "Nfs", "Proxy")),
        "identity.agent-connected",
        "the agent served Nfs and serves Proxy",
    ),
    "keeps the agent away": (
        set_field(agent=VmAgentLink("aa", "aa", away=61.0)),
        "identity.agent-connected",
        "away for 61.0 s, 60 s are allowed",
    ),
    "panics": (
        set_field(console="[ 1.0] Kernel panic - not syncing: x\n"),
        "console.quiet",
        "kernel panic: [ 1.0]",
    ),
    "warns in the journal": (
        log_line(MESSAGE="nf_conntrack: table full"),
        "journal.quiet",
        "kernel: nf_conntrack: table full (warning)",
    ),
    "warns with bytes that are no text": (
        log_line(MESSAGE=[255, 97]),
        "journal.quiet",
        r"kernel: \xffa (warning)",
    ),
    "breaks the program that lists shaping": (
        change_text("rules.shaping", None),
        "observed.whole",
        "the VM did not say right after the patch: rules.shaping (status 1)",
    ),
    "dumps core": (
        change_text("journal.cores", "/root/core\n"),
        "journal.no-cores",
        "core files: /root/core",
    ),
    "lets a program crash": (
        change_text("journal.crashes", "haproxy[7]: segfault at 0 ip 0 sp 0 error 4\n"),
        "journal.no-cores",
        "crashed: haproxy[7]: segfault",
    ),
    "takes the load balancer down": (
        set_field(budgets=(Budget("http", 500, 21800.0, 500.0),)),
        "traffic.within-budget",
        "http: no answer for 21800 ms, the budget is 500 ms",
    ),
    "loses every second request": (
        set_field(budgets=(Budget("http", 500, 400.0, 500.0, lost_ms=5000.0),)),
        "traffic.few-lost",
        "http: requests of 5000 ms were lost, in gaps of 400 ms at most; 1500 ms may be",
    ),
    "breaks a stream": (
        set_field(budgets=(Budget("stream", 500, 0.0, 500.0, broken_streams=1, streams=2),)),
        "traffic.streams",
        "1 broken, 0 allowed",
    ),
    "probes nothing": (
        set_field(budgets=(Budget("dns", 0, 0.0, 500.0),)),
        "traffic.probed",
        "these sent nothing: dns",
    ),
    **DAMAGES,
    **HIDDEN,
}


ROLLBACK_MUTANTS: dict[str, tuple[Mutation, str, str]] = {
    "loses an attribute": (
        change_text("state.xattrs", "# file: /opt/cloud/bin/vr_cfg.sh\nuser.note=0x61\n"),
        "files.attributes",
        "/opt/cloud/bin/vr_cfg.sh: attributes none -> user.note=0x61",
    ),
    "leaves a new file": (
        change_file("/opt/cloud/bin/added.sh", content="added", mode=0o755),
        "files.kept",
        "1 path differs from before: /opt/cloud/bin/added.sh: added (file, 0755, root:root)",
    ),
    "restores no mode": (
        change_file("/opt/cloud/bin/mode.sh", mode=0o755),
        "files.kept",
        "mode.sh: mode 0644 -> 0755",
    ),
    "does not bring a file back": (drop_file("/opt/cloud/bin/gone.sh"), "files.kept", "gone.sh: removed"),
    "leaves a new signature": (
        _signature(NEW_SIGNATURE),
        "version.kept",
        "the signature was 111111111111… and is 2222",
    ),
    "leaves the new archive": (_kept, "version.kept", "the archive that the VM kept is not the one"),
    "leaves haproxy down": (
        change_unit("haproxy.service", active="failed", sub="failed", main=0, workers=()),
        "services.up",
        "haproxy.service was active and is failed",
    ),
    "claims success": (
        change_answer(success=True, patched=True),
        "answer.outcome",
        "although it had to fail",
    ),
    "is recorded as new": (
        set_field(recorded=NEW_SIGNATURE),
        "version.kept",
        "the management server believes 2222",
    ),
    "resets the rules": (
        change_text("rules.haproxy", haproxy(STAT.splitlines()[0] + "\n")),
        "rules.haproxy",
        "2 gone, 0 new",
    ),
    "leaves a program of the new release running": (
        change_text(
            "processes.gone", "/proc/201/maps:1-2 r-xp 0 fe:01 77 /usr/lib/apache2/mod_new.so (deleted)\n"
        ),
        "processes.on-disk",
        "apache2 still runs /usr/lib/apache2/mod_new.so as it was before the patch",
    ),
    "leaves a limit on a service": (
        change_unit("haproxy.service", settings={"LimitNOFILE": "16"}),
        "units.settings",
        "haproxy.service: LimitNOFILE was nothing and is 16 (right after the patch)",
    ),
    "leaves an archive where the next boot finds it": (
        change_file("/var/cache/cloud/agent.zip", content="archive"),
        "files.none-landed",
        "the next boot would install: /var/cache/cloud/agent.zip: new since the patch",
    ),
    "leaves a file far from its own": (
        change_file("/usr/lib/x/left", content="x"),
        "files.kept",
        "/usr/lib/x/left: added",
    ),
}
