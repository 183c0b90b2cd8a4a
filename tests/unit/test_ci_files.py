"""The files for CI systems: what their own schemas and linters say, and that they call commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tree_sitter
import tree_sitter_groovy

from harness.cli import sysvm
from harness.report import known

CI = Path(__file__).parents[2] / "ci"
FILES = ("gitlab-ci.yml", "github-workflow.yml", "Jenkinsfile")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(str(command[0])), *command[1:]], capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "schema"),
    [("gitlab-ci.yml", "vendor.gitlab-ci"), ("github-workflow.yml", "vendor.github-workflows")],
)
def test_a_pipeline_keeps_to_the_schema_of_its_system(tmp_path: Path, file: str, schema: str) -> None:
    done = run("check-jsonschema", "--builtin-schema", schema, CI / file)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / file
    broken.write_text((CI / file).read_text().replace("artifacts:\n    when: always", "artifacts: 7").replace(
        "timeout-minutes: 120", "timeout-minutes: [120]"
    ))  # fmt: skip
    assert run("check-jsonschema", "--builtin-schema", schema, broken).returncode == 1


def syntax_errors(text: str) -> bool:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language()))
    return parser.parse(text.encode()).root_node.has_error


def test_the_jenkinsfile_is_groovy() -> None:
    text = (CI / "Jenkinsfile").read_text()
    assert not syntax_errors(text)
    assert syntax_errors(text.replace("agent none", "agent none {"))


def test_every_stage_of_jenkins_runs_in_the_same_container() -> None:
    """A stage that is not root's cannot remove what one of root's left in the same folder."""
    text = (CI / "Jenkinsfile").read_text()
    agents = [" ".join(found.split()) for found in re.findall(r"agent \{\n\s+(\S[^}]*\})", text)]
    assert len(agents) == text.count("agent {") == 3
    assert set(agents) == {"docker { image IMAGE label 'kvm' args ARGUMENTS }"}


def test_the_container_file_has_nothing_that_its_linter_warns_of(tmp_path: Path) -> None:
    done = run("hadolint", CI / "Containerfile")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "Containerfile").write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    assert run("hadolint", tmp_path / "Containerfile").returncode == 1


def calls(text: str) -> list[list[str]]:
    """Return the words of each call of sysvm; a call that goes on in an indented line is one."""
    joined = re.sub(r"\n\s+(--|-o)", r" \1", text)
    found = re.findall(r"\bsysvm ((?:bundle|run|report|doctor|image|matrix)[^\n'>|]*)", joined)
    return [shlex.split(call) for call in found]


def shards_of(file: str) -> tuple[list[str], str]:
    """Return the numbers of the parts that a pipeline runs, and of how many each says to be one."""
    text = (CI / file).read_text()
    (run,) = [words for words in calls(text) if words[0] == "run"]
    shard = run[run.index("--shard") + 1]
    if file == "gitlab-ci.yml":
        assert shard == "$CI_NODE_INDEX/$CI_NODE_TOTAL"  # both are GitLab's own, from this number
        total = yaml_value(text, "parallel")
        return [str(number) for number in range(1, int(total) + 1)], total
    if file == "github-workflow.yml":
        assert shard == "$SHARD"
        assert "SHARD: ${{ matrix.shard }}/${{ strategy.job-total }}" in text
        numbers = yaml_value(text, "shard").strip("[]").split(", ")
        return numbers, str(len(numbers))
    assert shard.startswith("$SHARD/")
    lists = [
        re.findall(r"\d+", row)
        for row in re.findall(r"values (.*)|\[(.*)\]\.each", text)
        for row in row
        if row
    ]
    assert lists[0] == lists[1]
    return lists[0], shard.removeprefix("$SHARD/")


def yaml_value(text: str, name: str) -> str:
    (value,) = re.findall(rf"^ *{name}: (.*)$", text, flags=re.MULTILINE)
    return value


@pytest.mark.parametrize("file", FILES)
def test_all_parts_are_run_and_merged(file: str) -> None:
    numbers, total = shards_of(file)
    assert numbers == [str(number) for number in range(1, int(total) + 1)]
    assert len(numbers) > 1
    assert any(words[:2] == ["report", "--merge"] for words in calls((CI / file).read_text()))


@pytest.mark.parametrize("file", FILES)
def test_every_call_is_one_that_the_program_understands(file: str) -> None:
    made = calls((CI / file).read_text())
    assert ["doctor", "--quiet"] in made
    assert any(words[0] == "run" and "--retry-infrastructure" in words for words in made)
    for words in made:
        command: click.Command = sysvm
        context = click.Context(sysvm)
        while isinstance(command, click.Group):
            name, words = words[0], words[1:]
            command = command.get_command(context, name) or pytest.fail(f"no command {name}")
        command.make_context("sysvm", words, resilient_parsing=False)


def test_the_list_of_known_failures_can_be_read_and_so_can_its_example(tmp_path: Path) -> None:
    text = (CI / "known-failures.toml").read_text()
    assert known.read(CI / "known-failures.toml") == ()
    (tmp_path / "example.toml").write_text(text[text.index("# [[known]]") :].replace("# ", ""))
    (row,) = known.read(tmp_path / "example.toml")
    assert row.covers("router-from-4.15-live-patch", "services.renewed")


def test_the_version_in_the_files_is_the_products() -> None:
    from bundle import __version__

    for file in ("gitlab-ci.yml", "Jenkinsfile", "Containerfile"):
        assert set(re.findall(r"sysvm-livepatch:([\d.]+)", (CI / file).read_text())) == {__version__}
