"""Renders ``patch-sysvms.sh``: one file, assembled from the templates in ``templates/patch-sysvms``."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from bundle.catalogue import Release, load
from bundle.errors import UsageError
from bundle.paths import payload_root
from bundle.services import Policy, sources

RECOVERY_UNIT = "debian/etc/systemd/system/cloud-livepatch-recover.service"
_TEMPLATES = Path(__file__).resolve().parents[1] / "templates" / "patch-sysvms"
_LINE = 8000  # characters of embedded data in a line: a script of few lines, and of lines that editors bear


@dataclass(frozen=True)
class ScriptSpec:
    """The values that one patch script is rendered from.

    Attributes:
        release: the row of the release that the bundle brings.
        guest_manifest: text of the guest manifest, as ``bundle.seal.guest_manifest`` makes it.
        signature: ECDSA P-384/SHA-384 signature (DER) over the text; None for an unsigned bundle.
        restart: ``graceful`` reloads where a service can replace its processes, ``always`` restarts, ``changed`` leaves
            services alone that read no changed file.
        live_paths: paths below ``/`` that boot or rules rewrite; a trailing slash names a folder.
    """

    release: Release
    guest_manifest: str
    signature: bytes | None = None
    restart: Policy = "graceful"
    live_paths: tuple[str, ...] = field(default_factory=lambda: load().live_paths)


def render(spec: ScriptSpec) -> str:
    """Return the text of ``patch-sysvms.sh``: the same bytes for the same specification.

    Raises:
        UsageError: the manifest is not one that the script can read.
    """
    if not spec.guest_manifest.startswith("format\t1\n") or not spec.guest_manifest.endswith("\n"):
        raise UsageError("the guest manifest does not start with format 1 or is cut off")
    for path in spec.live_paths:
        if not re.fullmatch(r"[\w./@+-]+", path):
            raise UsageError(f"the live path {path!r} has characters that a list in the script cannot hold")
    # Jinja's own delimiters mean something in bash: ${#array[@]} would open a comment.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - the output is a shell script, every value is encoded or checked
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        variable_start_string="@{",
        variable_end_string="}@",
        comment_start_string="<#--",
        comment_end_string="--#>",
    )
    facts = load()
    manifest = gzip.compress(spec.guest_manifest.encode(), compresslevel=9, mtime=0)
    text = environment.get_template("patch-sysvms.sh.j2").render(
        vm_types=" ".join(facts.types),
        agent_types=" ".join(facts.types_that(have="agent")),
        console_types=" ".join(facts.types_that(have="console")),
        services=list(facts.service_rows.values()),
        sources={row.name: " ".join(sources(row)) for row in facts.service_rows.values()},
        agent_on_routers=spec.release.agent_on_routers,
        restart=spec.restart,
        live_paths=" ".join(spec.live_paths),
        manifest=_encode(manifest),
        signature=_encode(spec.signature or b""),
        unit=_encode((payload_root() / RECOVERY_UNIT).read_bytes()),
    )
    return _condense(text)


def program_digest(release: Release, restart: Policy) -> str:
    """Return the SHA-256 of our script without what travels in it: the same for every bundle of one program."""
    spec = ScriptSpec(release=release, guest_manifest="format\t1\n", restart=restart)
    return hashlib.sha256(render(spec).encode()).hexdigest()


def _condense(text: str) -> str:
    """Drop empty lines and lines that only comment, below the header: they are for readers of the templates."""
    header, _, body = text.partition("\nset -E")
    lines = [line for line in body.splitlines() if not re.match(r"\s*(#(?! shellcheck )|$)", line)]
    return header + "\nset -E" + "\n".join(lines) + "\n"


def _encode(data: bytes) -> str:
    return "\n".join(textwrap.wrap(base64.b64encode(data).decode(), _LINE))
