"""The VM that stays when no golden snapshot can be made of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundle.errors import UsageError
from harness.host import runtime
from harness.kept.listing import all_kept
from harness.kept.start import leaving
from harness.lab.wish import Wish


@pytest.fixture
def vm(tmp_path):
    return SimpleNamespace(
        topology=SimpleNamespace(control=SimpleNamespace(address="169.254.0.2")),
        endpoints={("169.254.0.2", 3922): 4000, ("192.0.2.1", 80): 4001},
        guest=SimpleNamespace(port=4000, key=tmp_path / "gone"),
        machine=SimpleNamespace(folder=tmp_path / "machine"),
        tenant_machines={},
        namespace=None,
    )


def test_a_vm_that_failed_is_found_by_later_commands(tmp_path, monkeypatch, vm):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    run = runtime.RuntimeFolder("abc123", runtime.runs_folder() / "abc123")
    run.path.mkdir(parents=True)
    key = tmp_path / "id_ecdsa"
    key.write_text("secret")
    wish = Wish("router", "4.20", "4.22")
    words = leaving(wish).record(vm, key, run)
    assert "sysvm vm ssh failed-router" in words
    assert "sysvm vm stop failed-router" in words
    key.unlink()  # as it goes with the folder of the snapshot
    (kept,) = all_kept()
    assert (kept.name, kept.run, kept.vm_type, kept.ssh_port) == ("failed-router", "abc123", "router", 4000)
    own = Path(kept.ssh_key)
    assert own.read_text() == "secret"
    assert own.stat().st_mode & 0o777 == 0o600
    assert json.loads((run.path / "kept.json").read_text())["endpoints"] == {"192.0.2.1:80": 4001}
    with pytest.raises(UsageError, match="failed-router is still there from before"):
        leaving(wish)
