"""``sysvm worker`` and ``sysvm run --on``: what cannot be meant is refused in one line, before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bundle.errors import InfrastructureError, UsageError
from harness.cli import sysvm


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SYSVM_CERTIFICATES", raising=False)


def call(*words):
    done = CliRunner().invoke(sysvm, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["worker"], "no address of a scheduler is named"),
        (["worker", "scheduler:8786"], "invalid address"),
        (["worker", "tcp://10.0.0.1:8786"], "reached with TLS only"),
        (["worker", "tcp://10.0.0.1:8786", "--certificates", "nosuch"], "cannot read nosuch"),
        (["worker", "tcp://127.0.0.1:8786", "--scheduler", "--slots", "2"], "about a host"),
        (["worker", "tcp://127.0.0.1:8786", "--init", "tls"], "makes certificates and nothing else"),
        (["run", "--on", "scheduler:8786"], "invalid address"),
        (["run", "--on", "tcp://10.0.0.1:8786"], "reached with TLS only"),
        (["run", "--on", "tcp://127.0.0.1:8786", "--workers", "2"], "each host says how many"),
        (["run", "--on", "tcp://127.0.0.1:8786", "--keep"], "--keep does not go with --on"),
        (["run", "--on", "tcp://127.0.0.1:8786", "--stop-before-rollback"], "does not go with --on"),
        (["run", "--certificates", "tls"], "--certificates is about --on"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, reason, tmp_path):
    with pytest.raises(UsageError, match=reason):
        call(*words)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("words", [["worker"], ["run", "--on"]])
def test_a_scheduler_that_is_not_there_is_the_machines_fault(words, tmp_path):
    with pytest.raises(InfrastructureError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        call(*words, "tcp://127.0.0.1:9")
    assert not (tmp_path / "results").exists()
    assert not list((tmp_path / "state" / "runs").glob("*"))


def test_certificates_are_made_and_said_to_whom(tmp_path):
    assert "to nobody else" in call("worker", "--init", "tls").output
    said = json.loads(call("worker", "--init", "other", "--json").output)
    assert said["certificates"] == "other"
    assert len(said["until"]) == 10


@pytest.mark.parametrize("words", [["worker", "tcp://127.0.0.1:9"], ["run", "--on", "tcp://127.0.0.1:9"]])
def test_without_the_engine_one_line_names_the_extra(words):
    code = "import sys; sys.modules['dask'] = sys.modules['distributed'] = None\n"
    code += "import harness.plugin.cluster.address as a; a.Meeting.require_answer = lambda self: None\n"
    code += "from harness.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("sysvm: this command needs the Python module ")
    assert "pip install 'sysvm-livepatch[cluster]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_without_hosts_does_not_import_the_engine():
    code = "import sys; from harness.cli.run import run; import harness.plugin, harness.cli._judge\n"
    code += "print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
