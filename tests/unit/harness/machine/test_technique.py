"""Techniques of golden snapshots: asked of QEMU, remembered, and overruled by the environment."""

from __future__ import annotations

import json

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.machine import technique


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(technique.FORCE, raising=False)


def fake_qemu(folder, capabilities, backends):
    """Write a stand-in for QEMU that gives one answer a line, and counts how often it is started."""
    answers = [
        {"QMP": {}},
        {"return": {}},
        {"return": [{"capability": name, "state": False} for name in capabilities]},
        {"return": [{"name": name} for name in backends]},
        {"return": {}},
    ]
    (folder / "answers").write_text("".join(f"{json.dumps(answer)}\n" for answer in answers))
    program = folder / "qemu"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho >>{folder}/starts\ncat {folder}/answers\n")
    program.chmod(0o755)
    return str(program)


def test_a_qemu_that_can_leave_shared_ram_out_shares_it(tmp_path):
    emulator = fake_qemu(tmp_path, ["xbzrle", "x-ignore-shared"], ["memory-backend-file"])
    assert technique.find("7002000", emulator) == "shared-ram"


@pytest.mark.parametrize(
    ("capabilities", "backends"),
    [(["xbzrle"], ["memory-backend-file"]), (["x-ignore-shared"], ["memory-backend-ram"])],
    ids=["no capability", "no file"],
)
def test_a_qemu_that_lacks_one_of_both_copies(tmp_path, capabilities, backends):
    assert technique.find("7002000", fake_qemu(tmp_path, capabilities, backends)) == "full-copy"


def test_qemu_is_asked_once_a_version(tmp_path):
    emulator = fake_qemu(tmp_path, ["x-ignore-shared"], ["memory-backend-file"])
    for version in ("7002000", "7002000", "8000000"):
        technique.find(version, emulator)
    assert (tmp_path / "starts").read_text().count("\n") == 2


def test_the_environment_overrules_without_asking(tmp_path, monkeypatch):
    monkeypatch.setenv(technique.FORCE, "full-copy")
    assert technique.find("7002000", str(tmp_path / "no-such-program")) == "full-copy"


def test_an_unknown_technique_is_refused(monkeypatch):
    monkeypatch.setenv(technique.FORCE, "magic")
    with pytest.raises(UsageError, match="'magic' \\(expected shared-ram or full-copy\\)"):
        technique.find("7002000")


def test_a_qemu_that_says_nothing_is_an_error_of_the_machine(tmp_path):
    emulator = fake_qemu(tmp_path, [], [])
    (tmp_path / "answers").write_text("")
    with pytest.raises(InfrastructureError, match="does not answer"):
        technique.find("7002000", emulator)
