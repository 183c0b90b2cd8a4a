"""The command as a whole: quick to start, one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness.cli import COMMANDS, sysvm

HEAVY = ("libvirt", "paramiko", "pytest", "jinja2", "rich", "cryptography", "cyclonedx")


def run(*arguments):
    code = "import sys; from harness.cli import main\ntry:\n    main()\nfinally:\n"
    code += "    print(*sys.modules, file=sys.stderr)"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["bundle", "--help"], ["run", "--help"], ["vm", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert not [name for name in HEAVY if name in done.stderr.split()]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The state of a host on which a person keeps a VM; returns the file that says so."""
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path))
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    facts = {
        **dict.fromkeys(("run", "vm_type", "release", "label", "golden", "source", "ssh_key", "folder"), "x"),
        **dict.fromkeys(("debian", "network", "template")),
        "name": "a", "ssh_port": 1, "endpoints": {}, "tenants": [],
    }  # fmt: skip
    (tmp_path / "runs" / "x").mkdir(parents=True)
    file = tmp_path / "runs" / "x" / "kept.json"
    file.write_text(json.dumps(facts))
    return file


@pytest.mark.usefixtures("kept")
def test_a_command_in_a_kept_vm_imports_no_engine():
    done = run("vm", "exec", "a", "--deadline", "0.1", "true")  # nobody listens at its port
    assert done.returncode == 3
    assert "no SSH login at 127.0.0.1:1" in done.stderr
    loaded = done.stderr.split()
    assert "paramiko" in loaded
    assert not {"libvirt", "jinja2", "harness.vm.engine", "harness.lab.lab"} & set(loaded)


def test_the_end_of_a_kept_vm_imports_no_engine(kept, monkeypatch):
    monkeypatch.setenv("SYSVM_LIBVIRT_URI", "test:///default")
    done = run("vm", "stop", "a")
    assert (done.returncode, done.stdout) == (0, "a: stopped\n")
    assert not kept.parent.exists()
    loaded = done.stderr.split()
    assert "libvirt" in loaded
    assert not {"paramiko", "harness.vm.engine", "harness.lab.lab"} & set(loaded)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_there_and_explains_itself(name):
    result = CliRunner().invoke(sysvm, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage:")


def test_an_unknown_command_is_a_usage_error():
    done = run("no-such")
    assert done.returncode == 2
    assert "no-such" in done.stderr
