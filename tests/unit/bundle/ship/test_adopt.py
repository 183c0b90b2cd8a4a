"""Any three files are accepted: compared, read, and adopted with a manifest of their own."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import catalogue, layout
from bundle.adopt import adopt
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.contents import take
from bundle.inspect.diff import compare
from bundle.inspect.trio import know_script
from bundle.inspect.verify import verify
from bundle.seal.ecdsa import generate
from bundle.seal.manifest import load
from bundle.ship.resign import sign
from tests.unit.bundle.source.jar_sets import write_agent_zip

Make = Callable[..., Path]


def tgz(path: Path, *rows: tuple[str, bytes, int]) -> None:
    """Write an archive as Ant does: in any order, and with a file twice."""
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, mode in rows:
            info = tarfile.TarInfo(name)
            info.mode, info.size, info.mtime = mode, len(data), 1700000000
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    """Return a ``vms`` folder as an installed cloudstack-common has it."""
    folder = tmp_path / "cloudstack-common/vms"
    folder.mkdir(parents=True)
    write_agent_zip(folder / "agent.zip", "4.19.3.0", "gson-2.10.1.jar")
    tgz(
        folder / "cloud-scripts.tgz",
        ("opt/", b"", 0o755),
        ("etc/logrotate.d/cloud", b"first\n", 0o755),
        ("opt/run.sh", b"#!/bin/sh\n", 0o755),
        ("etc/logrotate.d/cloud", b"last\n", 0o644),
    )
    (folder / "patch-sysvms.sh").write_text("#!/bin/bash\necho version:1\n")
    return folder


def test_a_trio_becomes_a_bundle_of_the_same_bytes(trio: Path, tmp_path: Path) -> None:
    adopt(trio, tmp_path / "out")
    found = verify(tmp_path / "out").manifest
    facts = found.facts
    assert (facts.release, facts.version, facts.origin, facts.modes) == (
        "4.19",
        "4.19.3.0",
        "adopted",
        "found",
    )
    assert (facts.script, facts.digest, facts.epoch) == ("foreign", "md5", 1700000000)
    for name in layout.PAYLOAD:
        assert (tmp_path / "out" / name).read_bytes() == (trio / name).read_bytes()
    modes = {row.path: row.mode for row in found.members["cloud-scripts.tgz"]}
    assert modes["etc/logrotate.d/cloud"] == 0o644
    bill = json.loads((tmp_path / "out" / layout.SBOM).read_text())
    assert "gson" in {row["name"] for row in bill["components"]}


def test_an_adopted_bundle_can_be_signed_and_a_changed_one_is_caught(trio: Path, tmp_path: Path) -> None:
    adopt(trio.parent, tmp_path / "out")
    public = generate(tmp_path / "K")
    sign(tmp_path / "out", tmp_path / "K", None)
    assert verify(tmp_path / "out", public).trusted
    tgz(tmp_path / "out/cloud-scripts.tgz", ("opt/run.sh", b"#!/bin/sh\n", 0o755))
    with pytest.raises(CheckFailed, match=r"cloud-scripts\.tgz"):
        verify(tmp_path / "out")


def test_the_release_must_be_said_when_no_jar_says_it(trio: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(trio / "agent.zip", "w") as archive:
        archive.writestr("run.sh", "#!/bin/sh\n")
    with pytest.raises(UsageError, match="its release is not known"):
        adopt(trio, tmp_path / "out")
    found = adopt(trio, tmp_path / "out", release="4.21.0.0-acme", build=3)
    assert (found.facts.name, found.facts.build) == ("4.21.0.0-acme", 3)


@pytest.mark.parametrize("name", layout.PAYLOAD)
def test_a_missing_file_is_named(name: str, trio: Path, tmp_path: Path) -> None:
    (trio / name).unlink()
    with pytest.raises(UsageError, match=r"no (agent\.zip|patch-sysvms\.sh)"):
        adopt(trio, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_manifest_cannot_describe_is_refused(trio: Path, tmp_path: Path) -> None:
    with tarfile.open(trio / "cloud-scripts.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("etc/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(info)
    with pytest.raises(CheckFailed, match="'etc/link' is a symlink"):
        adopt(trio, tmp_path / "out")


def test_a_trio_is_compared_wherever_it_lies(trio: Path, source: Path, make: Make, tmp_path: Path) -> None:
    assert take(trio.parent).version == "4.19.3.0"
    assert compare(take(trio), take(trio.parent), catalogue.load()).empty
    found = compare(take(trio), take(make(source, tmp_path / "new", script=None)), catalogue.load())
    assert {row.name for row in found.facts} >= {"release", "signature algorithm", "script", "restart policy"}
    assert found.verdict is not None
    assert found.verdict.template == "4.19.3.0"


def test_verify_says_what_a_trio_does_not_prove(trio: Path, sysvm: Callable, tmp_path: Path) -> None:
    done = sysvm("bundle", "verify", trio)
    assert done.returncode == 0
    assert "whole and readable" in done.stdout
    assert "not proven: who made these files" in done.stdout
    document = json.loads(sysvm("bundle", "verify", trio, "--json").stdout)
    assert (document["content_digest"], document["version"], document["script"]) == (
        None,
        "4.19.3.0",
        "foreign",
    )
    generate(tmp_path / "K")
    assert sysvm("bundle", "verify", trio, "--trust", tmp_path / "K.pub").returncode == 1
    (trio / "agent.zip").write_bytes(b"PK broken")
    assert sysvm("bundle", "verify", trio).returncode == 1


def test_a_bundle_without_its_manifest_is_broken_and_no_bare_trio(bundle_dir: Path, sysvm: Callable) -> None:
    (bundle_dir / layout.MANIFEST).unlink()
    done = sysvm("bundle", "verify", bundle_dir)
    assert (done.returncode, layout.MANIFEST in done.stderr) == (1, True)


def test_what_needs_a_manifest_says_how_to_get_one(trio: Path, sysvm: Callable, tmp_path: Path) -> None:
    done = sysvm("bundle", "stage", trio, "--root", tmp_path)
    assert done.returncode == 1
    assert "'sysvm bundle adopt'" in done.stderr
    assert sysvm("bundle", "adopt", trio, "-o", "out").returncode == 0
    assert sysvm("bundle", "stage", "out", "--root", tmp_path).returncode == 0


def test_a_manifest_about_other_files_is_left_aside(trio: Path, bundle_dir: Path) -> None:
    (trio / layout.MANIFEST).write_bytes((bundle_dir / layout.MANIFEST).read_bytes())
    found = take(trio)
    assert found.version == "4.19.3.0"
    assert "is about other files" in found.notes[0]


def test_scripts_are_known_by_what_they_are(source: Path, make: Make, tmp_path: Path) -> None:
    facts = catalogue.load()
    ours = make(source, tmp_path / "out", script=None, restart="always") / "patch-sysvms.sh"
    found = know_script(ours.read_bytes(), facts)
    assert (found.kind, found.policy) == ("ours", "always")
    assert know_script(b"#!/bin/sh\n", facts).kind == "foreign"
    assert load(tmp_path / "out/manifest.json").facts.restart == "always"


@pytest.mark.parametrize("place", ["etc", "empty"])
def test_what_is_no_source_tree_is_told_what_was_looked_for(
    place: str, tmp_path: Path, sysvm: Callable, script: Path
) -> None:
    (tmp_path / place).mkdir()
    done = sysvm("bundle", "build", "--source", tmp_path / place, "--patch-script", script, "-o", "out")
    assert done.returncode == 2
    assert "not a CloudStack source tree: it has no systemvm/debian" in done.stderr
