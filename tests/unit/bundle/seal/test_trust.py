"""A folder of keys trusts as long as a key is neither revoked nor past its last day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, UsageError
from bundle.inspect.verify import verify
from bundle.seal.ecdsa import generate, load_private, load_public
from bundle.seal.signer import KeySigner, key_id
from bundle.seal.trust import load
from bundle.ship.resign import sign


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a folder with the public halves of the keys K and L."""
    folder = tmp_path / "trust"
    folder.mkdir()
    for name in ("K", "L"):
        generate(tmp_path / name).rename(folder / f"{name}.pub")
    return folder


def name_of(path: Path) -> str:
    return key_id(load_public(path))


def signature(tmp_path: Path, name: str) -> bytes:
    return KeySigner(load_private(tmp_path / name)).sign(b"data")


@pytest.mark.parametrize("name", ["K", "L"])
def test_any_key_of_the_folder_is_trusted(name: str, store: Path, bundle_dir: Path, tmp_path: Path) -> None:
    sign(bundle_dir, tmp_path / name, None)
    assert verify(bundle_dir, store).trusted


def test_a_key_that_is_not_in_the_folder_is_not(store: Path, tmp_path: Path) -> None:
    generate(tmp_path / "M")
    with pytest.raises(CheckFailed, match="not made with the trusted key"):
        load(store).check(signature(tmp_path, "M"), b"data", "x")


def test_a_revoked_key_is_refused_and_the_others_stay(
    store: Path, bundle_dir: Path, tmp_path: Path, sysvm: Callable
) -> None:
    (store / "revoked").write_text(f"# lost in May\n{name_of(store / 'K.pub')}  # a laptop\n")
    sign(bundle_dir, tmp_path / "K", None)
    done = sysvm("bundle", "verify", bundle_dir, "--trust", store)
    assert (done.returncode, "which is revoked" in done.stderr) == (1, True)
    sign(bundle_dir, tmp_path / "L", None)
    assert sysvm("bundle", "verify", bundle_dir, "--trust", store).returncode == 0


def test_a_key_counts_until_the_end_of_its_last_day(store: Path, tmp_path: Path) -> None:
    (store / "expires").write_text(f"{name_of(store / 'K.pub')} 2027-12-31\n")
    trust = load(store)
    trust.check(signature(tmp_path, "K"), b"data", "x", date(2027, 12, 31))
    with pytest.raises(CheckFailed, match="expired after 2027-12-31"):
        trust.check(signature(tmp_path, "K"), b"data", "x", date(2028, 1, 1))
    trust.check(signature(tmp_path, "L"), b"data", "x", date(2028, 1, 1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("revoked", "K\n"),
        ("revoked", "0" * 64 + " more words\n"),
        ("expires", "0" * 64 + "\n"),
        ("expires", "0" * 64 + " soon\n"),
        ("revoked", "\udcff"),
    ],
)
def test_a_list_that_cannot_be_read_trusts_nobody(name: str, text: str, store: Path) -> None:
    (store / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=name):
        load(store)


def test_an_empty_folder_trusts_nobody(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no public key"):
        load(tmp_path / "empty")
