"""A source that is hostile, broken or in motion gives a clear error and no output."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import build
from bundle.archive import measure, output
from bundle.errors import InfrastructureError, UsageError
from bundle.inspect.verify import verify
from bundle.layout import is_bundle
from bundle.seal.manifest import load
from bundle.source.payload import read_overlay

Make = Callable[..., Path]
Tree = Callable[[Path, dict[str, bytes]], Path]


def only(folder: Path, *names: str) -> bool:
    """Say whether a folder holds these names and no scratch files."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.fixture
def refused(source: Path, make: Make, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that builds, and expects one clear error and no output."""

    def run(words: str) -> None:
        (tmp_path / "place").mkdir(exist_ok=True)
        with pytest.raises(UsageError) as caught:
            make(source, tmp_path / "place" / "out")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert only(tmp_path / "place")

    return run


def test_a_link_that_leaves_the_tree(source: Path, refused: Callable[[str], None]) -> None:
    (source / "systemvm/debian/etc/shadow").symlink_to("/etc/shadow")
    refused("the symbolic link leaves the tree")


def test_a_link_that_climbs_out(source: Path, refused: Callable[[str], None]) -> None:
    (source.parent / "secret").write_text("secret")
    (source / "systemvm/debian/etc/up").symlink_to("../../../../secret")
    refused("the symbolic link leaves the tree")


def test_a_dangling_link(source: Path, refused: Callable[[str], None]) -> None:
    (source / "systemvm/debian/etc/dangling").symlink_to("nothing")
    refused("does not lead to a regular file")


def test_a_link_to_a_folder(source: Path, refused: Callable[[str], None]) -> None:
    (source / "systemvm/debian/etc/loop").symlink_to(".")
    refused("does not lead to a regular file")


def test_a_link_to_a_file_inside_the_tree_is_shipped_as_that_file(
    source: Path, make: Make, tmp_path: Path
) -> None:
    (source / "systemvm/debian/etc/near").symlink_to("haproxy/haproxy.cfg")
    members = {
        row.path: row
        for row in load(make(source, tmp_path / "out") / "manifest.json").members["cloud-scripts.tgz"]
    }
    assert members["etc/near"].sha256 == members["etc/haproxy/haproxy.cfg"].sha256


def test_a_pipe(source: Path, refused: Callable[[str], None]) -> None:
    os.mkfifo(source / "systemvm/debian/etc/pipe")
    refused("neither a file nor a folder")


def test_a_socket(source: Path, refused: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source / "systemvm/debian/etc")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        refused("neither a file nor a folder")


def test_a_device(source: Path, refused: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(source / "systemvm/debian/etc/null", 0o20666, os.makedev(1, 3))
    refused("neither a file nor a folder")


@pytest.mark.parametrize("name", ["new\nline", "tab\tulator", "escape\x1b[2J", "delete\x7f", "c1\x85"])
def test_control_characters_in_a_name(name: str, source: Path, refused: Callable[[str], None]) -> None:
    (source / "systemvm/debian/etc" / name).write_text("x")
    refused("has control characters")


def test_a_name_that_is_not_utf8(source: Path, refused: Callable[[str], None]) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/systemvm/agent/\xff")).write_text("x")
    refused("is not UTF-8")


def test_an_unreadable_file(public_place: Path) -> None:
    source, script, place = public_place / "source", public_place / "foreign.sh", public_place / "writable"
    secret = source / "systemvm/debian/etc/unreadable"
    secret.write_text("x")
    secret.chmod(0)
    command = (
        "import os, sys; from pathlib import Path; import encodings.utf_16_be, bundle.source.checkout\n"
        "from bundle.build import BuildOptions, build; from bundle.errors import UsageError\n"
        "os.geteuid() or os.setuid(65534)\n"
        "source, script, output = map(Path, sys.argv[1:])\n"
        "try: build(BuildOptions(output=output, source=source, script=script, cache=False))\n"
        "except UsageError as error: print(error)\n"
    )
    arguments = [sys.executable, "-c", command, *map(str, (source, script, place / "out"))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd="/", check=False)
    assert done.stdout == f"{secret}: Permission denied\n", done.stderr
    assert only(place)


@pytest.mark.parametrize("archive", ["agent", "debian"])
def test_a_file_that_changes_after_it_was_measured(
    archive: str, source: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = source / "systemvm" / archive / "victim"
    victim.write_bytes(b"before")
    real = build._facts

    def changing(*arguments: object) -> object:
        victim.write_bytes(b"AFTER!")
        return real(*arguments)

    monkeypatch.setattr(build, "_facts", changing)
    (tmp_path / "place").mkdir()
    with pytest.raises(UsageError, match="victim: the file changed while it was read"):
        make(source, tmp_path / "place" / "out")
    assert only(tmp_path / "place")


def test_a_file_that_grows_while_it_is_measured(
    source: Path, refused: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = source / "systemvm/debian/etc/haproxy/haproxy.cfg"
    real = measure._read

    def growing(file: object, size: int, path: Path) -> bytes:
        block = real(file, size, path)
        if path == victim and block:
            with victim.open("ab") as more:
                more.write(b"more")
        return block

    monkeypatch.setattr(measure, "_read", growing)
    refused("the file changed while it was read")


def test_a_file_that_vanishes(
    source: Path, refused: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measure.open_regular

    def vanishing(path: Path) -> int:
        if path.name == "haproxy.cfg":
            path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(measure, "open_regular", vanishing)
    refused("haproxy.cfg: No such file or directory")


def test_a_full_disk_leaves_nothing(source: Path, script: Path, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (source / "systemvm/agent/large").write_bytes(os.urandom(4 << 20))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    command = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from harness.cli import main; main()"
    )
    arguments = [
        "bundle",
        "build",
        "--source",
        source,
        "--patch-script",
        script,
        "-o",
        tmp_path / "place" / "out",
    ]
    done = subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert only(tmp_path / "place")


def test_a_really_full_disk_keeps_the_former_bundle(source: Path, script: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs a mount namespace")
    (source / "systemvm/agent/large").write_bytes(os.urandom(600 << 10))
    steps = (
        'set -e; mount -t tmpfs -o size=1m none "$1"; cd "$1"\n'
        'sysvm() { "$2" -c "from harness.cli import main; main()" bundle build --no-cache --source "$3" '
        '--script "$4" -o out; }\n'
        'sysvm "$@"; before=$(sha512sum out/*); head -c 500000 /dev/urandom > "$3/systemvm/agent/large2"\n'
        'status=0; sysvm "$@" || status=$?; [ "$before" = "$(sha512sum out/*)" ]; [ "$(ls -A)" = out ]; exit $status\n'
    )
    (tmp_path / "mount").mkdir()
    arguments = [str(tmp_path / "mount"), sys.executable, str(source), str(script)]
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", steps, "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "mount" in done.stderr and "permission denied" in done.stderr.lower():
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 3, done.stderr
    assert "No space left on device" in done.stderr


def test_a_folder_that_holds_something_else_is_not_replaced(source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        make(source, tmp_path / "out")
    assert only(tmp_path / "out", "thesis.txt")


def test_a_bundle_with_a_file_of_yours_is_not_replaced(bundle_dir: Path, source: Path, make: Make) -> None:
    (bundle_dir / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        make(source, bundle_dir)
    assert (bundle_dir / "notes.txt").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_not_replaced(source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="exists and is not a folder"):
        make(source, tmp_path / "out")


def test_a_former_bundle_is_replaced_at_once(source: Path, make: Make, tmp_path: Path) -> None:
    make(source, tmp_path / "place/out")
    (source / "systemvm/debian/etc/new.conf").write_text("new")
    make(source, tmp_path / "place/out")
    verify(tmp_path / "place/out")
    assert only(tmp_path / "place", "out")


def test_without_an_exchange_the_former_bundle_is_replaced_in_two_steps(
    source: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_exchange", lambda one, two: False)
    make(source, tmp_path / "place/out")
    make(source, tmp_path / "place/out", release="4.21")
    assert load(tmp_path / "place/out/manifest.json").facts.release == "4.21"
    assert only(tmp_path / "place", "out")


def test_many_builds_into_one_folder_at_once_leave_one_complete_bundle(
    source: Path, make: Make, tmp_path: Path
) -> None:
    errors: list[BaseException] = []

    def run(release: str) -> None:
        try:
            for _ in range(3):
                make(source, tmp_path / "place/out", release=release, workers=1, cache=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"4.{number}",)) for number in (17, 18, 19, 20, 21, 22)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    verify(tmp_path / "place/out")
    assert only(tmp_path / "place", "out")


def test_an_output_that_cannot_be_made(source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InfrastructureError, match="cannot write"):
        make(source, tmp_path / "file" / "out")


def test_a_link_to_a_bundle_is_followed(bundle_dir: Path, source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle_dir)
    make(source, tmp_path / "link", release="4.21")
    assert (tmp_path / "link").is_symlink()
    assert load(bundle_dir / "manifest.json").facts.release == "4.21"


def test_leftovers_are_not_shipped(
    source: Path, bundle_dir: Path, make: Make, tree: Tree, tmp_path: Path
) -> None:
    leftovers = dict.fromkeys(
        (".git/config", "a~", "#b#", ".c.swp~", "__pycache__/x.pyc", ".DS_Store", "x.pyc"), b"x"
    )
    tree(source / "systemvm/debian/opt", leftovers)
    out = make(source, tmp_path / "out")
    assert (out / "manifest.json").read_bytes() == (bundle_dir / "manifest.json").read_bytes()


def test_empty_folders_are_not_shipped(source: Path, bundle_dir: Path, make: Make, tmp_path: Path) -> None:
    (source / "systemvm/debian/empty/deep").mkdir(parents=True)
    out = make(source, tmp_path / "out")
    assert (out / "manifest.json").read_bytes() == (bundle_dir / "manifest.json").read_bytes()


def test_a_missing_source_is_the_users_mistake(tmp_path: Path, make: Make) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        make(tmp_path / "absent", tmp_path / "out")


def test_is_bundle_wants_a_manifest(bundle_dir: Path, tmp_path: Path) -> None:
    assert is_bundle(bundle_dir)
    (bundle_dir / "manifest.json").unlink()
    assert not is_bundle(bundle_dir)


OVERLAYS = [
    ("absent = [", "overlay.toml"),
    ("gone = []", "unknown key 'gone'"),
    ('[modes]\n"etc/x" = 644', "is a string of octal digits"),
    ('[modes]\n"etc/x" = "rw"', "is a string of octal digits"),
]


@pytest.mark.parametrize(("text", "words"), OVERLAYS)
def test_a_malformed_overlay_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "overlay.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_overlay(tmp_path)
    assert words in str(caught.value)
