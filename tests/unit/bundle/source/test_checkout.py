"""A genuine CloudStack tree becomes the archives that CloudStack's own build makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.catalogue import full_version
from bundle.errors import UsageError
from bundle.seal.manifest import Manifest, load
from bundle.source.checkout import checkout_payload, tree_version
from tests.unit.bundle.source import checkout_tree

Make = Callable[..., Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_tree.make_checkout(tmp_path / "cloudstack")


def modes(manifest: Manifest, archive: str, kind: str) -> dict[str, int]:
    return {row.path: row.mode for row in manifest.members[archive] if row.kind == kind}


def test_upstream_modes_give_the_members_and_modes_of_the_contract(
    checkout: Path, make: Make, tmp_path: Path
) -> None:
    manifest = load(make(checkout, tmp_path / "out", modes="upstream") / "manifest.json")
    files = modes(manifest, "cloud-scripts.tgz", "file")
    assert files.keys() == checkout_tree.script_paths()
    assert modes(manifest, "cloud-scripts.tgz", "dir") == dict.fromkeys(checkout_tree.folder_paths(), 0o755)
    logs = {path for path, mode in files.items() if mode == 0o644}
    assert logs == {f"etc/logrotate.d/{name}" for name in checkout_tree.LOGROTATE} | {"etc/logrotate.conf"}
    assert {mode for path, mode in files.items() if path not in logs} == {0o755}
    counts = (len(modes(manifest, "cloud-scripts.tgz", "dir")), len(files) - len(logs), len(logs))
    assert counts == (checkout_tree.FOLDERS, checkout_tree.FILES_0755, checkout_tree.FILES_0644)


def test_the_archive_itself_has_these_modes(checkout: Path, make: Make, tmp_path: Path) -> None:
    out = make(checkout, tmp_path / "out", modes="upstream")
    listing = subprocess.run(
        ["tar", "-tvzf", out / "cloud-scripts.tgz"], capture_output=True, text=True, check=True
    )
    kinds = [line.split()[0] for line in listing.stdout.splitlines()]
    assert (kinds.count("drwxr-xr-x"), kinds.count("-rwxr-xr-x"), kinds.count("-rw-r--r--")) == (33, 177, 12)
    assert all(line.split()[1] == "0/0" for line in listing.stdout.splitlines())


def test_the_filters_of_agent_zip_are_upstreams(checkout: Path, make: Make, tmp_path: Path) -> None:
    manifest = load(make(checkout, tmp_path / "out", modes="upstream") / "manifest.json")
    files = modes(manifest, "agent.zip", "file")
    assert not [path for path in files if path.rpartition("/")[2] in checkout_tree.NOT_IN_AGENT]
    expected = {
        "run.sh",
        "_run.sh",
        "conf/agent.properties",
        "scripts/util/keystore-setup",
        "noVNC/core/rfb.js",
    }
    expected |= {"packages/packages.ini", "scripts/storage/secondary/swift", "certs/realhostip.keystore"}
    assert expected <= files.keys()
    assert {mode for path, mode in files.items() if not path.startswith("packages/")} == {0o555}
    assert files["packages/packages.ini"] == 0o644


def test_careful_modes_are_those_of_a_packager(checkout: Path, make: Make, tmp_path: Path) -> None:
    manifest = load(make(checkout, tmp_path / "out") / "manifest.json")
    assert manifest.facts.modes == "careful"
    scripts = {row.path: row.mode for row in manifest.members["cloud-scripts.tgz"]}
    expected = {
        "etc": 0o755,
        "root": 0o700,
        "etc/ipsec.secrets": 0o600,
        "etc/systemd/system/cloud.service": 0o644,
        "etc/haproxy/haproxy.cfg": 0o644,
        "etc/profile.d/cloud.sh": 0o644,
        "etc/cron.daily/cloud-cleanup": 0o755,
        "opt/cloud/bin/configure.py": 0o755,
        "opt/cloud/bin/setup/common.sh": 0o755,
        "root/monitorServices.py": 0o755,
    }
    assert {path: scripts[path] for path in expected} == expected
    agent = {row.path: row.mode for row in manifest.members["agent.zip"]}
    assert (agent["certs/localhost.key"], agent["certs/localhost.crt"], agent["run.sh"]) == (
        0o600,
        0o644,
        0o755,
    )


@pytest.mark.parametrize(
    ("version", "row", "digest", "has_vnc", "has_packages"),
    [
        ("4.14.0.0", "4.14", "md5", False, False),
        ("4.15.2.0", "4.15", "md5", True, False),
        ("4.19.3.0", "4.19", "md5", True, False),
        ("4.20.1.0", "4.20", "md5", True, True),
        ("4.22.0.0-SNAPSHOT", "4.22", "sha512", True, True),
    ],
)
def test_the_release_is_read_from_the_tree(
    version: str, row: str, digest: str, has_vnc: bool, has_packages: bool, make: Make, tmp_path: Path
) -> None:
    tree = checkout_tree.make_checkout(tmp_path / "tree", version)
    manifest = load(make(tree, tmp_path / "out") / "manifest.json")
    facts = manifest.facts
    assert (facts.release, facts.version, facts.digest) == (row, full_version(version), digest)
    folders = modes(manifest, "agent.zip", "dir")
    assert ("noVNC" in folders, "packages" in folders) == (has_vnc, has_packages)


def test_release_overrides_the_tree(checkout: Path, make: Make, tmp_path: Path) -> None:
    facts = load(make(checkout, tmp_path / "out", release="4.21.0.0") / "manifest.json").facts
    assert (facts.version, facts.digest) == ("4.21.0.0", "md5")


def test_the_minimum_template_follows_the_matrix(checkout: Path, make: Make, tmp_path: Path) -> None:
    assert load(make(checkout, tmp_path / "new") / "manifest.json").facts.minimum_template == "4.16"
    old = make(checkout, tmp_path / "old", release="4.19.3.0")
    assert load(old / "manifest.json").facts.minimum_template == "4.14"


def test_the_oldest_layout_is_found(tmp_path: Path) -> None:
    root = checkout_tree.make_checkout(tmp_path / "tree", "4.14.0.0")
    (root / "systemvm/patches/debian").mkdir(parents=True)
    (root / "systemvm/debian").rename(root / "systemvm/patches/debian/config")
    for part in ("scripts", "conf", "images", "js", "ui", "css", "certs"):
        (root / "systemvm/agent" / part).rename(root / "systemvm" / part)
    payload = checkout_payload(root, None, None, catalogue.load())
    assert "etc/haproxy/haproxy.cfg" in payload.scripts
    assert {"run.sh", "conf/agent.properties", "images/a.jpg"} <= payload.agent.keys()


def test_building_without_jars_is_said(checkout: Path, script: Path, sysvm: Callable) -> None:
    done = sysvm("bundle", "build", "--source", checkout, "--patch-script", script, "-o", "out")
    assert done.returncode == 0
    assert "note: agent.zip has no jars" in done.stderr


def test_a_broken_agent_zip_is_refused(checkout: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(b"PK broken")
    with pytest.raises(UsageError, match="not a sound zip archive"):
        make(checkout, tmp_path / "out", agent_jars=tmp_path)


def test_the_reference_payload_takes_no_jars(source: Path, make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the reference payload has no jars"):
        make(source, tmp_path / "out", agent_jars=tmp_path)


def test_two_different_jars_of_one_name_are_refused(checkout: Path, make: Make, tmp_path: Path) -> None:
    for folder, data in (("lib", b"one"), ("jars", b"two")):
        (tmp_path / "target" / folder).mkdir(parents=True)
        (tmp_path / "target" / folder / "a-1.jar").write_bytes(data)
    with pytest.raises(UsageError, match=r"both would be a-1\.jar"):
        make(checkout, tmp_path / "out", agent_jars=tmp_path / "target")


def test_a_folder_without_jars_is_refused(checkout: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no jars"):
        make(checkout, tmp_path / "out", agent_jars=tmp_path / "empty")


def test_a_foreign_script_is_shipped_as_it_is(
    checkout: Path, script: Path, make: Make, tmp_path: Path
) -> None:
    out = make(checkout, tmp_path / "out")
    assert (out / "patch-sysvms.sh").read_bytes() == script.read_bytes()
    assert load(out / "manifest.json").facts.script == "foreign"


def test_a_rendered_script_carries_the_guest_manifest(checkout: Path, make: Make, tmp_path: Path) -> None:
    out = make(checkout, tmp_path / "out", script=None)
    subprocess.run(["bash", "-n", out / "patch-sysvms.sh"], check=True)
    assert load(out / "manifest.json").facts.script == "rendered"


def test_something_that_is_no_script_is_refused(checkout: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF")
    with pytest.raises(UsageError, match="not a script"):
        make(checkout, tmp_path / "out", script=tmp_path / "binary")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("systemvm/debian", "not a CloudStack source tree"),
        ("scripts/util", "has no keystore-"),
        ("pom.xml", "the release cannot be read"),
    ],
)
def test_a_tree_that_lacks_a_part_is_refused(
    spoil: str, words: str, checkout: Path, make: Make, tmp_path: Path
) -> None:
    (checkout / spoil).rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=words):
        make(checkout, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_version_is_cloudstacks_and_not_the_parents(checkout: Path) -> None:
    assert tree_version(checkout) == "4.22.0.0-SNAPSHOT"


@pytest.mark.parametrize(
    ("name", "full"), [("4.22", "4.22.0.0"), ("4.22.1", "4.22.1.0"), ("4.19.3.0-x", "4.19.3.0")]
)
def test_versions_are_four_numbers(name: str, full: str) -> None:
    assert full_version(name) == full


def test_a_tree_that_is_newer_than_the_catalogue_is_built_on_demand_and_marked(
    tmp_path: Path, script: Path, sysvm: Callable
) -> None:
    tree = checkout_tree.make_checkout(tmp_path / "tree", "4.23.0.0-SNAPSHOT")
    build = ("bundle", "build", "--source", tree, "--patch-script", script, "-o", "out")
    refused = sysvm(*build)
    assert (refused.returncode, "--next builds it by the rules of 4.22" in refused.stderr) == (2, True)
    done = sysvm(*build, "--next")
    assert (done.returncode, "built by the rules of 4.22" in done.stderr) == (0, True)
    facts = load(tmp_path / "out/manifest.json").facts
    assert (facts.release, facts.row, facts.version, facts.label) == (
        "4.22",
        "newest",
        "4.23.0.0",
        "SNAPSHOT",
    )
    assert "newer than the catalogue was" in sysvm("bundle", "verify", "out").stdout
    known = checkout_tree.make_checkout(tmp_path / "known")
    text = sysvm("bundle", "diff", known, "out").stdout
    assert "verdict: unknown" in text
    assert "it is not known whether the base image of 4.22.0.0 suffices" in text


def test_next_is_for_newer_trees_only(tmp_path: Path, make: Make) -> None:
    facts = load(
        make(checkout_tree.make_checkout(tmp_path / "tree"), tmp_path / "out", newest=True) / "manifest.json"
    ).facts
    assert (facts.row, facts.release, facts.label) == ("own", "4.22", "SNAPSHOT")
    with pytest.raises(UsageError, match="unknown release"):
        make(checkout_tree.make_checkout(tmp_path / "old", "3.0.0.0"), tmp_path / "x", newest=True)
