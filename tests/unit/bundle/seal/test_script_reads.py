"""The templates of the patch script as a person reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants import __main__ as mutants

TEMPLATES = sorted(mutants.TEMPLATES.glob("*.sh.j2"))


def hidden_actions(line: str) -> list[str]:
    """Return the groups of several commands behind ``||`` or ``&&``, where an ``if`` would say what they are.

    Conditions may be as long as they like, and so may a group whose failure is what the ``||`` behind it is about.
    """
    words = re.sub(r"\s#\s.*", "", line).split()
    found = []
    for place, word in enumerate(words[:-1]):
        if word not in ("||", "&&") or words[place + 1] != "{":
            continue
        group, depth, inside = [], 0, 0
        for word in words[place + 1 :]:
            depth += (word == "{") - word.startswith("}")
            inside += (word == "[[") - word.startswith("]]")
            group.append(("", word) if depth == 1 and not inside else (word, word))
            if depth == 0:
                break
        bare = [word for hidden, word in group[1:-1] if not hidden]
        several = sum(word == "&&" or word.endswith(";") for word in bare[:-1])
        is_condition = re.match(r"(if|elif|while|until)\b", words[0]) and "then" not in words[:place]
        if several and not is_condition and bare[0] not in ("if", "for", "while"):
            found.append(" ".join(word for _, word in group))
    return found


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_an_action_of_more_than_one_command_is_an_if(template: Path) -> None:
    lines = template.read_text(encoding="utf-8").splitlines()
    assert {number: found for number, line in enumerate(lines, 1) if (found := hidden_actions(line))} == {}


@pytest.mark.parametrize(
    "line",
    [
        '[[ -e $path ]] || { log "no $path" && return 1; }',
        "((at < CAPACITY)) || { : >x; log cut; }",
        'exists "$UNIT" || { at stage && { [[ -e $AT ]] || unit; }; } || return 1',
        '*) ! owned "$6" || { FILES+=("$6") && OLD=$5; } ;;',
    ],
)
def test_an_action_behind_a_condition_is_found(line: str) -> None:
    assert len(hidden_actions(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        'if [[ -e $path ]]; then log "$path" && return 1; fi',
        "if [[ $phase ]] || { [[ $phase ]] && are_sealed; }; then read_lists; fi",
        "[[ $BASHPID ]] || { printf x >&7; } 2>/dev/null || :",
        'at moved "$path" && { ! exists "${AT#/}" || away+=("$path"); }',
        "[[ -L $1 ]] || { if [[ $1 -ef $2 ]]; then return 0; else return 1; fi; }",
        "{ at stage && unit >x; } || return 1",
    ],
)
def test_a_condition_and_a_single_command_are_left_alone(line: str) -> None:
    assert hidden_actions(line) == []


@pytest.mark.parametrize(
    "mutant", mutants.load("script"), ids=lambda mutant: f"{mutant.row} {mutant.old[:40]}"
)
def test_a_mutant_of_the_script_has_its_line(mutant: mutants.Mutant) -> None:
    assert (mutants.TEMPLATES / f"{mutant.file}.sh.j2").read_text(encoding="utf-8").count(mutant.old) == 1
