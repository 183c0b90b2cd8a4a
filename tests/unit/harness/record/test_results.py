"""The results folder of a run and the pointer to the newest."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from bundle import files
from bundle.errors import InfrastructureError, UsageError
from harness.record import results


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    results.create(tmp_path, "one")
    two = results.create(tmp_path, "two")
    two.events.write_text("")
    assert (tmp_path / "latest").readlink() == Path("two")
    assert results.find("latest", tmp_path).folder == two.folder.resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]


def test_a_new_name_that_is_taken_gives_way_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["20260131-142501-9f3c", "20260131-142501-9f3c", "20260131-142501-0a0a"])
    monkeypatch.setattr(results, "new_name", partial(next, names))
    made = [results.create(tmp_path) for _ in range(2)]
    assert [one.name for one in made] == ["20260131-142501-9f3c", "20260131-142501-0a0a"]
    assert (tmp_path / "latest").readlink() == Path("20260131-142501-0a0a")


def test_new_names_say_the_time_first() -> None:
    assert re.fullmatch(r"2\d{3}[01]\d[0-3]\d-[0-2]\d[0-5]\d[0-6]\d-[0-9a-f]{4}", results.new_name())


def test_results_below_a_file_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(InfrastructureError, match="cannot make the results folder"):
        results.create(tmp_path / "results")


@pytest.mark.parametrize("name", ["latest", "a/b", "..", "a\nb"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="invalid name of a run"):
        results.create(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    results.create(tmp_path, "one")
    with pytest.raises(UsageError, match="already there"):
        results.create(tmp_path, "one")


def test_a_folder_in_the_place_of_latest_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(InfrastructureError, match=r"cannot write .*latest"):
        results.create(tmp_path, "one")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".latest")]


def test_an_unknown_run_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run 'nope'"):
        results.find("nope", tmp_path)


def test_artifacts_that_are_packed_are_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "artifacts.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"artifacts\.zip is a file") as caught:
        results.find(tmp_path / "artifacts.zip", tmp_path)
    assert "unpack it and name the folder" in caught.value.diagnostics()


def test_a_log_stays_inside_the_folder(tmp_path: Path) -> None:
    run = results.create(tmp_path, "one")
    assert run.log("r-1-VM/console.log").parent.is_dir()
    with pytest.raises(ValueError, match="outside"):
        run.log("../../etc/passwd")


def test_a_file_appears_whole_and_replaces(tmp_path: Path) -> None:
    files.write(tmp_path / "x", "one")
    files.write(tmp_path / "x", "two")
    assert (tmp_path / "x").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_in_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot write .*No such file"):
        files.write(tmp_path / "no" / "x", "one")
