"""Folders that other users must not look into, and what is refused before anything is put there."""

import os
import stat

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.host import hypervisor, private, runtime


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state"


def test_a_new_state_folder_is_closed_whatever_the_umask_says(state):
    before = os.umask(0)
    try:
        assert mode(runtime.state_root()) == 0o700
    finally:
        os.umask(before)


def test_a_state_folder_of_an_earlier_version_is_closed(state):
    (state / "runs").mkdir(parents=True)
    state.chmod(0o755)
    assert mode(runtime.state_root()) == (0o711 if os.geteuid() == 0 else 0o700)


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o720])
def test_a_state_folder_that_others_may_change_is_refused(state, bits):
    (state / "runs").mkdir(parents=True)
    state.chmod(bits)
    with pytest.raises(InfrastructureError, match="may be changed by others"):
        runtime.state_root()


def test_a_link_in_place_of_the_state_folder_is_refused(state, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InfrastructureError, match="is a link"):
        runtime.state_root()


def test_a_folder_of_other_things_is_not_closed(state):
    state.mkdir(mode=0o755)
    (state / "letters").touch()
    with pytest.raises(UsageError, match="has other things in it"):
        runtime.state_root()
    assert mode(state) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_state_folder_is_one_line(state):
    state.mkdir(mode=0o700)
    os.chown(state, 12345, 12345)
    with pytest.raises(InfrastructureError, match="belongs to another user"):
        runtime.state_root()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_folder_in_tmp_that_somebody_else_made_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("SYSVM_STATE")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    theirs = tmp_path / "sysvm-1000"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setattr(runtime, "_temporary", lambda: theirs)
    monkeypatch.setattr(runtime, "state_place", lambda: theirs / "sysvm-livepatch")
    with pytest.raises(InfrastructureError, match="belongs to another user"):
        runtime.state_root()
    assert not list(theirs.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="QEMU is another user for root only")
def test_qemu_passes_through_and_nobody_else(tmp_path):
    private.open_to(tmp_path / "golden", 64055, 108)
    facts = (tmp_path / "golden").stat()
    assert (facts.st_gid, mode(tmp_path / "golden")) == (108, 0o710)


def test_where_qemu_is_ourselves_the_folder_is_ours_alone(tmp_path):
    private.open_to(tmp_path / "golden", os.geteuid(), os.getegid())
    assert mode(tmp_path / "golden") == 0o700


def test_a_libvirt_that_starts_no_machine_leaves_the_cache_alone(tmp_path):
    with hypervisor.hypervisor("test:///default"):
        assert not (tmp_path / "cache").exists()


def test_a_state_folder_too_long_for_sockets_is_told_before_a_daemon_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / ("x" * 100)))
    with (
        pytest.raises(UsageError, match="at most 107") as error,
        hypervisor._private_daemon(),
    ):
        pass
    assert "SYSVM_STATE" in error.value.hint
