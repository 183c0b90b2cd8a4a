"""Each part of the patch script opens with what it reads, sets and calls, and that is what its code does.

A global variable has a name of capital letters. A part sets it by an assignment, ``declare``, ``read``, ``mapfile``,
``printf -v``, or by handing its name to a function that fills it; it reads what it expands.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bundle.seal import script

PARTS = sorted(path for path in script._TEMPLATES.glob("*.sh.j2") if path.name != "patch-sysvms.sh.j2")
WORD = r"[A-Z][A-Z0-9_]+"
SETS = [
    re.compile(rf"(?<![\w${{\[(=/:-])({WORD})(?:\[[^\]]*\])?\+?=(?!=)"),
    re.compile(rf"\b(?:read|mapfile)\b(?: -\w+(?: '[^']*'| [a-z]+)?)* ((?:{WORD}|_| )+)"),
    re.compile(rf"\bprintf -v '?({WORD})"),
    re.compile(rf"\bunset ['\"]?({WORD})"),
    re.compile(rf"\b(?:split_at|collect \w+) ({WORD})\b"),
    re.compile(rf"\bdeclare (?:-\w+ )+({WORD})\b"),
]
READS = re.compile(rf"\$\{{?[#!]?({WORD})\b")
# Inside $(( )) and (( )) a variable is read without a dollar.
ARITHMETIC = re.compile(r"\(\((.*?)\)\)")
FUNCTION = re.compile(r"^(\w+)\(\) [{(]", re.MULTILINE)
# What bash itself has.
OF_BASH = {"BASH_REMATCH", "BASHPID", "BASH_SOURCE", "EUID", "IFS", "LC_ALL", "PATH", "PPID", "REPLY"}
LOCAL = re.compile(rf"\blocal (?:-\w+ )*((?:{WORD}(?:=\S*)? ?)+)")


def name_of(path: Path) -> str:
    return path.name.removesuffix(".sh.j2")


def code(path: Path) -> str:
    """Return a part without its head, comments and texts in single quotes that are no names."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*#", line):
            continue
        lines.append(re.sub(r"(?:^|\s)# .*$", "", line))
    return "\n".join(lines)


def globals_set(text: str) -> set[str]:
    found = {name for pattern in SETS for words in pattern.findall(text) for name in re.findall(WORD, words)}
    own = {name for words in LOCAL.findall(text) for name in re.findall(WORD, words)}
    return found - own - OF_BASH


def globals_read(text: str) -> set[str]:
    found = set(READS.findall(text))
    for inside in ARITHMETIC.findall(text):
        found |= set(re.findall(rf"(?<![\w$]){WORD}\b", inside))
    return found - OF_BASH


CODE = {name_of(path): code(path) for path in PARTS}
DEFINED = {function: part for part, text in CODE.items() for function in FUNCTION.findall(text)}
WRITTEN = set().union(*(globals_set(text) for text in CODE.values()))


def unquoted(line: str) -> str:
    """Return a line of shell without what stands between quotes."""
    kept, quote = [], ""
    for letter in line:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
            kept.append(" '' ")
        else:
            kept.append(letter)
    return "".join(kept)


def calls(part: str) -> set[str]:
    """Return the parts whose functions a part calls; words inside texts and paths are none."""
    plain = "\n".join(map(unquoted, CODE[part].splitlines()))
    words = set(re.findall(r"(?<![\w./$-])[a-z]\w+(?![\w./=-])", plain))
    return {DEFINED[word] for word in words & DEFINED.keys()} - {part}


def head(part: str) -> list[str]:
    """Return the lines that a part opens with, as its code wants them."""
    text = CODE[part]
    lists = {
        "Reads": sorted((globals_read(text) & WRITTEN) - globals_set(text)),
        "Sets": sorted(globals_set(text)),
        "Calls": sorted(calls(part)),
    }
    return [f"# {what}: {' '.join(names) or 'nothing'}" for what, names in lists.items()]


@pytest.mark.parametrize("path", PARTS, ids=name_of)
def test_a_part_opens_with_what_it_reads_sets_and_calls(path):
    assert path.read_text(encoding="utf-8").splitlines()[:3] == head(name_of(path))


def test_a_global_with_two_writers_is_named_in_both():
    writers = {name: [part for part in CODE if name in globals_set(CODE[part])] for name in WRITTEN}
    shared = {name: parts for name, parts in writers.items() if len(parts) > 1}
    assert shared, "the rule would say nothing"
    for name, parts in shared.items():
        for part in parts:
            listed = (script._TEMPLATES / f"{part}.sh.j2").read_text(encoding="utf-8").splitlines()[1]
            assert name in listed.split()


@pytest.mark.parametrize("part", CODE)
def test_every_return_says_its_status(part):
    """In what a trap calls, bash's bare ``return`` has the status of the last command before the trap."""
    bare = [
        line.strip() for line in CODE[part].splitlines() if re.search(r"\breturn *($|;|\}|\|\||&&)", line)
    ]
    assert bare == []
