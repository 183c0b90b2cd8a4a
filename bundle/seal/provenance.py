"""``provenance.json``: an in-toto Statement v1 with a SLSA v1 predicate about the three files.

It names what the bytes depend on and the commit that they are from: no time, no host and no path of the machine, so
that two builds of one checkout agree.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bundle import __version__
from bundle.archive import canonical
from bundle.errors import CheckFailed
from bundle.layout import PAYLOAD, PROVENANCE
from bundle.seal.manifest import Facts, FileFact

if TYPE_CHECKING:
    from bundle.source.version_control import Checkout

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:sysvm-livepatch:bundle-build:v1"
BUILDER = "urn:sysvm-livepatch:builder"


def dependencies(facts: Facts, content_digest: str, checkout: Checkout | None) -> list[dict[str, Any]]:
    """Return what the bundle was made of: the content, and the commit that it was checked out from.

    Args:
        facts: what was built.
        content_digest: digest of the content of all members.
        checkout: what git knows about the source; None when it was in no checkout.
    """
    rows: list[dict[str, Any]] = [{"name": f"{facts.origin} source", "digest": {"sha256": content_digest}}]
    if checkout is not None:
        row: dict[str, Any] = {"name": "checkout", "digest": {"gitCommit": checkout.commit}}
        if checkout.remote:
            row["uri"] = f"git+{checkout.remote}"
        if checkout.dirty or checkout.unknown:
            row["annotations"] = {"dirty": list(checkout.dirty), "untracked": list(checkout.unknown)}
        rows.append(row)
    return rows


def recorded(data: bytes) -> list[dict[str, Any]]:
    """Return the dependencies of a statement that was made before.

    Raises:
        CheckFailed: it is not such a statement.
    """
    try:
        rows = json.loads(data)["predicate"]["buildDefinition"]["resolvedDependencies"]
        return [dict(row) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckFailed(f"{PROVENANCE}: not the statement of a bundle ({error})") from error


def statement(facts: Facts, files: dict[str, FileFact], made_of: list[dict[str, Any]]) -> bytes:
    """Return the canonical JSON of the statement.

    Args:
        facts: what was built, which are the parameters of the build.
        files: the finished files.
        made_of: what ``dependencies`` returned.
    """
    parameters = {name: value for name, value in vars(facts).items() if name not in {"origin", "epoch"}}
    document: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": files[name].sha256, "sha512": files[name].sha512}}
            for name in PAYLOAD
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": {"epoch": facts.epoch},
                "resolvedDependencies": made_of,
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"sysvm-livepatch": __version__}}},
        },
    }
    return canonical.dumps(document) + b"\n"
