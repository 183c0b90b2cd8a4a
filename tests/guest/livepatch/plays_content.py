"""Scenarios about what a patch brings, removes, keeps and says."""

from __future__ import annotations

import os
from dataclasses import replace

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import AGENT, FolderVm
from tests.guest.livepatch.states import State
from tests.guest.livepatch.vm_factory import (
    VmFactory,
    expect,
    expect_patched,
    expect_rolled_back,
    expect_same,
    scenario,
)
from tests.guest.livepatch.walk import TYPES

_RENEWAL = "how a script renews services is its own affair, as long as they are renewed"
_NAMES = "where a script keeps an operator's version is its own affair"
LIVE = (
    "etc/haproxy/haproxy.cfg",
    "etc/ssh/sshd_config",
    "etc/ipsec.secrets",
    "var/www/html/latest/.htaccess",
)


def _only(state: State, *paths: str) -> State:
    return {path: state[path] for path in paths}


@scenario("S08", legacy_fails=True)
def keeps_live_configuration(world: VmFactory) -> None:
    with world.vm() as lab:
        before = lab.state()
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect_same(_only(before, *LIVE), _only(lab.state(), *LIVE), "live configuration")
        expect(
            "4.22" in lab.read("etc/sysctl.conf"), "a live path that nobody changed did not get the new file"
        )


@scenario("S24", legacy_fails=True)
def keeps_the_bind_address_of_sshd(world: VmFactory) -> None:
    with world.vm("consoleproxy") as lab:
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect("ListenAddress 169.254.1.9" in lab.read("etc/ssh/sshd_config"), "sshd would listen everywhere")


@scenario("S09", legacy_fails=True)
def keeps_the_identity_of_an_agent(world: VmFactory) -> None:
    own = (f"{AGENT}/conf/agent.properties", f"{AGENT}/conf/cloud.jks", f"{AGENT}/certs/realhostip.keystore")
    for type_ in ("secstorage", "consoleproxy"):
        with world.vm(type_) as lab:
            before = lab.state()
            expect_patched(lab.patch(world.new()), world.new(), lab)
            expect_same(_only(before, *own), _only(lab.state(), *own), "the agent's identity")
            expect(
                lab.read(f"{AGENT}/conf/log4j-cloud.xml") == "log4j of 4.22\n",
                "a shipped conf file did not arrive",
            )
            expect(
                lab.read(f"{AGENT}/conf/new.properties") == "new of 4.22\n", "a new conf file did not arrive"
            )


@scenario("S09")
def patches_an_agent_that_has_nothing_of_its_own(world: VmFactory) -> None:
    """A VM that never got an identity: no file of its folder has to be carried over."""
    with world.vm("secstorage") as lab:
        for path, (data, mode) in bundles.old_content().agent.items():
            (lab.root / AGENT / path).write_bytes(data)
            (lab.root / AGENT / path).chmod(mode)
        (lab.root / AGENT / "conf/cloud.jks").unlink()
        (lab.root / AGENT / "conf/agent.properties").unlink()
        expect_patched(lab.patch(world.new()), world.new(), lab)
        found = {
            str(path.relative_to(lab.root / AGENT))
            for path in (lab.root / AGENT).rglob("*")
            if not path.is_dir()
        }
        expect_same(set(bundles.new_content().agent), found, "the files of the agent")


@scenario("S09", legacy_fails=True)
def keeps_what_a_java_runtime_said_when_it_died(world: VmFactory) -> None:
    """Nobody knows what the installed release shipped, and support wants to know why the agent crashed."""
    said = ("hs_err_pid2799.log", "replay_pid2799.log", "java_pid2799.hprof")
    with world.vm("consoleproxy") as lab:
        for name in said:
            (lab.root / AGENT / name).write_text("SIGSEGV (0xb)\n")
        (lab.root / AGENT / "old.txt").write_text("of an earlier release\n")
        (lab.root / "var/lib/cloud-livepatch/installed.manifest").unlink(missing_ok=True)
        expect_patched(lab.patch(world.new()), world.new(), lab)
        for name in said:
            path = lab.root / AGENT / name
            expect(path.is_file() and path.read_text() == "SIGSEGV (0xb)\n", f"{name} is gone")
        expect(not (lab.root / AGENT / "old.txt").exists(), "a file of an earlier release is still there")


