"""Compare two bundles, archives or source trees: by member, and by what the change means on a VM."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.archive.members import Archive
from bundle.catalogue import Catalogue, number_of
from bundle.inspect.contents import Row, Snapshot
from bundle.inspect.impact import EFFECTS, Affected, Effect, affected, downtime, is_live
from bundle.matrix import Verdict, judge

Place = tuple[Archive, str]


@dataclass(frozen=True)
class ModeChange:
    """A member whose content is the same and whose mode is not."""

    place: Place
    old: int
    new: int


@dataclass(frozen=True)
class Difference:
    """Everything that differs.

    Attributes:
        added: members that only the new one has.
        removed: members that only the old one has.
        changed: files with other content, or another kind.
        modes: members with another mode.
        services: what is affected on a VM, the worst first.
        live: changed files that boot or rules rewrite, so that a patch keeps the VM's own.
        packages: Debian packages that the new one would install: name, Debian release, file.
        verdict: whether templates of the old release may be patched to the new one; None when a release is
            unknown.
        base_image: why the base image does not suffice; empty when it does, or when a release is unknown.
        downtime: worst effect by VM type.
    """

    added: tuple[Place, ...]
    removed: tuple[Place, ...]
    changed: tuple[Place, ...]
    modes: tuple[ModeChange, ...]
    services: tuple[Affected, ...]
    live: tuple[str, ...]
    packages: tuple[tuple[str, str, str], ...]
    verdict: Verdict | None
    base_image: str
    downtime: dict[str, Effect]

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed or self.modes)

    @property
    def downtime_class(self) -> Effect:
        """The worst effect on any VM type."""
        return max(self.downtime.values(), key=EFFECTS.index)


def _files(places: set[Place], rows: dict[Place, Row]) -> set[Place]:
    return {place for place in places if rows[place].kind != "dir"}


def _base_image(old: Snapshot, new: Snapshot, verdict: Verdict | None) -> str:
    """Return why templates of the old release do not suffice for the new one."""
    if not old.release or not new.release:
        return ""
    if new.minimum_template and number_of(old.release) < number_of(new.minimum_template):
        return f"the new bundle asks for a template of {new.minimum_template} or newer"
    ours = number_of(new.minimum_template or "0.0") <= number_of(old.release)
    if verdict is not None and verdict.word == "no" and not ours:
        return verdict.reasons[0].text
    return ""


def compare(old: Snapshot, new: Snapshot, catalogue: Catalogue) -> Difference:
    """Return what differs between two snapshots; archives that only one of them knows are left out."""
    both = old.archives & new.archives
    one = {place: row for place, row in old.rows.items() if place[0] in both}
    two = {place: row for place, row in new.rows.items() if place[0] in both}
    added, removed = two.keys() - one.keys(), one.keys() - two.keys()
    shared = one.keys() & two.keys()
    changed = {
        place
        for place in shared
        if (one[place].kind, one[place].sha256) != (two[place].kind, two[place].sha256)
    }
    modes = sorted(place for place in shared if one[place].mode != two[place].mode)
    touched = _files(added, two) | _files(removed, one) | changed
    touched |= {place for place in modes if one[place].kind != "dir"}
    services = affected(sorted(touched), catalogue, graceful=new.graceful)
    verdict = judge(old.release, new.release, catalogue) if old.release and new.release else None
    return Difference(
        added=tuple(sorted(added)),
        removed=tuple(sorted(removed)),
        changed=tuple(sorted(changed)),
        modes=tuple(ModeChange(place, one[place].mode, two[place].mode) for place in modes),
        services=services,
        live=tuple(
            sorted(
                path
                for archive, path in touched
                if archive == "cloud-scripts.tgz" and is_live(path, catalogue)
            )
        ),
        packages=tuple(
            (name, *where) for name, where in sorted(new.packages.items()) if old.packages.get(name) != where
        ),
        verdict=verdict,
        base_image=_base_image(old, new, verdict),
        downtime=downtime(services, catalogue),
    )
