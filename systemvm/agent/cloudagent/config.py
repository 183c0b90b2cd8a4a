"""Settings of the agent: from ``conf/agent.properties`` and from the command line of the VM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

from .limits import Limits


class ConfigError(Exception):
    """The agent cannot start with what it was told."""


def parse_properties(text: str) -> Dict[str, str]:
    """Return keys and values of a properties file; a later line wins."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", "!")):
            found[key.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class Config:
    """Identity of this agent, and the servers that it talks to."""

    folder: Path
    hosts: List[str]
    port: int
    guid: str
    resource: str
    values: Dict[str, str]
    limits: Limits

    @property
    def certificate(self) -> Path:
        """The agent's certificate; its key and its CA lie beside it."""
        return self.folder / "cloud.crt"

    @property
    def key(self) -> Path:
        """The private key."""
        return self.folder / "cloud.key"

    @property
    def authority(self) -> Path:
        """The CA that signs agents and management servers."""
        return self.folder / "cloud.ca.crt"


def load(folder: Path, words: Sequence[str]) -> Config:
    """Read the configuration; ``words`` of the command line count where the file says nothing.

    ``resource`` is read from the file alone, because the file is what a patch keeps.

    Raises:
        ConfigError: a needed value is missing.
    """
    path = folder / "agent.properties"
    try:
        own = parse_properties(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    values = dict(word.split("=", 1) for word in words if "=" in word)
    values.pop("resource", None)
    values.update(own)
    for key in ("host", "guid", "resource"):
        if not values.get(key):
            raise ConfigError(f"{path}: {key}= is missing")
    port = values.get("port", "8250")
    if not port.isdigit():
        raise ConfigError(f"{path}: port={port} is not a number")
    try:
        limits = Limits.of(values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Config(
        folder=folder,
        hosts=[host for host in values["host"].replace("@", ",").split(",") if host],
        port=int(port),
        guid=values["guid"],
        resource=values["resource"],
        values=values,
        limits=limits,
    )