@scenario("S26", legacy_fails=True)
def gives_a_storage_vm_its_own_resource(world: VmFactory) -> None:
    """A VM of an early release never got its identity into agent.properties."""
    with world.vm("secstorage") as lab:
        (lab.root / f"{AGENT}/conf/agent.properties").write_bytes(
            bundles.old_content().agent["conf/agent.properties"][0]
        )
        (lab.root / f"{AGENT}/conf/cloud.jks").unlink()
        expect_patched(lab.patch(world.new()), world.new(), lab)
        text = lab.read(f"{AGENT}/conf/agent.properties")
        expect(
            "resource=org.apache.NfsSecondaryStorageResource\n" in text,
            "the resource is not the storage VM's",
        )
        expect("ConsoleProxy" not in text, "the storage VM would start as a console proxy")
        expect("guid=X.1\n" in text, "the identity is missing")


@scenario("S10", legacy_fails=True)
def prints_one_line_whatever_the_noise(world: VmFactory) -> None:
    for type_ in TYPES:
        with world.vm(type_) as lab:
            (lab.root / "run/lab/noise").write_text("warning: something: happened\n")
            expect_patched(lab.patch(world.new()), world.new(), lab)


@scenario("S13", own="releases before 4.22 have no SHA-512 signatures")
def goes_from_an_md5_signature_to_sha512_once(world: VmFactory) -> None:
    with world.vm() as lab:
        expect_same(32, len(lab.signature()), "the length of the installed signature")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect_same(128, len(lab.signature()), "the length of the new signature")
        before = lab.state(times=False)
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect_same(before, lab.state(times=False), "the state after a second patch")


@scenario("S17", legacy_fails=True)
def patching_again_and_again_is_a_fixed_point(world: VmFactory) -> None:
    for type_ in TYPES:
        with world.vm(type_) as lab:
            rules = lab.filter_rules()
            expect_patched(lab.patch(world.new()), world.new(), lab)
            before = lab.state(times=False)
            for _ in range(2):
                expect_patched(lab.patch(world.new()), world.new(), lab)
            expect_same(before, lab.state(times=False), "the state")
            expect_same(rules, lab.filter_rules(), "the packet filter")


@scenario("S16", legacy_fails=True)
def the_console_port_is_open_exactly_once(world: VmFactory) -> None:
    rule = "-A INPUT -i eth2 -p tcp -m tcp --dport 8443 -m state --state NEW -j ACCEPT"
    at_boot = "-A INPUT -i eth2 -p tcp -m state --state NEW -m tcp --dport 8443 -j ACCEPT"
    for count, there in ((0, rule), (1, rule), (3, rule), (1, at_boot), (2, at_boot)):
        with world.vm("consoleproxy") as lab:
            (lab.root / "run/lab/filter").write_text("-A INPUT -i lo -j ACCEPT\n" + f"{there}\n" * count)
            expect_patched(lab.patch(world.new()), world.new(), lab)
            expect_same(["-A INPUT -i lo -j ACCEPT", there], lab.filter_rules(), "the packet filter")


@scenario("S16")
def a_rollback_restores_the_packet_filter(world: VmFactory) -> None:
    with world.vm("consoleproxy") as lab:
        (lab.root / "run/lab/filter").write_text("-A INPUT -i lo -j ACCEPT\n")
        (lab.root / "run/lab/units/cloud.service/flaps").write_text("2\n")
        before, rules = lab.state(), lab.filter_rules()
        expect_rolled_back(lab, lab.patch(world.new(), LIVEPATCH_SOAK="1"), before)
        expect_same(rules, lab.filter_rules(), "the packet filter")


