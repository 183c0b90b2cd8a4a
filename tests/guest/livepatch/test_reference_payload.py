"""The bundles that ``sysvm bundle build`` makes of the reference payload, from one release to the next."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundle.build import BuildOptions, build
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import FolderVm
from tests.guest.livepatch.states import differences
from tests.guest.livepatch.walk import TYPES


@dataclass(frozen=True)
class Pair:
    """The bundles of two neighbouring releases."""

    old: bundles.Bundle
    new: bundles.Bundle


def _built(folder: Path, release: str) -> bundles.Bundle:
    output = folder / release
    build(BuildOptions(output=output, release=release))
    return bundles.Bundle(
        agent=(output / "agent.zip").read_bytes(),
        scripts=(output / "cloud-scripts.tgz").read_bytes(),
        script=(output / "patch-sysvms.sh").read_text(),
        manifest="",
        signature=(output / "cloud-scripts-signature").read_text().strip(),
    )


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("reference")
    return Pair(_built(folder, "4.21"), _built(folder, "4.22"))


def _install(lab: FolderVm, bundle: bundles.Bundle) -> None:
    """Make the lab's VM one that was booted with this bundle and never patched."""
    cache = lab.root / "var/cache/cloud"
    (lab.root / "usr/share/cloud/cloud-scripts.tgz").write_bytes(bundle.scripts)
    (cache / "cloud-scripts-signature").write_text(bundle.signature + "\n")
    for name in ("installed.manifest", "installed.signature"):
        (lab.root / "var/lib/cloud-livepatch" / name).unlink()
    subprocess.run(["tar", "-xzpf", "-", "-C", lab.root], input=bundle.scripts, check=True)
    (lab.root / "run/lab/units/haproxy.service/checks").unlink()


@pytest.mark.parametrize("type_", TYPES)
def test_goes_from_one_release_to_the_next(stage, pair, type_):
    with stage.clone(type_) as lab:
        _install(lab, pair.old)
        run = lab.patch(pair.new)
        assert (run.status, run.output) == (0, f"version:{pair.new.signature} \n")
        kept = [
            path
            for path in lab.state()
            if path.endswith(".dist-old") and not path.startswith("usr/local/cloud")
        ]
        assert not kept, "nobody changed anything, yet versions were kept"
        before = lab.state(times=False)
        assert lab.patch(pair.new).status == 0
        assert not differences(before, lab.state(times=False))


def _folder_modes(lab: FolderVm) -> dict[str, int]:
    """Return the modes of the folders that a patch may touch, by path."""
    tops = [
        lab.root / top for top in ("etc", "opt", "root", "usr/local", "usr/share/cloud", "var/cache/cloud")
    ]
    folders = [
        path for top in tops for path in (top, *top.rglob("*")) if path.is_dir() and not path.is_symlink()
    ]
    return {str(path.relative_to(lab.root)): path.stat().st_mode & 0o7777 for path in folders}


@pytest.mark.parametrize("type_", TYPES)
def test_leaves_the_modes_of_folders_alone(stage, pair, type_):
    with stage.clone(type_) as lab:
        _install(lab, pair.old)
        before = _folder_modes(lab)
        assert lab.patch(pair.new).status == 0
        after = _folder_modes(lab)
        assert {path: mode for path, mode in after.items() if before.get(path, 0o755) != mode} == {}


@pytest.mark.parametrize("type_", TYPES)
def test_returns_to_the_release_before(stage, pair, type_):
    with stage.clone(type_) as lab:
        _install(lab, pair.old)
        service = {"router": "dnsmasq", "ilbvm": "haproxy"}.get(type_, "cloud")
        (lab.root / f"run/lab/units/{service}.service/flaps").write_text("1\n")
        (lab.root / f"run/lab/units/{service}.service/stubborn").write_text("")
        before = lab.state()
        run = lab.patch(pair.new, LIVEPATCH_SOAK="1")
        assert run.status == 1, run
        assert service in run.output
        assert not differences(before, lab.state())
