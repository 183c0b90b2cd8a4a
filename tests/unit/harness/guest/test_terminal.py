"""How a person gets into a VM."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bundle.errors import InfrastructureError
from harness.cli import sysvm
from harness.guest import terminal
from harness.plugin import hold


def test_a_shell_knows_no_other_hosts_and_no_other_keys_than_the_vms() -> None:
    command = terminal.ssh_command(20022, Path("/cache/id"))
    assert command[:5] == ["ssh", "-p", "20022", "-i", "/cache/id"]
    assert command[-1] == "root@127.0.0.1"
    options = dict(word.split("=") for flag, word in itertools.pairwise(command) if flag == "-o")
    assert options == {
        "UserKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "no",
        "LogLevel": "ERROR",
        "IdentitiesOnly": "yes",
    }


def test_a_host_without_ssh_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    kept = SimpleNamespace(ssh_port=20022, ssh_key="/cache/id")
    monkeypatch.setattr("harness.kept.listing.find", lambda _name: kept)
    done = CliRunner().invoke(sysvm, ["vm", "ssh", "r-1-VM"], standalone_mode=False)
    assert isinstance(done.exception, InfrastructureError)
    assert (str(done.exception), done.exception.hint) == (
        "ssh is not installed",
        "install the package openssh-client",
    )
    with pytest.raises(InfrastructureError, match="ssh is not installed"):
        hold.stop_at(SimpleNamespace(name="r-1-VM"), "before", "")  # type: ignore[arg-type]
