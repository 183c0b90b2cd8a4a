"""The impact of a patch on a running VM: services that its script renews in any case, and readers of changed files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from bundle.archive.members import Archive
from bundle.catalogue import Catalogue, load
from bundle.inspect.readers import Reader, reader_of, types_of, unit_of
from bundle.services import reads_any, reloaded

# From harmless to worst. "later" takes effect at the next boot, rule or cron run.
Effect = Literal["none", "later", "reload", "restart", "failover"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)

ScriptKind = Literal["ours", "upstream", "foreign", ""]
# Where agent.zip is unpacked to.
AGENT_FOLDER = "usr/local/cloud/systemvm"


@dataclass(frozen=True)
class PatchScript:
    """The patch script of a bundle, as far as it is known.

    Attributes:
        kind: ``ours``; ``upstream`` for CloudStack's own; ``foreign``; empty when there is none to look at.
        digest: SHA-256 of its program; empty when it is not known.
        policy: how ours renews services: ``graceful``, ``always`` or ``changed``.
        releases: the releases of CloudStack that have this script.
    """

    kind: ScriptKind = ""
    digest: str = ""
    policy: str = ""
    releases: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return what the script does to services, in a few words."""
        if self.kind == "upstream":
            spared = [name for name, row in load().types.items() if not row.upstream_restarts]
            but = (
                f", but of no {' or '.join(filter(None, (', '.join(spared[:-1]), *spared[-1:])))}"
                if spared
                else ""
            )
            return f"CloudStack's own script restarts every active service{but}"
        if self.kind == "foreign":
            return "a foreign script: taken to restart every active service"
        if self.policy == "always":
            return "our script restarts every active service"
        if self.policy == "changed":
            return "our script renews the active services that read a changed file"
        assumed = "" if self.kind else " (assumed: there is no script to look at)"
        return f"our script renews every active service, by a reload where one suffices{assumed}"


@dataclass(frozen=True)
class Renewal:
    """The script's treatment of a service that is active: ``effect``, on which VM types."""

    service: str
    effect: Effect
    types: tuple[str, ...]


@dataclass(frozen=True)
class Affected:
    """One reader of changed files.

    Attributes:
        reader: a word of ``enabled_svcs``, or who else reads them.
        when: when the new content counts.
        effect: what that does to the reader.
        types: on which VM types.
        why: the changed files.
    """

    reader: str
    when: str
    effect: Effect
    types: tuple[str, ...]
    why: tuple[str, ...]


def is_live(path: str, catalogue: Catalogue) -> bool:
    """Say whether boot or rules rewrite a file, so that our script keeps what it finds."""
    return any(path.startswith(live) if live.endswith("/") else path == live for live in catalogue.live_paths)


def _effect(service: str, script: PatchScript, units: set[str], catalogue: Catalogue) -> Effect:
    if (
        script.kind in {"ours", ""}
        and script.policy != "always"
        and service in reloaded(catalogue.service_rows)
        and service not in units
    ):
        return "reload"
    row = catalogue.service_rows.get(service)
    return "failover" if row is not None and row.failover else "restart"


def place_of(archive: Archive, path: str) -> str:
    """Return where a member lies on a VM, relative to ``/``."""
    return path if archive == "cloud-scripts.tgz" else f"{AGENT_FOLDER}/{path}"


def renewals(
    script: PatchScript, changed: Iterable[tuple[Archive, str]], catalogue: Catalogue
) -> tuple[Renewal, ...]:
    """Return what the script does to services when a patch runs, the worst first.

    Args:
        script: the script of the new bundle.
        changed: archive and path of every file that differs; live files that are kept left out.
        catalogue: says which VM type has which services.
    """
    places = {place_of(archive, path) for archive, path in changed}
    units = {unit_of(path) for path in places} - {""}
    words = dict.fromkeys(word for row in catalogue.services.values() for word in row.enabled)
    rows = []
    for word in words:
        if script.policy == "changed" and not reads_any(catalogue.service_rows, word, places):
            continue
        types = types_of(word, catalogue)
        if script.kind == "upstream":
            types = tuple(name for name in types if catalogue.vm_type(name).upstream_restarts)
        if types:
            rows.append(Renewal(word, _effect(word, script, units, catalogue), types))
    return tuple(sorted(rows, key=lambda row: (-EFFECTS.index(row.effect), row.service)))


def affected(
    changed: Iterable[tuple[Archive, str]], renewed: tuple[Renewal, ...], catalogue: Catalogue
) -> tuple[tuple[Affected, ...], tuple[str, ...]]:
    """Return who reads changed files, the worst effect first, and the files that nobody is known to read.

    Args:
        changed: archive and path of every file that was added, removed or changed.
        renewed: what the script renews.
        catalogue: says which VM type runs what.
    """
    why: dict[tuple[str, str, Effect, tuple[str, ...]], list[str]] = {}
    strangers = []
    for archive, path in changed:
        shown = path if archive == "cloud-scripts.tgz" else f"{archive}: {path}"
        reader = reader_of(archive, path, catalogue)
        if reader is None:
            strangers.append(shown)
            continue
        for key in _moments(reader, renewed):
            why.setdefault(key, []).append(shown)
    rows = [Affected(*key, tuple(sorted(paths))) for key, paths in why.items()]
    rows.sort(key=lambda row: (-EFFECTS.index(row.effect), row.reader, row.types))
    return tuple(rows), tuple(sorted(strangers))


def _moments(
    reader: Reader, renewed: tuple[Renewal, ...]
) -> Iterator[tuple[str, str, Effect, tuple[str, ...]]]:
    """Yield when a reader sees the new content, the effect and the VM types: where it is renewed, and where not."""
    if not reader.service:
        effect: Effect = "later" if reader.types and reader.when != "at once" else "none"
        yield reader.name, reader.when, effect, reader.types
        return
    row: Renewal | None = next((row for row in renewed if row.service == reader.name), None)
    if row is not None:
        yield reader.name, f"at its {row.effect}", row.effect, row.types
    rest = tuple(name for name in reader.types if row is None or name not in row.types)
    if rest:
        yield reader.name, "its next start", "later", rest


def downtime(
    renewed: Iterable[Renewal], readers: Iterable[Affected], catalogue: Catalogue
) -> dict[str, Effect]:
    """Return the worst effect for every VM type of a catalogue."""
    worst: dict[str, Effect] = dict.fromkeys(catalogue.types, "none")
    # A service counts where the script renews it; what else reads a file is not down for it.
    rows = [(row.effect, row.types) for row in renewed]
    rows += [(row.effect, row.types) for row in readers if row.effect == "later"]
    for effect, types in rows:
        for name in types:
            worst[name] = max(worst[name], effect, key=EFFECTS.index)
    return worst
