"""One word for one thing in every command: the tables of docs/options.md are those of the program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.cli import sysvm

PAGE = (Path(__file__).parents[2] / "docs/options.md").read_text(encoding="utf-8")
# Commands that hand over the terminal or a guest's own output.
NO_DOCUMENT = {"completion", "repro", "vm console", "vm exec", "vm logs", "vm ssh"}


def commands(command=sysvm, path=()):
    """Yield every command that is shown, by the words that call it."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    elif not command.hidden:
        yield " ".join(path), command


COMMANDS = dict(commands())


def options(hidden=False):
    """Return every option with the commands that have it and what each takes."""
    found = {}
    for name, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option, click.Option) and option.hidden == hidden:
                word = ", ".join((*option.opts, *option.secondary_opts))
                found.setdefault(word, {})[name] = value_of(option)
    return found


def value_of(option):
    """Return what stands behind an option, as the page writes it."""
    if option.is_flag:
        return "-"
    choices = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
    return f"`{option.metavar or choices or option.type.name.upper()}`".replace("|", "\\|")


def rows(title):
    """Return the rows of a table of the page."""
    table = PAGE.split(title)[1].split("\n\n")
    body = next(part for part in table if part.lstrip().startswith("|")).strip().splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]


def test_the_table_has_every_option_with_its_value_and_its_commands():
    told = {row[0].strip("`"): (row[1], set(re.findall(r"`([^`]+)`", row[3]))) for row in rows("# Options")}
    there = {
        word: (", ".join(dict.fromkeys(users.values())), set(users)) for word, users in options().items()
    }
    assert told == there
    assert all(row[2] for row in rows("# Options"))


def test_an_option_takes_the_same_in_every_command():
    several = {word: set(users.values()) for word, users in options().items() if len(set(users.values())) > 1}
    assert several == {}


def test_every_former_word_is_in_the_table_and_warns():
    told = {
        (row[0].strip("`"), name)
        for row in rows("## Former words")
        for name in re.findall(r"`([^`]+)`", row[2])
    }
    there = {(word, name) for word, users in options(hidden=True).items() for name in users}
    assert told == there


def test_a_word_of_today_brings_no_warning_of_a_former_one():
    for command in COMMANDS.values():
        former = {p.name for p in command.params if isinstance(p, click.Option) and p.hidden}
        assert not former & {p.name for p in command.params if not getattr(p, "hidden", False)}


def test_every_command_prints_json():
    without = {
        name
        for name, command in COMMANDS.items()
        if "--json" not in {word for p in command.params for word in p.opts}
    }
    assert without == NO_DOCUMENT


def call(*arguments):
    code = "from harness.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("bundle", "show", "/nosuch", "--json"), "/nosuch", 1),
        (("report", "nosuch", "--json"), "no run 'nosuch'", 2),
        (("matrix", "--from", "4.21-foo", "--json"), "4.21-foo", 2),
        (("run", "--json", "--type", "toaster"), "toaster", 2),
        (("vm", "stop", "--json"), "name the VMs to stop", 2),
        (("bundle", "build", "--json"), "--output", 2),
        (("report", "--nosuch", "--json"), "--nosuch", 2),
    ],
)
def test_an_error_is_json_for_who_asked_for_it(arguments, words, status):
    done = call(*arguments)
    said = json.loads(done.stdout)
    assert words in said["error"]
    assert said["exit_status"] == done.returncode == status
    assert "Traceback" not in done.stderr


def test_an_error_is_a_line_for_everybody_else():
    done = call("report", "nosuch")
    assert done.stdout == ""
    assert done.stderr.startswith("sysvm: no run 'nosuch'")
