"""``provenance.json``: an in-toto Statement v1 with a SLSA v1 predicate about the three files.

It names what the bytes depend on and nothing else: no time, no host and no path, so that two builds of one
source agree.
"""

from __future__ import annotations

from typing import Any

from bundle import __version__
from bundle.archive import canonical
from bundle.layout import PAYLOAD
from bundle.seal.manifest import Facts, FileFact

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:sysvm-livepatch:bundle-build:v1"
BUILDER = "urn:sysvm-livepatch:builder"


def statement(facts: Facts, content_digest: str, files: dict[str, FileFact]) -> bytes:
    """Return the canonical JSON of the statement.

    Args:
        facts: what was built, which are the parameters of the build.
        content_digest: digest of the content of all members.
        files: the finished files.
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
                "resolvedDependencies": [
                    {"name": f"{facts.origin} source", "digest": {"sha256": content_digest}}
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"sysvm-livepatch": __version__}}},
        },
    }
    return canonical.dumps(document) + b"\n"
