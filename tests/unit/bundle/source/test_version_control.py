"""What git knows about the source is told: where it is from, what differs, and what would be packed unseen."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import layout
from bundle.build import BuildOptions, build
from bundle.errors import InfrastructureError
from bundle.seal.ecdsa import generate
from bundle.ship.resign import sign
from bundle.source.version_control import look

Make = Callable[..., Path]


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", *identity, "-C", root, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(source: Path) -> Path:
    """Return the source as a checkout with a remote."""
    git(source.parent, "init", "--quiet", source.name)
    (source / ".gitignore").write_text(".idea/\n")
    git(source, "add", "-A")
    git(source, "commit", "--quiet", "-m", "x")
    git(source, "remote", "add", "origin", "https://user:secret@example.org/cloudstack.git")
    return source


def built(source: Path, out: Path, script: Path) -> tuple[tuple[str, ...], list[dict]]:
    """Return the notes of a build, and what its provenance says that it was made of."""
    done = build(BuildOptions(output=out, source=source, script=script, cache=False))
    document = json.loads((out / layout.PROVENANCE).read_bytes())
    return done.notes, document["predicate"]["buildDefinition"]["resolvedDependencies"]


def test_the_provenance_names_repository_and_commit_without_a_password(
    checkout: Path, script: Path, tmp_path: Path
) -> None:
    notes, (content, commit) = built(checkout, tmp_path / "out", script)
    assert notes == ()
    assert "sha256" in content["digest"]
    assert commit["uri"] == "git+https://example.org/cloudstack.git"
    assert commit["digest"] == {"gitCommit": git(checkout, "rev-parse", "HEAD")}
    assert "annotations" not in commit


def test_what_git_does_not_know_is_listed_and_so_is_what_differs(
    checkout: Path, script: Path, tmp_path: Path
) -> None:
    debian = checkout / "systemvm/debian"
    (debian / ".idea").mkdir()
    (debian / ".idea/workspace.xml").write_text("<x/>\n")
    (debian / "etc/haproxy/haproxy.cfg.orig").write_text("old\n")
    (debian / "root/monitorServices.py").write_text("#!/usr/bin/python3\nx = 1\n")
    (checkout / "elsewhere.txt").write_text("not packed\n")
    notes, (_, commit) = built(checkout, tmp_path / "out", script)
    unknown = ["systemvm/debian/.idea/workspace.xml", "systemvm/debian/etc/haproxy/haproxy.cfg.orig"]
    assert commit["annotations"] == {
        "dirty": ["systemvm/debian/root/monitorServices.py"],
        "untracked": unknown,
    }
    assert notes[0] == f"packed, and unknown to version control: {', '.join(unknown)}"
    assert notes[1].endswith("systemvm/debian/root/monitorServices.py")


def test_many_unknown_files_are_counted(checkout: Path, script: Path, tmp_path: Path) -> None:
    for number in range(8):
        (checkout / f"systemvm/debian/etc/{number}.orig").write_text("x\n")
    notes, _ = built(checkout, tmp_path / "out", script)
    assert notes[0].endswith(" and 3 more")


def test_a_tree_outside_of_any_checkout_has_nothing_to_tell(
    source: Path, script: Path, tmp_path: Path
) -> None:
    notes, dependencies = built(source, tmp_path / "out", script)
    assert notes == ()
    assert len(dependencies) == 1


def test_a_copy_inside_somebody_elses_checkout_is_not_theirs(checkout: Path) -> None:
    (checkout / "copy").mkdir()
    (checkout / "copy/file").write_text("x\n")
    assert look(checkout / "copy", (checkout / "copy/file",)) is None


def test_git_that_cannot_answer_is_said(
    checkout: Path, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="git: No such file"):
        look(checkout, ())
    notes, dependencies = built(checkout, tmp_path / "out", script)
    assert notes[0].startswith("version control cannot be asked")
    assert len(dependencies) == 1


def test_nothing_that_the_tree_configures_is_run(checkout: Path, script: Path, tmp_path: Path) -> None:
    git(checkout, "config", "core.fsmonitor", f"touch {tmp_path}/ran")
    git(checkout, "config", "diff.external", f"touch {tmp_path}/ran")
    (checkout / "systemvm/debian/root/monitorServices.py").write_text("changed\n")
    notes, _ = built(checkout, tmp_path / "out", script)
    assert len(notes) == 1
    assert not (tmp_path / "ran").exists()


def test_signing_later_keeps_what_the_provenance_says(checkout: Path, make: Make, tmp_path: Path) -> None:
    generate(tmp_path / "K")
    at_once = make(checkout, tmp_path / "at once", key=tmp_path / "K")
    later = make(checkout, tmp_path / "later")
    sign(later, tmp_path / "K", None)
    assert (later / layout.PROVENANCE).read_bytes() == (at_once / layout.PROVENANCE).read_bytes()
    assert (later / layout.ENVELOPE).read_bytes() == (at_once / layout.ENVELOPE).read_bytes()
