"""A bundle is signed by a key in a file, by a program that has it, or by signatures made elsewhere."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, UsageError
from bundle.inspect.verify import verify
from bundle.seal.ecdsa import generate, load_private, load_public
from bundle.seal.signer import AttachedSigner, CommandSigner, KeySigner, choose, key_id
from bundle.ship.resign import sign

Make = Callable[..., Path]


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return generate(tmp_path / "K")


@pytest.fixture
def program(tmp_path: Path, public: Path) -> str:
    """Return a command that signs as a program of a hardware module does."""
    return f"openssl dgst -sha384 -sign {tmp_path / 'K'}"


@pytest.mark.parametrize("how", ["file", "variable"])
def test_an_encrypted_key_opens_with_its_passphrase(
    how: str, bundle_dir: Path, tmp_path: Path, sysvm: Callable
) -> None:
    (tmp_path / "pass").write_text("correct horse\n")
    assert sysvm("bundle", "keygen", "E", "--passphrase-file", "pass").returncode == 0
    assert b"ENCRYPTED" in (tmp_path / "E").read_bytes()
    locked = sysvm("bundle", "sign", bundle_dir, "--key", "E")
    assert (locked.returncode, "the key is encrypted" in locked.stderr) == (2, True)
    if how == "file":
        done = sysvm("bundle", "sign", bundle_dir, "--key", "E", "--passphrase-file", "pass")
    else:
        done = sysvm("bundle", "sign", bundle_dir, "--key", "E", SYSVM_KEY_PASSPHRASE="correct horse")
    assert done.returncode == 0
    assert verify(bundle_dir, tmp_path / "E.pub").trusted


def test_a_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    generate(tmp_path / "E", b"right")
    with pytest.raises(UsageError, match="not a private key in PEM that can be opened"):
        load_private(tmp_path / "E", b"wrong")


def test_a_program_signs_what_the_key_would(
    source: Path, make: Make, tmp_path: Path, public: Path, program: str
) -> None:
    signer = choose(None, None, program, None, public)
    out = make(source, tmp_path / "out", script=None, signer=signer)
    assert verify(out, public).trusted
    text = (out / "patch-sysvms.sh").read_text()
    assert "payload_signature" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("false", "false did not sign"),
        ("/nonexistent/program", "No such file"),
        ("echo nonsense", "not a signature by the key of --public"),
        ("true", "0 bytes are no signature"),
        ("unclosed '", "No closing quotation"),
        ("", "names no program"),
    ],
)
def test_a_program_that_does_not_sign_is_refused(command: str, words: str, public: Path) -> None:
    with pytest.raises(UsageError, match=words):
        CommandSigner(load_public(public), command).sign(b"data")


def test_a_program_with_another_key_is_refused(tmp_path: Path, program: str) -> None:
    other = load_public(generate(tmp_path / "other"))
    with pytest.raises(UsageError, match="not a signature by the key of --public"):
        CommandSigner(other, program).sign(b"data")


def test_signatures_made_elsewhere_are_attached(
    source: Path, make: Make, tmp_path: Path, public: Path, sysvm: Callable
) -> None:
    out = make(source, tmp_path / "out", script=None)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    command = ("bundle", "sign", out, "--signatures", "elsewhere", "--public", public)
    for _ in range(4):
        done = sysvm(*command)
        if done.returncode == 0:
            break
        assert (done.returncode, "put the DER signature there" in done.stderr) == (1, True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        (data,) = [
            path for path in (tmp_path / "elsewhere").glob("*.data") if not path.with_suffix(".sig").exists()
        ]
        openssl = [
            "openssl",
            "dgst",
            "-sha384",
            "-sign",
            tmp_path / "K",
            "-out",
            data.with_suffix(".sig"),
            data,
        ]
        subprocess.run(openssl, check=True)
    assert done.returncode == 0
    assert verify(out, public).trusted


def test_an_attached_signature_of_another_key_is_refused(tmp_path: Path, public: Path) -> None:
    signer = AttachedSigner(load_public(public), tmp_path / "elsewhere")
    with pytest.raises(CheckFailed, match=r"\.sig is missing"):
        signer.sign(b"data")
    (data,) = (tmp_path / "elsewhere").glob("*.data")
    assert data.read_bytes() == b"data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o644
    generate(tmp_path / "other")
    data.with_suffix(".sig").write_bytes(KeySigner(load_private(tmp_path / "other")).sign(b"data"))
    with pytest.raises(UsageError, match="not a signature by the key of --public"):
        signer.sign(b"data")


def test_one_way_to_sign_is_chosen(tmp_path: Path, public: Path) -> None:
    with pytest.raises(UsageError, match="several ways to sign"):
        choose(tmp_path / "K", None, "cat", None, public)
    with pytest.raises(UsageError, match="the public key is missing"):
        choose(None, None, "cat", None, None)
    assert choose(None, None, None, None, None) is None


def test_the_guest_manifest_names_key_and_build(
    source: Path, make: Make, tmp_path: Path, public: Path
) -> None:
    out = make(source, tmp_path / "out", script=None, key=tmp_path / "K", build=17)
    command = ". /dev/stdin; payload_manifest"
    text = (out / "patch-sysvms.sh").read_text()
    line = next(row for row in text.splitlines() if row.startswith("payload_manifest()"))
    rest = text[text.index(line) : text.index("payload_signature()")]
    done = subprocess.run(["bash", "-c", command], input=rest, capture_output=True, text=True, check=True)
    rows = dict(row.split("\t", 1) for row in done.stdout.splitlines()[:7])
    assert rows["build"] == "17"
    assert rows["key"] == key_id(load_public(public))


def test_signing_twice_keeps_the_content(bundle_dir: Path, tmp_path: Path, public: Path) -> None:
    before = verify(bundle_dir).manifest.content_digest
    assert sign(bundle_dir, tmp_path / "K", None).content_digest == before
