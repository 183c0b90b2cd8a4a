"""A run whose libvirt has died ends what it sees, and leaves its folder for the next command to look again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness.host import runtime
from harness.vm import reaper


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """The prefixes of the guests that were looked for among the emulators."""
    looked = []
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(reaper.strays, "end", looked.append)
    monkeypatch.setattr(reaper.backends, "remove_all", lambda _pattern: None)
    monkeypatch.setattr(reaper, "remove_work", lambda _run: None)
    return looked


def gone():
    raise InfrastructureError("libvirt does not list its domains: client socket is closed")


def test_a_run_whose_libvirt_has_died_ends_its_emulators_and_leaves_its_folder(ended):
    with runtime.open_run() as run:
        reaper.close_run(SimpleNamespace(domains=gone), run)
        assert ended == [f"sysvm-{run.id}-"]
    assert run.path.is_dir()
    assert [left.id for left in runtime.abandoned()] == [run.id]


def test_a_run_that_saw_all_of_it_end_leaves_nothing(ended):
    with runtime.open_run() as run:
        reaper.close_run(SimpleNamespace(domains=list), run)
        assert ended == [f"sysvm-{run.id}-"]
    assert not run.path.exists()
