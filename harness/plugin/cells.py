"""The matrix that a run covers: VM types, releases before the patch, and scenarios; what is chosen, what impossible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bundle import catalogue, matrix
from bundle.catalogue import Catalogue, number_of
from bundle.errors import UsageError
from harness.lab.subject import REFERENCE, Subject, release_of
from harness.plugin.mark import Scenario

# Words of --scenario with a meaning of their own.
DEFAULT, ALL = "default", "all"


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix of VM types and releases.

    Attributes:
        impossible: why nothing can be patched there.
        network: the declared network of a scenario that is about one; None is the run's, or the type's.
    """

    vm_type: str
    from_release: str
    impossible: str = ""
    network: str | None = None

    def __str__(self) -> str:
        """Return the part of a scenario's id that names the cell."""
        return f"{self.vm_type}-from-{self.from_release}"


def cells(types: Sequence[str], releases: Sequence[str], target: str, subject: Subject) -> list[Cell]:
    """Return the cells of the matrix, release by release.

    Args:
        types: known VM types.
        releases: releases before the patch.
        target: release after it.
        subject: what is patched with.

    Raises:
        UsageError: an unknown release.
    """
    facts = catalogue.load()
    needs = _minimum(subject, facts)
    names = [facts.release(word).name for word in releases]
    why = {name: impossible(name, facts.release(target).name, needs, facts, subject) for name in names}
    return [Cell(vm_type, name, why[name]) for name in names for vm_type in types]


def impossible(
    template: str, target: str, minimum: str, facts: Catalogue, subject: Subject = REFERENCE
) -> str:
    """Return why a VM of one release cannot be live patched to another, or an empty string.

    The catalogue's "no" is about CloudStack's own payload. A bundle that asks for less than that payload does, such as
    the reference one, may be patched with all the same: what counts then is the template that it asks for.

    Args:
        template: release before the patch.
        target: release after it.
        minimum: oldest template that the bundle asks for.
        facts: the catalogue.
        subject: what is patched with; a bundle of a person's own may be another one of the same release.
    """
    old, new = number_of(template), number_of(target)
    if old == new and not subject.named:
        return f"it runs {target} already"
    if new < old or facts.release(target).transport != "upload" or old < number_of(minimum):
        verdict = matrix.judge(template, target, facts)
        if verdict.word == "no":
            return verdict.reasons[0].text
        return f"the bundle asks for a template of {minimum} or newer"
    return ""


def _minimum(subject: Subject, facts: Catalogue) -> str:
    from bundle.seal.manifest import NAME, load

    bundle = subject.bundle
    if subject.source is not None:
        return matrix.minimum_template(release_of(subject.source), facts)
    if bundle is None or not (bundle / NAME).exists():
        return facts.reference_minimum_template
    return load(bundle / NAME).facts.minimum_template


def parts_of(wanted: str) -> list[str]:
    """Return the words of ``--scenario``.

    Raises:
        UsageError: one is empty.
    """
    parts = wanted.split(",")
    if not all(parts):
        raise UsageError(f"invalid --scenario {wanted!r} (expected 'default', 'all', or names such as 'S08')")
    return parts


def is_chosen(identifier: str, wanted: str, scenario: Scenario) -> bool:
    """Return whether a scenario runs.

    Args:
        identifier: the scenario's, such as ``router-from-4.15-S08-live-config-kept``.
        wanted: ``default``, ``all``, tags, or parts of identifiers, separated by commas; a part stands between dashes.
        scenario: what its mark declares.

    Raises:
        UsageError: an empty part.
    """
    for part in parts_of(wanted):
        if part == ALL or (part == DEFAULT and scenario.default) or part in scenario.tags:
            return True
        if re.search(rf"(^|-){re.escape(part)}(-|$)", identifier, re.IGNORECASE):
            return True
    return False
