"""The agent of the payload as a process of its own, and a management server that it meets over TLS on loopback.

The certificates are made by ``keystore-setup`` and ``keystore-cert-import``, as in a system VM, and signed by a CA of
the test. Both sides live in a network namespace of their own, for the agent listens on fixed ports.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import queue
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AGENT = Path(__file__).resolve().parents[3] / "systemvm" / "agent"
PASSPHRASE = "Password12345678"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A CA in memory."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def sign(self, subject: x509.Name, key, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def certificate(self) -> str:
        return pem(self.sign(_name(self.name), self.key.public_key(), ca=True))

    def answer(self, request: str) -> str:
        """Return the certificate for a signing request."""
        csr = x509.load_pem_x509_csr(request.encode())
        return pem(self.sign(csr.subject, csr.public_key()))


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def packed(text: str) -> str:
    """Return a certificate as management passes it on a command line."""
    return text.strip().replace("\n", "^").replace(" ", "~")


CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Network:
    """A network namespace with nothing but loopback; it lives as long as its process."""

    def __init__(self) -> None:
        script = "ip link set lo up; echo ready; exec sleep infinity"
        command = ["unshare", "--net", "bash", "-ec", script]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"
        self.path = f"/proc/{self._process.pid}/ns/net"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put this thread into the namespace: sockets made in the block belong to it for good."""
        with Path("/proc/thread-self/ns/net").open() as own, Path(self.path).open() as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def listen(self, port: int = 0) -> socket.socket:
        with self.entered():
            return socket.create_server(("127.0.0.1", port))

    def connect(self, port: int) -> socket.socket:
        with self.entered():
            return socket.create_connection(("127.0.0.1", port), timeout=10)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Management:
    """A management server for agents: takes connections one after the other, and writes down what it is told."""

    def __init__(
        self, network: Network, folder: Path, authority: Authority, server_authority: Authority | None = None
    ) -> None:
        self.network = network
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = pem((server_authority or authority).sign(_name("management"), key.public_key()))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "server.pem").write_text(certificate + private.decode())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem")
        self._context.load_verify_locations(cadata=authority.certificate())
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.port = 0
        self.frames: queue.Queue[dict] = queue.Queue()
        self.serials: queue.Queue[str] = queue.Queue()
        self.refusals: queue.Queue[str] = queue.Queue()
        self.tokens: dict[str, dict] = {}
        self._connection: ssl.SSLSocket | None = None
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._listener = self.network.listen(self.port)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and cut the connection, as a restarted server does."""
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if self._connection:
            self._connection.close()
        self._listener = self._connection = None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain:
                try:
                    with self._context.wrap_socket(plain, server_side=True) as connection:
                        self._connection = connection
                        self.serials.put(connection.getpeercert()["serialNumber"])
                        self._talk(connection)
                except ssl.SSLError as error:
                    self.refusals.put(str(error))
                except (OSError, struct.error):
                    continue

    def _talk(self, connection: ssl.SSLSocket) -> None:
        while frame := receive(connection):
            self.frames.put(frame)
            if frame.get("command") == "startup":
                self.send({"answer": "startup", "id": frame["id"], "accepted": True, "ping_interval": 0.2})
            elif frame.get("command") == "ping":
                self.send({"answer": "ping", "id": frame["id"]})
            elif frame.get("command") == "console_access":
                self.send(
                    {"answer": "console_access", "id": frame["id"], **self.tokens.get(frame["token"], {})}
                )

    def send(self, frame: dict) -> None:
        self.send_raw(json.dumps(frame).encode())

    def send_raw(self, data: bytes) -> None:
        self._connection.sendall(struct.pack(">I", len(data)) + data)

    def next(self, **wanted) -> dict:
        """Return the next frame that has these fields."""
        while True:
            frame = self.frames.get(timeout=15)
            if all(frame.get(key) == value for key, value in wanted.items()):
                return frame

    def ask(self, command: str, **fields) -> dict:
        """Ask the agent something and return its answer."""
        self.send({"command": command, "id": 77, **fields})
        return self.next(id=77, answer=command)


def receive(connection: ssl.SSLSocket) -> dict | None:
    head = _exactly(connection, 4)
    return json.loads(_exactly(connection, struct.unpack(">I", head)[0])) if head else None


def _exactly(connection: ssl.SSLSocket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        block = connection.recv(length - len(data))
        if not block:
            return b""
        data += block
    return data


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Agent:
    """An installed agent: its folder, and the process when it was started."""

    folder: Path
    network: Network
    process: subprocess.Popen | None = None

    @property
    def conf(self) -> Path:
        return self.folder / "conf"

    def tool(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [self.folder / "scripts/util" / name, *arguments], capture_output=True, text=True
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def request(self) -> str:
        """Return a new signing request."""
        conf = str(self.conf)
        names = [f"{conf}/agent.properties", f"{conf}/cloud.jks"]
        return self.tool("keystore-setup", *names, PASSPHRASE, "365", f"{conf}/cloud.csr").stdout

    def install(self, certificate: str, authority: str, check: bool = True) -> subprocess.CompletedProcess:
        """Hand over a certificate."""
        conf = str(self.conf)
        names = [f"{conf}/agent.properties", f"{conf}/cloud.jks", "ssh"]
        pairs = [f"{conf}/cloud.crt", packed(certificate), f"{conf}/cloud.ca.crt", packed(authority)]
        return self.tool("keystore-cert-import", *names, *pairs, check=check)

    def start(self) -> None:
        """Start it with folders of its own for state, so that nothing of this machine is touched."""
        script = (
            "for folder in /run /var/cache /mnt; do mount -t tmpfs tmpfs $folder; done; mkdir /var/cache/cloud;"
            f'exec "{self.folder}/_run.sh"'
        )
        log = (self.folder / "log").open("a")
        command = ["nsenter", f"--net={self.network.path}", "unshare", "--mount", "--", "bash", "-ec", script]
        self.process = subprocess.Popen(command, stderr=log, stdout=log)
        log.close()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=10)
        self.process = None

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def inside(self, path: str) -> Path:
        """Return a file as the agent sees it."""
        return Path(f"/proc/{self.process.pid}/root{path}")
