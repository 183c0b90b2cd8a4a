"""``diff`` says what changed, and what the change means on a VM."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.contents import parse_packages, take
from bundle.inspect.diff import BundleDifference, compare
from bundle.inspect.impact import EFFECTS, PatchScript, affected, renewals
from bundle.inspect.readers import types_of
from bundle.seal.ecdsa import generate
from bundle.seal.manifest import load
from bundle.services import reloaded
from tests.unit.bundle.source import checkout_tree

Make = Callable[..., Path]


@pytest.fixture
def differ(source: Path, bundle_dir: Path, make: Make, tmp_path: Path) -> Callable[..., BundleDifference]:
    """Return a function that changes files of the source and compares the two bundles."""

    def run(changes: dict[str, bytes | None], **options: object) -> BundleDifference:
        for name, data in changes.items():
            path = source / "systemvm" / name
            if data is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        new = make(source, tmp_path / "new", **options)
        return compare(take(bundle_dir), take(new), catalogue.load())

    return run


def readers(found: BundleDifference) -> dict[str, str]:
    return {row.reader: row.effect for row in found.readers}


def renewed(found: BundleDifference) -> dict[str, str]:
    return {row.service: row.effect for row in found.renewals}


def test_nothing_differs_from_itself(bundle_dir: Path) -> None:
    found = compare(take(bundle_dir), take(bundle_dir), catalogue.load())
    assert found.empty
    assert found.readers == ()


def test_added_removed_changed_and_modes_are_told_apart(differ: Callable[..., BundleDifference]) -> None:
    found = differ(
        {
            "debian/etc/new.conf": b"new\n",
            "debian/opt/cloud/bin/cs/helper.py": None,
            "debian/etc/haproxy/haproxy.cfg": b"other\n",
            "debian/root/monitorServices.py": b"not a script any more\n",
        }
    )
    assert found.added == (("cloud-scripts.tgz", "etc/new.conf"),)
    removed = ("cloud-scripts.tgz", "opt/cloud/bin/cs"), ("cloud-scripts.tgz", "opt/cloud/bin/cs/helper.py")
    assert found.removed == removed
    assert ("cloud-scripts.tgz", "etc/haproxy/haproxy.cfg") in found.changed
    assert [(row.place[1], row.old, row.new) for row in found.modes] == [
        ("root/monitorServices.py", 0o755, 0o644)
    ]


GRACEFUL = {
    "apache2": "reload",
    "haproxy": "reload",
    "keepalived": "reload",
    "cloud": "restart",
    "dnsmasq": "restart",
    "nfs-common": "restart",
    "portmap": "restart",
}
ALWAYS = dict.fromkeys(GRACEFUL, "restart") | {"keepalived": "failover"}


def test_what_the_script_renews_in_any_case_is_said_first(differ: Callable[..., BundleDifference]) -> None:
    found = differ({"debian/opt/cloud/bin/update_config.py": b"#!/usr/bin/python3\n"}, script=None)
    assert renewed(found) == GRACEFUL
    assert readers(found) == {"rules": "later"}
    assert found.downtime["ilbvm"] == "reload"
    assert found.downtime["router"] == found.downtime["consoleproxy"] == "restart"
    assert found.downtime_class == "restart"


def test_a_script_that_always_restarts_costs_a_failover(differ: Callable[..., BundleDifference]) -> None:
    found = differ({}, script=None, restart="always")
    assert renewed(found) == ALWAYS
    assert (found.downtime["ilbvm"], found.downtime["router"]) == ("restart", "failover")


def test_a_foreign_script_is_taken_to_restart_everything(differ: Callable[..., BundleDifference]) -> None:
    found = differ({"debian/etc/haproxy/conf.d/00-cloud.cfg": b"global\n"})
    assert renewed(found) == ALWAYS
    assert readers(found) == {"haproxy": "restart"}
    assert "taken to restart every active service" in found.script.describe()


def test_cloudstacks_own_script_leaves_three_types_as_they_are() -> None:
    rows = renewals(PatchScript("upstream"), [], catalogue.load())
    types = {name for row in rows for name in row.types}
    assert types == {"router", "vpcrouter", "secstorage", "consoleproxy"}
    found, _ = affected([("cloud-scripts.tgz", "etc/haproxy/x.cfg")], rows, catalogue.load())
    moments = {(row.when, row.types) for row in found}
    assert moments == {("at its restart", ("router", "vpcrouter")), ("its next start", ("ilbvm", "elbvm"))}


def test_only_readers_of_changed_files_are_renewed_under_the_policy_changed() -> None:
    changed = [
        ("cloud-scripts.tgz", "etc/haproxy/conf.d/x.cfg"),
        ("cloud-scripts.tgz", "opt/cloud/bin/merge.py"),
    ]
    rows = renewals(PatchScript("ours", policy="changed"), changed, catalogue.load())
    assert [(row.service, row.effect) for row in rows] == [("haproxy", "reload")]
    assert renewals(PatchScript("ours", policy="changed"), changed[1:], catalogue.load()) == ()
    agent = renewals(PatchScript("ours", policy="changed"), [("agent.zip", "run.sh")], catalogue.load())
    assert [(row.service, row.types) for row in agent] == [("cloud", ("secstorage", "consoleproxy"))]


def test_a_bundle_of_the_policy_changed_says_so(differ: Callable[..., BundleDifference]) -> None:
    found = differ({"debian/etc/haproxy/haproxy.d.cfg": b"new\n"}, script=None, restart="changed")
    assert found.script.policy == "changed"
    assert "renews the active services that read a changed file" in found.script.describe()
    assert renewed(found) == {"haproxy": "reload"}


@pytest.mark.parametrize("path", ["haproxy.service", "haproxy.service.d/cloud.conf"])
def test_a_changed_unit_takes_effect_by_a_restart_only(path: str) -> None:
    changed = [("cloud-scripts.tgz", f"etc/systemd/system/{path}")]
    rows = renewals(PatchScript("ours", policy="graceful"), changed, catalogue.load())
    assert {row.service: row.effect for row in rows}["haproxy"] == "restart"


def test_the_services_that_are_reloaded_are_those_of_the_script(
    source: Path, make: Make, tmp_path: Path
) -> None:
    text = (make(source, tmp_path / "out", script=None) / "patch-sysvms.sh").read_text()
    named = re.findall(r"\$1 == @\(([a-z0-9|]+)\)", text)
    assert "|".join(reloaded(catalogue.load().service_rows)) in named


def test_haproxy_is_affected_by_its_configuration(differ: Callable[..., BundleDifference]) -> None:
    found = differ({"debian/etc/haproxy/conf.d/00-cloud.cfg": b"global\n"}, script=None)
    assert [(row.reader, row.when, row.why) for row in found.readers] == [
        ("haproxy", "at its reload", ("etc/haproxy/conf.d/00-cloud.cfg",))
    ]
    assert found.readers[0].types == ("router", "vpcrouter", "ilbvm", "elbvm")


def test_live_configuration_is_kept_by_our_script_and_counts_for_nobody(
    differ: Callable[..., BundleDifference],
) -> None:
    found = differ({"debian/etc/haproxy/haproxy.cfg": b"x\n", "debian/etc/other.conf": b"y\n"}, script=None)
    assert (found.live, found.live_kept) == (("etc/haproxy/haproxy.cfg",), True)
    assert found.readers == ()
    assert found.no_reader == ("etc/other.conf",)


def test_live_configuration_is_reset_by_other_scripts(differ: Callable[..., BundleDifference]) -> None:
    found = differ({"debian/etc/haproxy/haproxy.cfg": b"x\n"})
    assert (found.live, found.live_kept) == (("etc/haproxy/haproxy.cfg",), False)
    assert readers(found) == {"haproxy": "restart"}


def test_the_agent_restarts_the_cloud_service_of_system_vms_that_run_it(
    differ: Callable[..., BundleDifference],
) -> None:
    found = differ({"agent/run.sh": b"#!/bin/bash\n:\n"}, script=None)
    assert [(row.reader, row.types) for row in found.readers] == [("cloud", ("secstorage", "consoleproxy"))]


FACTS = [
    ({"script": None, "restart": "always"}, {"script": None}, {"restart policy", "script digest"}),
    ({"script": None}, {}, {"script", "restart policy", "script digest"}),
    ({"release": "4.21"}, {"release": "4.22"}, {"release", "signature algorithm"}),
    ({"minimum_template": "4.16"}, {}, {"minimum template"}),
    ({"architecture": "arm64"}, {}, {"architecture"}),
]


@pytest.mark.parametrize(("old", "new", "names"), FACTS, ids=[", ".join(sorted(row[2])) for row in FACTS])
def test_what_is_true_of_the_whole_is_content(
    old: dict, new: dict, names: set[str], source: Path, make: Make, tmp_path: Path
) -> None:
    one, two = make(source, tmp_path / "one", **old), make(source, tmp_path / "two", **new)
    found = compare(take(one), take(two), catalogue.load())
    assert {row.name for row in found.facts} == names
    assert not found.empty
    assert load(one / "manifest.json").content_digest != load(two / "manifest.json").content_digest


def test_unrelated_scripts_and_a_signature_are_differences(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path
) -> None:
    other = tmp_path / "other.sh"
    other.write_text("#!/bin/sh\necho other\n")
    new = make(source, tmp_path / "new", script=other)
    found = compare(take(bundle_dir), take(new), catalogue.load())
    assert [row.name for row in found.facts] == ["script digest"]
    generate(tmp_path / "K")
    signed = make(source, tmp_path / "signed", key=tmp_path / "K")
    found = compare(take(bundle_dir), take(signed), catalogue.load())
    assert [(row.name, row.old, row.new) for row in found.facts] == [("signed", "no", "yes")]
    assert load(signed / "manifest.json").content_digest == load(bundle_dir / "manifest.json").content_digest


def test_packages_that_would_be_installed_are_named(differ: Callable[..., BundleDifference]) -> None:
    ini = b"[one]\ndebian_os = 11\npackage_name = python3-netaddr\nfile_name = python3-netaddr_0.7.19-5_all.deb\n"
    found = differ({"agent/packages/packages.ini": ini})
    assert found.packages == (("python3-netaddr", "11", "python3-netaddr_0.7.19-5_all.deb"),)


def test_a_base_image_that_is_too_old_is_named(make: Make, source: Path, tmp_path: Path) -> None:
    old = make(source, tmp_path / "old", release="4.15")
    new = make(source, tmp_path / "new", minimum_template="4.16")
    found = compare(take(old), take(new), catalogue.load())
    assert found.base_image == "the new bundle asks for a template of 4.16 or newer"


def test_a_genuine_bundle_needs_what_the_matrix_says(make: Make, tmp_path: Path) -> None:
    new = make(checkout_tree.make_checkout(tmp_path / "tree"), tmp_path / "new")
    old = make(checkout_tree.make_checkout(tmp_path / "older", "4.15.2.0"), tmp_path / "old")
    found = compare(take(old), take(new), catalogue.load())
    assert found.base_image == "the new bundle asks for a template of 4.16 or newer"
    assert found.verdict is not None
    assert found.verdict.word == "no"


def test_single_archives_and_source_trees_can_be_compared(bundle_dir: Path, source: Path) -> None:
    archive = take(bundle_dir / "cloud-scripts.tgz")
    assert compare(archive, take(bundle_dir), catalogue.load()).empty
    assert compare(take(bundle_dir / "agent.zip"), take(source), catalogue.load()).empty
    assert compare(take(source), archive, catalogue.load()).empty


def test_what_is_nothing_of_the_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CheckFailed, match="neither a gzip-compressed tar archive nor a zip archive"):
        take(tmp_path / "file")
    with pytest.raises(UsageError, match="no such bundle, archive or source tree"):
        take(tmp_path / "absent")


def test_a_payload_that_asks_for_less_than_cloudstacks_own_is_judged_by_what_it_asks_for(
    source: Path, make: Make, tmp_path: Path
) -> None:
    old, new = make(source, tmp_path / "old", release="4.15"), make(source, tmp_path / "new")
    found = compare(take(old), take(new), catalogue.load())
    assert found.verdict is not None
    assert (found.verdict.word, found.base_image) == ("caveat", "")
    assert "asks for a template of 4.14 or newer" in found.verdict.reasons[0].text


def test_the_verdict_about_the_way_back_is_the_one_about_the_base_image(
    source: Path, make: Make, tmp_path: Path
) -> None:
    old, new = make(source, tmp_path / "old"), make(source, tmp_path / "new", release="4.21")
    found = compare(take(old), take(new), catalogue.load())
    assert found.verdict is not None
    assert found.verdict.word == "no"
    assert found.base_image == "a live patch never leads back to an older release"


@pytest.mark.parametrize(
    ("path", "reader", "when", "types"),
    [
        ("opt/cloud/bin/checkrouter.sh", "the management server's poll", "at once", "router vpcrouter"),
        (
            "opt/cloud/bin/keystore-setup",
            "the agent's certificates",
            "next certificate",
            "secstorage consoleproxy",
        ),
        ("opt/cloud/bin/cs/CsDhcp.py", "rules", "next rule", "router vpcrouter dhcpsrvr"),
        ("opt/cloud/bin/setup/secstorage.sh", "boot", "next boot", "secstorage"),
        ("opt/cloud/bin/setup/router.sh", "boot", "next boot", "router"),
        ("opt/cloud/bin/setup/common.sh", "boot", "next boot", ""),
        ("etc/vpcdnsmasq.conf", "boot", "next boot", "vpcrouter"),
        ("etc/apache2/vhost.template", "the web server's next vhost", "next vhost", ""),
        ("root/health_checks/dns_check.py", "cron", "next cron run", "router vpcrouter"),
        ("root/monitorServices.py", "cron", "next cron run", "router vpcrouter"),
        ("opt/cloud/bin/baremetal-vr.py", "baremetal-vr.service", "its next start", "router"),
        ("opt/cloud/templates/keepalived.conf.templ", "the rules of a redundant router", "next rule", ""),
        ("etc/systemd/system/cloud-postinit.service", "systemd", "daemon-reload", ""),
        ("etc/haproxy/conf.d/x.cfg", "haproxy", "at its reload", "router vpcrouter ilbvm elbvm"),
        ("etc/apache2/conf-enabled/security.conf", "apache2", "at its reload", ""),
        ("etc/ssh/sshd_config", "ssh", "its next start", ""),
        ("etc/cron.daily/x", "cron", "next cron run", ""),
        ("opt/cloud/testdata/README", "nobody on a VM: test data", "never", ""),
    ],
)
def test_every_kind_of_file_has_its_reader(path: str, reader: str, when: str, types: str) -> None:
    rows = renewals(PatchScript("ours", policy="graceful"), [], catalogue.load())
    found, strangers = affected([("cloud-scripts.tgz", path)], rows, catalogue.load())
    assert [(row.reader, row.when) for row in found] == [(reader, when)]
    assert not types or found[0].types == tuple(types.split())
    assert found[0].effect in EFFECTS
    assert strangers == ()


def test_every_file_of_a_genuine_tree_has_a_reader() -> None:
    own = {f"opt/cloud/bin/cs/Cs{number}.py" for number in range(200)}
    paths = sorted(row for row in checkout_tree.script_paths() | own if "filler" not in row)
    _, strangers = affected([("cloud-scripts.tgz", row) for row in paths], (), catalogue.load())
    assert strangers == ()


def test_a_service_runs_where_the_catalogue_says() -> None:
    assert types_of("haproxy", catalogue.load()) == ("router", "vpcrouter", "ilbvm", "elbvm")
    assert types_of("keepalived", catalogue.load()) == ("router", "vpcrouter")


def test_a_broken_packages_ini_is_an_error() -> None:
    with pytest.raises(CheckFailed, match=r"packages\.ini"):
        parse_packages("key = without section\n", "packages.ini")


def test_show_prints_a_table_and_json(bundle_dir: Path, sysvm: Callable, tmp_path: Path) -> None:
    text = sysvm("bundle", "show", bundle_dir, COLUMNS="200").stdout
    assert "4.22.0.0" in text
    assert "etc/haproxy/haproxy.cfg" in text
    document = json.loads(sysvm("bundle", "show", bundle_dir, "--json").stdout)
    assert document == json.loads((bundle_dir / "manifest.json").read_bytes())
    shutil.rmtree(bundle_dir)
    missing = sysvm("bundle", "show", bundle_dir)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
