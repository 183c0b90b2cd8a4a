"""Addresses of schedulers, and the certificates of hosts: all speak TLS, but for those on loopback alone."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import files
from bundle.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import Certificate, CertificateBuilder
    from distributed.security import Security

VARIABLE = "SYSVM_CERTIFICATES"
DAYS = 365
_PATIENCE = 10.0
_AUTHORITY, _CERTIFICATE, _KEY = "authority.pem", "host.pem", "host-key.pem"
_ADDRESS = re.compile(
    r"(?P<scheme>tcp|tls)://(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(?P<port>[1-9]\d{0,4})/?"
)


@dataclass(frozen=True)
class Meeting:
    """The place where the hosts of a cluster meet: the address of its scheduler.

    Attributes:
        host: name or address, without brackets.
        port: of TCP.
        certificates: the folder of ``sysvm worker --init``; None speaks without TLS, on loopback alone.
    """

    host: str
    port: int
    certificates: Path | None

    def __str__(self) -> str:
        """Return the address as distributed takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.certificates else 'tcp'}://{host}:{self.port}"

    def require_answer(self) -> None:
        """Refuse a place at which nobody answers whom these certificates fit; the engine would ask for long.

        Raises:
            InfrastructureError: says why.
        """
        try:
            with socket.create_connection((self.host, self.port), _PATIENCE) as plain:
                if self.certificates is not None:
                    self._context(self.certificates).wrap_socket(plain).close()
        except ssl.SSLCertVerificationError:
            reason = "its certificates are of another 'sysvm worker --init'"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return
        raise InfrastructureError(
            f"no scheduler answers at {self}: {reason}",
            hint=f"'sysvm worker --scheduler {self}' starts one there",
        )

    @staticmethod
    def _context(folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=folder / _AUTHORITY)
        context.check_hostname = False  # one certificate is that of all hosts
        context.load_cert_chain(folder / _CERTIFICATE, folder / _KEY)
        return context

    def security(self) -> Security:
        """Return what distributed needs to speak TLS; without certificates it speaks plainly."""
        from distributed.security import Security

        if self.certificates is None:
            return Security()
        paths: dict[str, Any] = {"tls_ca_file": str(self.certificates / _AUTHORITY)}
        for role in ("client", "scheduler", "worker"):
            paths[f"tls_{role}_cert"] = str(self.certificates / _CERTIFICATE)
            paths[f"tls_{role}_key"] = str(self.certificates / _KEY)
        return Security(require_encryption=True, **paths)


def read_meeting(text: str, certificates: Path | None = None) -> Meeting:
    """Return the place that an address names; whoever has certificates speaks TLS, also to ``tcp://``.

    Args:
        text: such as ``tcp://scheduler:8786``.
        certificates: their folder; that of ``SYSVM_CERTIFICATES`` without it.

    Raises:
        UsageError: it is no address, there are no certificates where TLS is needed, or they are unusable.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"invalid address {text!r} (expected tcp://HOST:PORT, such as tcp://scheduler:8786)")
    named = os.environ.get(VARIABLE)
    folder = certificates or (Path(named) if named else None)
    host = match["host"].strip("[]")
    if folder is not None:
        check_certificates(folder)
    elif match["scheme"] == "tls" or not _is_loopback(host):
        raise UsageError(
            f"{text} is reached with TLS only, and no certificates are named",
            hint="'sysvm worker --init DIR' makes them, --certificates DIR names them",
        )
    return Meeting(host, int(match["port"]), folder.absolute() if folder else None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_certificates(folder: Path) -> None:
    """Refuse certificates with which nobody could speak, or which others may have.

    Raises:
        UsageError: a file is missing, unreadable or no certificate, the key is open to others, or the time is over.
    """
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        x509.load_pem_x509_certificate((folder / _AUTHORITY).read_bytes())
        mode = (folder / _KEY).stat().st_mode
    except OSError as error:
        raise UsageError(
            f"cannot read {error.filename}: {error.strerror}",
            hint="'sysvm worker --init DIR' makes a folder of certificates",
        ) from None
    except ValueError:
        raise UsageError(f"{folder} has a certificate that cannot be read") from None
    if mode & 0o077:
        raise UsageError(f"{folder / _KEY} may be read by others", hint="chmod 600, or make new certificates")
    end = found.not_valid_after_utc
    if end <= datetime.now(UTC):
        raise UsageError(
            f"the certificate in {folder} ended on {end:%Y-%m-%d}", hint="sysvm worker --init DIR"
        )


def make_certificates(folder: Path) -> datetime:
    """Make an authority, and a key with its certificate for all hosts of a cluster; returns when their time is over.

    The authority's own key is thrown away: nobody can make another certificate that these hosts would take.

    Raises:
        UsageError: the folder has something in it.
        InfrastructureError: it cannot be made.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} has something in it", hint="name a folder that is not there yet")
        folder.chmod(0o700)
    except OSError as error:
        raise InfrastructureError(f"cannot make the folder {folder}: {error.strerror}") from None
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    end = datetime.now(UTC) + timedelta(days=DAYS)
    root = _begin("sysvm cluster authority", authority, end, is_ca=True).sign(authority, hashes.SHA256())
    host = _begin("sysvm cluster host", key, end, is_ca=False).sign(authority, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / _KEY).touch(mode=0o600)
    (folder / _KEY).write_bytes(private)
    for name, certificate in ((_AUTHORITY, root), (_CERTIFICATE, host)):
        files.write(folder / name, _pem(certificate))
    return end


def _begin(name: str, key: ec.EllipticCurvePrivateKey, end: datetime, *, is_ca: bool) -> CertificateBuilder:
    """Return a certificate of a key, issued by the authority, that waits for its signature."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        for text in (name, "sysvm cluster authority")
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))  # clocks differ
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
    )


def _pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()
