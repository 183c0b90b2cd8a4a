"""The support verdict: may a system VM made from one template be live patched to a release, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bundle.catalogue import Catalogue, MatrixRow, number_of

Word = Literal["yes", "caveat", "no"]
_RANK = {"yes": 0, "note": 0, "caveat": 1, "no": 2}
_ANCIENT = "4.13"


@dataclass(frozen=True)
class Reason:
    """One statement, what it decides, the VM types it is about, and where it is written."""

    verdict: str
    text: str
    source: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The answer for one pair of releases.

    Attributes:
        template: release of the template, ``major.minor``.
        target: release of the bundle.
        word: ``yes``, ``caveat`` or ``no``.
        action: what to do.
        reasons: every statement that counts, the decisive ones first.
    """

    template: str
    target: str
    word: Word
    action: str
    reasons: tuple[Reason, ...]


_DOWNGRADE = Reason(
    "no",
    "a live patch never leads back to an older release",
    "docs/bundle.md, refusals of the patch script",
    (),
)
_UNKNOWN = Reason("no", "nothing is known about this pair of releases", "systemvm/releases.toml", ())


def _fits(row: MatrixRow, template: tuple[int, int], target: tuple[int, int]) -> bool:
    return row.templates[0] <= template <= row.templates[1] and row.targets[0] <= target <= row.targets[1]


def _action(
    word: Word, template: tuple[int, int], target: tuple[int, int], reasons: tuple[Reason, ...]
) -> str:
    if word == "no":
        if target < template:
            return "keep the newer release"
        return "replace the template: register that of the target release and recreate the VM"
    if any(reason.verdict == "note" and "template" in reason.text for reason in reasons):
        return "live patch what runs; register a newer template for new VMs"
    return "live patch" if word == "yes" else "live patch after reading the caveats"


def judge(template: str, target: str, catalogue: Catalogue) -> Verdict:
    """Return the verdict for a template and a target release.

    Raises:
        UsageError: one of the names is no release.
    """
    old, new = number_of(template), number_of(target)
    names = ("{}.{}".format(*old), "{}.{}".format(*new))
    rows = [row for row in catalogue.matrix if _fits(row, old, new)]
    reasons = [Reason(row.verdict, row.reason, row.source, row.types) for row in rows]
    if new < old:
        reasons.append(_DOWNGRADE)
    if not reasons:
        reasons.append(_UNKNOWN)
    reasons.sort(key=lambda reason: -_RANK[reason.verdict])
    words: dict[int, Word] = {0: "yes", 1: "caveat", 2: "no"}
    word = words[_RANK[reasons[0].verdict]]
    found = tuple(reasons)
    return Verdict(*names, word, _action(word, old, new, found), found)


def templates(catalogue: Catalogue) -> list[str]:
    """Return the releases whose templates the table shows: those of the catalogue, and the last that is too old."""
    return [_ANCIENT, *catalogue.releases]


def targets(catalogue: Catalogue) -> list[str]:
    """Return the releases that can be patched to."""
    return [name for name, row in catalogue.releases.items() if row.transport == "upload"]


def minimum_template(target: str, catalogue: Catalogue) -> str:
    """Return the oldest template that may be patched to a release; the release itself when none may."""
    for name in catalogue.releases:
        if judge(name, target, catalogue).word != "no":
            return name
    return "{}.{}".format(*number_of(target))
