"""A host after killed commands, and one that refuses: the next command cleans up, and every refusal is one line."""

import os
import stat
import subprocess
import sys

import pytest

from bundle.errors import InfrastructureError
from harness.cli import _known, _leftovers
from harness.host import locks, runtime
from harness.record import results


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SYSVM_LIBVIRT_URI", "test:///default")
    return tmp_path


def sysvm(*arguments):
    code = "from harness.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def killed_run(host):
    """Leave behind what a run leaves whose processes were all killed: folder, overlays."""
    folder = runtime.runs_folder() / "abcdef"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    work = host / "cache" / "work" / "abcdef"
    work.mkdir(parents=True)
    (work / "overlay.qcow2").touch()
    (work.parent / "abcdef.owner").write_text(str(folder))
    return [folder, work]


@pytest.mark.parametrize("arguments", [["vm", "list"], ["matrix", "--json"], ["checks"], ["image", "list"]])
def test_any_command_removes_what_a_killed_run_left(host, arguments):
    left = killed_run(host)
    done = sysvm(*arguments)
    assert (done.returncode, "removed what was left of abcdef" in done.stderr) == (0, True), done.stderr
    assert not [path for path in left if path.exists()]


def test_a_run_that_is_alive_is_left_alone(host):
    left = killed_run(host)
    handle = locks.try_exclusive(left[0] / "lock")
    assert not runtime.has_abandoned()
    _leftovers.remove()
    assert all(path.exists() for path in left)
    os.close(handle)


def test_a_host_without_runs_gets_no_state_folder(host):
    assert not runtime.has_abandoned()
    assert not (host / "state").exists()


def test_what_cannot_be_removed_stops_no_command(host, monkeypatch):
    killed_run(host)
    monkeypatch.setenv("SYSVM_LIBVIRT_URI", "nonsense:///")
    done = sysvm("checks")
    assert done.returncode == 0
    assert "cannot be removed" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("bits", [0o777])
def test_a_state_folder_that_cannot_be_trusted_is_one_line(host, bits):
    (host / "state" / "runs").mkdir(parents=True)
    (host / "state").chmod(bits)
    done = sysvm("vm", "list")
    assert done.returncode == 3
    assert done.stderr.startswith("sysvm: ")
    assert len(done.stderr.splitlines()) == 1
    assert stat.S_IMODE((host / "state").stat().st_mode) == bits
    assert sysvm("checks").returncode == 0


def test_results_that_cannot_be_written_are_one_line_before_anything_starts():
    done = sysvm("run", "--results", "/proc/results")
    assert done.returncode == 3
    assert done.stderr.startswith("sysvm: cannot write to the results folder /proc")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_in_place_of_the_results_is_one_line(host):
    (host / "file").touch()
    with pytest.raises(InfrastructureError, match="is no folder"):
        results.require_writable(host / "file" / "results")


@pytest.mark.parametrize(
    "kind", [PermissionError(13, "Permission denied", "/x"), OSError(30, "Read-only", "/x")]
)
def test_what_the_host_refuses_is_one_line_with_the_file(kind):
    assert _known(kind).diagnostics() == f"/x: {kind.strerror}"


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    assert _known(OSError(5, "Input/output error")) is None
