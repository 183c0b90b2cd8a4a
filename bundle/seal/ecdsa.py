"""ECDSA P-384 with SHA-384: sign here, verify here or in the guest with ``openssl dgst -sha384 -verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bundle.archive import output
from bundle.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


def generate(path: Path, passphrase: bytes | None = None) -> Path:
    """Make a key pair: the private key at ``path`` (mode 0600), the public one at the returned path.

    Args:
        path: where the private key goes; the public one has ``.pub`` behind its name.
        passphrase: encrypts the private key; None leaves it in the clear.

    Raises:
        UsageError: one of the files exists.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public_path = path.with_name(path.name + ".pub")
    for place in (path, public_path):
        if place.exists():
            raise UsageError(
                f"{place}: exists already", hint="a key is never overwritten; choose another name"
            )
    key = ec.generate_private_key(ec.SECP384R1())
    secret = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with output.file(path, 0o600) as new:
        new.touch(0o600)
        new.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with output.file(public_path) as new:
        new.write_bytes(public)
    return public_path


def load_private(path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """Read a private key.

    Args:
        path: the key in PEM.
        passphrase: opens an encrypted key; one that is not encrypted needs none.

    Raises:
        UsageError: the file is not a P-384 private key in PEM, or the passphrase does not open it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = path.read_bytes()
        locked = b"ENCRYPTED" in data
        if locked and passphrase is None:
            raise UsageError(
                f"{path}: the key is encrypted", hint="give --passphrase-file, or $SYSVM_KEY_PASSPHRASE"
            )
        key = load_pem_private_key(data, passphrase if locked else None)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a private key in PEM that can be opened ({error})") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError(f"{path}: not a P-384 key", hint="make one with 'sysvm bundle keygen'")
    return key


def load_public(path: Path) -> EllipticCurvePublicKey:
    """Read a public key.

    Raises:
        UsageError: the file is not a P-384 public key in PEM.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a public key in PEM ({error})") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError(f"{path}: not a P-384 public key")
    return key


def sign(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the DER signature; the same key and data give the same bytes (RFC 6979)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(data, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))


def check(key: EllipticCurvePublicKey, signature: bytes, data: bytes, where: str) -> None:
    """Check a signature.

    Raises:
        CheckFailed: it was made by another key or over other bytes, or is no signature at all.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise CheckFailed(
            f"{where}: the signature was not made with the trusted key over these bytes"
        ) from None
