"""Sources of Debian packages: the host's own apt configuration, or a mirror that a person names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.catalogue import Debian
from bundle.errors import InfrastructureError, UsageError

APT = Path("/etc/apt")
_COMPONENT = "main"
_KEYRINGS = Path("/usr/share/keyrings")


@dataclass(frozen=True)
class Source:
    """One line of apt's sources, taken apart."""

    uri: str
    suite: str
    components: tuple[str, ...]


def lines(debian: Debian, host_codename: str, *, mirror: str | None = None, apt: Path = APT) -> list[str]:
    """Return the ``deb`` lines for a Debian release.

    The host's sources of its own release are taken, with the code name exchanged. Updates and security come along
    where the host has them. A mirror that is named serves its main suite only.

    Args:
        debian: the release wanted.
        host_codename: what the host runs, such as ``bookworm``.
        mirror: base address, instead of the host's sources.
        apt: folder of the host's apt configuration.

    Raises:
        UsageError: the mirror is no address that apt knows.
        InfrastructureError: the host has no Debian source.
    """
    if mirror is not None:
        if not mirror.startswith(("http://", "https://", "file:///", "copy:///")):
            raise UsageError(f"--mirror {mirror!r} is no address (expected http://, https:// or file:///)")
        return [f"deb {mirror.rstrip('/')} {debian.codename} {_COMPONENT}"]
    found = [
        f"deb {source.uri} {source.suite.replace(host_codename, debian.codename)} {_COMPONENT}"
        for source in host_sources(apt)
        if source.suite.split("-")[0] == host_codename
        and not source.suite.endswith(("-backports", "-proposed-updates"))
        and _COMPONENT in source.components
    ]
    if not any(line.split()[2] == debian.codename for line in found):
        raise InfrastructureError(
            f"{apt} names no source of Debian {host_codename}", hint="name a mirror with --mirror"
        )
    return list(dict.fromkeys(found))


def keyrings() -> list[Path]:
    """Return Debian's keyrings on this host, the one of removed keys included (for releases in the archive)."""
    return sorted(_KEYRINGS.glob("debian-archive-*keyring.gpg")) + sorted(
        _KEYRINGS.glob("debian-archive-removed-keys.gpg")
    )


def host_codename(release_file: Path = Path("/etc/os-release")) -> str:
    """Return the code name of the host's Debian.

    Raises:
        InfrastructureError: the host is no Debian, so that nothing is known about its mirrors.
    """
    pairs = (line.partition("=") for line in release_file.read_text().splitlines())
    facts = {name: value.strip('"') for name, _, value in pairs}
    if facts.get("ID") != "debian" or "VERSION_CODENAME" not in facts:
        raise InfrastructureError(
            f"{release_file} names no release of Debian, so that no mirror is known",
            hint="name a mirror with --mirror",
        )
    return facts["VERSION_CODENAME"]


def apt_options() -> list[str]:
    """Return the host's proxy and certificate settings as apt options, which a new root file system would not know."""
    dump = programs.run(["apt-config", "dump", "Acquire"], what="read apt's settings")
    wanted = ("proxy", "::cainfo", "::verify-")
    return [line for line in dump.stdout.splitlines() if any(w in line.split(" ")[0].lower() for w in wanted)]


def host_sources(apt: Path = APT) -> Iterator[Source]:
    """Yield every ``deb`` source of the host, in both formats of apt."""
    parts = apt / "sources.list.d"
    for path in [apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from _one_line_format(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822_format(path.read_text())


def _one_line_format(text: str) -> Iterator[Source]:
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line.startswith("deb "):
            continue
        rest = line[4:].strip()
        if rest.startswith("["):
            rest = rest.partition("]")[2]
        uri, suite, *components = rest.split()
        yield Source(uri, suite, tuple(components))


def _deb822_format(text: str) -> Iterator[Source]:
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[last] = fields.get(last, "") + " " + line.strip()
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.lower()
                fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()))
