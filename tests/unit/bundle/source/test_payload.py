"""The reference payload, its overlays for older releases, the mode rules, and what travels in the script."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.archive.members import Item, Member, with_parents
from bundle.archive.modes import mode_of
from bundle.errors import UsageError
from bundle.inspect.contents import take
from bundle.inspect.diff import compare
from bundle.inspect.verify import verify
from bundle.paths import payload_root
from bundle.seal.guest_manifest import Packed, render_guest_manifest
from bundle.seal.manifest import load
from bundle.source.payload import reference_payload
from bundle.source.walk import is_leftover

Make = Callable[..., Path]
Tree = Callable[[Path, dict[str, bytes]], Path]
CATALOGUE = catalogue.load()


def payload(source: Path, release: str) -> dict[str, Item]:
    return reference_payload(source / "systemvm", release, CATALOGUE).scripts


def test_a_full_version_is_kept(source: Path, make: Make, tmp_path: Path) -> None:
    facts = load(make(source, tmp_path / "out", release="4.21.1.0") / "manifest.json").facts
    assert (facts.release, facts.version) == ("4.21", "4.21.1.0")


def test_a_minimum_template_that_is_no_release_is_refused(source: Path, make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="invalid release 'old'"):
        make(source, tmp_path / "out", minimum_template="old")


def test_the_newest_release_is_the_tree_itself(source: Path) -> None:
    items = payload(source, "4.22")
    assert items["etc/haproxy/haproxy.cfg"].source == source / "systemvm/debian/etc/haproxy/haproxy.cfg"
    assert list(items) == sorted(items)


def test_an_overlay_replaces_adds_removes_and_sets_modes(
    source: Path, tree: Tree, make: Make, tmp_path: Path
) -> None:
    overlay = 'absent = ["opt/cloud/bin/cs/helper.py"]\n[modes]\n"etc/logrotate.d/cloud" = "0755"\n'
    tree(
        source / "systemvm/older/4.21",
        {
            "debian/etc/haproxy/haproxy.cfg": b"older\n",
            "debian/etc/old.conf": b"only then\n",
            "overlay.toml": overlay.encode(),
        },
    )
    old, new = make(source, tmp_path / "old", release="4.21"), make(source, tmp_path / "new")
    found = compare(take(old), take(new), CATALOGUE)
    assert [path for _, path in found.added] == ["opt/cloud/bin/cs", "opt/cloud/bin/cs/helper.py"]
    assert [path for _, path in found.removed] == ["etc/old.conf"]
    assert [path for _, path in found.changed] == ["etc/haproxy/haproxy.cfg"]
    assert [(row.place[1], row.old, row.new) for row in found.modes] == [
        ("etc/logrotate.d/cloud", 0o755, 0o644)
    ]
    verify(old)


def test_a_release_without_an_overlay_uses_that_of_the_nearest_newer_one(source: Path, tree: Tree) -> None:
    tree(source / "systemvm/older/4.21", {"debian/etc/x": b"21"})
    tree(source / "systemvm/older/4.16", {"debian/etc/x": b"16"})
    for release, text in (
        ("4.21", b"21"),
        ("4.20", b"21"),
        ("4.17", b"21"),
        ("4.16", b"16"),
        ("4.14", b"16"),
    ):
        found = payload(source, release)["etc/x"].source
        assert found is not None
        assert found.read_bytes() == text
    assert "etc/x" not in payload(source, "4.22")


def test_an_overlay_says_only_how_it_differs_from_the_next_newer_one(source: Path, tree: Tree) -> None:
    tree(source / "systemvm/older/4.21", {"debian/etc/x": b"21", "debian/etc/y": b"21"})
    tree(source / "systemvm/older/4.16", {"overlay.toml": b'absent = ["etc/x"]', "debian/etc/z": b"16"})
    added = {
        release: payload(source, release).keys() & {"etc/x", "etc/y", "etc/z"} for release in ("4.21", "4.16")
    }
    assert added == {"4.21": {"etc/x", "etc/y"}, "4.16": {"etc/y", "etc/z"}}


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ('absent = ["etc/never"]', "absent file 'etc/never' is not in the next newer payload"),
        ('[modes]\n"etc/never" = "0600"', "[modes] names 'etc/never'"),
    ],
)
def test_an_overlay_that_does_not_fit_is_refused(overlay: str, words: str, source: Path, tree: Tree) -> None:
    tree(source / "systemvm/older/4.21", {"overlay.toml": overlay.encode()})
    with pytest.raises(UsageError) as caught:
        payload(source, "4.21")
    assert words in str(caught.value)


def test_between_our_own_4_21_and_4_22_there_is_one_change_of_every_kind(make: Make, tmp_path: Path) -> None:
    root = payload_root()
    old, new = make(root, tmp_path / "old", release="4.21"), make(root, tmp_path / "new")
    found = compare(take(old), take(new), CATALOGUE)
    assert all((found.added, found.removed, found.changed, found.modes))


@pytest.mark.parametrize("release", CATALOGUE.releases)
def test_every_release_of_our_own_payload_builds_and_verifies(
    release: str, make: Make, tmp_path: Path
) -> None:
    out = make(payload_root(), tmp_path / "out", release=release, script=None)
    facts = verify(out).manifest.facts
    assert (facts.release, facts.digest) == (release, CATALOGUE.releases[release].signature)
    digest = (out / "cloud-scripts-signature").read_text()
    assert re.fullmatch(r"[0-9a-f]{128}\n" if facts.digest == "sha512" else r"[0-9a-f]{32}\n", digest)
    tool = {"md5": "md5sum", "sha512": "sha512sum"}[facts.digest]
    said = subprocess.run(
        [tool, out / "cloud-scripts.tgz"], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[0] == digest.strip()


MODES = [
    ("etc/ipsec.secrets", "file", b"", 0o600, 0o755),
    ("etc/ssh/ssh_host_rsa_key", "file", b"", 0o600, 0o755),
    ("root/.ssh/authorized_keys", "file", b"", 0o600, 0o755),
    ("etc/systemd/system/x.service", "file", b"#!/b", 0o644, 0o755),
    ("etc/cron.daily/clean", "file", b"rm -", 0o755, 0o755),
    ("opt/cloud/bin/x", "file", b"#!/b", 0o755, 0o755),
    ("opt/cloud/bin/x", "file", b"\x7fELF", 0o755, 0o755),
    ("opt/cloud/bin/cs/mod.py", "file", b"impo", 0o644, 0o755),
    ("etc/logrotate.conf", "file", b"", 0o644, 0o644),
    ("etc/logrotate.d/haproxy", "file", b"", 0o644, 0o644),
    ("opt/cloud/bin/logger.sh", "file", b"#!/b", 0o755, 0o644),
    ("etc/logs/file", "file", b"", 0o644, 0o755),
    ("root", "dir", b"", 0o700, 0o755),
    ("etc/logrotate.d", "dir", b"", 0o755, 0o755),
]


@pytest.mark.parametrize(("path", "kind", "head", "careful", "upstream"), MODES)
def test_the_mode_rules_of_the_scripts(
    path: str, kind: str, head: bytes, careful: int, upstream: int
) -> None:
    assert mode_of("careful", "cloud-scripts.tgz", path, kind, head) == careful
    assert mode_of("upstream", "cloud-scripts.tgz", path, kind, head) == upstream


@pytest.mark.parametrize(
    ("path", "kind", "mode"),
    [
        ("run.sh", "file", 0o555),
        ("certs", "dir", 0o755),
        ("gson-2.10.1.jar", "file", 0o644),
        ("packages", "dir", 0o755),
        ("packages/packages.ini", "file", 0o644),
        ("noVNC/vendor/inner.jar", "file", 0o555),
    ],
)
def test_upstreams_mode_rules_of_the_agent(path: str, kind: str, mode: int) -> None:
    assert mode_of("upstream", "agent.zip", path, kind) == mode


@pytest.mark.parametrize(
    "name", [".git", "CVS", "file~", "#file#", ".#file", "._file", "%x%", "__pycache__", "a.pyc"]
)
def test_leftovers_are_known(name: str) -> None:
    assert is_leftover(name)


@pytest.mark.parametrize("name", [".htaccess", "#", "%", "x.py", "git", "~x"])
def test_ordinary_files_are_no_leftovers(name: str) -> None:
    assert not is_leftover(name)


def test_every_folder_above_a_file_is_a_member() -> None:
    assert list(with_parents({"a/b/c": Item("a/b/c", Path("x"))})) == ["a", "a/b", "a/b/c"]


def test_the_guest_manifest_is_lines_that_a_shell_can_read() -> None:
    scripts = (Member("etc", "dir", 0o755), Member("etc/x", "file", 0o644, 3, "1" * 64))
    agent = (Member("run.sh", "file", 0o755, 5, "2" * 64),)
    text = render_guest_manifest(
        version="4.22.0.0",
        architecture="all",
        minimum_template="4.14",
        digest="sha512",
        archives={
            "agent.zip": Packed(20, {"sha512": "b" * 128}, agent),
            "cloud-scripts.tgz": Packed(10, {"sha512": "a" * 128}, scripts),
        },
    )
    assert text.splitlines() == [
        "format\t1",
        "release\t4.22.0.0",
        "architecture\tall",
        "minimum_template\t4.14",
        "digest\tsha512",
        f"archive\tcloud-scripts.tgz\t10\t{'a' * 128}",
        f"archive\tagent.zip\t20\t{'b' * 128}",
        f"file\tA\t0755\t5\t{'2' * 64}\trun.sh",
        "dir\tS\t0755\t-\t-\tetc",
        f"file\tS\t0644\t3\t{'1' * 64}\tetc/x",
    ]


def test_the_script_carries_the_members_of_the_finished_archives(
    source: Path, make: Make, tmp_path: Path
) -> None:
    out = make(source, tmp_path / "out", script=None)
    script = (out / "patch-sysvms.sh").read_text()
    found = [
        gzip.decompress(base64.b64decode(block)).decode()
        for block in re.findall(r"H4sI[A-Za-z0-9+/=\n]+", script)
    ]
    text = next(block for block in found if block.startswith("format\t1\n"))
    manifest = load(out / "manifest.json")
    assert (
        f"archive\tagent.zip\t{manifest.files['agent.zip'].size}\t{manifest.files['agent.zip'].sha512}\n"
        in text
    )
    members = [row for rows in manifest.members.values() for row in rows]
    assert len([line for line in text.splitlines() if line.startswith(("file\t", "dir\t"))]) == len(members)


def test_help_imports_nothing_heavy() -> None:
    command = (
        "import sys; from harness.cli import sysvm\n"
        "try: sysvm.main(['bundle', '--help'], standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "heavy = {'cryptography', 'rich', 'jinja2', 'cyclonedx', 'bundle.build'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "Build a bundle from a source tree." in done.stdout


def test_json_output_of_a_build_is_complete(source: Path, script: Path, sysvm: Callable) -> None:
    done = sysvm("bundle", "build", "--source", source, "--patch-script", script, "-o", "out", "--json")
    document = json.loads(done.stdout)
    assert document["version"] == "4.22.0.0"
    assert document["signed"] is False
    assert document["files"]["agent.zip"]["size"] > 0
