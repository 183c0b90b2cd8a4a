"""Small source trees and bundles for the tests of the builder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle.build import BuildOptions, build

FOREIGN_SCRIPT = b"#!/bin/bash\necho version:$(sha512sum /var/cache/cloud/cloud-scripts.tgz)\n"
SYSVM = Path(sys.executable).with_name("sysvm")

REFERENCE = {
    "systemvm/releases.toml": b"# marks a reference payload\n",
    "systemvm/debian/etc/haproxy/haproxy.cfg": b"defaults\n  mode tcp\n",
    "systemvm/debian/etc/ipsec.secrets": b": PSK secret\n",
    "systemvm/debian/etc/systemd/system/cloud.service": b"[Service]\nExecStart=/usr/local/cloud/systemvm/run.sh\n",
    "systemvm/debian/etc/logrotate.d/cloud": b"/var/log/cloud.log {\n}\n",
    "systemvm/debian/opt/cloud/bin/update_config.py": b"#!/usr/bin/python3\nprint('rules')\n",
    "systemvm/debian/opt/cloud/bin/cs/helper.py": b"VALUE = 1\n",
    "systemvm/debian/opt/cloud/bin/setup/common.sh": b'log() { logger "$@"; }\n',
    "systemvm/debian/root/monitorServices.py": b"#!/usr/bin/python3\n",
    "systemvm/debian/root/.ssh/known_hosts": b"\n",
    "systemvm/debian/var/www/html/latest/.htaccess": b"Options -Indexes\n",
    "systemvm/agent/run.sh": b"#!/bin/bash\nexec java\n",
    "systemvm/agent/conf/agent.properties": b"instance=ConsoleProxy\n",
    "systemvm/agent/certs/localhost.key": b"-----BEGIN PRIVATE KEY-----\n",
    "systemvm/agent/js/app.js": b"function f() { return 1; }\n" * 2000,
    "systemvm/agent/images/dot.png": bytes(range(256)) * 4,
}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder, in the order of the dictionary."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give every test a cache of its own and no time stamp from outside."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.delenv("SYSVM_BUNDLE_CACHE_MIB", raising=False)
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tree() -> Callable[[Path, dict[str, bytes]], Path]:
    """Return the writer of trees."""
    return write_tree


@pytest.fixture
def reference_files() -> dict[str, bytes]:
    """Return the files of a small reference payload, by path."""
    return dict(REFERENCE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a small source tree of the reference kind."""
    return write_tree(tmp_path / "source", REFERENCE)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a foreign patch script."""
    path = tmp_path / "foreign.sh"
    path.write_bytes(FOREIGN_SCRIPT)
    return path


@pytest.fixture
def public_place() -> Iterator[Path]:
    """Return a folder that every user can reach, which pytest's own is not, with a source and a script in it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        write_tree(place / "source", REFERENCE)
        (place / "foreign.sh").write_bytes(FOREIGN_SCRIPT)
        (place / "writable").mkdir()
        for path in place.rglob("*"):
            path.chmod(0o755)
        (place / "writable").chmod(0o777)
        yield place


@pytest.fixture
def make(script: Path) -> Callable[..., Path]:
    """Return a function that builds a bundle without a cache and returns its folder."""

    def run(source: Path, output: Path, **options: object) -> Path:
        arguments = {"script": script, "workers": 2, "cache": False, **options}
        return build(BuildOptions(output=output, source=source, **arguments)).folder

    return run


@pytest.fixture(scope="session")
def _pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    script = folder / "foreign.sh"
    script.write_bytes(FOREIGN_SCRIPT)
    source = write_tree(folder / "source", REFERENCE)
    options = BuildOptions(output=folder / "bundle", source=source, script=script, workers=2, cache=False)
    return build(options).folder


@pytest.fixture
def bundle_dir(_pristine: Path, tmp_path: Path) -> Path:
    """Return a fresh copy of a bundle of the small reference payload, unsigned."""
    target = tmp_path / "bundle"
    shutil.copytree(_pristine, target)
    return target


@pytest.fixture
def sysvm(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that runs the ``sysvm`` command as a program."""

    def run(
        *arguments: object, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SYSVM), *map(str, arguments)],
            cwd=cwd or tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    yield run
