"""Signers: a private key in a file, a program that has the key, or signatures that were made elsewhere."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bundle.archive import output
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from bundle.seal import ecdsa

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

_DEADLINE = 300
_LARGEST_SIGNATURE = 1024


class Signer(Protocol):
    """Makes ECDSA P-384/SHA-384 signatures."""

    @property
    def key_id(self) -> str:
        """Name of the key: SHA-256 of its public half (DER, SubjectPublicKeyInfo), in lower-case hex."""

    def sign(self, data: bytes) -> bytes:
        """Return the DER signature over the data."""


def key_id(key: EllipticCurvePublicKey) -> str:
    """Return the name of a key: SHA-256 of its public half (DER, SubjectPublicKeyInfo), in lower-case hex."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@dataclass(frozen=True)
class KeySigner:
    """A private key in memory."""

    key: EllipticCurvePrivateKey

    @property
    def key_id(self) -> str:
        """Name of the key."""
        return key_id(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Return the signature; the same key and data give the same bytes."""
        return ecdsa.sign(self.key, data)


@dataclass(frozen=True)
class _Elsewhere:
    """A key that is not here but its public half, which every signature is held against."""

    public: EllipticCurvePublicKey

    @property
    def key_id(self) -> str:
        """Name of the key."""
        return key_id(self.public)

    def _checked(self, signature: bytes, data: bytes, where: str) -> bytes:
        """Return a signature that came from ``where``, if it is one by this key over the data."""
        if not signature or len(signature) > _LARGEST_SIGNATURE:
            raise UsageError(
                f"{where}: {len(signature)} bytes are no signature (expected DER on standard output)"
            )
        try:
            ecdsa.check(self.public, signature, data, where)
        except CheckFailed as error:
            raise UsageError(f"{where}: not a signature by the key of --public over these bytes") from error
        return signature


@dataclass(frozen=True)
class CommandSigner(_Elsewhere):
    """A program that has the key, for instance of a hardware module: data on its input, DER on its output.

    Attributes:
        command: the program and its arguments, as a shell would split them; no shell runs it.
    """

    command: str

    def sign(self, data: bytes) -> bytes:
        """Return what the program signed.

        Raises:
            UsageError: the program is not there, failed, or signed with another key.
            InfrastructureError: it did not answer in time.
        """
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise UsageError(f"--sign-with {self.command!r}: {error}") from error
        if not words:
            raise UsageError("--sign-with names no program")
        try:
            done = subprocess.run(words, input=data, capture_output=True, timeout=_DEADLINE, check=False)
        except OSError as error:
            raise UsageError(f"{words[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"{words[0]} did not sign in {_DEADLINE} s") from None
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise UsageError(
                f"{words[0]} did not sign (status {done.returncode}): {said[-1] if said else 'no reason given'}"
            )
        return self._checked(done.stdout, data, words[0])


@dataclass(frozen=True)
class AttachedSigner(_Elsewhere):
    """Signatures that were made elsewhere, each in a file that is named after what it signs.

    Attributes:
        folder: gets ``DIGEST.data`` for everything that is to be signed, and must hold ``DIGEST.sig`` for it.
    """

    folder: Path

    def sign(self, data: bytes) -> bytes:
        """Return the signature from the folder.

        Raises:
            CheckFailed: it is not there yet; the data to sign is.
            UsageError: it was made with another key.
        """
        name = hashlib.sha256(data).hexdigest()
        place, signature = self.folder / f"{name}.data", self.folder / f"{name}.sig"
        try:
            found = signature.read_bytes()
        except FileNotFoundError:
            with output.errors(place):
                self.folder.mkdir(parents=True, exist_ok=True)
                output.write(place, data)
            raise CheckFailed(
                f"{signature} is missing",
                hint=f"sign {place} with ECDSA and SHA-384, put the DER signature there, and run this again",
            ) from None
        except OSError as error:
            raise UsageError(f"{signature}: {error.strerror}") from error
        return self._checked(found, data, str(signature))


def choose(
    key: Path | None,
    passphrase: bytes | None,
    command: str | None,
    signatures: Path | None,
    public: Path | None,
) -> Signer | None:
    """Return the signer that the options name; None when they name none.

    Args:
        key: private key in PEM.
        passphrase: opens an encrypted key.
        command: program that signs.
        signatures: folder with signatures that were made elsewhere.
        public: public key that ``command`` or ``signatures`` belong to.

    Raises:
        UsageError: more than one is named, the public key is missing, or a key cannot be read.
    """
    named = [value for value in (key, command, signatures) if value is not None]
    if len(named) > 1:
        raise UsageError("several ways to sign", hint="choose one of --key, --sign-with and --signatures")
    if key is not None:
        return KeySigner(ecdsa.load_private(key, passphrase))
    if not named:
        return None
    if public is None:
        raise UsageError(
            "the public key is missing", hint="name it with --public: every signature is held against it"
        )
    loaded = ecdsa.load_public(public)
    if command is not None:
        return CommandSigner(loaded, command)
    return AttachedSigner(loaded, signatures) if signatures is not None else None
