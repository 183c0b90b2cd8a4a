"""Building into a folder that is there: a signed bundle of another content is somebody's, and stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle import layout
from bundle.build import BuildOptions, WouldReplaceError, build
from bundle.paths import payload_root
from bundle.seal.ecdsa import generate
from harness.cli import sysvm


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    generate(folder / "K")
    return build(BuildOptions(output=folder / "out", release="4.22", key=folder / "K", cache=False)).folder


@pytest.fixture
def there(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "out"))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another tree than that of the signed bundle."""
    tree = tmp_path / "tree"
    shutil.copytree(payload_root(), tree, symlinks=True)
    (tree / "debian/root/more.sh").write_text("#!/bin/bash\n")
    return tree


def test_a_signed_bundle_of_another_content_is_not_replaced(there: Path, other: Path) -> None:
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    with pytest.raises(WouldReplaceError, match="holds a signed bundle of CloudStack 4") as refused:
        build(BuildOptions(output=there, source=other, release="4.22", cache=False))
    assert "--force" in refused.value.hint
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


def test_force_replaces_it(there: Path, other: Path) -> None:
    build(BuildOptions(output=there, source=other, release="4.22", cache=False, force=True))
    assert not (there / layout.MANIFEST_SIGNATURE).exists()


def test_the_same_content_is_made_again_without_a_word(there: Path) -> None:
    assert build(BuildOptions(output=there, release="4.22", cache=False)).folder == there


def test_a_bundle_without_signature_is_replaced_as_before(there: Path, other: Path) -> None:
    (there / layout.MANIFEST_SIGNATURE).unlink()
    assert build(BuildOptions(output=there, source=other, release="4.22", cache=False)).folder == there


def test_a_signed_bundle_whose_manifest_cannot_be_read_is_not_replaced(there: Path) -> None:
    (there / layout.MANIFEST).write_text("{")
    with pytest.raises(WouldReplaceError, match="a manifest that cannot be read"):
        build(BuildOptions(output=there, release="4.22", cache=False))


def test_without_a_terminal_the_command_refuses_and_says_how(there: Path, other: Path) -> None:
    command = ["bundle", "build", "--source", str(other), "--release", "4.22", "--no-cache", "-o", str(there)]
    refused = CliRunner().invoke(sysvm, command, standalone_mode=False)
    assert isinstance(refused.exception, WouldReplaceError)
    assert CliRunner().invoke(sysvm, [*command, "--force"], standalone_mode=False).exception is None
