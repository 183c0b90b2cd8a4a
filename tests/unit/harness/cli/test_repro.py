"""Repeating what a CI job found, on another machine: from its artifacts, with the very bundle."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundle.build import BuildOptions
from bundle.build import build as build_bundle
from bundle.errors import UsageError
from harness.cli import _judge, sysvm
from harness.lab import tested
from harness.record import results
from harness.record.events import EventLog

SCENARIO = "router-from-4.21-live-patch"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(
        BuildOptions(output=tmp_path_factory.mktemp("b") / "out", release="4.22", cache=False)
    ).folder


def artifact(folder: Path, bundle: Path, path: str) -> Path:
    """Write the events of a run that failed with a bundle, as they lie in an artifact, and return its folder."""
    run = folder / "artifact/results/20260131-101010-abcd"
    run.mkdir(parents=True)
    with EventLog(run / "events.jsonl") as log:
        log.emit("options", options={"--to": "4.22", "--bundle": path})
        log.emit("subject", subject={"cell": "router-from-4.21", "bundle": tested.bundle_facts(bundle)})
        log.emit("scenario_started", scenario=SCENARIO, type="router", **{"from": "4.21", "to": "4.22"})
        log.emit("scenario_finished", scenario=SCENARIO, verdict="failed", reason="x", seconds=1.0)
        log.emit("run_finished", verdict="failed")
    return folder / "artifact"


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that a repetition was run with; nothing is booted."""
    words: list[str] = []
    monkeypatch.setattr(_judge, "judge", lambda arguments, as_json: words.extend(arguments) or 0)
    return words


def repro(*arguments: object) -> Result:
    return CliRunner().invoke(
        sysvm, ["repro", "--command", "true", *map(str, arguments)], standalone_mode=False
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_an_artifact_is_repeated_with_the_bundle_that_was_brought_along(
    tmp_path: Path, bundle: Path, repeated: list[str], zipped: bool
) -> None:
    run = artifact(tmp_path, bundle, "/builds/of/ci/bundle")
    if zipped:
        run = Path(shutil.make_archive(str(tmp_path / "job"), "zip", run))
    gone = repro("--run", run)
    assert isinstance(gone.exception, UsageError)
    assert "--bundle DIR" in gone.exception.diagnostics()
    done = repro("--run", run, "--bundle", bundle)
    assert done.exception is None, done.exception
    assert {f"--bundle={bundle}", f"--scenario={SCENARIO}", "--from=4.21"} <= set(repeated)
    assert "differ" not in done.output


def test_another_bundle_at_the_same_path_is_refused_and_a_named_one_is_told(
    tmp_path: Path, bundle: Path, repeated: list[str]
) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    (other / "patch-sysvms.sh").write_text("#!/bin/bash\n")
    run = artifact(tmp_path, bundle, str(other))
    refused = repro("--run", run)
    assert isinstance(refused.exception, UsageError)
    assert "is not the one that the run tested: patch-sysvms.sh differ" in str(refused.exception)
    assert repeated == []
    done = repro("--run", run, "--bundle", other)
    assert done.exception is None
    assert "patch-sysvms.sh differ" in done.output
    assert repeated


@pytest.mark.parametrize(
    ("names", "words"), [((), "has 0 runs"), (("a/events.jsonl", "b/events.jsonl"), "has 2 runs")]
)
def test_a_zip_without_exactly_one_run_is_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        for name in names:
            made.writestr(name, "{}")
    refused = repro("--run", tmp_path / "x.zip")
    assert isinstance(refused.exception, UsageError)
    assert words in str(refused.exception)


def test_a_zip_writes_nowhere_but_where_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("../events.jsonl", "{}")
    found = results.unpacked(tmp_path / "x.zip", tmp_path / "deep/er")
    assert found.folder == tmp_path / "deep/er/x"
    assert not (tmp_path / "deep/events.jsonl").exists()


def test_a_file_that_is_no_zip_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    refused = repro("--run", tmp_path / "x.zip")
    assert isinstance(refused.exception, UsageError)
    assert "cannot read the artifact" in str(refused.exception)
