"""The base: what mmdebstrap makes of a package set. It costs most of the time and changes least, so it is cached."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundle import programs
from bundle.errors import InfrastructureError
from bundle.paths import payload_root
from harness.host import cache, sources
from harness.image import mirror
from harness.image.spec import Plan
from harness.image.tree import Tree
from harness.record.steps import Progress

KIND = "bases"
_TREE = "tree.json"
_LONGEST_REASON = 300
# Manuals and translations are never read in a system VM; copyright files stay, their licences ask for it.
_DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
)


@dataclass(frozen=True)
class Base:
    """A cached base: its key and where it lies."""

    key: str
    path: Path
    epoch: int

    def tree(self, objects: Path) -> Tree:
        """Return its contents; what is changed in them is kept in ``objects``."""
        return Tree.load(self.path / _TREE, objects, epoch=self.epoch)


def obtain(plan: Plan, progress: Progress) -> Base:
    """Return the base of a plan, from the cache or made now.

    Raises:
        InfrastructureError: mmdebstrap failed; the message has its last lines.
    """
    key = key_of(plan)
    path = cache.entry(KIND, key)
    if not path.is_dir():
        cache.obtain(KIND, key, lambda folder: _make(plan, folder, progress))
    return Base(key, path, plan.epoch)


def key_of(plan: Plan) -> str:
    """Return the base's key: everything that decides its bytes, as far as it is known before the mirror is asked."""
    return cache.key_of(
        plan.debian.codename,
        plan.debian.kernel_package,
        plan.kind,
        plan.packages,
        plan.mirror_lines,
        plan.epoch,
        cache.digest_of_files(_hooks()),
        sources.digest_behind(__name__),
    )


def _hooks() -> list[Path]:
    return sorted((payload_root() / "template" / "hooks").iterdir())


def _make(plan: Plan, folder: Path, progress: Progress) -> None:
    archive = folder / "base.tar"
    with progress.step(
        f"Debian {plan.debian.number}: {len(plan.packages)} packages and what they need"
    ) as step:
        _mmdebstrap(plan, folder, archive, step.note)
    with progress.step("reading the file system"):
        tree = Tree(folder / "objects", epoch=plan.epoch)
        with archive.open("rb") as file:
            tree.read_tar(file)
        tree.save(folder / _TREE)
    archive.unlink()


def _mmdebstrap(plan: Plan, folder: Path, archive: Path, note: Callable[[str], None]) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    # apt downloads as a user of its own, who must get there.
    for path in (folder, scratch):
        path.chmod(0o755)
    command = command_line(plan, archive)
    for program in (command[0], "mmdebstrap"):
        programs.require(program, "build the template")
    log = cache.cache_root() / "logs" / f"{folder.name.split('.')[0]}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as kept:
        with programs.starting(command[0], "build the template"):
            process = subprocess.Popen(
                command, env=_environment(plan, scratch), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", umask=0o022,
            )  # fmt: skip
        with process:
            try:
                for line in process.stdout or ():
                    kept.write(line)
                    note(line.rstrip())
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        raise InfrastructureError(_failure(plan, log.read_text().splitlines(), log))
    log.unlink()
    cache.remove(scratch)


def _environment(plan: Plan, scratch: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(plan.epoch),
        "IMAGE_KERNEL": plan.debian.kernel_package,
        "IMAGE_TYPE": plan.kind,
        # Read by the kernel hook of initramfs-tools: the image gets an initramfs of ours.
        "INITRD": "No",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "TMPDIR": str(scratch),
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }


def command_line(plan: Plan, archive: Path) -> list[str]:
    """Return the command that makes the base.

    As root its mounts live in a mount namespace of its own, and everything dies with this process: a killed build
    leaves no mount behind and no process.
    """
    leash = ["setpriv", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        leash += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    options = [
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--format=tar",
        "--variant=minbase",
        "--architectures=amd64",
        f"--include={','.join(plan.packages)}",
        *(f"--keyring={path}" for path in mirror.keyrings()),
        *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
        *(f"--aptopt={option}" for option in (*mirror.apt_options(), *_apt_options(plan))),
        # Alternatives of Java have manuals beside them, and fail where the folder is missing.
        '--essential-hook=mkdir -p "$1"/usr/share/man/man1',
        *(f'--customize-hook={shlex.quote(str(path))} "$1"' for path in _hooks()),
        # The build's settings of apt, the host's proxy among them, are no business of the image.
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
    ]
    return [*leash, "mmdebstrap", *options, plan.debian.codename, str(archive), *plan.mirror_lines]


def _apt_options(plan: Plan) -> tuple[str, ...]:
    """Releases in the archive have expired indices; that is their nature and no attack."""
    return ('Acquire::Check-Valid-Until "false"',) if plan.debian.mirror == "archive" else ()


def _failure(plan: Plan, lines: list[str], log: Path) -> str:
    """Pick what apt or mmdebstrap said first; the rest follows from it."""
    errors = (
        [line for line in lines if line.startswith(("E: ", "dpkg: error"))] or lines[-1:] or ["no output"]
    )
    reason = errors[0].removeprefix("E: ")[:_LONGEST_REASON]
    return f"image build: mmdebstrap for Debian {plan.debian.number} failed: {reason} (log: {log})"
