"""The support verdict: may a system VM made from one template be live patched to a release, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bundle.catalogue import Catalogue, MatrixRow, number_of
from bundle.version import Span, covers, overlap, span

SupportWord = Literal["yes", "caveat", "unknown", "no"]
# Whose patch-sysvms.sh does it: ours, CloudStack's own of the target release, or one that nobody knows.
ScriptOrigin = Literal["ours", "upstream", "foreign"]
WHOSE = {"ours": "our script", "upstream": "CloudStack's own script", "foreign": "a foreign script"}
_RANK = {"yes": 0, "note": 0, "caveat": 1, "unknown": 2, "no": 3}
_WORDS: dict[int, SupportWord] = {0: "yes", 1: "caveat", 2: "unknown", 3: "no"}
_ANCIENT = "4.13"


@dataclass(frozen=True)
class Reason:
    """One statement, what it decides, the VM types and the script it is about (empty: all), and its source."""

    verdict: str
    text: str
    source: str
    types: tuple[str, ...]
    script: str = ""


@dataclass(frozen=True)
class SupportVerdict:
    """The answer for one pair of releases and one script.

    Attributes:
        template: release of the template, as it was asked for.
        target: release of the bundle, as it was asked for.
        script: whose patch script does it.
        word: ``yes``, ``caveat``, ``unknown`` or ``no``.
        action: what to do.
        reasons: every statement that counts, the decisive ones first.
    """

    template: str
    target: str
    script: ScriptOrigin
    word: SupportWord
    action: str
    reasons: tuple[Reason, ...]

    def for_type(self, vm_type: str) -> tuple[SupportWord, Reason]:
        """Return the word and the decisive reason for one VM type: statements about others do not count.

        Args:
            vm_type: as in the catalogue; a type that no statement names gets what is said of all.
        """
        about = [reason for reason in self.reasons if not reason.types or vm_type in reason.types]
        decisive = (about or self.reasons)[0]
        return (_WORDS[_RANK[decisive.verdict]] if about else self.word), decisive


_DOWNGRADE = Reason(
    "no",
    "a live patch never leads back to an older release",
    "docs/bundle.md, refusals of the patch script",
    (),
)


def _fits(row: MatrixRow, template: Span, target: Span, script: ScriptOrigin) -> bool:
    return (
        row.script in {"", script}
        and overlap(row.templates, template)
        and any(overlap(one, target) for one in row.targets)
    )


def _reason(row: MatrixRow, template: Span, target: Span, everyone: int) -> Reason:
    """Return what a row says; when it is about some point releases of a pair only, it says which, and is a caveat."""
    types = row.types if len(row.types) < everyone else ()
    whole = covers(row.templates, template) and any(covers(one, target) for one in row.targets)
    if whole or row.verdict in {"note", "caveat", "yes"}:
        return Reason(row.verdict, row.reason, row.source, types, row.script)
    text = f"for some of these point releases not at all: {row.reason}"
    return Reason("caveat", text, row.source, types, row.script)


def _is_known(number: tuple[int, int], catalogue: Catalogue) -> bool:
    """Say whether the catalogue knows a release, or it is older than all that it knows."""
    numbers = [row.number for row in catalogue.releases.values()]
    return number in numbers or number < min(numbers)


def _nearest(number: tuple[int, int], catalogue: Catalogue) -> str:
    return [row.name for row in catalogue.releases.values() if row.number <= number][-1]


def _unknown(
    template: tuple[int, int], target: tuple[int, int], script: ScriptOrigin, catalogue: Catalogue
) -> Reason | None:
    """Return why nothing is known about a pair, with the nearest pair that something is known about."""
    strange = [number for number in (template, target) if not _is_known(number, catalogue)]
    if not strange:
        return None
    names = " and ".join(dict.fromkeys("{}.{}".format(*number) for number in strange))
    text = f"the catalogue does not know {names}"
    near_template, near_target = (
        _nearest(number, catalogue) if number in strange else "{}.{}".format(*number)
        for number in (template, target)
    )
    if near_template == near_target and template < target:
        # The step to the newest release says more than a patch of a release to itself.
        older = [row.name for row in catalogue.releases.values() if row.number < number_of(near_target)]
        near_template = older[-1] if older else near_template
    near = judge(near_template, near_target, catalogue, script)
    return Reason(
        "unknown",
        f"{text}; nearest row: {near.template} -> {near.target}: {near.word}",
        "systemvm/releases.toml",
        (),
    )


def _action(word: SupportWord, back: bool, reasons: tuple[Reason, ...]) -> str:
    if word == "no":
        if back:
            return "keep the newer release"
        if all(reason.script for reason in reasons if reason.verdict == "no"):
            return "patch with another script, or to a release that mends it"
        return "replace the template: register that of the target release and recreate the VM"
    if word == "unknown":
        return "try it with 'sysvm run' before a patch in production"
    if any(reason.verdict == "note" and "template" in reason.text for reason in reasons):
        return "live patch what runs; register a newer template for new VMs"
    return "live patch" if word == "yes" else "live patch after reading the caveats"


def judge(template: str, target: str, catalogue: Catalogue, script: ScriptOrigin = "ours") -> SupportVerdict:
    """Return the verdict for a template, a target release and a patch script.

    Args:
        template: release of the template; ``4.19`` means every point release of it, ``4.19.2`` that one.
        target: release of the bundle, likewise.
        catalogue: the release catalogue.
        script: whose patch script it is.

    Raises:
        UsageError: one of the names is no release.
    """
    numbers = number_of(template), number_of(target)
    old, new = span(template), span(target)
    back = new[1] < old[0]
    reasons = [_DOWNGRADE] if back else []
    reasons += [
        _reason(row, old, new, len(catalogue.types))
        for row in catalogue.matrix
        if _fits(row, old, new, script)
    ]
    if not back and (strange := _unknown(*numbers, script, catalogue)):
        reasons.append(strange)
    if not reasons:
        reasons.append(
            Reason("unknown", "nothing is known about this pair of releases", "systemvm/releases.toml", ())
        )
    reasons.sort(key=lambda reason: -_RANK[reason.verdict])
    found = tuple(reasons)
    word = _WORDS[_RANK[found[0].verdict]]
    return SupportVerdict(template, target, script, word, _action(word, back, found), found)


def templates(catalogue: Catalogue, *, points: bool = False) -> list[str]:
    """Return the releases whose templates the table shows: those of the catalogue, and the last that is too old.

    Args:
        catalogue: the release catalogue.
        points: whether every point release has a row of its own.
    """
    return [_ANCIENT, *_names(catalogue.releases, catalogue, points)]


def targets(catalogue: Catalogue, *, points: bool = False) -> list[str]:
    """Return the releases that can be patched to; with ``points`` every point release."""
    names = [name for name, row in catalogue.releases.items() if row.transport == "upload"]
    return _names(names, catalogue, points)


def _names(names: Iterable[str], catalogue: Catalogue, points: bool) -> list[str]:
    if not points:
        return list(names)
    return [point for name in names for point in catalogue.releases[name].points or (name,)]


def minimum_template(target: str, catalogue: Catalogue) -> str:
    """Return the oldest template that may be patched to a release; the release itself when none may."""
    for name in catalogue.releases:
        if judge(name, target, catalogue).word != "no":
            return name
    return "{}.{}".format(*number_of(target))
