"""The comparison is one document, and every rendering tells all of it."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.inspect import diff_report
from bundle.inspect.contents import take
from bundle.inspect.diff import compare
from bundle.inspect.lines import changed_lines

Make = Callable[..., Path]
# Keys whose values are told in other words: a flag, or a number of lines.
_FLAGS = {"equal", "suffices", "left_out"}


@pytest.fixture
def pair(source: Path, make: Make, tmp_path: Path) -> tuple[Path, Path]:
    """Return two bundles that differ in everything that a comparison tells."""
    agent, debian = source / "systemvm/agent", source / "systemvm/debian"
    old = make(source, tmp_path / "old", release="4.19")
    (debian / "etc/haproxy/haproxy.cfg").write_bytes(b"defaults\n  mode http\n")
    (debian / "etc/odd_<b>`.conf").write_bytes(b"```\n<script>\x1b[2J\n")
    (debian / "opt/cloud/bin/update_config.py").write_bytes(b"#!/usr/bin/python3\nprint('other')\n")
    (debian / "root/monitorServices.py").write_bytes(b"no program\n")
    (debian / "opt/cloud/bin/cs/helper.py").unlink()
    (agent / "packages").mkdir()
    (agent / "packages/packages.ini").write_bytes(
        b"[one]\ndebian_os = 11\npackage_name = python3-netaddr\nfile_name = netaddr.deb\n"
    )
    return old, make(source, tmp_path / "new", script=None, minimum_template="4.16")


@pytest.fixture
def said(pair: tuple[Path, Path]) -> dict:
    old, new = (take(path) for path in pair)
    found = compare(old, new, catalogue.load())
    lines = changed_lines(old, new, (*found.added, *found.removed, *found.changed), 200)
    return diff_report.document(found, "old", "new", lines)


def leaves(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner, key)
    elif isinstance(value, str) and key not in _FLAGS:
        yield value


def test_the_document_has_something_of_everything(said: dict) -> None:
    filled = (
        "facts",
        "added",
        "removed",
        "changed",
        "modes",
        "renewals",
        "readers",
        "no_reader_known",
        "packages",
    )
    assert all(said[key] for key in (*filled, "lines"))
    assert said["live_configuration"]["paths"] == ["etc/haproxy/haproxy.cfg"]
    assert said["verdict"]["word"] == "caveat"
    json.dumps(said)


def test_the_text_tells_every_value_of_the_document(said: dict) -> None:
    text = diff_report.text(said)
    for value in leaves({key: value for key, value in said.items() if key != "lines"}):
        assert value in text
    assert "the base image of 4.19.0.0 suffices" in text


class _Text(html.parser.HTMLParser):
    """Collects what a browser shows, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_the_page_tells_every_value_and_nothing_of_a_bundle_becomes_markup(said: dict) -> None:
    page = _Text()
    page.feed(diff_report.html(said))
    for value in leaves(said):
        assert value in page.shown
    assert not {"script", "b", "img"} & set(page.tags)
    assert "\x1b" not in page.shown


def test_the_markdown_tells_every_value_and_closes_every_fence(said: dict) -> None:
    text = diff_report.markdown(said)
    plain = re.sub(r"\\\\(.)", r"\\1", text).replace("\\", "")
    for value in leaves(said):
        assert value.replace("\\", "") in plain
    assert "````diff" in text
    assert "etc/odd\\_\\<b\\>\\`.conf" in text


def test_no_difference_is_said_in_every_form(bundle_dir: Path) -> None:
    snapshot = take(bundle_dir)
    said = diff_report.document(compare(snapshot, snapshot, catalogue.load()), "a", "b")
    assert diff_report.text(said) == "no difference\n"
    assert "Nothing differs." in diff_report.markdown(said)
    assert "Nothing differs." in diff_report.html(said)


def test_changed_lines_are_unified_and_cut_at_the_limit(pair: tuple[Path, Path]) -> None:
    old, new = (take(path) for path in pair)
    place = ("cloud-scripts.tgz", "etc/haproxy/haproxy.cfg")
    (found,) = changed_lines(old, new, [place], 200)
    assert found.lines[1:] == (" defaults", "-  mode tcp", "+  mode http", " ")
    (cut,) = changed_lines(old, new, [place], 2)
    assert (len(cut.lines), cut.left_out) == (2, 3)


def test_what_is_no_text_has_no_lines(source: Path, make: Make, tmp_path: Path) -> None:
    old = take(make(source, tmp_path / "old"))
    (source / "systemvm/agent/images/dot.png").write_bytes(bytes(range(255)))
    new = take(make(source, tmp_path / "new"))
    assert changed_lines(old, new, [("agent.zip", "images/dot.png")], 200) == ()


def test_the_command_prints_each_form(pair: tuple[Path, Path], sysvm: Callable) -> None:
    diff = ("bundle", "diff", *pair)
    document = json.loads(sysvm(*diff, "--json").stdout)
    assert document["base_image"] == {"suffices": True, "reason": ""}
    assert {"archive": "cloud-scripts.tgz", "path": "etc/haproxy/haproxy.cfg"} in document["changed"]
    assert "~ cloud-scripts.tgz: etc/haproxy/haproxy.cfg" in sysvm(*diff).stdout
    assert sysvm(*diff, "--markdown").stdout.startswith("# ")
    assert sysvm(*diff, "--html").stdout.startswith("<!DOCTYPE html>")
    assert sysvm(*diff, "--html", "--json").returncode == 2


def test_exit_code_is_for_a_pipeline(pair: tuple[Path, Path], sysvm: Callable) -> None:
    assert sysvm("bundle", "diff", *pair).returncode == 0
    assert sysvm("bundle", "diff", *pair, "--exit-code").returncode == 1
    same = sysvm("bundle", "diff", pair[0], pair[0], "--exit-code")
    assert (same.returncode, same.stdout) == (0, "no difference\n")
