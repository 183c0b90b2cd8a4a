"""Sign a bundle that was built before: with our key, with an OpenPGP key, or with both."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bundle import layout, programs
from bundle.archive import output
from bundle.archive.digest import file_digest
from bundle.errors import UsageError
from bundle.inspect.verify import verify
from bundle.seal import sums
from bundle.seal.finish import Parts, seal, write_sums
from bundle.seal.guest_manifest import Packed
from bundle.seal.manifest import ARCHIVES, Manifest
from bundle.seal.provenance import recorded
from bundle.seal.signer import Signer, choose

_GPG_DEADLINE = 120


def _copy(source: Path, target: Path) -> None:
    """Give a finished file a second name; copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _parts(folder: Path, found: Manifest) -> Parts:
    archives = {}
    for name in ARCHIVES:
        fact = found.files[name]
        digests = {"sha256": fact.sha256, "sha512": fact.sha512}
        if name == layout.SCRIPTS:
            digests["md5"] = file_digest(folder / name, "md5")
        archives[name] = Packed(fact.size, digests, found.members[name])
    foreign = found.facts.script == "foreign"
    script = (folder / layout.SCRIPT).read_bytes() if foreign else None
    return Parts(found, archives, script, recorded((folder / layout.PROVENANCE).read_bytes()))


def _openpgp(folder: Path, user: str) -> None:
    """Write ``.asc`` and ``.sha512`` beside every file that is published."""
    for name in (*layout.PAYLOAD, layout.MANIFEST):
        path = folder / name
        arguments = ["gpg", "--batch", "--yes", "--armor", "--detach-sign", "--local-user", user]
        arguments += ["--output", f"{path}.asc", str(path)]
        done = programs.run(arguments, what=f"sign {name}", check=False, deadline=_GPG_DEADLINE)
        if done.status != 0:
            raise UsageError(f"gpg cannot sign {name} as {user!r}: {done.reason}")
        Path(f"{path}.asc").chmod(0o644)
        output.write(folder / f"{name}.sha512", sums.render_one(path).encode())


def sign(folder: Path, key: Path | None, openpgp: str | None, signer: Signer | None = None) -> Manifest:
    """Sign a bundle in its place; the signed bundle appears by one rename. The bundle is verified first.

    Args:
        folder: the bundle.
        key: our private key, which signs the manifest and what travels in the script.
        openpgp: user of the OpenPGP key that signs the published files with gpg; None makes no such files.
        signer: who signs in place of ``key``; without either, our signatures stay as they are.

    Raises:
        CheckFailed: the bundle does not verify.
        UsageError: neither key was given, or a key cannot be used.
    """
    private = signer or choose(key, None, None, None, None)
    if private is None and openpgp is None:
        raise UsageError("nothing to sign with", hint="give --key, --sign-with, --signatures or --openpgp")
    found = verify(folder).manifest
    with output.folder(folder, layout.is_bundle) as new:
        kept = {*ARCHIVES, layout.SBOM}
        if private is None:
            kept |= {*layout.REQUIRED, layout.MANIFEST_SIGNATURE, layout.ENVELOPE} - {layout.SUMS}
        for name in sorted(kept):
            if (folder / name).exists():
                _copy(folder / name, new / name)
        if private is not None:
            found = seal(new, _parts(folder, found), private)
        if openpgp is not None:
            _openpgp(new, openpgp)
        write_sums(new, found)
    return found
