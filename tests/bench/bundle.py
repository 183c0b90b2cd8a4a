"""How fast a bundle is built, next to ``zip -9``, ``zip -0`` and ``tar | gzip -9`` on the same tree in the same run.

The tree holds jars in the shapes of real ones. The byte code in them is that of Python's own standard library, shuffled
per file, so that no two jars are alike.
"""

from __future__ import annotations

import marshal
import math
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundle.paths import payload_root

SYSVM = Path(sys.executable).with_name("sysvm")
_SMALLEST, _MEDIAN, _LARGEST = 6_000, 324_000, 11_500_000
_SPREAD = 1.48  # of the logarithm
_DIRECTORY = 0.07
_SCRIPT = b"#!/bin/bash\nexit 0\n"


def _code_pieces() -> list[bytes]:
    """Return byte code of the standard library in pieces of the size of class files."""
    pieces = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]:
        data = marshal.dumps(compile(path.read_bytes(), path.name, "exec"))
        pieces += [data[at : at + 4000] for at in range(0, len(data), 4000)]
    return pieces


def _jar(path: Path, size: int, pieces: list[bytes], chance: random.Random) -> None:
    """Write a jar of about this size in bytes: members, names and compressibility as real jars have them."""
    artifact = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as jar:
        number = 0
        while jar.fp is not None and jar.fp.tell() < size * (1 - _DIRECTORY):
            folder = f"org/example/{artifact}/internal/component{number % 7}/implementation"
            name = f"{folder}/SomeClassName{number:05}.class"
            data = chance.choice(pieces)
            # Long enough that no two members are the same, short enough that they shrink as class files do.
            salt = chance.randbytes(len(data) // 50)
            jar.writestr(zipfile.ZipInfo(name), salt + data[:3200] + data[:800], zipfile.ZIP_DEFLATED)
            number += 1


def make_tree(root: Path, mebibytes: int) -> None:
    """Write a source tree of the reference kind: jars of this size in sum, shaped like real ones, and real scripts.

    Measured on 172 real jars of 150 MB: sizes are log-normal with a median of 324 KB, a tenth is below 49 KB, a tenth
    above 2.2 MB, the largest has 11.5 MB; a member has 1.6 KB and is deflated to 40 %; the directory is 7 % of it.
    """
    shutil.copytree(payload_root() / "debian", root / "systemvm/debian")
    shutil.copy(payload_root() / "releases.toml", root / "systemvm/releases.toml")
    agent = root / "systemvm/agent"
    agent.mkdir()
    pieces, chance = _code_pieces(), random.Random(4711)  # the same tree in every run
    left, number = mebibytes << 20, 0
    while left > 0:
        size = int(min(_LARGEST, max(_SMALLEST, chance.lognormvariate(math.log(_MEDIAN), _SPREAD))))
        _jar(agent / f"library-{number:04}-1.0.jar", size, pieces, chance)
        left -= size
        number += 1


def shapes(agent: Path) -> str:
    """Return what the jars are like, for a comparison with the real ones."""
    sizes, members, shares, directories, again = [], [], [], [], []
    for path in sorted(agent.glob("*.jar")):
        with zipfile.ZipFile(path) as jar:
            rows = jar.infolist()
            packed = sum(row.compress_size for row in rows)
            shares.append(packed / sum(row.file_size for row in rows))
            directories.append(1 - jar.start_dir / path.stat().st_size)
        data = path.read_bytes()
        sizes.append(len(data) / 1000)
        members.append(len(rows))
        again.append(1 - len(zlib.compress(data, 6)) / len(data))
    middle = statistics.median
    return (
        f"{len(sizes)} jars; medians: {middle(sizes):.0f} KB, {middle(members):.0f} members, deflated to "
        f"{middle(shares):.0%}, directory {middle(directories):.1%}, deflating again saves {middle(again):.0%}"
    )


def timed(action: Callable[[], object], repeat: int = 3) -> float:
    """Return the median of a few runs in seconds."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class Case:
    """One tree, and every way to pack it."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        self.mebibytes = mebibytes
        self.tree = folder / "tree"
        self.script = folder / "script.sh"
        self.script.parent.mkdir(parents=True)
        self.script.write_bytes(_SCRIPT)
        make_tree(self.tree, mebibytes)

    def build(self, *options: str, cores: int, cache: Path | None = None) -> None:
        """Build a bundle with the command that people use; without a cache folder the cache is off."""
        command = [
            SYSVM,
            "bundle",
            "build",
            "--source",
            self.tree,
            "--patch-script",
            self.script,
            "-o",
            self.folder / "out",
        ]
        command += [*options, *(() if cache else ("--no-cache",))]
        run(command, cores, SYSVM_CACHE=str(cache or ""))

    def tar_gzip(self, cores: int) -> None:
        """Pack the scripts as ``tar | gzip -9`` does."""
        tree, target = self.tree / "systemvm/debian", self.folder / "rival.tgz"
        run(["sh", "-c", f"tar -C {tree} -cf - . | gzip -9 > {target}"], cores)

    def zip(self, cores: int, level: str = "-9") -> None:
        """Pack the agent as ``zip -9 -r`` does."""
        target = self.folder / "rival.zip"
        target.unlink(missing_ok=True)
        run(["zip", "-q", level, "-r", target, "."], cores, cwd=self.tree / "systemvm/agent")

    def unpack(self, cores: int) -> None:
        """Unpack the agent that was built last, as the patch script does."""
        target = self.folder / "unpacked"
        shutil.rmtree(target, ignore_errors=True)
        run(["unzip", "-q", self.folder / "out/agent.zip", "-d", target], cores)


def run(command: list[object], cores: int, cwd: Path | None = None, **environment: str) -> None:
    """Run a program on the first cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        cwd=cwd,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )


def peak_memory(case: Case, cores: int) -> float:
    """Return the peak memory of one cold build in MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    case.build(cores=cores)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(before, after) / 1024


def size(path: Path) -> float:
    """Return the size of a file in MiB."""
    return path.stat().st_size / (1 << 20)


def line(name: str, seconds: float, remark: str = "") -> None:
    """Print one measurement."""
    print(f"  {name:30} {seconds:6.2f} s   {remark}".rstrip(), flush=True)


def main() -> None:
    """Print the times, the ratios, the memory, and how the cost grows."""
    cores = min(4, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        case = Case(folder / "150", 150)
        print(f"agent tree of 150 MiB and the real scripts, on {cores} cores", flush=True)
        print(f"  {shapes(case.tree / 'systemvm/agent')}", flush=True)
        memory = peak_memory(case, cores)
        best = timed(lambda: case.zip(cores))
        packed = size(case.folder / "rival.zip")
        stored = timed(lambda: case.zip(cores, "-0"))
        line("zip -9 -r", best, f"{packed:.1f} MiB")
        line("zip -0 -r", stored, f"{size(case.folder / 'rival.zip'):.1f} MiB")
        line("tar | gzip -9", timed(lambda: case.tar_gzip(cores)))
        for name in ("fast", "small"):
            seconds = timed(partial(case.build, "--compress", name, cores=cores))
            ours = size(case.folder / "out/agent.zip")
            line(f"cold build, {name}", seconds, f"{seconds / best:.2f} of zip -9, {ours:.1f} MiB")
        one = timed(lambda: case.build(cores=1))
        line("cold build, fast, 1 core", one, f"{one / best:.2f} of zip -9")
        cache = folder / "cache"
        line("cold build that fills a cache", timed(lambda: case.build(cores=cores, cache=cache), repeat=1))
        warm = timed(lambda: case.build(cores=cores, cache=cache), repeat=5)
        line("unchanged rebuild", warm, f"{warm / best:.2f} of zip -9")
        line("unzip in the guest's way", timed(lambda: case.unpack(cores)))
        line("sysvm bundle --help", timed(lambda: run([SYSVM, "bundle", "--help"], cores), repeat=9))
        print(f"  peak memory of a cold build: {memory:.0f} MiB")
        shutil.rmtree(case.folder)
        for mebibytes in (50, 150, 450):
            other = Case(folder / f"size-{mebibytes}", mebibytes)
            seconds = timed(partial(other.build, cores=cores), repeat=1)
            line(f"cold build of {mebibytes} MiB", seconds, f"{seconds / mebibytes * 1000:.1f} ms a MiB")
            shutil.rmtree(other.folder)
