"""The cloud's own certificate authority, as the server needs it: it signs itself, the server, and the agents."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from bundle.errors import CheckFailed
from harness.guest.protocols import Guest

_AGENT = "/usr/local/cloud/systemvm"
_PROGRAMS = "/opt/cloud/bin"
# Guests of restored snapshots may have any clock: certificates are valid from long ago.
_FROM, _DAYS = datetime(2020, 1, 1, tzinfo=UTC), 36500
_PROVISION_DEADLINE = 900.0


@dataclass(frozen=True)
class CertifiedKey:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return _pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


class Authority:
    """A certificate authority; it can be saved beside the VMs whose certificates it signed."""

    def __init__(self, identity: CertifiedKey | None = None) -> None:
        """Take an identity that was saved, or make one."""
        if identity is None:
            key = ec.generate_private_key(ec.SECP256R1())
            identity = CertifiedKey(
                _sign("cloud root CA", key.public_key(), "cloud root CA", key, is_ca=True), key
            )
        self.identity = identity

    def save(self, path: Path) -> None:
        """Write key and certificate to a file that only its owner can read."""
        path.touch(mode=0o600)
        path.write_text(self.identity.pem + _private(self.identity.key))

    def trust_store(self, password: str) -> bytes:
        """Return a trust store (PKCS #12) that holds this authority's certificate, as Java programs read it."""
        entry = pkcs12.PKCS12Certificate(self.identity.certificate, b"cloud root ca")
        secret = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_java_truststore([entry], secret)

    @classmethod
    def load(cls, path: Path) -> Authority:
        """Return the authority that was saved to a file."""
        data = path.read_bytes()
        key = serialization.load_pem_private_key(data, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path}: not a key of an authority")
        return cls(CertifiedKey(x509.load_pem_x509_certificate(data), key))

    def issue(self, name: str) -> CertifiedKey:
        """Return a new key with its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return CertifiedKey(self._certify(name, key.public_key()), key)

    def sign(self, request: str) -> x509.Certificate:
        """Return the certificate for a signing request in PEM.

        Raises:
            ValueError: it is none, or its own signature is wrong.
        """
        asked = x509.load_pem_x509_csr(request.encode())
        key = asked.public_key()
        if not asked.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the signing request is not signed with the key that it shows")
        names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return self._certify(str(names[0].value) if names else "agent", key)

    def server_context(self, folder: Path) -> ssl.SSLContext:
        """Return a context for a server that takes only agents of this authority; ``folder`` takes its key."""
        own = self.issue("management")
        path = folder / "management.pem"
        path.touch(mode=0o600)
        path.write_text(own.pem + _private(own.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.identity.pem)
        context.load_cert_chain(path)
        return context

    def provision(self, guest: Guest, passphrase: str, days: int = 365, *, once: bool = False) -> str:
        """Give a VM agent its certificate, as the server does after the start of an SSVM or CPVM.

        Args:
            guest: the VM.
            passphrase: of its key store.
            days: how long the certificate is asked for.
            once: say the passphrase to the first program alone, as servers up to 4.16 do.

        Returns:
            The fingerprint of the certificate.

        Raises:
            CheckFailed: the guest's key programs refuse.
        """
        conf = f"{_AGENT}/conf"
        store = f"{conf}/agent.properties {conf}/cloud.jks"
        setup = f"{_PROGRAMS}/keystore-setup {store} {passphrase} {days} {conf}/cloud.csr"
        request = self._run(guest, setup)
        start = request.find("-----BEGIN CERTIFICATE REQUEST-----")
        try:
            certificate = self.sign(request[max(start, 0) :])
        except ValueError as error:
            raise CheckFailed(f"{guest.name}: keystore-setup made no signing request: {error}") from None
        own, root = _packed(_pem(certificate)), _packed(self.identity.pem)
        store = store if once else store.replace(" ", f" {passphrase} ")
        self._run(
            guest,
            f"{_PROGRAMS}/keystore-cert-import {store} ssh {conf}/cloud.crt '{own}' {conf}/cloud.ca.crt '{root}'",
        )
        return certificate.fingerprint(hashes.SHA256()).hex()

    @staticmethod
    def _run(guest: Guest, command: str) -> str:
        done = guest.run(command, deadline=_PROVISION_DEADLINE, check=False)
        if done.status != 0:
            program = command.split(maxsplit=1)[0]
            raise CheckFailed(
                f"{guest.name}: {program} ended with status {done.status}: {done.stderr.strip()}"
            )
        return done.stdout

    def _certify(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        return _sign(name, key, "cloud root CA", self.identity.key, is_ca=False)


def _sign(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    subject, parent = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_FROM + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _packed(text: str) -> str:
    """Return text as the key programs take it in an argument: "^" for a line break, "~" for a blank."""
    return text.replace("\n", "^").replace(" ", "~")