@scenario("S25", legacy_fails=True)
def removes_dropped_files_and_stale_jars(world: VmFactory) -> None:
    with world.vm("consoleproxy") as lab:
        (lab.root / f"{AGENT}/left-over.jar").write_text("stale\n")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        for path in (
            "opt/cloud/bin/gone.sh",
            "opt/cloud/old",
            f"{AGENT}/agent-4.21.jar",
            f"{AGENT}/left-over.jar",
        ):
            expect(not (lab.root / path).exists(), f"{path} is still there")


@scenario("S25", legacy_fails=True)
def brings_dropped_files_back_in_a_rollback(world: VmFactory) -> None:
    with world.vm("consoleproxy") as lab:
        before = lab.state()
        expect_rolled_back(lab, lab.patch(world.broken()), before)
        expect(lab.read("opt/cloud/bin/gone.sh") == "gone of 4.21\n", "a dropped file did not return")


@scenario("S25", legacy_fails=True, own=_NAMES)
def finds_dropped_files_without_a_stored_manifest(world: VmFactory) -> None:
    """A VM that was never patched by this script has only the archive that boot keeps."""
    with world.vm() as lab:
        (lab.root / "var/lib/cloud-livepatch/installed.manifest").unlink()
        (lab.root / "etc/cron.hourly/watch").write_text("the operator's\n")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect(not (lab.root / "opt/cloud/bin/gone.sh").exists(), "a dropped file is still there")
        expect(not (lab.root / "opt/cloud/old").exists(), "a dropped folder is still there")
        expect_same("the operator's\n", lab.read("etc/cron.hourly/watch.dist-old"), "the operator's version")
        expect(not (lab.root / "root/health_checks/check.py.dist-old").exists(), "an unchanged file was kept")


@scenario("S28")
def works_ten_years_off(world: VmFactory) -> None:
    """The clock decides nothing: limits are measured from boot, files are compared by content."""
    for path_time in (1_000_000_000, 2_500_000_000):
        with world.vm() as lab:
            for path in (
                "opt/cloud/bin/configure.py",
                "etc/cron.hourly/watch",
                "var/cache/cloud/enabled_svcs",
            ):
                os.utime(lab.root / path, (path_time, path_time))
            before = lab.state()
            expect_rolled_back(lab, lab.patch(world.broken()), before)
            expect_patched(lab.patch(world.new()), world.new(), lab)


@scenario("S29", legacy_fails=True)
def renews_the_one_service_of_a_small_type(world: VmFactory) -> None:
    with world.vm("ilbvm") as lab:
        before = lab.processes("haproxy")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect(
            lab.processes("haproxy") != before, "haproxy, all that this type has, runs on its old processes"
        )


@scenario("S29", legacy_fails=True)
def leaves_services_as_they_were(world: VmFactory) -> None:
    """Dead or disabled before: left so, reported in the log, not blamed on the patch."""
    with world.vm() as lab:
        (lab.root / "run/lab/units/dnsmasq.service/state").write_text("failed\n")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect(not lab.is_active("dnsmasq"), "a dead service was started")
        words = "dnsmasq" if lab.foreign else "dnsmasq was failed before"
        told = words in lab.read("var/log/livepatchsystemvm.log")
        expect(told, "dnsmasq was down before the patch, and nobody is told")


@scenario("S36", legacy_fails=True)
def gives_every_file_its_mode(world: VmFactory) -> None:
    expected = {
        "root": "dir 700",
        "etc/cloud.d/secret": "file 600",
        "etc/ipsec.secrets": "file 600",
        "etc/systemd/system/cloud.service": "file 644",
        "etc/cron.hourly/watch": "file 755",
        "opt/cloud/bin/mode.sh": "file 755",
    }
    with world.vm() as lab:
        expect_patched(lab.patch(world.new()), world.new(), lab)
        state = lab.state()
        expect_same(expected, {path: state[path][0] for path in expected}, "modes")


