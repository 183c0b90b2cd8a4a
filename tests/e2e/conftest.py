"""What the end-to-end tests share: the scenarios' own fixtures, and a count of what the host holds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.host import runtime
from harness.host.cache import cache_root
from harness.host.hypervisor import PREFIX, hypervisor
from harness.host.ports import reserved
from harness.machine import ram
from harness.vm import taps
from tests.other_host import OtherHost
from tests.processes import command_lines

_RUN_LOCK = re.compile(r"/runs/([0-9a-f]{6})/lock$")
pytest_plugins = ["harness.plugin"]
# What takes longest is begun first: each file is one worker's.
_LONGEST = (
    "test_scenarios.py",
    "test_miniature.py",
    "test_main_job.py",
    "test_judging.py",
    "test_types.py",
    "test_api.py",
)
# Tests side by side have a run folder and a daemon each: what one leaves, or keeps, is not the other's.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if _WORKER:
    os.environ["SYSVM_STATE"] = (
        f"/run/sysvm-e2e-{_WORKER}" if os.geteuid() == 0 else f"/tmp/sysvm-e2e-{_WORKER}"
    )


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_unconfigure():
    if _WORKER:
        shutil.rmtree(os.environ["SYSVM_STATE"], ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption("--all-scenarios", action="store_true", help="every shipped scenario on every type")
    parser.addoption(
        "--transaction",
        metavar="N",
        type=int,
        default=0,
        help="every way out of a live patch that is stuck, every refusal before a boot, N cases of each walk",
    )


@dataclass(frozen=True)
class Holdings:
    """What runs leave on a host if they leave anything."""

    domains: frozenset[str]
    runs: frozenset[str]
    overlays: frozenset[str]
    ports: frozenset[int]
    unfinished: frozenset[str]
    processes: frozenset[str]
    namespaces: frozenset[str]
    memory: frozenset[str]
    groups: frozenset[str]


def holdings() -> Holdings:
    """Return what is there now."""
    with hypervisor() as host:
        domains = frozenset(domain.name() for domain in host.domains())
    golden = cache_root() / "golden"
    return Holdings(
        domains,
        _names(runtime.runs_folder()),
        frozenset(f"{path.parent.name}/{path.name}" for path in (cache_root() / "work").glob("*/*")),
        reserved(),
        frozenset(p.name for p in golden.glob("*") if p.is_dir() and not (p / "golden.json").exists()),
        _processes(),
        frozenset(path.name for path in taps.NAMESPACES.glob(f"{PREFIX}*")),
        frozenset(path.name for path in ram.MEMORY.glob(f"{PREFIX}*")),
        frozenset(path.name for path in Path("/sys/fs/cgroup").glob(f"*/machine/qemu-*-{PREFIX}*")),
    )


def _processes() -> frozenset[str]:
    """Return the names of the guests of all QEMU processes that belong to this project."""
    found = set()
    for _, line in command_lines():
        found |= set(re.findall(r"guest=(sysvm-[^,]+),", line))
    return frozenset(found)


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.glob("*"))


def _strangers() -> set[str]:
    """Return the ids of runs that other processes are at, or keep elsewhere: what they hold is not ours."""
    mine = {runtime.state_root(), Path(f"/run/sysvm-other-{os.getpid()}")}
    found = {path.name for path in Path("/run").glob("sysvm-*/runs/*") if path.parents[1] not in mine}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        if descriptor.parts[2] == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if open_lock := _RUN_LOCK.search(str(descriptor.readlink())):
                found.add(open_lock[1])
    return found


@pytest.fixture
def nothing_left():
    """Fail a test that leaves a domain, folder, disk, RAM, namespace, control group, port or half snapshot behind."""
    before = holdings()
    yield
    earlier = _strangers()
    after, strangers = holdings(), earlier | _strangers()
    left = (after.domains - before.domains) | (after.runs - before.runs) | (after.overlays - before.overlays)
    left |= (after.processes - before.processes) | (after.namespaces - before.namespaces)
    left |= (after.memory - before.memory) | (after.groups - before.groups)
    mine = {name for name in left if not any(stranger in name for stranger in strangers)}
    assert not mine
    if not strangers and not _WORKER:  # another worker's ports come and go
        assert not after.ports - before.ports
    if not strangers:
        assert not after.unfinished - before.unfinished


@pytest.fixture
def sysvm(tmp_path):
    """Run the command as a person does; returns status, standard output and standard error."""

    def run(*arguments, environment=None, deadline=900):
        return subprocess.run(
            [sys.executable, "-c", "from harness.cli import main; main()", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=deadline,
            env={**os.environ, **(environment or {})},
        )

    return run


@pytest.fixture
def other_host(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root has a daemon of its own")
    state = Path(f"/run/sysvm-other-{os.getpid()}")
    with OtherHost(state, tmp_path) as host:
        yield host
