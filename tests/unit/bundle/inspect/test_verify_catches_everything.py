"""``verify`` finds any change of a bundle and names the file or member."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle import layout
from bundle.archive import canonical
from bundle.errors import CheckFailed
from bundle.inspect.verify import verify
from bundle.seal import manifest, sums
from bundle.seal.ecdsa import generate
from bundle.seal.manifest import Manifest, file_fact
from bundle.ship.resign import sign


@pytest.fixture
def signed(bundle_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a signed bundle and the public key that trusts it."""
    public = generate(tmp_path / "K")
    sign(bundle_dir, tmp_path / "K", None)
    return bundle_dir, public


def reseal(folder: Path) -> None:
    """Make files, manifest and sums agree again after an archive was changed, as a careful forger would."""
    old = manifest.load(folder / layout.MANIFEST)
    digest = hashlib.new(old.facts.digest, (folder / layout.SCRIPTS).read_bytes()).hexdigest()
    (folder / layout.SIGNATURE).write_text(f"{digest}\n")
    files = {name: file_fact(folder / name) for name in layout.LISTED}
    (folder / layout.MANIFEST).write_bytes(Manifest(old.facts, old.members, files).to_bytes())
    (folder / layout.SUMS).write_text(sums.render(folder, {}))


def test_a_fresh_bundle_verifies(bundle_dir: Path) -> None:
    found = verify(bundle_dir)
    assert not found.signed
    assert found.manifest.facts.version == "4.22.0.0"


def test_a_resealed_bundle_still_verifies(bundle_dir: Path) -> None:
    reseal(bundle_dir)
    verify(bundle_dir)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_caught(data: st.DataObject, signed: tuple[Path, Path]) -> None:
    folder, public = signed
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    path = folder / name
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    path.write_bytes(original[:position] + bytes([original[position] ^ flip]) + original[position + 1 :])
    try:
        with pytest.raises(CheckFailed) as without_key:
            verify(folder)
        with pytest.raises(CheckFailed):
            verify(folder, public)
    finally:
        path.write_bytes(original)
    assert name in str(without_key.value)


@pytest.mark.parametrize("name", layout.REQUIRED)
def test_every_cut_or_missing_file_is_caught_and_named(name: str, bundle_dir: Path) -> None:
    path = bundle_dir / name
    original = path.read_bytes()
    path.write_bytes(original[:-1])
    with pytest.raises(CheckFailed, match=name):
        verify(bundle_dir)
    path.unlink()
    with pytest.raises(CheckFailed, match=name):
        verify(bundle_dir)


def test_an_added_file_is_caught(bundle_dir: Path) -> None:
    (bundle_dir / "extra.sh").write_text("#!/bin/sh\n")
    with pytest.raises(CheckFailed, match=r"extra\.sh"):
        verify(bundle_dir)


def test_a_link_in_place_of_a_file_is_caught(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.move(bundle_dir / "agent.zip", tmp_path / "agent.zip")
    (bundle_dir / "agent.zip").symlink_to(tmp_path / "agent.zip")
    with pytest.raises(CheckFailed, match=r"agent\.zip: not a regular file"):
        verify(bundle_dir)


def rewrite_tgz(path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    """Change the entries of a tgz with Python's own writer."""
    with tarfile.open(path) as old:
        rows = [(info, old.extractfile(info).read() if info.isfile() else b"") for info in old]
    change(rows)
    with tarfile.open(path, "w:gz") as new:
        for info, data in rows:
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))


def drop(rows: list) -> None:
    rows[:] = [row for row in rows if row[0].name != "etc/haproxy/haproxy.cfg"]


def add(rows: list) -> None:
    info = tarfile.TarInfo("etc/evil.conf")
    rows.append((info, b"evil"))


def rename(rows: list) -> None:
    next(row for row in rows if row[0].name == "etc/haproxy/haproxy.cfg")[0].name = "etc/haproxy/other.cfg"


def duplicate(rows: list) -> None:
    rows.append(next(row for row in rows if row[0].name == "etc/haproxy/haproxy.cfg"))


def widen(rows: list) -> None:
    next(row for row in rows if row[0].name == "etc/ipsec.secrets")[0].mode = 0o644


def replace_content(rows: list) -> None:
    index = next(index for index, row in enumerate(rows) if row[0].name == "etc/haproxy/haproxy.cfg")
    rows[index] = (rows[index][0], rows[index][1].upper())


def give_away(rows: list) -> None:
    next(row for row in rows if row[0].name == "etc/haproxy/haproxy.cfg")[0].uid = 1000


def link(rows: list) -> None:
    index = next(index for index, row in enumerate(rows) if row[0].name == "etc/haproxy/haproxy.cfg")
    info = tarfile.TarInfo("etc/haproxy/haproxy.cfg")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
    rows[index] = (info, b"")


