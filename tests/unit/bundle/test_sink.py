"""The one way to a terminal: what a guest says is shown and never obeyed, whoever prints it."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from bundle import sink

ROOT = Path(__file__).parents[3]
HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\x9b31m\u202e\u2028\r\x00\x7f\ud800[bold]\té"
CONTROL = [chr(code) for code in (*range(9), *range(11, 32), *range(0x7F, 0xA0))]


@pytest.mark.parametrize("character", [*CONTROL, "\u202e", "\u2028", "\u2066", "\ud800", "\udfff"])
def test_no_character_that_a_terminal_obeys_is_left(character: str) -> None:
    shown = sink.escape(f"a{character}b")
    assert character not in shown
    assert shown in {f"a\\x{ord(character):02x}b", f"a\\u{ord(character):04x}b"}


def test_lines_tabs_and_letters_stay() -> None:
    assert sink.escape("é\tß\n漢") == "é\tß\n漢"
    assert sink.one_line("a\r\nb\nc\td") == "a b c d"


@pytest.mark.parametrize("err", [False, True])
def test_a_line_is_escaped_on_either_stream(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    sink.tell(HOSTILE, err=err)
    said = capsys.readouterr()
    text = said.err if err else said.out
    assert text.startswith("a\\x1b]0;title\\x07")
    assert not set(text) & {*CONTROL, "\u202e"}


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    sink.tell_json({"text": HOSTILE})
    text = capsys.readouterr().out
    assert json.loads(text) == {"text": HOSTILE}
    assert not set(text) & {*CONTROL, "\u202e", "\ud800"}


def test_a_table_shows_hostile_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name")
    table.add_row(sink.cell(HOSTILE))
    sink.show(table)
    text = capsys.readouterr().out
    assert "[bold]" in text
    assert not set(text) & set(CONTROL)


def test_a_stream_of_few_letters_gets_the_rest_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    sink.tell("é")
    assert raw.getvalue() == b"\\xe9\n"


def test_what_a_command_in_a_guest_says_goes_into_a_pipe_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    sink.hand_on("\x1b[31m")
    assert capsys.readouterr().out == "\x1b[31m"


def test_what_a_command_in_a_guest_says_is_escaped_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    code = "from bundle import sink; sink.hand_on('\\x1b[31mred\\n')"
    subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True, cwd=ROOT)
    os.close(theirs)
    assert os.read(ours, 100) == b"\\x1b[31mred\r\n"
    os.close(ours)


def test_a_reader_who_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "from bundle import sink\nfor _ in range(3):\n    sink.tell('x' * 100_000)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_prints_past_the_sink() -> None:
    past = []
    for path in [*ROOT.glob("bundle/**/*.py"), *ROOT.glob("harness/**/*.py")]:
        # Programs that are brought into guests print there.
        if path == Path(sink.__file__) or path.parent == ROOT / "harness/lab/faults/guest":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}:
                past.append(f"{path.relative_to(ROOT)}:{node.lineno}: {called}")
    assert past == []
