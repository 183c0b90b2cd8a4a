"""Two builds of one source are byte-identical, whatever else differs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.archive import deflate
from bundle.seal.manifest import load

Tree = Callable[[Path, dict[str, bytes]], Path]
Make = Callable[..., Path]


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Return mode and digest of every file of a bundle."""
    return {
        path.name: (path.stat().st_mode & 0o7777, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    }


def run_build(source: Path, output: Path, script: Path, *extra: str, **environment: str) -> None:
    """Build in another process with only these environment variables beside the search path."""
    umask = environment.pop("UMASK", "022")
    command = "import os, sys; os.umask(int(sys.argv.pop(1), 8)); from harness.cli import main; main()"
    arguments = [
        "bundle",
        "build",
        "--no-cache",
        "--source",
        source,
        "--patch-script",
        script,
        "-o",
        output,
        *extra,
    ]
    subprocess.run(
        [sys.executable, "-c", command, umask, *map(str, arguments)],
        env={"PATH": os.environ["PATH"], **environment},
        check=True,
        capture_output=True,
        timeout=120,
    )


VARIATIONS = {
    "nothing": ((), {}),
    "time zone": ((), {"TZ": "Pacific/Auckland"}),
    "locale": ((), {"LC_ALL": "C"}),
    "UTF-8 locale": ((), {"LC_ALL": "C.UTF-8"}),
    "umask": ((), {"UMASK": "077"}),
    "open umask": ((), {"UMASK": "000"}),
    "home and user": ((), {"HOME": "/nonexistent", "USER": "someone", "LOGNAME": "someone"}),
    "hash seed": ((), {"PYTHONHASHSEED": "4711"}),
    "one worker": (("--workers", "1"), {}),
    "seven workers": (("--workers", "7"), {}),
}


@pytest.mark.parametrize(("extra", "environment"), VARIATIONS.values(), ids=VARIATIONS.keys())
def test_the_environment_does_not_change_the_bytes(
    extra: tuple[str, ...],
    environment: dict[str, str],
    source: Path,
    script: Path,
    bundle_dir: Path,
    tmp_path: Path,
) -> None:
    run_build(source, tmp_path / "other", script, *extra, **environment)
    assert contents(tmp_path / "other") == contents(bundle_dir)


def test_paths_creation_order_and_times_do_not_change_the_bytes(
    tree: Tree, reference_files: dict[str, bytes], bundle_dir: Path, make: Make, tmp_path: Path
) -> None:
    moved = tree(tmp_path / "a very different" / "Ort", dict(reversed(list(reference_files.items()))))
    for number, path in enumerate(sorted(moved.rglob("*"))):
        os.utime(path, (number * 10**6, number * 10**7))
    output = make(moved, tmp_path / "other place" / "out")
    assert contents(output) == contents(bundle_dir)


def test_modes_of_the_checkout_do_not_change_the_bytes(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path
) -> None:
    for path in source.rglob("*"):
        path.chmod(0o700)
    assert contents(make(source, tmp_path / "out")) == contents(bundle_dir)


def test_the_time_of_day_does_not_change_the_bytes(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 4102444800.0)
    assert contents(make(source, tmp_path / "out")) == contents(bundle_dir)


def test_the_user_does_not_change_the_bytes(public_place: Path, bundle_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    source, script, output = (
        public_place / "source",
        public_place / "foreign.sh",
        public_place / "writable/out",
    )
    # Everything is imported while the interpreter's own files can still be read.
    command = (
        "import os, sys; from pathlib import Path; import encodings.utf_16_be, bundle.seal.sbom\n"
        "from bundle.build import BuildOptions, build; from cyclonedx.output.json import JsonV1Dot5\n"
        "from packageurl import PackageURL; from cyclonedx.model import HashType, bom, component\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "source, script, output = map(Path, sys.argv[1:])\n"
        "build(BuildOptions(output=output, source=source, script=script, cache=False))\n"
    )
    arguments = [sys.executable, "-c", command, *map(str, (source, script, output))]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    assert (output / "manifest.json").stat().st_uid == 65534
    assert contents(output) == contents(bundle_dir)


def test_the_cache_does_not_change_the_bytes(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path
) -> None:
    cold = make(source, tmp_path / "cold", cache=True)
    warm = make(source, tmp_path / "warm", cache=True)
    assert contents(cold) == contents(warm) == contents(bundle_dir)


@pytest.mark.parametrize("epoch", ["0", "1", "315532799", "1700000000", "4354819199", "8589934591"])
def test_source_date_epoch_is_honoured(
    epoch: str, source: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    one, two = make(source, tmp_path / "one"), make(source, tmp_path / "two")
    assert contents(one) == contents(two)
    assert load(one / "manifest.json").facts.epoch == int(epoch)
    listing = subprocess.run(
        ["tar", "--utc", "--full-time", "-tvzf", one / "cloud-scripts.tgz"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    date = subprocess.run(
        ["date", "-u", "-d", f"@{epoch}", "+%F %T"], capture_output=True, text=True, check=True
    )
    assert all(date.stdout.strip() in line for line in listing.splitlines())
    subprocess.run(["unzip", "-tqq", one / "agent.zip"], check=True)


@pytest.mark.parametrize("epoch", ["-1", "now", "1.5", "99999999999"])
def test_an_impossible_source_date_epoch_is_refused(
    epoch: str, source: Path, sysvm: Callable, script: Path
) -> None:
    done = sysvm(
        "bundle", "build", "--source", source, "--patch-script", script, "-o", "out", SOURCE_DATE_EPOCH=epoch
    )
    assert done.returncode == 2
    assert f"invalid SOURCE_DATE_EPOCH '{epoch}'" in done.stderr


def test_other_content_gets_another_time_stamp(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path
) -> None:
    helper = source / "systemvm/debian/opt/cloud/bin/cs/helper.py"
    helper.write_bytes(helper.read_bytes().replace(b"1", b"2"))
    changed = load(make(source, tmp_path / "out") / "manifest.json").facts
    assert changed.epoch != load(bundle_dir / "manifest.json").facts.epoch


def test_the_archives_depend_on_their_members_only(source: Path, make: Make, tmp_path: Path) -> None:
    ours, theirs = (
        make(source, tmp_path / "ours", script=None, restart="always"),
        make(source, tmp_path / "theirs"),
    )
    for name in ("agent.zip", "cloud-scripts.tgz"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_another_zlib_changes_the_wrapper_and_not_the_content_digest(
    source: Path, bundle_dir: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deflate.deflate, "__kwdefaults__", {**deflate.deflate.__kwdefaults__, "level": 1})
    other = make(source, tmp_path / "out")
    assert (other / "agent.zip").read_bytes() != (bundle_dir / "agent.zip").read_bytes()
    one, two = load(other / "manifest.json"), load(bundle_dir / "manifest.json")
    assert one.content_digest == two.content_digest


def test_signed_builds_are_the_same_bytes_too(
    source: Path, make: Make, tmp_path: Path, sysvm: Callable
) -> None:
    sysvm("bundle", "keygen", "K")
    one = make(source, tmp_path / "one", key=tmp_path / "K")
    two = make(source, tmp_path / "two", key=tmp_path / "K")
    assert (one / "manifest.json.sig").is_file()
    assert contents(one) == contents(two)
