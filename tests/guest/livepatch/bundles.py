"""Small bundles for the lab: dictionaries of files become archives, a guest manifest and a rendered script."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from bundle.catalogue import load
from bundle.seal import script
from bundle.seal.script import ScriptSpec, render

# Templates with a mutant in them: see tests/mutants.
if "LIVEPATCH_TEMPLATES" in os.environ:
    script._TEMPLATES = Path(os.environ["LIVEPATCH_TEMPLATES"])

# path -> (content, mode)
Tree = dict[str, tuple[bytes, int]]


@dataclass(frozen=True)
class Content:
    """What a bundle is made of; ``extra`` members go into the archive but not into the manifest."""

    scripts: Tree
    agent: Tree
    version: str = "4.22.0.0"
    architecture: str = "all"
    minimum_template: str = "4.14"
    signature: bytes | None = None
    restart: Literal["graceful", "always"] = "graceful"
    extra: tuple[str, ...] = ()
    release: str = "4.22"
    folders: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """The three files that land in the guest, and the signature they lead to."""

    agent: bytes
    scripts: bytes
    script: str
    manifest: str
    signature: str

    @property
    def digests(self) -> set[str]:
        """The signatures that scripts of any release may give it: 4.22 went from MD5 to SHA-512."""
        return {hashlib.new(name, self.scripts).hexdigest() for name in ("md5", "sha512")}


def _folders(tree: Tree, modes: dict[str, int]) -> dict[str, int]:
    names = {str(parent) for path in tree for parent in PurePosixPath(path).parents if str(parent) != "."}
    names |= set(modes)
    return {name: modes.get(name, 0o755) for name in sorted(names)}


def tar(tree: Tree, folders: dict[str, int], extra: tuple[str, ...] = ()) -> bytes:
    """Pack a tree as ``cloud-scripts.tgz``: folders first, owner root; the same bytes from the same tree."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name, mode in folders.items():
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for name, (content, mode) in sorted(tree.items()) + [(name, (b"extra\n", 0o755)) for name in extra]:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), mode, 1_600_000_000
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(tree: Tree) -> bytes:
    """Pack a tree as ``agent.zip``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (content, mode) in sorted(tree.items()):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (0o100000 | mode) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _members(letter: str, tree: Tree, folders: dict[str, int]) -> list[str]:
    lines = [(path, f"dir\t{letter}\t{mode:04o}\t-\t-\t{path}") for path, mode in folders.items()]
    for path, (content, mode) in tree.items():
        digest = hashlib.sha256(content).hexdigest()
        lines.append((path, f"file\t{letter}\t{mode:04o}\t{len(content)}\t{digest}\t{path}"))
    return [line for _, line in sorted(lines)]


def manifest(content: Content, scripts: bytes, agent: bytes) -> str:
    """Return the guest manifest of a content."""
    lines = [
        "format\t1",
        f"release\t{content.version}",
        f"architecture\t{content.architecture}",
        f"minimum_template\t{content.minimum_template}",
        f"digest\t{load().release(content.release).signature}",
        f"archive\tcloud-scripts.tgz\t{len(scripts)}\t{hashlib.sha512(scripts).hexdigest()}",
        f"archive\tagent.zip\t{len(agent)}\t{hashlib.sha512(agent).hexdigest()}",
        *_members("A", content.agent, _folders(content.agent, {})),
        *_members("S", content.scripts, _folders(content.scripts, content.folders)),
    ]
    return "\n".join(lines) + "\n"


def make(content: Content) -> Bundle:
    """Build a bundle with the product's own script renderer."""
    scripts = tar(content.scripts, _folders(content.scripts, content.folders), content.extra)
    agent = zipped(content.agent)
    text = manifest(content, scripts, agent)
    release = load().release(content.release)
    script = render(
        ScriptSpec(release=release, guest_manifest=text, signature=content.signature, restart=content.restart)
    )
    return Bundle(agent, scripts, script, text, hashlib.new(release.signature, scripts).hexdigest())


def _text(name: str, release: str, mode: int = 0o644) -> tuple[bytes, int]:
    return f"{name} of {release}\n".encode(), mode