@pytest.mark.parametrize(
    ("change", "member", "words"),
    [
        (drop, "etc/haproxy/haproxy.cfg", "is missing"),
        (add, "etc/evil.conf", "is not in the manifest"),
        (rename, "etc/haproxy/other.cfg", "is not in the manifest"),
        (duplicate, "etc/haproxy/haproxy.cfg", "appears twice"),
        (widen, "etc/ipsec.secrets", "has mode 0644 instead of 0600"),
        (replace_content, "etc/haproxy/haproxy.cfg", "has other content"),
        (give_away, "etc/haproxy/haproxy.cfg", "does not belong to root"),
        (link, "etc/haproxy/haproxy.cfg", "is a symlink instead of a file"),
    ],
)
def test_a_changed_member_is_caught_even_when_all_sums_were_made_to_agree(
    change: Callable, member: str, words: str, bundle_dir: Path
) -> None:
    rewrite_tgz(bundle_dir / layout.SCRIPTS, change)
    reseal(bundle_dir)
    with pytest.raises(CheckFailed) as caught:
        verify(bundle_dir)
    assert member in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_member_of_the_zip_is_caught(bundle_dir: Path) -> None:
    with zipfile.ZipFile(bundle_dir / "agent.zip", "a") as archive:
        info = zipfile.ZipInfo("run.sh")
        info.external_attr = 0o100755 << 16
        archive.writestr(info, "#!/bin/bash\nexec java\n")
    reseal(bundle_dir)
    with pytest.raises(CheckFailed, match=r"agent\.zip: member 'run\.sh' appears twice"):
        verify(bundle_dir)


def test_another_key_is_caught(signed: tuple[Path, Path], tmp_path: Path) -> None:
    other = generate(tmp_path / "other")
    verify(signed[0], signed[1])
    with pytest.raises(
        CheckFailed, match=r"manifest\.json\.sig: the signature was not made with the trusted key"
    ):
        verify(signed[0], other)


def test_an_unsigned_bundle_is_not_trusted(bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="the bundle is not signed"):
        verify(bundle_dir, generate(tmp_path / "K"))


def test_a_resealed_forgery_is_caught_by_the_signature(signed: tuple[Path, Path]) -> None:
    rewrite_tgz(signed[0] / layout.SCRIPTS, lambda rows: None)
    reseal(signed[0])
    with pytest.raises(CheckFailed, match=r"manifest\.json\.sig"):
        verify(*signed)


def test_a_manifest_in_another_form_is_caught(bundle_dir: Path) -> None:
    path = bundle_dir / layout.MANIFEST
    path.write_bytes(path.read_bytes().replace(b",", b", ", 1))
    (bundle_dir / layout.SUMS).write_text(sums.render(bundle_dir, {}))
    with pytest.raises(CheckFailed, match="not in canonical form"):
        verify(bundle_dir)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", 1, "schema 1 is unknown"),
        ("digest", "crc32", "digest is 'crc32'"),
        ("epoch", -1, "epoch is not a whole number"),
        ("release", 4, "release is not a string"),
        ("members", {}, "members lacks 'agent.zip'"),
        ("content_digest", "0" * 64, "the content digest does not match"),
        ("extra", 1, "the manifest has an unknown key 'extra'"),
    ],
)
def test_a_malformed_manifest_is_named(key: str, value: object, words: str, bundle_dir: Path) -> None:
    document = {**json.loads((bundle_dir / layout.MANIFEST).read_bytes()), key: value}
    with pytest.raises(CheckFailed) as caught:
        manifest.parse(canonical.dumps(document))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up", "a/../b", "a//b", "./a", "", "a/", "new\nline", "esc\x1b[2J"]
)
def test_a_member_with_an_impossible_path_is_refused(path: str, bundle_dir: Path) -> None:
    document = json.loads((bundle_dir / layout.MANIFEST).read_bytes())
    document["members"]["agent.zip"] = [{"path": path, "kind": "dir", "mode": "0755"}]
    with pytest.raises(CheckFailed, match="the path of a member of agent"):
        manifest.parse(canonical.dumps(document))


def test_a_fact_that_would_disturb_a_terminal_is_refused(bundle_dir: Path) -> None:
    document = {**json.loads((bundle_dir / layout.MANIFEST).read_bytes()), "version": "4.22\x1b[2J"}
    with pytest.raises(CheckFailed, match="version is"):
        manifest.parse(canonical.dumps(document))


def test_a_huge_file_where_a_small_one_belongs_is_not_read(bundle_dir: Path) -> None:
    with (bundle_dir / layout.SUMS).open("r+b") as file:
        file.truncate(8 << 30)
    with pytest.raises(CheckFailed, match="bytes are too many for this file"):
        verify(bundle_dir)


def test_the_command_exits_with_1_and_names_the_file(bundle_dir: Path, sysvm: Callable) -> None:
    assert sysvm("bundle", "verify", bundle_dir).returncode == 0
    with (bundle_dir / "agent.zip").open("r+b") as file:
        file.seek(40)
        byte = file.read(1)
        file.seek(40)
        file.write(bytes([byte[0] ^ 1]))
    done = sysvm("bundle", "verify", bundle_dir)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "agent.zip" in done.stderr
