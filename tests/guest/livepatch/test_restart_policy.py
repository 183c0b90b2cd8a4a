"""The policy ``changed``: only services that read a changed file are renewed, those that ``bundle diff`` names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundle import catalogue
from bundle.inspect.impact import PatchScript, renewals
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import AGENT
from tests.guest.livepatch.states import differences
from tests.guest.livepatch.test_ways_out import hook
from tests.guest.livepatch.vm_factory import expect_patched, expect_rolled_back

OLD = bundles.old_content()


def _bundle(scripts=None, agent=None, gone=()):
    """Return the installed release with further files, as a newer one, and the names of its files that differ."""
    content = replace(
        OLD,
        version="4.22.0.0",
        release="4.22",
        restart="changed",
        scripts={path: row for path, row in (OLD.scripts | (scripts or {})).items() if path not in gone},
        agent=OLD.agent | (agent or {}),
    )
    changed = [("cloud-scripts.tgz", path) for path in (*(scripts or {}), *gone)]
    return bundles.make(content), changed + [("agent.zip", path) for path in agent or {}]


def _renewed(lab):
    """Return the services that systemctl was asked to renew."""
    words = [line.split() for line in lab.systemctl_log() if line.startswith(("restart ", "reload "))]
    return {(verb, unit.removesuffix(".service")) for verb, unit in words}


@pytest.mark.parametrize(
    ("type_", "change", "renewed"),
    [
        ("router", {"scripts": {"opt/cloud/bin/same.sh": (b"new\n", 0o755)}}, set()),
        (
            "router",
            {"scripts": {"etc/haproxy/conf.d/00-cloud.cfg": (b"new\n", 0o644)}},
            {("reload", "haproxy")},
        ),
        ("router", {"gone": ("etc/haproxy/conf.d/00-cloud.cfg",)}, {("reload", "haproxy")}),
        ("router", {"scripts": {"etc/apache2/sites/a.conf": (b"new\n", 0o644)}}, {("reload", "apache2")}),
        ("router", {"scripts": {"etc/dnsmasq.d/cloud.conf": (b"new\n", 0o644)}}, {("restart", "dnsmasq")}),
        (
            "router",
            {"scripts": {"etc/systemd/system/haproxy.service.d/a.conf": (b"new\n", 0o644)}},
            {("restart", "haproxy")},
        ),
        ("router", {"scripts": {"etc/haproxy/haproxy.cfg": (b"# shipped, newer\n", 0o644)}}, set()),
        ("router", {"agent": {"common.jar": (b"new\n", 0o644)}}, set()),
        ("consoleproxy", {"agent": {"common.jar": (b"new\n", 0o644)}}, {("restart", "cloud")}),
        (
            "consoleproxy",
            {"scripts": {"etc/systemd/system/cloud.service": (b"new\n", 0o644)}},
            {("restart", "cloud")},
        ),
        ("consoleproxy", {"scripts": {"etc/haproxy/a.cfg": (b"new\n", 0o644)}}, set()),
    ],
)
def test_renews_what_reads_a_change_and_diff_says_the_same(stage, type_, change, renewed):
    bundle, changed = _bundle(**change)
    with stage.clone(type_) as lab:
        before = lab.active()
        expect_patched(lab.patch(bundle), bundle, lab)
        assert _renewed(lab) == renewed
        assert lab.active() == before
    live = catalogue.load().live_paths
    effective = [(archive, path) for archive, path in changed if path not in live]
    told = renewals(PatchScript("ours", policy="changed"), effective, catalogue.load())
    assert {(row.effect, row.service) for row in told if type_ in row.types} == renewed


def test_a_service_that_nobody_knows_is_renewed(lab):
    unit = lab.unit("other")
    (lab.root / "var/cache/cloud/enabled_svcs").write_text("haproxy other\n")
    unit.mkdir()
    for name, text in (("state", "active"), ("pid", "900"), ("last-pid", "900"), ("reload", "no")):
        (unit / name).write_text(f"{text}\n")
    group = lab.root / "sys/fs/cgroup/system.slice/other.service"
    group.mkdir()
    (group / "cgroup.procs").write_text("900\n")
    bundle, _ = _bundle({"opt/cloud/bin/same.sh": (b"new\n", 0o755)})
    expect_patched(lab.patch(bundle), bundle, lab)
    assert _renewed(lab) == {("restart", "other")}


def test_nothing_is_waited_for_where_nothing_is_renewed(lab):
    bundle, _ = _bundle({"opt/cloud/bin/same.sh": (b"new\n", 0o755)})
    expect_patched(lab.patch(bundle, LIVEPATCH_SOAK="100", LIVEPATCH_LIMIT="60"), bundle, lab)


def test_an_agent_that_is_the_new_one_already_stays_where_it_is(stage):
    bundle, _ = _bundle({"opt/cloud/bin/same.sh": (b"new\n", 0o755)})
    with stage.clone("consoleproxy") as lab:
        inode = (lab.root / AGENT).stat().st_ino
        expect_patched(lab.patch(bundle), bundle, lab)
        assert (lab.root / AGENT).stat().st_ino == inode
        assert _renewed(lab) == set()


@pytest.mark.parametrize("name", ["stray.jar", "common.jar", "conf/log4j-cloud.xml", "mode"])
def test_an_agent_that_was_changed_is_replaced_and_renewed(stage, name):
    bundle, _ = _bundle()
    with stage.clone("consoleproxy") as lab:
        if name == "mode":
            (lab.root / AGENT / "_run.sh").chmod(0o644)
        else:
            (lab.root / AGENT / name).write_text("an operator's\n")
        expect_patched(lab.patch(bundle), bundle, lab)
        assert _renewed(lab) == {("restart", "cloud")}
        assert not (lab.root / AGENT / "stray.jar").exists()
        assert (lab.root / AGENT / "common.jar").read_bytes() == b"common\n"
        assert (lab.root / AGENT / "_run.sh").stat().st_mode & 0o777 == 0o755


def test_a_rollback_brings_back_only_what_was_renewed(lab):
    before = lab.state()
    bundle, _ = _bundle({"etc/haproxy/conf.d/00-cloud.cfg": (b"new\n", 0o644)})
    hook(lab, "systemctl", "[[ $1 != reload || -e /run/lab/once ]] || { touch /run/lab/once; exit 1; }")
    expect_rolled_back(lab, lab.patch(bundle), before)
    assert {unit for _, unit in _renewed(lab)} == {"haproxy"}
    assert differences(before, lab.state()) == []
