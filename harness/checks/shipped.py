"""Files that a bundle puts into a guest, read from the archives themselves: of any bundle, also a foreign one."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bundle import catalogue
from bundle.errors import UsageError
from harness.kvmagent.patch import BundleFiles

AGENT_FOLDER = "/usr/local/cloud/systemvm"


@dataclass(frozen=True)
class Shipped:
    """One path that a bundle brings. ``mode`` is None where the archive leaves it open."""

    path: str
    kind: Literal["file", "folder", "link"]
    mode: int | None
    sha256: str = ""
    link: str = ""


ShippedFiles = Mapping[str, Shipped]


def read(bundle: BundleFiles, vm_type: str) -> dict[str, Shipped]:
    """Return what a bundle puts into a VM of a type, by absolute path.

    Raises:
        UsageError: an archive cannot be read, or the catalogue has no such VM type.
    """
    kind = catalogue.vm_type(vm_type)
    found = {row.path: row for row in _scripts(bundle)}
    if "agent" in kind.has:
        found |= {row.path: row for row in _agent(bundle)}
    return found


def policy(bundle: BundleFiles) -> str:
    """Return how the script of a bundle renews services; empty where it is not one of ours."""
    found = re.search(rb"\breadonly .*\bRESTART_POLICY=(\w+)", bundle.contents["patch-sysvms.sh"])
    return found[1].decode() if found else ""


def recovery(bundle: BundleFiles) -> str:
    """Return the SHA-256 of the unit that the script of a bundle has in it; empty where it is not one of ours."""
    found = re.search(
        rb"^payload_unit\(\) \{ printf '%s' '([A-Za-z0-9+/=]+)'",
        bundle.contents["patch-sysvms.sh"],
        re.MULTILINE,
    )
    return hashlib.sha256(base64.b64decode(found[1])).hexdigest() if found else ""


def _scripts(bundle: BundleFiles) -> Iterator[Shipped]:
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle.contents["cloud-scripts.tgz"]), mode="r:gz") as archive:
            for member in archive:
                path = _absolute("/", member.name)
                if member.issym():
                    yield Shipped(path, "link", None, link=member.linkname)
                elif member.isdir():
                    yield Shipped(path, "folder", member.mode & 0o7777)
                elif (file := archive.extractfile(member)) is not None:
                    yield Shipped(path, "file", member.mode & 0o7777, hashlib.sha256(file.read()).hexdigest())
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise UsageError(f"bundle {bundle.folder}: cannot read cloud-scripts.tgz: {error}") from None


def _agent(bundle: BundleFiles) -> Iterator[Shipped]:
    try:
        with zipfile.ZipFile(io.BytesIO(bundle.contents["agent.zip"])) as archive:
            for info in archive.infolist():
                path = _absolute(AGENT_FOLDER, info.filename)
                if info.is_dir():
                    yield Shipped(path, "folder", None)
                else:
                    yield Shipped(path, "file", None, hashlib.sha256(archive.read(info)).hexdigest())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise UsageError(f"bundle {bundle.folder}: cannot read agent.zip: {error}") from None


def _absolute(root: str, name: str) -> str:
    inside = name.removeprefix("./").strip("/")
    return f"{root.rstrip('/')}/{inside}" if inside and inside != "." else root
