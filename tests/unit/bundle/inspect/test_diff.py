"""``diff`` says what changed, and what the change means on a VM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.contents import parse_packages, take
from bundle.inspect.diff import Difference, compare
from bundle.inspect.impact import EFFECTS, affected, types_of
from tests.unit.bundle.source import checkout_tree

Make = Callable[..., Path]


@pytest.fixture
def differ(source: Path, bundle_dir: Path, make: Make, tmp_path: Path) -> Callable[..., Difference]:
    """Return a function that changes files of the source and compares the two bundles."""

    def run(changes: dict[str, bytes | None], **options: object) -> Difference:
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


def services(found: Difference) -> dict[str, str]:
    return {row.service: row.effect for row in found.services}


def test_nothing_differs_from_itself(bundle_dir: Path) -> None:
    found = compare(take(bundle_dir), take(bundle_dir), catalogue.load())
    assert found.empty
    assert found.downtime_class == "none"


def test_added_removed_changed_and_modes_are_told_apart(differ: Callable[..., Difference]) -> None:
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


def test_haproxy_is_affected_by_its_configuration(differ: Callable[..., Difference]) -> None:
    found = differ({"debian/etc/haproxy/conf.d/00-cloud.cfg": b"global\n"}, script=None)
    assert services(found) == {"haproxy": "reload"}
    assert found.services[0].why == ("etc/haproxy/conf.d/00-cloud.cfg",)
    assert found.downtime["router"] == found.downtime["ilbvm"] == "reload"
    assert found.downtime["consoleproxy"] == "none"


def test_a_foreign_script_restarts_what_ours_reloads(differ: Callable[..., Difference]) -> None:
    assert services(differ({"debian/etc/haproxy/conf.d/00-cloud.cfg": b"global\n"})) == {"haproxy": "restart"}


def test_live_configuration_is_named(differ: Callable[..., Difference]) -> None:
    found = differ({"debian/etc/haproxy/haproxy.cfg": b"x\n", "debian/etc/other.conf": b"y\n"})
    assert found.live == ("etc/haproxy/haproxy.cfg",)


def test_the_agent_restarts_the_cloud_service_of_system_vms_that_run_it(
    differ: Callable[..., Difference],
) -> None:
    found = differ({"agent/run.sh": b"#!/bin/bash\n:\n"})
    assert services(found) == {"cloud": "restart"}
    restarted = {name for name, effect in found.downtime.items() if effect == "restart"}
    assert restarted == {"secstorage", "consoleproxy"}


def test_packages_that_would_be_installed_are_named(differ: Callable[..., Difference]) -> None:
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


def test_the_command_prints_json(
    bundle_dir: Path, source: Path, make: Make, tmp_path: Path, sysvm: Callable
) -> None:
    (source / "systemvm/debian/etc/haproxy/haproxy.cfg").write_bytes(b"changed\n")
    new = make(source, tmp_path / "new")
    document = json.loads(sysvm("bundle", "diff", bundle_dir, new, "--json").stdout)
    assert [row["service"] for row in document["services"]] == ["haproxy"]
    assert document["changed"] == [{"archive": "cloud-scripts.tgz", "path": "etc/haproxy/haproxy.cfg"}]
    assert document["live_configuration"] == ["etc/haproxy/haproxy.cfg"]
    assert document["downtime"]["class"] == "restart"
    assert document["base_image"] == {"suffices": True, "reason": ""}


def test_the_command_prints_for_people(bundle_dir: Path, source: Path, sysvm: Callable) -> None:
    (source / "systemvm/debian/etc/haproxy/haproxy.cfg").write_bytes(b"changed\n")
    text = sysvm("bundle", "diff", bundle_dir, source).stdout
    assert "~ cloud-scripts.tgz: etc/haproxy/haproxy.cfg" in text
    assert "haproxy: reload on router" in text
    assert "downtime class: reload" in text
    assert sysvm("bundle", "diff", bundle_dir, bundle_dir).stdout == "no difference\n"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("etc/apache2/vhost.template", "apache2"),
        ("etc/dnsmasq.conf.tmpl", "dnsmasq"),
        ("opt/cloud/templates/keepalived.conf.templ", "keepalived"),
        ("opt/cloud/bin/setup/init.sh", "boot"),
        ("opt/cloud/bin/configure.py", "rules"),
        ("etc/cron.daily/x", "cron"),
        ("etc/ssh/sshd_config", "ssh"),
        ("etc/systemd/system/cloud.service", "cloud"),
        ("etc/systemd/system/cloud-postinit.service", "boot"),
    ],
)
def test_every_kind_of_file_has_its_reader(path: str, service: str) -> None:
    found = affected([("cloud-scripts.tgz", path)], catalogue.load(), graceful=True)
    assert [row.service for row in found] == [service]
    assert found[0].types
    assert found[0].effect in EFFECTS


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
