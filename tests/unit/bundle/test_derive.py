"""A bundle derived from another is that bundle but for what was edited: its own script, its own seal."""

import hashlib
import shutil
import tarfile
import zipfile

import pytest

from bundle import layout
from bundle.build import BuildOptions, build
from bundle.derive import derive
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.verify import verify

HAPROXY = "etc/haproxy/haproxy.cfg"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return build(BuildOptions(output=tmp_path_factory.mktemp("ours") / "b", release="4.22")).folder


@pytest.fixture
def foreign(ours, tmp_path):
    """Three files and nothing else, with a script of somebody else's."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in layout.PAYLOAD:
        shutil.copy(ours / name, folder / name)
    (folder / layout.SCRIPT).write_text("#!/bin/sh\nexit 0\n")
    return folder


def breaks_haproxy(contents):
    contents["cloud-scripts.tgz"].write(HAPROXY, b"nonsense\n")


def members(folder):
    with tarfile.open(folder / layout.SCRIPTS) as archive:
        return {
            m.name.rstrip("/"): (m.mode, archive.extractfile(m).read() if m.isfile() else None)
            for m in archive
        }


def test_only_what_was_edited_differs_and_the_result_verifies(ours, tmp_path):
    made = derive(ours, tmp_path / "made", breaks_haproxy)
    before, after = members(ours), members(made)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {HAPROXY}
    assert after[HAPROXY] == (before[HAPROXY][0], b"nonsense\n")
    assert (made / layout.AGENT).read_bytes() == (ours / layout.AGENT).read_bytes()
    assert verify(made).manifest.facts == verify(ours).manifest.facts


def test_a_script_of_ours_carries_the_digests_of_what_it_installs_now(ours, tmp_path):
    made = derive(ours, tmp_path / "made", breaks_haproxy)
    assert (made / layout.SCRIPT).read_bytes() != (ours / layout.SCRIPT).read_bytes()


def test_a_foreign_script_stays_byte_for_byte_and_the_signature_fits(foreign, tmp_path):
    made = derive(foreign, tmp_path / "made", breaks_haproxy, digest="md5")
    assert (made / layout.SCRIPT).read_bytes() == (foreign / layout.SCRIPT).read_bytes()
    digest = hashlib.md5((made / layout.SCRIPTS).read_bytes(), usedforsecurity=False).hexdigest()
    assert (made / layout.SIGNATURE).read_text() == f"{digest}\n"
    assert not (made / layout.MANIFEST).exists()


def test_the_agent_can_lose_a_member(ours, tmp_path):
    def drop(contents):
        contents["agent.zip"].remove("_run.sh")

    made = derive(ours, tmp_path / "made", drop)
    assert "_run.sh" not in zipfile.ZipFile(made / layout.AGENT).namelist()
    assert (made / layout.SCRIPTS).read_bytes() == (ours / layout.SCRIPTS).read_bytes()


def test_nothing_edited_gives_the_same_archives(ours, tmp_path):
    made = derive(ours, tmp_path / "made", lambda _: None)
    for name in (layout.AGENT, layout.SCRIPTS, layout.SCRIPT):
        assert (made / name).read_bytes() == (ours / name).read_bytes()


def test_the_origin_is_not_touched(ours, tmp_path):
    before = {path.name: path.read_bytes() for path in ours.iterdir()}
    derive(ours, tmp_path / "made", breaks_haproxy)
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before


def test_a_damaged_archive_is_one_line_and_leaves_nothing(foreign, tmp_path):
    (foreign / layout.SCRIPTS).write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(CheckFailed, match=r"cloud-scripts\.tgz: cannot be read"):
        derive(foreign, tmp_path / "made", breaks_haproxy)
    assert not (tmp_path / "made").exists()


def test_a_name_that_leaves_the_root_is_refused(foreign, tmp_path):
    with tarfile.open(foreign / layout.SCRIPTS, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(CheckFailed, match="leaves the root"):
        derive(foreign, tmp_path / "made", breaks_haproxy)


def test_a_missing_script_is_one_line(foreign, tmp_path):
    (foreign / layout.SCRIPT).unlink()
    with pytest.raises(UsageError, match=r"patch-sysvms\.sh: No such file"):
        derive(foreign, tmp_path / "made", breaks_haproxy)
