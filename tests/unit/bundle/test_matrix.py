"""The support verdict: the published table, corrected by what is proven, with a source for every statement."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bundle import catalogue
from bundle.catalogue import number_of
from bundle.errors import UsageError
from bundle.matrix import judge, minimum_template, targets, templates

CATALOGUE = catalogue.load()


@pytest.mark.parametrize(
    ("template", "target", "word", "because"),
    [
        ("4.13", "4.17", "no", "OpenJDK 8"),
        ("4.11", "4.22", "no", "OpenJDK 8"),
        ("4.14", "4.17", "caveat", "remote-access VPN"),
        ("4.15", "4.17", "yes", "supported from templates of 4.15 on"),
        ("4.16", "4.17", "yes", "supported from templates of 4.15 on"),
        ("4.15", "4.20", "no", "Python 2"),
        ("4.14", "4.22", "no", "Python 2"),
        ("4.16", "4.20", "caveat", "python-is-python3"),
        ("4.17", "4.18", "caveat", "agent.properties"),
        ("4.21", "4.22", "yes", "SHA-512"),
        ("4.22", "4.22", "yes", "supported"),
        ("4.22", "4.21", "no", "never leads back"),
        ("4.14", "4.16", "no", "came with CloudStack 4.17"),
        ("4.22", "4.23", "unknown", "does not know 4.23; nearest row: 4.21 -> 4.22: yes"),
        ("4.21", "4.23", "unknown", "nearest row: 4.21 -> 4.22: yes"),
        ("5.0", "5.1", "unknown", "does not know 5.0 and 5.1; nearest row: 4.21 -> 4.22: yes"),
        ("4.13", "4.23", "no", "OpenJDK 8"),
        ("4.23", "4.22", "no", "never leads back"),
        ("4.20.2", "4.20.0", "no", "never leads back"),
        ("4.20.2.0", "4.20.2.1", "yes", "supported"),
        ("4.19.3", "4.18.2", "no", "never leads back"),
        ("4.18.1", "4.18.1", "caveat", "iptables-restore refuses the file"),
        ("4.18.1", "4.18.2", "yes", "supported"),
        ("4.18", "4.19.0", "caveat", "iptables-restore refuses the file"),
        ("4.18", "4.19.1", "yes", "supported"),
        ("4.19", "4.20", "caveat", "has no frr"),
    ],
)
def test_every_known_pair(template: str, target: str, word: str, because: str) -> None:
    verdict = judge(template, target, CATALOGUE)
    assert verdict.word == word
    assert any(because in reason.text for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("template", "target", "ours", "upstream", "because"),
    [
        ("4.19.1", "4.19.2", "yes", "no", "cannot read the version"),
        ("4.20.0", "4.20.1", "yes", "no", "cannot read the version"),
        ("4.20.2", "4.21.0", "yes", "no", "cannot read the version"),
        ("4.21", "4.22", "yes", "yes", "supported"),
        ("4.20.1", "4.20.2", "yes", "yes", "supported"),
        ("4.17.0", "4.17.2", "yes", "caveat", "key store is reset"),
        ("4.19.2", "4.20.0", "caveat", "caveat", "key store is reset"),
        ("4.19", "4.19", "caveat", "caveat", "for some of these point releases not at all"),
    ],
)
def test_our_script_and_upstreams_are_told_apart(
    template: str, target: str, ours: str, upstream: str, because: str
) -> None:
    found = judge(template, target, CATALOGUE, "upstream")
    assert (judge(template, target, CATALOGUE).word, found.word) == (ours, upstream)
    assert any(because in reason.text for reason in found.reasons)


def test_every_release_names_its_point_releases() -> None:
    names = templates(CATALOGUE, points=True)
    assert {"4.14.1", "4.18.2", "4.19.3", "4.22.0"} <= set(names)
    assert len(targets(CATALOGUE, points=True)) == 15
    for name, row in CATALOGUE.releases.items():
        assert all(point.startswith(f"{name}.") for point in row.points)


def test_every_known_script_of_upstream_has_a_digest_of_its_own() -> None:
    named = [name for names in CATALOGUE.upstream_scripts.values() for name in names]
    assert len(named) == len(set(named)) == 15
    assert all(len(digest) == 64 for digest in CATALOGUE.upstream_scripts)


def test_the_decisive_reason_comes_first() -> None:
    assert "Python 2" in judge("4.15", "4.22", CATALOGUE).reasons[0].text


def test_every_statement_names_its_source() -> None:
    for template in templates(CATALOGUE):
        for target in targets(CATALOGUE):
            verdict = judge(template, target, CATALOGUE)
            assert verdict.reasons
            assert all(reason.source and reason.text for reason in verdict.reasons)


def test_it_says_when_a_template_must_be_replaced() -> None:
    assert judge("4.15", "4.20", CATALOGUE).action.startswith("replace the template")
    assert (
        judge("4.15", "4.19", CATALOGUE).action
        == "live patch what runs; register a newer template for new VMs"
    )
    assert judge("4.20", "4.22", CATALOGUE).action == "live patch"
    assert judge("4.22", "4.20", CATALOGUE).action == "keep the newer release"
    assert judge("4.20", "4.21.0", CATALOGUE, "upstream").action.startswith("patch with another script")
    assert judge("4.20", "4.21.0", CATALOGUE, "foreign").word == "yes"


def test_a_caveat_names_the_vm_types_that_it_is_about() -> None:
    reasons = {
        reason.types for reason in judge("4.17", "4.18", CATALOGUE).reasons if reason.verdict == "caveat"
    }
    assert reasons == {("secstorage",), ("consoleproxy",)}


@pytest.mark.parametrize(
    ("target", "minimum"), [("4.17", "4.14"), ("4.19", "4.14"), ("4.20", "4.16"), ("4.22", "4.16")]
)
def test_the_oldest_template_of_a_target(target: str, minimum: str) -> None:
    assert minimum_template(target, CATALOGUE) == minimum


def test_only_releases_with_an_upload_are_targets() -> None:
    assert targets(CATALOGUE) == ["4.17", "4.18", "4.19", "4.20", "4.21", "4.22"]


@pytest.mark.parametrize("name", ["4", "four", "", "4.x", "-4.1", "4.22x", "4444.1"])
def test_what_is_no_release_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid release"):
        number_of(name)


@pytest.mark.parametrize("name", ["4.22", "4.22.1.0", "4.22.0.0-SNAPSHOT", "4.22-rc1"])
def test_all_names_of_one_release_are_one(name: str) -> None:
    assert number_of(name) == (4, 22)
    assert CATALOGUE.release(name).name == "4.22"


def test_a_release_that_the_catalogue_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown release '4\.99'"):
        CATALOGUE.release("4.99")


def test_the_command_explains_and_prints_json(sysvm: Callable) -> None:
    text = sysvm("matrix", "--from", "4.15", "--to", "4.22").stdout
    assert text.startswith("4.15 -> 4.22: no (replace the template")
    assert "source: " in text
    document = json.loads(sysvm("matrix", "--from", "4.21", "--to", "4.22", "--json").stdout)
    assert [row["word"] for row in document] == ["yes"]
    table = sysvm("matrix", COLUMNS="120").stdout
    assert "4.13" in table
    assert "caveat" in table
    assert sysvm("matrix", "--from", "x").returncode == 2
    points = sysvm("matrix", "--points", "--to", "4.22", "--script", "upstream").stdout
    assert "4.19.3 -> 4.22: caveat" in points
    assert "with CloudStack's own script" in points


@pytest.mark.parametrize(
    ("template", "target", "script", "status"),
    [
        ("4.21", "4.22", "ours", 0),
        ("4.16", "4.20", "ours", 0),
        ("4.15", "4.22", "ours", 1),
        ("4.20.2", "4.21.0", "upstream", 1),
        ("4.22", "4.23", "ours", 1),
    ],
)
def test_check_lets_a_pipeline_stop(
    template: str, target: str, script: str, status: int, sysvm: Callable
) -> None:
    asked = ("matrix", "--from", template, "--to", target, "--script", script)
    assert sysvm(*asked, "--check").returncode == status
    assert sysvm(*asked).returncode == 0
