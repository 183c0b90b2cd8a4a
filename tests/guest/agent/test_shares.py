"""Shares as mount(8) is asked for them: nothing in an address becomes an option."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.guest.agent.inside import agent_module

shares = agent_module("shares")


@pytest.mark.parametrize(
    ("url", "source", "port"),
    [
        ("nfs://10.0.0.6/secondary", "10.0.0.6:/secondary", None),
        ("nfs://nas.example/a,b/c d", "nas.example:/a,b/c d", None),
        ("nfs://nas-1:2049/x", "nas-1:/x", 2049),
        ("nfs://[2001:DB8::6]/secondary", "[2001:db8::6]:/secondary", None),
        ("nfs://[2001:db8::6]:20049/s", "[2001:db8::6]:/s", 20049),
    ],
)
def test_the_source_of_a_mount_keeps_brackets_and_port(url, source, port):
    assert shares.nfs_source(url)[1:] == (source, port)


@pytest.mark.parametrize(
    "url",
    [
        "nfs://-oexec/x", "nfs://-oexec:/x", "nfs://a-/x", "nfs:///x", "nfs://host", "nfs://host:x/y", "nfs://host:99999/y",
        "nfs://user@host/x", "nfs://host/x?vers=3", "nfs://host/x#y", "nfs://ho st/x", "nfs://host/x\n-oexec",
        "nfs://[/x", "nfs://[2001:db8::6/x", "nfs://[::1%eth0]/x", "nfs://[x]/x", "http://host/x", "cifs://host/x",
        "nfs://host,exec/x", "nfs://ho\u2028st/x", "",
    ],
)  # fmt: skip
def test_what_is_no_share_is_refused(url):
    with pytest.raises(ValueError, match="not of the form nfs://host/path"):
        shares.nfs_source(url)


@pytest.mark.parametrize("version", ["4,exec", "-o", "5", "4.1.1", "4\n", "three"])
def test_what_is_no_version_of_nfs_is_refused(version):
    with pytest.raises(ValueError, match="no version of NFS"):
        shares.options_of(version, None)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins for mount and ip that write down their words; returns the file."""
    folder, log = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    for name in ("mount", "ip"):
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@" >>{log}; echo >>{log}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(shares, "MOUNTS", tmp_path / "mnt")
    return log


VALUES = {"eth1ip": "10.0.0.30", "eth1mask": "255.255.255.0", "localgw": "10.0.0.1", "nfsVersion": "4.1"}


def test_a_mount_is_led_to_its_server_first_and_has_no_rights(programs, tmp_path):
    state = tmp_path / "state"
    found = shares.Shares(VALUES, 5, state)
    folder = asyncio.run(found.ensure("nfs://172.16.1.9:2050/x"))
    assert programs.read_text().splitlines() == [
        "ip|-4|route|replace|172.16.1.9/32|via|10.0.0.1|dev|eth1|",
        f"mount|-t|nfs|-o|retry=0,nosuid,nodev,noexec,vers=4.1,port=2050|--|172.16.1.9:/x|{folder}|",
    ]
    assert json.loads(state.read_text()) == ["nfs://172.16.1.9:2050/x"]


def test_a_share_by_ipv6_is_mounted_in_its_brackets_again_and_again(programs, tmp_path):
    url, state = "nfs://[2001:DB8::6]:20049/secondary", tmp_path / "state"
    folder = asyncio.run(shares.Shares(VALUES, 5, state).ensure(url))
    asyncio.run(shares.Shares(VALUES, 5, state).restore())
    options = "retry=0,nosuid,nodev,noexec,vers=4.1,port=20049"
    assert programs.read_text().splitlines() == 2 * [
        f"mount|-t|nfs|-o|{options}|--|[2001:db8::6]:/secondary|{folder}|"
    ]
    assert "[" not in folder.name


def test_what_was_mounted_is_mounted_again_after_a_restart(programs, tmp_path):
    state = tmp_path / "state"
    state.write_text('["nfs://-oexec/x", "nfs://10.0.0.6/x"]')
    found = shares.Shares(VALUES, 5, state)
    asyncio.run(found.restore())
    assert found.urls == ["nfs://10.0.0.6/x"]
    assert programs.read_text().count("mount|") == 1


@pytest.mark.parametrize("text", ["[" * 100000, "{}", "7", "\x00"])
def test_a_state_that_is_damaged_is_passed_over(programs, tmp_path, text):
    state = tmp_path / "state"
    state.write_text(text)
    found = shares.Shares(VALUES, 5, state)
    asyncio.run(found.restore())
    assert found.urls == []
    assert not programs.exists()


def test_a_mount_that_does_not_end_is_given_up(programs, tmp_path):
    (Path(programs.parent) / "bin" / "mount").write_text("#!/bin/sh\nexec sleep 60\n")
    started = time.monotonic()
    with pytest.raises(OSError, match="mount did not end within 1 s"):
        asyncio.run(shares.Shares(VALUES, 1, tmp_path / "state").ensure("nfs://10.0.0.6/x"))
    assert time.monotonic() - started < 10


def test_a_mount_that_fails_is_told_by_what_it_said(programs, tmp_path):
    (Path(programs.parent) / "bin" / "mount").write_text("#!/bin/sh\necho access denied >&2\nexit 32\n")
    found = shares.Shares(VALUES, 5, tmp_path / "state")
    with pytest.raises(OSError, match="mount ended with status 32: access denied"):
        asyncio.run(found.ensure("nfs://10.0.0.6/x"))
    assert found.urls == []


def test_the_templates_of_a_share_are_offered_below_the_folder_that_has_a_password(
    programs, tmp_path, monkeypatch
):
    monkeypatch.setattr(shares, "OFFERED", tmp_path / "copy/template")
    found = shares.Shares(VALUES, 5, tmp_path / "state")
    for _ in range(2):
        path = asyncio.run(found.offer("nfs://10.0.0.6/x"))
    folder = shares.mount_point("nfs://10.0.0.6/x")
    assert path == f"/copy/template/{folder.name}"
    (link,) = (tmp_path / "copy/template").iterdir()
    assert (link.name, link.readlink()) == (folder.name, folder / "template")
    with pytest.raises(ValueError, match="not of the form"):
        asyncio.run(found.offer("nfs://-x/y"))
