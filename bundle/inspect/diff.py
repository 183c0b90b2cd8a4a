"""Compare two bundles, archives or source trees: by member, and by what the change means on a VM."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bundle.archive.members import Archive
from bundle.catalogue import Catalogue, number_of
from bundle.inspect.contents import BundleContents, MemberFacts, Place
from bundle.inspect.impact import (
    EFFECTS,
    Affected,
    Effect,
    PatchScript,
    Renewal,
    affected,
    downtime,
    is_live,
    renewals,
)
from bundle.matrix import Reason, SupportVerdict, judge
from bundle.version import span


@dataclass(frozen=True)
class ModeChange:
    """A member whose content is the same and whose mode is not."""

    place: Place
    old: int
    new: int


@dataclass(frozen=True)
class FactChange:
    """A fact about the whole that differs, for instance the script or the signature algorithm."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class BundleDifference:
    """Everything that differs.

    Attributes:
        facts: facts about the whole that differ.
        added: members that only the new one has.
        removed: members that only the old one has.
        changed: files with other content, or another kind.
        modes: members with another mode.
        script: the script of the new one.
        renewals: what that script does to services in any case.
        readers: who reads the changed files, the worst effect first.
        no_reader: changed files that nobody is known to read.
        live: changed files that boot or rules rewrite.
        live_kept: whether the script keeps the VM's own of these; CloudStack's script resets them.
        packages: Debian packages that the new one would install: name, Debian release, file.
        verdict: whether templates of the old release may be patched to the new one; None when a release is
            unknown.
        base_image: why the base image does not suffice; empty when it does, or when a release is unknown.
        downtime: worst effect by VM type.
        notes: what a person should know about either.
    """

    facts: tuple[FactChange, ...]
    added: tuple[Place, ...]
    removed: tuple[Place, ...]
    changed: tuple[Place, ...]
    modes: tuple[ModeChange, ...]
    script: PatchScript
    renewals: tuple[Renewal, ...]
    readers: tuple[Affected, ...]
    no_reader: tuple[str, ...]
    live: tuple[str, ...]
    live_kept: bool
    packages: tuple[tuple[str, str, str], ...]
    verdict: SupportVerdict | None
    base_image: str
    downtime: dict[str, Effect]
    notes: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True if nothing differs."""
        return not (self.facts or self.added or self.removed or self.changed or self.modes)

    @property
    def downtime_class(self) -> Effect:
        """The worst effect on any VM type."""
        return max(self.downtime.values(), key=EFFECTS.index)


def _files(places: set[Place], rows: dict[Place, MemberFacts]) -> set[Place]:
    return {place for place in places if rows[place].kind != "dir"}


def _verdict(old: BundleContents, new: BundleContents, catalogue: Catalogue) -> SupportVerdict | None:
    """Return the support table's answer; its "no" is about CloudStack's own payload, which the reference one is not."""
    if not old.version or not new.version:
        return None
    found = judge(old.version, new.version, catalogue, new.script.kind or "ours")
    back = span(new.version) < span(old.version)
    if found.word != "no" or back or new.origin != "reference" or _too_old(old, new):
        return found
    text = f"the reference payload asks for a template of {new.minimum_template} or newer, CloudStack's own could not"
    own = Reason("caveat", f"{text}: {found.reasons[0].text}", "systemvm/releases.toml, table reference", ())
    rest = tuple(row for row in found.reasons if row.verdict != "no")
    return replace(found, word="caveat", action="live patch after reading the caveats", reasons=(own, *rest))


def _too_old(old: BundleContents, new: BundleContents) -> bool:
    minimum = new.minimum_template
    return bool(minimum and old.version) and number_of(old.version) < number_of(minimum)


def _base_image(old: BundleContents, new: BundleContents, verdict: SupportVerdict | None) -> str:
    """Return why templates of the old release do not suffice for the new one."""
    if _too_old(old, new):
        return f"the new bundle asks for a template of {new.minimum_template} or newer"
    reasons = verdict.reasons if verdict is not None else ()
    return next((row.text for row in reasons if row.verdict == "no" and not row.script), "")


def _facts(old: BundleContents, new: BundleContents) -> tuple[FactChange, ...]:
    """Return the facts that both know and that differ."""
    shared = [name for name in old.facts if name in new.facts and old.facts[name] != new.facts[name]]
    return tuple(FactChange(name, old.facts[name], new.facts[name]) for name in shared)


@dataclass(frozen=True)
class _Members:
    added: set[Place]
    removed: set[Place]
    changed: set[Place]
    modes: tuple[ModeChange, ...]
    touched: set[Place]


def _members(old: BundleContents, new: BundleContents) -> _Members:
    both: frozenset[Archive] = old.archives & new.archives
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
    rows = tuple(ModeChange(place, one[place].mode, two[place].mode) for place in modes)
    return _Members(added, removed, changed, rows, touched)


def compare(old: BundleContents, new: BundleContents, catalogue: Catalogue) -> BundleDifference:
    """Return what differs between two snapshots; archives that only one of them knows are left out."""
    found = _members(old, new)
    scripts: Archive = "cloud-scripts.tgz"
    live = {place for place in found.touched if place[0] == scripts and is_live(place[1], catalogue)}
    kept = new.script.kind in {"ours", ""}
    effective = sorted(found.touched - live if kept else found.touched)
    renewed = renewals(new.script, effective, catalogue)
    readers, strangers = affected(effective, renewed, catalogue)
    verdict = _verdict(old, new, catalogue)
    return BundleDifference(
        facts=_facts(old, new),
        added=tuple(sorted(found.added)),
        removed=tuple(sorted(found.removed)),
        changed=tuple(sorted(found.changed)),
        modes=found.modes,
        script=new.script,
        renewals=renewed,
        readers=readers,
        no_reader=strangers,
        live=tuple(sorted(path for _, path in live)),
        live_kept=kept,
        packages=tuple(
            (name, *where) for name, where in sorted(new.packages.items()) if old.packages.get(name) != where
        ),
        verdict=verdict,
        base_image=_base_image(old, new, verdict),
        downtime=downtime(renewed, readers, catalogue),
        notes=tuple(f"{row.name}: {note}" for row in (old, new) for note in row.notes),
    )