@scenario("S36")
def gives_new_folders_the_modes_of_the_manifest(world: VmFactory) -> None:
    """On every type, whether an agent is unpacked or not; a folder that was there keeps its mode."""
    folders = {
        "etc/cloud.d": 0o700,
        "opt/cloud/lib": 0o755,
        "opt/cloud/lib/deep": 0o750,
        "opt/cloud/bin": 0o700,
    }
    bundle = world.make(replace(bundles.new_content(), folders=folders))
    expected = {
        "etc/cloud.d": "dir 700",
        "opt/cloud/lib": "dir 755",
        "opt/cloud/lib/deep": "dir 750",
        "opt/cloud/bin": "dir 755",
    }
    for type_ in TYPES:
        with world.vm(type_) as lab:
            expect_patched(lab.patch(bundle), bundle, lab)
            state = lab.state()
            expect_same(expected, {path: state[path][0] for path in expected}, "modes")


@scenario("S42", own=_NAMES)
def keeps_an_operators_file_where_a_folder_comes(world: VmFactory) -> None:
    """A file of the old release that the operator changed, and that is a folder in the new one; and the other way."""
    content = bundles.new_content()
    scripts = {path: what for path, what in content.scripts.items() if path != "etc/sysctl.conf"}
    scripts |= {"opt/cloud/bin/gone.sh/inside": (b"inside\n", 0o644), "opt/cloud/old": (b"a file\n", 0o644)}
    bundle = world.make(replace(content, scripts=scripts))
    for changed in (True, False):
        with world.vm() as lab:
            for path in ("opt/cloud/bin/gone.sh", "opt/cloud/old/data/table") if changed else ():
                (lab.root / path).write_text("the operator's\n")
            expect_patched(lab.patch(bundle), bundle, lab)
            expect_same("inside\n", lab.read("opt/cloud/bin/gone.sh/inside"), "the file in the new folder")
            expect_same("a file\n", lab.read("opt/cloud/old"), "the file in place of the folder")
            kept = {path.name for path in (lab.root / "opt/cloud").rglob("*.dist-old")}
            expect_same(
                {"gone.sh.dist-old", "old.dist-old"} if changed else set(), kept, "what is kept beside"
            )


@scenario("S42", legacy_fails=True, own=_NAMES)
def keeps_an_operators_version_beside(world: VmFactory) -> None:
    with world.vm() as lab:
        for path in ("etc/cron.hourly/watch", "opt/cloud/bin/gone.sh"):
            (lab.root / path).write_text("the operator's\n")
        before = lab.state()
        expect_rolled_back(lab, lab.patch(world.broken()), before)
        expect_patched(lab.patch(world.new()), world.new(), lab)
        for path in ("etc/cron.hourly/watch", "opt/cloud/bin/gone.sh"):
            expect_same("the operator's\n", lab.read(f"{path}.dist-old"), f"{path}.dist-old")
        expect_same("watch of 4.22\n", lab.read("etc/cron.hourly/watch"), "the new version")
        expect(
            "etc/cron.hourly/watch was changed" in lab.read("var/log/livepatchsystemvm.log"),
            "nothing was reported",
        )


@scenario("S42", own=_NAMES)
def replaces_an_operators_link_where_a_folder_comes(world: VmFactory) -> None:
    """A link to a folder in place of a file of the old release: nothing is installed behind it."""
    content = bundles.new_content()
    inside = content.scripts | {"opt/cloud/bin/gone.sh/inside": (b"inside\n", 0o644)}
    bundle = world.make(replace(content, scripts=inside))
    with world.vm() as lab:
        link = lab.root / "opt/cloud/bin/gone.sh"
        link.unlink()
        link.symlink_to("/etc")
        expect_patched(lab.patch(bundle), bundle, lab)
        expect(link.is_dir() and not link.is_symlink(), "the link stands in place of the folder")
        expect_same("inside\n", lab.read("opt/cloud/bin/gone.sh/inside"), "the file in the new folder")
        expect_same("/etc", str(link.with_name("gone.sh.dist-old").readlink()), "what is kept beside")
        expect(not (lab.root / "etc/inside").exists(), "a file was installed behind the link")


