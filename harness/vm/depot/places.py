"""The kinds of places that a depot can be in: a folder, an address that is read over HTTP, a folder behind SSH.

A depot has ``objects/XX/DIGEST.zst`` (packed chunks, under the digest of their content), ``KIND/KEY.json`` (manifests)
and ``index.json`` (all manifests, for readers that cannot list a folder). Everything appears by a rename, a manifest
after all of its chunks: who reads never sees half of anything.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundle import files
from bundle.errors import CheckFailed, InfrastructureError, UsageError
from harness.host import chunks
from harness.vm.depot import manifest
from harness.vm.depot.ssh_place import Sftp

INDEX = "index.json"
_OBJECTS = "objects"
# What a packed chunk may have more than its content.
MOST_PACKED = chunks.SIZE + (1 << 16)
_PATIENCE = 60.0


class NotThere(CheckFailed):
    """A depot has no file of that name."""

    def __init__(self, name: str) -> None:
        """Name the file."""
        super().__init__(f"the depot has no {name}")


class DepotPlace(Protocol):
    """A folder of files, wherever it is."""

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content, at most so many bytes; raises ``NotThere``."""

    def write(self, name: str, data: bytes) -> None:
        """Make a file that appears whole."""

    def names(self, folder: str) -> list[str] | None:
        """Return the names in a folder; None where folders cannot be listed."""


