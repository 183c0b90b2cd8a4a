"""Builds the packages into ``dist`` and tries each where nothing of the checkout can be reached.

``python -m tests.packages`` needs the environment of ``make install``: dependencies are copied out of it, so that what
is tried is what is pinned, and nothing is fetched.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from bundle import __version__

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
NAME = "sysvm-livepatch"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CONTROL = """Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: the authors of {name} <root@localhost>
Depends: python3 (>= {python}), python3 (<< {next}), libvirt0, openssl
Recommends: qemu-system-x86, qemu-utils, libvirt-daemon, mmdebstrap, e2fsprogs
Section: admin
Priority: optional
Description: build, prove and test live patches of Apache CloudStack system VMs
"""
LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH="$here/../lib/{name}" exec /usr/bin/python3 -sP -c 'from harness.cli import main; main()' "$@"
"""


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program and return what it said; a failure ends everything."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def needed(*extras: str) -> Iterator[metadata.Distribution]:
    """Yield the distributions that ours needs, with theirs."""
    pending, seen = [(NAME, frozenset(extras))], set()
    while pending:
        name, wanted = pending.pop()
        found = metadata.distribution(name)
        for text in found.requires or ():
            row = Requirement(text)
            chosen = row.marker is None or any(
                row.marker.evaluate({"extra": extra}) for extra in wanted or {""}
            )
            key = re.sub("[-_.]+", "-", row.name).lower()
            if chosen and key not in seen:
                seen.add(key)
                pending.append((row.name, frozenset(row.extras)))
                yield metadata.distribution(row.name)


def copy(distributions: Iterator[metadata.Distribution], target: Path) -> None:
    """Copy what distributions installed into a folder; their programs are left out."""
    for one in distributions:
        for file in one.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                place = target / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(one.locate_file(file), place)


def build() -> tuple[Path, Path]:
    """Build wheel and source archive, and the wheel once more from the archive alone."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-d", DIST, cwd=ROOT)
    wheel, archive = next(DIST.glob("*.whl")), next(DIST.glob("*.tar.gz"))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        run(
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-d",
            folder,
            cwd=next(Path(folder).iterdir()),
        )
        again = next(Path(folder).glob("*.whl"))
        if content(again) != content(wheel):
            sys.exit("the source archive makes another wheel than the checkout")
    return wheel, archive


def content(wheel: Path) -> dict[str, int]:
    """Return the files of a wheel with their checksums."""
    with zipfile.ZipFile(wheel) as opened:
        return {row.filename: row.CRC for row in opened.infolist()}


def debian(wheel: Path) -> Path:
    """Make the Debian package: the wheel with what it needs in a folder of its own, man pages and completion."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        library = root / f"usr/lib/{NAME}"
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(library)
        copy(needed("harness"), library)
        launcher = root / "usr/bin/sysvm"
        launcher.parent.mkdir(parents=True)
        launcher.write_text(LAUNCHER.format(name=NAME))
        launcher.chmod(0o755)
        for page in ("sysvm.1", "sysvm-options.7"):
            place = root / f"usr/share/man/man{page[-1]}/{page}.gz"
            place.parent.mkdir(parents=True)
            place.write_bytes(gzip.compress((ROOT / "dist/docs/man" / page).read_bytes(), mtime=0))
        completion = root / "usr/share/bash-completion/completions/sysvm"
        completion.parent.mkdir(parents=True)
        completion.write_text(run(launcher, "completion", "bash", cwd=root, env={"PATH": "/usr/bin:/bin"}))
        for cache in library.rglob("__pycache__"):
            shutil.rmtree(cache)
        major, minor = sys.version_info[:2]
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(CONTROL.format(
            name=NAME, version=__version__, architecture=run("dpkg", "--print-architecture").strip(), python=PYTHON,
            next=f"{major}.{minor + 1}",
        ))  # fmt: skip
        package = DIST / f"{NAME}_{__version__}.deb"
        run("dpkg-deb", "--root-owner-group", "--build", root, package)
    return package


def attempt(program: Path, what: str) -> None:
    """Use an installed program as a person does, in an empty folder, with nothing of the checkout in reach."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": folder,
            "LANG": "C.UTF-8",
            "SYSVM_CACHE": f"{folder}/cache",
        }
        run(program, "bundle", "build", "-o", home / "out", cwd=home, env=env)
        run(program, "bundle", "verify", home / "out", cwd=home, env=env)
        if "Usage: sysvm run" not in run(program, "run", "--help", cwd=home, env=env):
            sys.exit(f"{what}: run --help says nothing")
        if __version__ not in run(program, "--version", cwd=home, env=env):
            sys.exit(f"{what}: another version than {__version__}")
        # What this machine lacks is its own matter; that it is told without a traceback is the program's.
        told = subprocess.run(
            [program, "doctor"], cwd=home, env=env, capture_output=True, text=True, check=False
        )
        if told.returncode not in (0, 3) or "Traceback" in told.stderr:
            sys.exit(f"{what}: doctor ended with {told.returncode}:\n{told.stderr}")
    print(f"{what}: works outside of the checkout")


def main() -> None:
    """Build all, try all."""
    if not (ROOT / "dist/docs/man/sysvm.1").exists():
        run(
            Path(sys.executable).with_name("sphinx-build"),
            "-q",
            "-W",
            "-b",
            "man",
            "docs",
            "dist/docs/man",
            cwd=ROOT,
        )
    pages = tempfile.mkdtemp()
    shutil.copytree(ROOT / "dist/docs", pages, dirs_exist_ok=True)
    wheel, archive = build()
    shutil.move(pages, ROOT / "dist/docs")
    print(f"{archive.name}: makes the same wheel")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        site = Path(folder) / f"lib/python{PYTHON}/site-packages"
        copy(needed(), site)
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            f"{folder}/bin/python",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            wheel,
        )
        attempt(Path(folder) / "bin/sysvm", f"{wheel.name} without its extra")
        copy(needed("harness"), site)
        attempt(Path(folder) / "bin/sysvm", wheel.name)
    package = debian(wheel)
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "--extract", package, folder)
        attempt(Path(folder) / "usr/bin/sysvm", package.name)
        if not (Path(folder) / "usr/share/man/man1/sysvm.1.gz").stat().st_size > 1000:
            sys.exit(f"{package.name}: the man page is empty")


if __name__ == "__main__":
    os.umask(0o022)
    main()