@cache
def old_content() -> Content:
    """The installed release: what the lab's VMs run before a patch."""
    return Content(
        version="4.21.0.0",
        release="4.21",
        scripts={
            "etc/haproxy/haproxy.cfg": (b"# shipped balancer\n", 0o644),
            "etc/haproxy/conf.d/00-cloud.cfg": _text("global", "4.21"),
            "etc/ssh/sshd_config": (b"Port 3922\n#ListenAddress 0.0.0.0\n", 0o644),
            "etc/sysctl.conf": (b"net.ipv4.ip_forward=1\n", 0o644),
            "etc/ipsec.secrets": (b"# none\n", 0o600),
            "etc/cron.hourly/watch": _text("watch", "4.21", 0o755),
            "etc/systemd/system/cloud.service": _text("unit", "4.21"),
            "opt/cloud/bin/configure.py": _text("configure", "4.21", 0o755),
            "opt/cloud/bin/same.sh": (b"same in both\n", 0o755),
            "opt/cloud/bin/mode.sh": (b"only the mode differs\n", 0o644),
            "opt/cloud/bin/gone.sh": _text("gone", "4.21", 0o755),
            "opt/cloud/old/data/table": _text("table", "4.21"),
            "root/health_checks/check.py": _text("check", "4.21", 0o755),
            "var/www/html/latest/.htaccess": (b"Options\n", 0o644),
        },
        agent={
            "agent-4.21.jar": (b"classes of 4.21\n" * 40, 0o644),
            "common.jar": (b"common\n", 0o644),
            "conf/agent.properties": (
                b"instance=ConsoleProxy\nresource=com.cloud.ConsoleProxyResource\n",
                0o644,
            ),
            "conf/log4j-cloud.xml": _text("log4j", "4.21"),
            "certs/realhostip.keystore": _text("keystore", "4.21"),
            "_run.sh": _text("run", "4.21", 0o755),
        },
    )


@cache
def new_content() -> Content:
    """The release that is patched to: files added, removed, changed, and one with another mode."""
    scripts = dict(old_content().scripts)
    for gone in ("opt/cloud/bin/gone.sh", "opt/cloud/old/data/table"):
        del scripts[gone]
    scripts |= {
        "etc/haproxy/conf.d/00-cloud.cfg": _text("global", "4.22"),
        "etc/haproxy/haproxy.cfg": (b"# shipped balancer of 4.22\n", 0o644),
        "etc/sysctl.conf": (b"net.ipv4.ip_forward=1\n# 4.22\n", 0o644),
        "etc/cron.hourly/watch": _text("watch", "4.22", 0o755),
        "etc/systemd/system/cloud.service": _text("unit", "4.22"),
        "etc/cloud.d/secret": (b"new secret\n", 0o600),
        "opt/cloud/bin/configure.py": _text("configure", "4.22", 0o755),
        "opt/cloud/bin/mode.sh": (b"only the mode differs\n", 0o755),
        "opt/cloud/bin/added.sh": _text("added", "4.22", 0o755),
        "opt/cloud/lib/deep/module.py": _text("module", "4.22"),
        "root/health_checks/check.py": _text("check", "4.22", 0o755),
        "var/www/html/latest/.htaccess": (b"Options -Indexes\n", 0o644),
    }
    agent = {
        "agent-4.22.jar": (b"classes of 4.22\n" * 40, 0o644),
        "common.jar": (b"common\n", 0o644),
        "conf/agent.properties": old_content().agent["conf/agent.properties"],
        "conf/log4j-cloud.xml": _text("log4j", "4.22"),
        "conf/new.properties": _text("new", "4.22"),
        "certs/realhostip.keystore": _text("keystore", "4.21"),
        "_run.sh": _text("run", "4.22", 0o755),
    }
    return Content(scripts=scripts, agent=agent)


def changed(content: Content, **scripts: tuple[bytes, int]) -> Content:
    """Return the content with further files in ``cloud-scripts.tgz``; ``__`` in a name stands for ``/``."""
    return replace(content, scripts=content.scripts | {k.replace("__", "/"): v for k, v in scripts.items()})


@lru_cache(maxsize=64)
def _cached(key: str) -> Bundle:
    return {
        "old": lambda: make(old_content()),
        "new": lambda: make(new_content()),
        "broken": lambda: make(broken_content()),
    }[key]()


def broken_content() -> Content:
    """The new release with a file that keeps haproxy and the agent from starting."""
    content = new_content()
    return replace(
        content,
        scripts=content.scripts
        | {
            "etc/haproxy/conf.d/00-cloud.cfg": (b"broken\n", 0o644),
            "opt/cloud/bin/configure.py": (b"broken\n", 0o755),
        },
    )


def old() -> Bundle:
    """The bundle that the lab's VMs run."""
    return _cached("old")


def new() -> Bundle:
    """The healthy bundle that they are patched to."""
    return _cached("new")


def broken() -> Bundle:
    """The bundle after which a service of every type does not start."""
    return _cached("broken")
