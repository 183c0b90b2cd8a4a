"""Options of a run: what the plugin adds to pytest's, and which of them a repetition takes over."""

from __future__ import annotations

import random
from pathlib import Path
from typing import get_args

import pytest

from bundle import catalogue
from bundle.errors import UsageError
from harness.lab.subject import ScriptChoice, Subject, release_of
from harness.plugin.cells import ALL

_DEFAULTS = {"--type": "router", "--scenario": ALL, "--script": "upstream", "--mixed": False}
_ASKED = (
    "--type", "from_release", "to_release", "--debian", "--network", "--network-backend", "--scenario", "--bundle",
    "--source", "--script", "--agent-jars", "--from-bundle", "--from-source", "--template", "--mixed",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of a run."""
    facts = catalogue.load()
    group = parser.getgroup("sysvm", "live patches of system VMs")
    group.addoption("--type", default=_DEFAULTS["--type"], help="VM types, separated by commas")
    group.addoption(
        "--from",
        dest="from_release",
        default=None,
        help=f"releases before the patch, such as 4.15,4.18..4.20, or all (--from-source's, else {facts.default_from})",
    )
    group.addoption(
        "--to",
        dest="to_release",
        default=None,
        help=f"release after the patch (of --source what it says, else {facts.default})",
    )
    group.addoption("--debian", type=int, default=None, help="another Debian than the release's own")
    group.addoption("--network", default=None, help="declared network: a name or a TOML file")
    group.addoption(
        "--network-backend", default=None, help="segments between VMs: on loopback, or as taps on bridges"
    )
    _add_subject(group)
    group.addoption(
        "--scenario",
        default=_DEFAULTS["--scenario"],
        help="scenarios by parts of their ids, separated by commas; 'default' or 'all' of them",
    )
    group.addoption(
        "--hold",
        default=None,
        help="stop before and after each scenario: with a shell in its VM, or with the output of a command",
    )
    group.addoption(
        "--scenario-seed",
        type=int,
        default=None,
        help="number that scenarios draw their random moments from (a random one)",
    )
    group.addoption(
        "--scenario-times",
        type=int,
        default=1,
        help="how often scenarios with random moments, such as power cuts, are repeated",
    )
    group.addoption(
        "--keep", action="store_true", help="leave the VM running that no golden snapshot can be made of"
    )
    group.addoption("--results", type=Path, default=Path("results"), help="folder of all runs")


def _add_subject(group: pytest.OptionGroup) -> None:
    """Declare what names a person's own subject."""
    group.addoption("--bundle", type=Path, default=None, help="patch with this bundle")
    group.addoption(
        "--source", type=Path, default=None, help="patch with the bundle of this CloudStack checkout"
    )
    group.addoption(
        "--script",
        choices=get_args(ScriptChoice),
        default=_DEFAULTS["--script"],
        help="for --source: the checkout's own script or ours",
    )
    group.addoption("--agent-jars", type=Path, default=None, help="for checkouts: where the agent's jars are")
    group.addoption("--from-bundle", type=Path, default=None, help="bundle that the VM boots with")
    group.addoption(
        "--from-source", type=Path, default=None, help="checkout that template and boot bundle are built from"
    )
    group.addoption(
        "--template",
        default=None,
        help="templates to boot, separated by commas: RELEASE=NAME or RELEASE=FILE; the release may be left out where "
        "there is one before the patch",
    )
    group.addoption(
        "--mixed",
        action="store_true",
        default=False,
        help="patch scripts of one origin with a bundle of another",
    )


def given(config: pytest.Config) -> bool:
    """Say whether somebody asks for anything of ours in this session."""
    return any(config.getoption(name) != _DEFAULTS.get(name) for name in _ASKED)


_SEED = pytest.StashKey[int]()
# The key under which pytest-xdist carries the seed to its workers.
SEED_KEY = "sysvm_seed"


def seed_of(config: pytest.Config) -> int:
    """Return the seed of the run: as named, else drawn once for all workers."""
    if _SEED not in config.stash:
        named = config.getoption("--scenario-seed")
        told = getattr(config, "workerinput", {}).get(SEED_KEY)
        config.stash[_SEED] = next(
            (value for value in (named, told) if value is not None), random.SystemRandom().randrange(1 << 31)
        )
    return config.stash[_SEED]


def subject_of(config: pytest.Config) -> Subject:
    """Return what the options name as the subject of the run."""
    option = config.getoption
    return Subject(
        bundle=option("--bundle"), source=option("--source"), script=option("--script"),
        agent_jars=option("--agent-jars"), from_bundle=option("--from-bundle"), from_source=option("--from-source"),
        mixed=option("--mixed"),
    )  # fmt: skip


def releases_before(config: pytest.Config) -> list[str]:
    """Return the releases that the VMs run before the patch: as named, else what the tree that they boot says.

    Raises:
        UsageError: an unknown release.
    """
    facts = catalogue.load()
    named, tree = config.getoption("from_release"), config.getoption("--from-source")
    if named is None:
        return [release_of(tree) if tree is not None else facts.default_from]
    return facts.releases_in(named)


def release_after(config: pytest.Config) -> str:
    """Return the release that the VMs are patched to: as named, else what the tree that is patched with says.

    Raises:
        UsageError: an unknown release.
    """
    facts = catalogue.load()
    named, tree = config.getoption("to_release"), config.getoption("--source")
    if named is None:
        return release_of(tree) if tree is not None else facts.default
    return facts.release(named).name


def templates_of(config: pytest.Config) -> dict[str, str]:
    """Return the templates that the options name, by release.

    Raises:
        UsageError: an unknown release, or one without a release while there are several.
    """
    releases = releases_before(config)
    found: dict[str, str] = {}
    for value in filter(None, (config.getoption("--template") or "").split(",")):
        release, equals, name = value.partition("=")
        if not equals:
            if len(releases) > 1:
                raise UsageError(
                    f"--template {value} is of one release, and there are {len(releases)} before the patch",
                    hint=f"say of which: --template {releases[0]}={value}",
                )
            release, name = releases[0], value
        found[catalogue.load().release(release).name] = name
    return found


_SUBJECT = (
    "--bundle",
    "--source",
    "--script",
    "--agent-jars",
    "--from-bundle",
    "--from-source",
    "--template",
)


def repeatable(config: pytest.Config) -> dict[str, str]:
    """Return the options that decide what a scenario does, for its repetition."""
    values = {name: config.getoption(name) for name in ("--debian", "--network", *_SUBJECT)}
    told = {name: str(value) for name, value in values.items() if value is not None}
    drawn = {
        "--scenario-seed": str(seed_of(config)),
        "--scenario-times": str(config.getoption("--scenario-times")),
    }
    return {"--to": release_after(config), **drawn, **told}
