"""How fast a bundle is built, next to ``tar | gzip -9`` and ``zip -9 -r`` on the same tree in the same run.

The tree holds jar-like files: zip archives of byte code, which is what real jars are. The byte code is that
of Python's own standard library, shuffled per file, so that it is as compressible as class files are and no
two jars are alike.
"""

from __future__ import annotations

import marshal
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
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundle.paths import payload_root

SYSVM = Path(sys.executable).with_name("sysvm")
JAR_BYTES = 512 * 1024
_SCRIPT = b"#!/bin/bash\nexit 0\n"


def _code_pieces() -> list[bytes]:
    """Return byte code of the standard library in pieces of the size of class files."""
    pieces = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]:
        data = marshal.dumps(compile(path.read_bytes(), path.name, "exec"))
        pieces += [data[at : at + 6000] for at in range(0, len(data), 6000)]
    return pieces


def make_tree(root: Path, mebibytes: int) -> None:
    """Write a source tree of the reference kind: jar-like files of this size in sum, and the real scripts."""
    shutil.copytree(payload_root() / "debian", root / "systemvm/debian")
    shutil.copy(payload_root() / "releases.toml", root / "systemvm/releases.toml")
    agent = root / "systemvm/agent"
    agent.mkdir()
    pieces, chance = _code_pieces(), random.Random(4711)  # the same tree in every run
    for number in range(mebibytes * (1 << 20) // JAR_BYTES):
        with zipfile.ZipFile(agent / f"library-{number:04}-1.0.jar", "w", zipfile.ZIP_DEFLATED) as jar:
            size = 0
            while size < JAR_BYTES:
                info = zipfile.ZipInfo(f"org/example/p{number}/Class{size}.class")
                info.compress_type = zipfile.ZIP_DEFLATED
                salt = chance.randbytes(500)
                jar.writestr(info, salt + chance.choice(pieces) + chance.choice(pieces))
                size = jar.fp.tell() if jar.fp else JAR_BYTES


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
            "--script",
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

    def rivals(self, cores: int) -> None:
        """Make both archives with the programs that people use today."""
        self.tar_gzip(cores)
        self.zip(cores)


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
        memory = peak_memory(case, cores)
        rivals = timed(lambda: case.rivals(cores))
        stored = timed(lambda: case.zip(cores, "-0"))
        many, one = timed(lambda: case.build(cores=cores)), timed(lambda: case.build(cores=1))
        cache = folder / "cache"
        filling = timed(lambda: case.build(cores=cores, cache=cache), repeat=1)
        warm = timed(lambda: case.build(cores=cores, cache=cache), repeat=5)
        case.rivals(cores)
        help_time = timed(lambda: run([SYSVM, "bundle", "--help"], cores), repeat=9)
        theirs, ours = size(case.folder / "rival.zip"), size(case.folder / "out/agent.zip")
        print(f"agent tree of 150 MiB in 300 jar-like files, and the real scripts, on {cores} cores")
        line("tar | gzip -9 and zip -9 -r", rivals, f"{theirs:.1f} MiB")
        line("zip -0 -r", stored)
        line(f"cold build, {cores} cores", many, f"{rivals / many:.2f} times as fast, {ours:.1f} MiB")
        line("cold build, 1 core", one, f"{rivals / one:.2f} times as fast")
        line("cold build that fills a cache", filling)
        line("unchanged rebuild", warm, f"{rivals / warm:.2f} times as fast")
        line("sysvm bundle --help", help_time)
        print(f"  peak memory of a cold build: {memory:.0f} MiB")
        shutil.rmtree(case.folder)
        for mebibytes in (50, 150, 450):
            other = Case(folder / f"size-{mebibytes}", mebibytes)
            seconds = timed(partial(other.build, cores=cores), repeat=1)
            line(f"cold build of {mebibytes} MiB", seconds, f"{seconds / mebibytes * 1000:.1f} ms a MiB")
            shutil.rmtree(other.folder)