@dataclass(frozen=True)
class FolderPlace:
    """A folder of this host."""

    root: Path

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(most)
        except (FileNotFoundError, NotADirectoryError):
            raise NotThere(name) from None
        except OSError as error:
            raise InfrastructureError(f"cannot read {self.root / name}: {error.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        """Make a file that appears whole; it holds keys of guests, so that a new folder is its owner's only."""
        path = self.root / name
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot make the folder {path.parent}: {error.strerror}") from None
        files.write(path, data)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none when it is not there."""
        try:
            return sorted(path.name for path in (self.root / folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InfrastructureError(f"cannot read {self.root / folder}: {error.strerror}") from None


@dataclass(frozen=True)
class WebPlace:
    """An address whose files are read over HTTP."""

    address: str

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content; an answer that ends early is an error."""
        where = f"{self.address.rstrip('/')}/{urllib.parse.quote(name)}"
        try:
            with urllib.request.urlopen(where, timeout=_PATIENCE) as answer:  # noqa: S310 - http and https only
                data: bytes = answer.read(most)
                wanted = answer.headers.get("Content-Length")
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise NotThere(name) from None
            raise InfrastructureError(f"{where} answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise InfrastructureError(f"{where} cannot be read: {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InfrastructureError(f"{where} cannot be read: {type(error).__name__}: {error}") from None
        if wanted is not None and wanted.isdecimal() and len(data) < min(int(wanted), most):
            raise InfrastructureError(f"{where} ended after {len(data)} of {wanted} bytes")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Refuse: over HTTP a depot is read only."""
        raise UsageError(
            f"nothing can be sent to {self.address} ({name}, {len(data)} bytes)",
            hint="push to a folder or to ssh://, and let a web server show it",
        )

    def names(self, folder: str) -> None:
        """Say that no folder can be listed."""


@dataclass(frozen=True)
class Depot:
    """A depot: what is done with a place, whatever it is.

    Attributes:
        address: as a person wrote it.
        place: where its files are.
        close: ends the connection, where there is one.
    """

    address: str
    place: DepotPlace
    close: Callable[[], None] = lambda: None

    def keys(self) -> dict[str, list[str]]:
        """Return the keys of the entries that are there whole, by kind.

        Raises:
            CheckFailed: the index cannot be read.
        """
        found = {kind: self.place.names(kind) for kind in manifest.KINDS}
        if any(names is None for names in found.values()):
            return self._indexed()
        return {
            kind: [
                name.removesuffix(".json")
                for name in names or ()
                if name.endswith(".json") and manifest.is_key(name.removesuffix(".json"))
            ]
            for kind, names in found.items()
        }

    def entry(self, kind: str, key: str) -> manifest.DepotEntry:
        """Return the manifest of an entry.

        Raises:
            NotThere: there is no such entry.
            CheckFailed: its manifest is damaged.
        """
        return manifest.parse(self.place.read(f"{kind}/{key}.json", manifest.LONGEST), kind, key)

    def chunk(self, digest: str) -> bytes:
        """Return a packed chunk; raises ``NotThere``."""
        return self.place.read(_object(digest), MOST_PACKED)

    def objects(self, two_digits: str) -> set[str]:
        """Return the digests of the chunks that are there and begin with two digits."""
        names = self.place.names(f"{_OBJECTS}/{two_digits}") or ()
        return {name.removesuffix(".zst") for name in names if name.endswith(".zst")}

    def put_chunk(self, digest: str, packed: bytes) -> None:
        """Put a packed chunk."""
        self.place.write(_object(digest), packed)

    def put_manifest(self, entry: manifest.DepotEntry) -> None:
        """Let an entry appear, whose chunks are all there, and write the index anew.

        Two who push at once both write the index; each looks again after writing, so that the last one has both.
        """
        self.place.write(f"{entry.kind}/{entry.key}.json", entry.text().encode())
        written: dict[str, list[str]] = {}
        while (there := self.keys()) != written:
            self.place.write(INDEX, (json.dumps(there, indent=1, sort_keys=True) + "\n").encode())
            written = there

    def require(self) -> None:
        """Refuse a place that nobody has made a depot of, such as a folder whose name has a mistake.

        Raises:
            UsageError: it is none.
        """
        self._index()

    def _index(self) -> bytes:
        try:
            return self.place.read(INDEX, manifest.LONGEST)
        except NotThere:
            raise UsageError(
                f"{self.address} is no depot: it has no {INDEX}", hint="'sysvm cache push' makes one"
            ) from None

    def _indexed(self) -> dict[str, list[str]]:
        try:
            document = json.loads(self._index())
            return {kind: [str(key) for key in document.get(kind, ())] for kind in manifest.KINDS}
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckFailed(f"{self.address}/{INDEX} cannot be read: {error}") from None


def find(address: str) -> Depot:
    """Return the depot at an address: a folder, ``http(s)://`` or ``ssh://[USER@]HOST[:PORT]/FOLDER``.

    Raises:
        UsageError: the address is none of these.
        InfrastructureError: the host does not answer, or is not the one that is known.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if not scheme:
        return Depot(address, FolderPlace(Path(address)))
    parts = urllib.parse.urlsplit(address)
    if scheme in ("http", "https") and parts.hostname:
        return Depot(address, WebPlace(address))
    if scheme == "ssh" and parts.hostname and parts.path.strip("/"):
        connection = Sftp(parts.hostname, _port(parts), parts.username or "")
        return Depot(address, SshPlace(connection, parts.path), connection.close)
    raise UsageError(
        f"{address!r} is no place of a depot", hint="name a folder, http(s)://HOST/... or ssh://HOST/FOLDER"
    )


@dataclass(frozen=True)
class SshPlace:
    """A folder of a host that is reached by SSH."""

    connection: Sftp
    root: str

    def read(self, name: str, most: int) -> bytes:
        """Return a file's content."""
        data = self.connection.read(f"{self.root}/{name}", most)
        if data is None:
            raise NotThere(name)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Make a file that appears whole."""
        self.connection.write(f"{self.root}/{name}", data)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none when it is not there."""
        return self.connection.names(f"{self.root}/{folder}")


def _port(parts: urllib.parse.SplitResult) -> int:
    try:
        return parts.port or 22
    except ValueError as error:
        raise UsageError(f"{parts.geturl()!r} has no port: {error}") from None


def _object(digest: str) -> str:
    return f"{_OBJECTS}/{digest[:2]}/{digest}.zst"
