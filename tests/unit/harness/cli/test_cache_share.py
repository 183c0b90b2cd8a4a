"""``sysvm cache push`` and ``pull``: what a person is told, and which status a script gets."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bundle.errors import CheckFailed, UsageError
from harness.cli.cache import cache as command
from harness.lab.golden_maker import host_parts
from harness.machine import accel
from tests.unit.harness.vm.depot.samples import IMAGE, SNAPSHOT, be_a_host, flip, make_golden, make_image

OTHER = "e" * 24


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return what calls a command on one of two hosts; the second can use one snapshot of the first."""
    be_a_host(monkeypatch, tmp_path / "state")
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "one"))
    here = host_parts(SimpleNamespace(version=lambda: "7002000"), accel.TCG, "shared-ram")
    image = make_image(mib=0)
    make_golden(image, here=here, size=9000)
    make_golden(image, OTHER, here={**here, "qemu": "9002000"}, seed=7, size=9000)

    def call(host, *words):
        monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / host))
        done = CliRunner().invoke(command, list(words), catch_exceptions=True)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return call


def test_what_fits_comes_and_what_does_not_is_explained(tmp_path, call):
    where = str(tmp_path / "depot")
    assert f"golden {SNAPSHOT[:12]}: sent" in call("one", "push", where).output
    done = call("two", "pull", where)
    assert done.exit_code == 0
    assert f"golden {SNAPSHOT[:12]}: fetched" in done.output
    assert (
        f"golden {OTHER[:12]}: of no use here (QEMU's version is '9002000' there and '7002000' here"
        in done.output
    )
    assert "there already" in call("two", "pull", where, SNAPSHOT[:6]).output
    assert call("two", "pull", where, OTHER).exit_code == 1
    rows = json.loads(call("two", "list", "--json").output)
    assert {row["key"] for row in rows} == {SNAPSHOT, IMAGE}
    assert next(row for row in rows if row["kind"] == "golden")["depends_on"]["qemu"] == "7002000"


def test_a_miss_names_the_nearest_and_the_difference(tmp_path, call):
    where = str(tmp_path / "depot")
    call("one", "push", where, OTHER)
    done = call("one", "pull", where, SNAPSHOT, "--json")
    assert done.exit_code == 1
    (row,) = json.loads(done.output)["entries"]
    assert row["outcome"] == "not in the depot"
    assert row["reasons"] == [
        f"the nearest is {OTHER[:12]}",
        "QEMU's version is '9002000' there and '7002000' here",
    ]


def test_a_folder_that_is_no_depot_is_told(tmp_path, call):
    with pytest.raises(UsageError, match=r"is no depot: it has no index\.json"):
        call("two", "pull", str(tmp_path / "dpeot"))


def test_a_key_that_the_cache_lacks_is_the_persons_mistake(tmp_path, call):
    with pytest.raises(UsageError, match="the cache has no entry '777'"):
        call("one", "push", str(tmp_path / "depot"), "777")


def test_a_snapshot_that_is_damaged_is_not_sent(tmp_path, call):
    flip(tmp_path / "one" / "golden" / SNAPSHOT / "system.ram", 9)
    with pytest.raises(CheckFailed, match="not sent"):
        call("one", "push", str(tmp_path / "depot"), SNAPSHOT)
