"""How a person gets into a VM."""

from __future__ import annotations

import itertools
from pathlib import Path

from harness.guest import terminal


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
