"""Trust of a host: one public key, or a folder of keys with their last days and a list of revoked ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import CheckFailed, UsageError
from bundle.seal import ecdsa
from bundle.seal.signer import key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

REVOKED, EXPIRES = "revoked", "expires"
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Trust:
    """Keys by name, and what is known against them.

    Attributes:
        keys: public keys by name.
        revoked: names of keys whose signatures count no longer.
        expires: by name, the last day on which a key's signatures count, in UTC.
    """

    keys: dict[str, EllipticCurvePublicKey]
    revoked: frozenset[str] = frozenset()
    expires: dict[str, date] = field(default_factory=dict)

    def check(self, signature: bytes, data: bytes, where: str, today: date | None = None) -> None:
        """Check a signature.

        Args:
            signature: in DER.
            data: what should have been signed.
            where: what a person calls it.
            today: the day, in UTC; None asks the clock.

        Raises:
            CheckFailed: no key of ours made it, or the one that did is revoked or has expired.
        """
        name = next((name for name, key in self.keys.items() if _fits(key, signature, data, where)), None)
        if name is None:
            raise CheckFailed(f"{where}: the signature was not made with the trusted key over these bytes")
        if name in self.revoked:
            raise CheckFailed(f"{where}: the signature was made with key {name[:16]}, which is revoked")
        last = self.expires.get(name)
        if last is not None and (today or datetime.now(UTC).date()) > last:
            raise CheckFailed(
                f"{where}: the signature was made with key {name[:16]}, which expired after {last}"
            )


def _fits(key: EllipticCurvePublicKey, signature: bytes, data: bytes, where: str) -> bool:
    try:
        ecdsa.check(key, signature, data, where)
    except CheckFailed:
        return False
    return True


def _rows(path: Path, words: int) -> list[list[str]]:
    """Return the lines of a list: a key's name first, at least so many words; what follows ``#`` is a remark."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        row = line.partition("#")[0].split()
        if not row:
            continue
        if len(row) != words or not _ID.fullmatch(row[0]):
            raise UsageError(
                f"{path}, line {number}: expected the SHA-256 of a key{' and a day' * (words - 1)}"
            )
        found.append(row)
    return found


def load(path: Path) -> Trust:
    """Read a public key in PEM, or a folder of keys (``*.pem``, ``*.pub``) with the lists ``revoked`` and ``expires``.

    Raises:
        UsageError: a key or a list cannot be read, or the folder has no key.
    """
    if not path.is_dir():
        key = ecdsa.load_public(path)
        return Trust({key_id(key): key})
    files = sorted([*path.glob("*.pem"), *path.glob("*.pub")])
    if not files:
        raise UsageError(f"{path}: no public key (*.pem or *.pub)")
    keys = {key_id(key): key for key in map(ecdsa.load_public, files)}
    expires = {}
    for name, day in _rows(path / EXPIRES, 2):
        try:
            expires[name] = date.fromisoformat(day)
        except ValueError:
            raise UsageError(
                f"{path / EXPIRES}: {day!r} is no day (expected for instance 2027-12-31)"
            ) from None
    return Trust(keys, frozenset(row[0] for row in _rows(path / REVOKED, 1)), expires)