@scenario("S22", own=_RENEWAL)
def reloads_what_can_and_restarts_the_rest(world: VmFactory) -> None:
    """Graceful by default: haproxy and apache2 keep their sockets; dnsmasq cannot."""
    with world.vm() as lab:
        expect_patched(lab.patch(world.new()), world.new(), lab)
        log = {line for line in lab.systemctl_log() if line.split()[0] in ("reload", "restart")}
        wanted = {"restart dnsmasq.service", "reload haproxy.service", "reload apache2.service"}
        expect_same(wanted, log, "what was asked of systemctl")


@scenario("S22", own=_RENEWAL)
def brings_up_together_what_does_not_need_each_other(world: VmFactory) -> None:
    """A slow start holds nobody up but those that depend on it."""
    with world.vm() as lab:
        (lab.unit("dnsmasq") / "delay").write_text("0.5\n")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        log = lab.systemctl_log()
        expect(
            log.index("reload haproxy.service") < log.index("ended restart dnsmasq.service"),
            f"haproxy waited for dnsmasq: {log}",
        )
    with world.vm("secstorage") as lab:
        for name in ("rpcbind", "apache2"):
            (lab.unit(name) / "delay").write_text("0.2\n")
        bundle = world.make(replace(bundles.new_content(), restart="always"))
        expect_patched(lab.patch(bundle), bundle, lab)
        log = [line for line in lab.systemctl_log() if "restart" in line]
        names = [name for name in ("rpcbind", "apache2", "cloud") for _ in range(2)]
        wanted = [f"{'ended ' * (i % 2)}restart {name}.service" for i, name in enumerate(names)]
        expect_same(wanted, log, "the order")


@scenario("S22", own=_RENEWAL)
def restarts_everything_when_the_bundle_says_so(world: VmFactory) -> None:
    with world.vm() as lab:
        bundle = world.make(replace(bundles.new_content(), restart="always"))
        expect_patched(lab.patch(bundle), bundle, lab)
        verbs = {line.split()[0] for line in lab.systemctl_log()}
        expect("reload" not in verbs and "restart" in verbs, f"systemctl was asked for {verbs}")


@scenario("S22", own=_RENEWAL)
def restarts_a_service_whose_reload_brings_nothing_new(world: VmFactory) -> None:
    with world.vm("ilbvm") as lab:
        (lab.root / "run/lab/units/haproxy.service/stubborn").write_text("")
        expect_patched(lab.patch(world.new()), world.new(), lab)
        expect("restart haproxy.service" in lab.systemctl_log(), "a reload without new workers was believed")


@scenario("S22", own=_RENEWAL)
def restarts_a_service_whose_unit_file_changed(world: VmFactory) -> None:
    drop_in = "etc/systemd/system/haproxy.service.d/cloud.conf"
    content = replace(
        bundles.new_content(), scripts=bundles.new_content().scripts | {drop_in: (b"[Service]\n", 0o644)}
    )
    with world.vm("ilbvm") as lab:
        bundle = world.make(content)
        expect_patched(lab.patch(bundle), bundle, lab)
        log = lab.systemctl_log()
        expect(
            "daemon-reload " in log and "restart haproxy.service" in log, "the new unit file has no effect"
        )


@scenario("S01")
def a_port_that_stays_shut_fails_the_patch(world: VmFactory) -> None:
    """The service is active, but nobody can connect."""
    with world.vm() as lab:
        _shut_after_restart(lab)
        before = lab.state()
        expect_rolled_back(
            lab, lab.patch(world.new(), LIVEPATCH_SERVICE_LIMIT="1"), before, "no longer listens"
        )


def _shut_after_restart(lab: FolderVm) -> None:
    (lab.root / "run/lab/units/dnsmasq.service/shuts").write_text("/opt/cloud/lib\n")
