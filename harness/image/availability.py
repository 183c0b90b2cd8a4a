"""Packages that a Debian mirror has: asked once, by apt itself in a folder of its own, and kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError
from harness.host import cache

KIND = "availability"
_FILE = "packages.json"
_DEADLINE = 300.0


@dataclass(frozen=True)
class Availability:
    """A mirror's answer to a list of packages: the names that it has, and the names that it has not."""

    there: tuple[str, ...]
    missing: tuple[str, ...]


def of(names: Sequence[str], mirror_lines: Sequence[str]) -> Availability:
    """Return which packages can be installed from a mirror.

    Args:
        names: packages, virtual ones that a single package provides included.
        mirror_lines: lines of apt's sources.

    Raises:
        InfrastructureError: apt is missing, or the mirror does not answer; the message has apt's last line.
    """
    key = cache.key_of(sorted(names), list(mirror_lines))
    path = cache.entry(KIND, key)
    if not path.is_dir():
        cache.obtain(KIND, key, lambda folder: _ask(sorted(names), mirror_lines, folder))
    there = json.loads((path / _FILE).read_text())
    return Availability(tuple(there), tuple(sorted(set(names) - set(there))))


def _ask(names: Sequence[str], mirror_lines: Sequence[str], folder: Path) -> None:
    scratch = folder / "apt"
    for part in ("lists/partial", "archives/partial", "etc"):
        (scratch / part).mkdir(parents=True)
    for path in (folder, scratch, *scratch.rglob("*")):
        path.chmod(0o755)  # apt downloads as a user of its own
    (scratch / "status").write_text("")
    (scratch / "etc/sources.list").write_text("".join(f"{line}\n" for line in mirror_lines))
    options = _options(scratch)
    _apt(["apt-get", *options, "update", "-qq"])
    known = set(_apt(["apt-cache", *options, "pkgnames"]).split())
    there = [name for name in names if name in known or _installable(name, options)]
    cache.remove(scratch)
    (folder / _FILE).write_text(json.dumps(there))


def _options(scratch: Path) -> list[str]:
    settings = [
        "APT::Architecture=amd64",
        "APT::Architectures=amd64",
        f"Dir::State::status={scratch / 'status'}",
        f"Dir::State::lists={scratch / 'lists'}",
        f"Dir::Cache={scratch}",
        f"Dir::Etc::sourcelist={scratch / 'etc/sources.list'}",
        f"Dir::Etc::sourceparts={scratch / 'etc'}",
        "Dir::Etc::preferences=/dev/null",
        "Dir::Etc::preferencesparts=/dev/null",
        "Acquire::Languages=none",
        "Acquire::Check-Valid-Until=false",
        # An index that cannot be fetched is an error: else its packages would count as missing for good.
        "APT::Update::Error-Mode=any",
    ]
    return [word for setting in settings for word in ("-o", setting)]


def _installable(name: str, options: list[str]) -> bool:
    """Say whether apt would install a name that is no package of its own: one that a single package provides."""
    command = ["apt-get", *options, "--simulate", "--no-install-recommends", "-qq", "install", name]
    return programs.run(command, what="ask the mirror", check=False, deadline=_DEADLINE).status == 0


def _apt(command: list[str]) -> str:
    try:
        return programs.run(command, what="ask the mirror", deadline=_DEADLINE).stdout
    except InfrastructureError as error:
        raise InfrastructureError(str(error), hint="name a mirror that answers with --mirror") from None
