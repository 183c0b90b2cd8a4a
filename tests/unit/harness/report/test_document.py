"""``run.json`` keeps to the published schema, and says what was tested with what."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from bundle import __version__, layout
from bundle.build import BuildOptions
from bundle.build import build as build_bundle
from harness.lab import tested
from harness.record import results
from harness.record.events import EventLog
from harness.report import write
from harness.report.document import schema

HOST = {"system": "Linux 6.1", "machine": "x86_64", "python": "3.11", "libvirt": "qemu:///x", "qemu": "10.0.3",
        "accelerator": "tcg"}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(
        BuildOptions(output=tmp_path_factory.mktemp("b") / "out", release="4.22", cache=False)
    ).folder


def run_of(folder: Path, bundle: Path) -> results.ResultsFolder:
    run = results.create(folder, "one")
    with EventLog(run.events) as log:
        log.emit("subject", subject={
            "cell": "router-from-4.21", "bundle": tested.bundle_facts(bundle), "boot": tested.bundle_facts(bundle),
            "template": {"label": "x", "digest": "y", "stand_in": False}, "tool": tested.tool_facts(), "host": HOST,
        })  # fmt: skip
        log.emit("scenario_started", scenario="S", type="router", title="x", **{"from": "4.21", "to": "4.22"})
        log.emit(
            "patch", scenario="S", success=False, details="x", log=["a"], seconds=1.0, occasion="first patch"
        )
        log.emit("check", scenario="S", name="a.b", verdict="failed", reason="x", details=["y"], seconds=0.1)
        log.emit("logs", scenario="S", files=["logs/S/cloud.log"])
        log.emit("scenario_finished", scenario="S", verdict="failed", reason="x", seconds=1.0)
        log.emit("run_finished", verdict="failed", reason="")
    write(run)
    return run


def test_the_document_keeps_to_its_schema(tmp_path: Path, bundle: Path) -> None:
    document = json.loads((run_of(tmp_path, bundle).folder / "run.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(document)
    del document["scenarios"][0]["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(document)


def test_the_document_and_the_page_say_which_bundle_was_tested(tmp_path: Path, bundle: Path) -> None:
    run = run_of(tmp_path, bundle)
    (subject,) = json.loads((run.folder / "run.json").read_text())["subjects"]
    assert set(subject["bundle"]["files"]) == {*layout.PAYLOAD, layout.MANIFEST}
    assert subject["bundle"]["script"] == "rendered"
    assert subject["tool"]["version"] == __version__
    page = (run.folder / "report.html").read_text()
    for words in (*subject["bundle"]["files"].values(), subject["bundle"]["content_digest"], "10.0.3"):
        assert words in page


def test_a_folder_without_a_manifest_is_known_by_its_digests(tmp_path: Path, bundle: Path) -> None:
    for name in layout.PAYLOAD:
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    facts = tested.bundle_facts(tmp_path)
    assert facts["origin"] == "no manifest"
    assert set(facts["files"]) == set(layout.PAYLOAD)
