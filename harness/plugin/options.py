"""Options of a run: what the plugin adds to pytest's, and which of them a repetition takes over."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest

from bundle import catalogue
from bundle.errors import UsageError
from harness.lab.subject import ScriptChoice, Subject, release_of
from harness.plugin.cells import ALL

# Every option of ours begins so: in another project's pytest, the short words of `sysvm run` may be taken.
PREFIX = "--sysvm-"
_ASKED = (
    "type", "from", "to", "debian", "network", "network-backend", "scenario", "bundle", "source", "script",
    "agent-jars", "from-bundle", "from-source", "template", "mixed",
)  # fmt: skip
_WORDS = (
    *_ASKED, "hold", "shell-on-failure", "stop-before-rollback", "known-failures", "into", "shard", "balance", "seed",
    "times", "keep", "results", "on", "certificates",
)  # fmt: skip
_DEFAULTS = {"type": "router", "scenario": ALL, "script": "upstream", "mixed": False}


def option(config: pytest.Config, word: str) -> Any:
    """Return the value of an option of ours, by its short word."""
    return config.getoption(f"{PREFIX}{word}")


def for_pytest(argument: str) -> str:
    """Return an argument of ``sysvm run`` as the plugin takes it; one of pytest's own stays as it is."""
    word, equals, value = argument.removeprefix("--").partition("=")
    return f"{PREFIX}{word}{equals}{value}" if argument.startswith("--") and word in _WORDS else argument


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of a run."""
    facts = catalogue.load()
    group = parser.getgroup("sysvm", "live patches of system VMs")
    group.addoption("--sysvm-type", default=_DEFAULTS["type"], help="VM types, separated by commas")
    group.addoption(
        "--sysvm-from",
        default=None,
        help="releases before the patch, such as 4.15,4.18..4.20, or all (--sysvm-from-source's, else "
        f"{facts.default_from})",
    )
    group.addoption(
        "--sysvm-to",
        default=None,
        help=f"release after the patch (of --sysvm-source what it says, else {facts.default})",
    )
    group.addoption("--sysvm-debian", type=int, default=None, help="another Debian than the release's own")
    group.addoption("--sysvm-network", default=None, help="declared network: a name or a TOML file")
    group.addoption(
        "--sysvm-network-backend",
        default=None,
        help="segments between VMs: on loopback, or as taps on bridges",
    )
    _add_subject(group)
    group.addoption(
        "--sysvm-scenario",
        default=_DEFAULTS["scenario"],
        help="scenarios by parts of their ids, separated by commas; 'default' or 'all' of them",
    )
    _add_manner(group)


def _add_manner(group: pytest.OptionGroup) -> None:
    """Declare how scenarios are made, whatever they are about."""
    group.addoption(
        "--sysvm-hold",
        default=None,
        help="stop before and after each scenario: with a shell in its VM, or with the output of a command",
    )
    group.addoption(
        "--sysvm-shell-on-failure",
        action="store_true",
        default=False,
        help="open a shell in the VM of a scenario that failed, before the VM goes",
    )
    group.addoption(
        "--sysvm-stop-before-rollback",
        action="store_true",
        default=False,
        help="let a patch that fails stand still before it rolls back, for a look at its VM",
    )
    group.addoption("--sysvm-known-failures", type=Path, default=None, help="list of failures that are known")
    group.addoption("--sysvm-shard", default=None, help="run the cells of one part: I/N")
    group.addoption(
        "--sysvm-balance", type=Path, default=None, help="event log by which parts are made equal"
    )
    group.addoption(
        "--sysvm-on", default=None, help="scheduler of the hosts that make the scenarios: tcp://HOST:PORT"
    )
    group.addoption(
        "--sysvm-certificates", type=Path, default=None, help="certificates for --sysvm-on beyond loopback"
    )
    group.addoption("--sysvm-into", type=Path, default=None, help="folder of a run that goes on")
    _add_drawn(group)
    group.addoption(
        "--sysvm-keep",
        action="store_true",
        help="keep the VMs of failed scenarios as snapshots; leave the one running that has no golden one",
    )
    group.addoption("--sysvm-results", type=Path, default=Path("results"), help="folder of all runs")


def _add_drawn(group: pytest.OptionGroup) -> None:
    """Declare what random moments are drawn by."""
    group.addoption(
        "--sysvm-seed",
        type=int,
        default=None,
        help="number that scenarios draw their random moments from (a random one)",
    )
    group.addoption(
        "--sysvm-times",
        type=int,
        default=1,
        help="how often scenarios with random moments, such as power cuts, are repeated",
    )


def _add_subject(group: pytest.OptionGroup) -> None:
    """Declare what names a person's own subject."""
    group.addoption("--sysvm-bundle", type=Path, default=None, help="patch with this bundle")
    group.addoption(
        "--sysvm-source", type=Path, default=None, help="patch with the bundle of this CloudStack checkout"
    )
    group.addoption(
        "--sysvm-script",
        choices=get_args(ScriptChoice),
        default=_DEFAULTS["script"],
        help="for --sysvm-source: the checkout's own script or ours",
    )
    group.addoption(
        "--sysvm-agent-jars", type=Path, default=None, help="for checkouts: where the agent's jars are"
    )
    group.addoption("--sysvm-from-bundle", type=Path, default=None, help="bundle that the VM boots with")
    group.addoption(
        "--sysvm-from-source",
        type=Path,
        default=None,
        help="checkout that template and boot bundle are built from",
    )
    group.addoption(
        "--sysvm-template",
        default=None,
        help="templates to boot, separated by commas: RELEASE=NAME or RELEASE=FILE; the release may be left out where "
        "there is one before the patch",
    )
    group.addoption(
        "--sysvm-mixed",
        action="store_true",
        default=False,
        help="patch scripts of one origin with a bundle of another",
    )


