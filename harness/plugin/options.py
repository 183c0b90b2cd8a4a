"""Options of a run: what the plugin adds to pytest's, and which of them a repetition takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle import catalogue
from harness.plugin.cells import ALL


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of a run."""
    facts = catalogue.load()
    group = parser.getgroup("sysvm", "live patches of system VMs")
    group.addoption("--type", default="router", help="VM types, separated by commas")
    group.addoption(
        "--from",
        dest="from_release",
        default=facts.default_from,
        help="releases before the patch, separated by commas",
    )
    group.addoption("--to", dest="to_release", default=facts.default, help="release after the patch")
    group.addoption("--debian", type=int, default=None, help="another Debian than the release's own")
    group.addoption("--network", default=None, help="declared network: a name or a TOML file")
    group.addoption(
        "--network-backend", default=None, help="segments between VMs: on loopback, or as taps on bridges"
    )
    group.addoption("--bundle", type=Path, default=None, help="patch with this bundle")
    group.addoption(
        "--scenario",
        default=ALL,
        help="scenarios by parts of their ids, separated by commas; 'default' or 'all' of them",
    )
    group.addoption(
        "--hold",
        default=None,
        help="stop before and after each scenario: with a shell in its VM, or with the output of a command",
    )
    group.addoption("--results", type=Path, default=Path("results"), help="folder of all runs")


def repeatable(config: pytest.Config) -> dict[str, str]:
    """Return the options that decide what a scenario does, for its repetition."""
    named = {"--to": "to_release", **{name: name for name in ("--debian", "--network", "--bundle")}}
    values = {name: config.getoption(option) for name, option in named.items()}
    return {name: str(value) for name, value in values.items() if value is not None}
