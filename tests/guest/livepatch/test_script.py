"""The rendered script as a text: short, clean, the same every time, and no effect without a crash point."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from bundle.catalogue import load
from bundle.errors import UsageError
from bundle.seal.script import ScriptSpec, render
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import OTHER_BASH

# Words that change something outside of the script's own process.
MUTATING = re.compile(
    r"(?:^|[;&|(!]\s*|\bxargs\b[^|;]*?\s|timeout [^|;]*?\s)"
    r"(mv|cp|install|rm|ln|mkdir|rmdir|chmod|chown|touch|truncate|unzip|sync|iptables|iptables-restore|ip6tables|systemctl|dpkg)(?![-\w])"
)
# They only read.
HARMLESS = re.compile(r"chmod 0600 \"\$(RULES_)?LOCK\"|unzip -p|iptables -S|dpkg (--audit|-L)|systemctl show")


def _script() -> str:
    return bundles.new().script


def _functions(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"^([a-z_]+)\(\) \{", line):
            name = match[1]
            found[name] = []
        elif line == "}":
            name = ""
        elif name:
            found[name].append(line.strip())
    return found


def test_does_not_grow():
    assert len(_script().splitlines()) < 1600


def test_says_nothing_to_shellcheck(tmp_path):
    path = tmp_path / "patch-sysvms.sh"
    path.write_text(_script())
    run = subprocess.run(["shellcheck", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_explains_every_shellcheck_directive():
    directives = [line for line in _script().splitlines() if "shellcheck disable" in line]
    assert all(re.search(r"disable=SC\d+ # \w+", line) for line in directives)


def test_is_formatted(tmp_path):
    path = tmp_path / "patch-sysvms.sh"
    path.write_text(_script())
    run = subprocess.run(["shfmt", "-d", "-i", "4", "-ci", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_is_the_same_for_the_same_specification():
    spec = ScriptSpec(release=load().release("4.22"), guest_manifest=bundles.new().manifest)
    assert render(spec) == render(spec)


def test_refuses_a_manifest_that_it_could_not_read():
    spec = ScriptSpec(release=load().release("4.22"), guest_manifest="format\t2\n")
    with pytest.raises(UsageError, match="format 1"):
        render(spec)


def test_asks_nothing_of_python_or_of_the_wall_clock():
    """But for the last day of a key, which is a day of the calendar."""
    code = "\n".join(_code())
    assert len(re.findall(r"\bdate -u \+%F", code)) == 1
    for word in ("python", "perl", "awk", "SECONDS", "EPOCH", "date +", "jq"):
        assert not re.search(rf"\b{re.escape(word)}\b", code), word


def test_every_effect_has_a_crash_point():
    """A function that changes something is called through ``effect`` only, or by such a function."""
    functions = _functions(_script())
    calls = {name: " ".join(lines) for name, lines in functions.items()}
    through_effect = set(
        re.findall(r"\beffect (?:'[^']*'|\"[^\"]*\") (?:launch )?([a-z_]+)", "\n".join(calls.values()))
    )
    # The ways out and the writers of log and result: their loss changes nothing about old or new.
    through_effect |= {"record", "effect", "fail", "log"}
    # The caller's side, locks, and what --force puts aside once nothing else is left to do.
    through_effect |= {"refuse_beside", "lock_rules", "give_up", "keep_rest", "front", "leave"}
    for name, lines in functions.items():
        guilty = [
            line
            for line in lines
            if MUTATING.search(line) and not HARMLESS.search(line) and not re.search(r"\beffect ['\"]", line)
        ]
        if guilty and name not in through_effect:
            callers = {
                other for other, text in calls.items() if re.search(rf"\b{name}\b", text) and other != name
            }
            assert callers and callers <= _closure(calls, through_effect), (
                f"{name}: {guilty[0]} (called by {callers})"
            )


def _closure(calls: dict[str, str], start: set[str]) -> set[str]:
    """Return the functions that run only below an effect."""
    inside = set(start)
    grown = True
    while grown:
        more = {
            name
            for name in calls
            if name not in inside
            and (
                callers := {
                    other
                    for other, text in calls.items()
                    if re.search(rf"\b{name}\b", text) and other != name
                }
            )
            and callers <= inside
        }
        grown = bool(more)
        inside |= more
    return inside


@pytest.mark.parametrize(
    "mounts,works",
    [
        (["/"], ["/.cloud-livepatch"]),
        (["/", "/var"], ["/.cloud-livepatch", "/var/.cloud-livepatch"]),
    ],
)
def test_gives_every_file_system_a_working_folder(mounts, works):
    """Also "/", whose name without the slash is empty: bash 5.1 drops a lone empty element from a pattern's result."""
    body = "\n".join(_functions(_script())["use_mounts"])
    code = f"set -eu; use_mounts() {{\n{body}\n}}; use_mounts {' '.join(mounts)}; printf '%s\\n' \"${{WORKS[@]}}\""
    run = subprocess.run([OTHER_BASH or "bash", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == works


# Arrays that a pattern is applied to as a whole: none of them has an element that becomes empty and is missed then.
NEVER_EMPTY = {"SUMS", "WORKS", "DEBS", "lines", "@"}


def test_applies_patterns_only_to_arrays_that_lose_nothing():
    """bash 5.1 drops a lone element that a pattern made empty."""
    arrays = set(re.findall(r"\$\{(\w+)\[@\][#%/]|\$\{(@)[#%/]", _script()))
    assert {name for pair in arrays for name in pair if name} == NEVER_EMPTY


# What came after bash 4.4, by the CHANGES file of bash's source: a pattern, and a line that it has to find.
NEWER_THAN_4_4 = {
    r"\$\{(\w+(\[[^]]*\])?|[@*])@[^QEPAa}]": "echo ${name@U}",
    r"\b(EPOCH(SECONDS|REALTIME)|BASH_ARGV0|SRANDOM|BASH_MONOSECONDS|BASH_TRAPSIG|GLOBSORT)\b": "now=$EPOCHREALTIME",
    r"\bwait\b[^|;&]* -\w*[fp]": "wait -n -p done",
    r"\b(local|declare|typeset) -\w*I": "local -I name",
    r"-A \w+=\((?!\)|\[)": "declare -A table=(key value)",
    r"\$\{\w+(\[[^]]*\])?//?[^}/]*/[^}]*&": "echo ${name//x/<&>}",
    r"\$\{[\s|]": "echo ${ pwd; }",
    r"\b(assoc_expand_once|array_expand_once|localvar_(inherit|unset)|progcomp_alias)\b": "shopt -s localvar_inherit",
    r"\b(patsub_replacement|varredir_close|globskipdots|noexpand_translation)\b": "shopt -u patsub_replacement",
    r"\b(read|ulimit) -\w*[ER]\b": "read -E line",
    r"\bcompgen -\w*V|\bsource -p|(^|[;&|]\s*)\. -p": "compgen -V names -c",
}


def _code() -> list[str]:
    return [line.split(" # ")[0] for line in _script().splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("pattern,example", NEWER_THAN_4_4.items())
def test_needs_no_bash_newer_than_4_4(pattern, example):
    """Debian 9 has 4.4; where none can be had to run the script, reading it finds what only newer ones know."""
    assert re.search(pattern, example)
    assert [line for line in _code() if re.search(pattern, line)] == []


def test_an_effect_without_a_crash_point_is_noticed():
    """The test above can fail."""
    calls = {"apply": "mv a b", "patch": "apply"}
    assert "apply" not in _closure(calls, {"effect"})
    assert MUTATING.search("mv a b") and MUTATING.search("cd / && rm -rf x") and not MUTATING.search("log mv")


def test_carries_the_restart_policy_and_live_paths():
    text = bundles.make(replace(bundles.new_content(), restart="always")).script
    assert "RESTART_POLICY=always" in text
    assert "etc/haproxy/haproxy.cfg" in text


# An assignment of its own, whose status is looked at at once.
CHECKED = re.compile(r"^\s*\w+\+?=\$\(.*\)\S* \|\| (return 1|refuse|fail|status=\$\?)")


def _unasked(code: str) -> list[str]:
    """Return lines that take an answer without looking at how the program ended."""
    lines = [line for line in code.splitlines() if not line.lstrip().startswith("#")]
    bare = [line for line in lines if re.search(r"< <\((?!:\))|\s<\((?!:\))|>\(", line)]
    return bare + [line for line in lines if re.search(r"\$\((?!\()", line) and not CHECKED.search(line)]


def test_every_question_is_asked():
    """No bare process substitution, whose status nobody sees, and no unchecked command substitution."""
    assert _unasked(_script()) == []


@pytest.mark.parametrize(
    "line",
    [
        "mapfile -d '' -t names < <(exec find . -print0)",
        'for word in $(<"$CACHE/enabled_svcs"); do',
        'split_at lines "$eol" "$(printf x | sort)"',
        '[[ -z $(dpkg --audit) ]] || refuse "half configured"',
        "openssl dgst -signature <(payload_signature)",
    ],
)
def test_a_question_that_is_not_asked_is_noticed(line):
    assert _unasked(line) == [line]