def given(config: pytest.Config) -> bool:
    """Say whether somebody asks for anything of ours in this session."""
    return any(option(config, word) != _DEFAULTS.get(word) for word in _ASKED)


_SEED = pytest.StashKey[int]()
# The key under which pytest-xdist carries the seed to its workers.
SEED_KEY = "sysvm_seed"


def seed_of(config: pytest.Config) -> int:
    """Return the seed of the run: as named, else drawn once for all workers."""
    if _SEED not in config.stash:
        named = option(config, "seed")
        told = getattr(config, "workerinput", {}).get(SEED_KEY)
        config.stash[_SEED] = next(
            (value for value in (named, told) if value is not None), random.SystemRandom().randrange(1 << 31)
        )
    return config.stash[_SEED]


def subject_of(config: pytest.Config) -> Subject:
    """Return what the options name as the subject of the run."""
    words = ("bundle", "source", "script", "agent-jars", "from-bundle", "from-source", "mixed")
    return Subject(**{word.replace("-", "_"): option(config, word) for word in words})


def releases_before(config: pytest.Config) -> list[str]:
    """Return the releases that the VMs run before the patch: as named, else what the tree that they boot says.

    Raises:
        UsageError: an unknown release.
    """
    facts = catalogue.load()
    named, tree = option(config, "from"), option(config, "from-source")
    if named is None:
        return [release_of(tree) if tree is not None else facts.default_from]
    return facts.releases_in(named)


def release_after(config: pytest.Config) -> str:
    """Return the release that the VMs are patched to: as named, else what the tree that is patched with says.

    Raises:
        UsageError: an unknown release.
    """
    facts = catalogue.load()
    named, tree = option(config, "to"), option(config, "source")
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
    for value in filter(None, (option(config, "template") or "").split(",")):
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


def for_seat(config: pytest.Config, vm_type: str, release: str) -> tuple[str, ...]:
    """Return the options by which another host makes scenarios of one cell as this session would.

    Args:
        config: of this session.
        vm_type: of the cell.
        release: of the cell, before the patch.
    """
    words = [word for word in (*_ASKED, "times") if word not in ("type", "from")]
    told = {word: option(config, word) for word in words}
    values = [
        f"{PREFIX}{word}={value}"
        for word, value in told.items()
        if value is not None and not isinstance(value, bool)
    ]
    flags = [f"{PREFIX}{word}" for word, value in told.items() if value is True]
    return (f"{PREFIX}type={vm_type}", f"{PREFIX}from={release}", *values, *flags)


_REPEATED = (
    "debian", "network", "bundle", "source", "script", "agent-jars", "from-bundle", "from-source", "template",
)  # fmt: skip


def repeatable(config: pytest.Config) -> dict[str, str]:
    """Return the options that decide what a scenario does, for its repetition."""
    values = {f"--{word}": option(config, word) for word in _REPEATED}
    told = {name: str(value) for name, value in values.items() if value is not None}
    drawn = {"--seed": str(seed_of(config)), "--times": str(option(config, "times"))}
    return {"--to": release_after(config), **drawn, **told}
