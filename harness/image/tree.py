"""The contents of a file system as data: what a path is, without any file having that owner or mode on the host.

mmdebstrap's tar archive is read into such a tree, the template's changes are made to it in memory, and it is written
into an ext4 file system. Nothing needs root, a mount or an unpacked root file system on the way.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import tarfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal

NodeKind = Literal["dir", "file", "link"]


@dataclass(frozen=True)
class Node:
    """One directory, file or symbolic link.

    Attributes:
        source: for a file: where its content is on the host.
        target: for a symbolic link: what it points to.
        capability: for a file: its capabilities, as the kernel stores them, in hex.
    """

    kind: NodeKind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    source: str = ""
    target: str = ""
    capability: str = ""


def in_order(nodes: dict[str, Node]) -> list[tuple[str, Node]]:
    """Return paths and nodes, every folder before its contents, the same everywhere."""
    return sorted(nodes.items(), key=lambda item: item[0].split("/"))


class Tree:
    """Paths (relative, no leading slash) and their nodes; new content is kept in ``objects``."""

    def __init__(self, objects: Path, *, epoch: int, nodes: dict[str, Node] | None = None) -> None:
        """Make a tree whose new files get the time stamp ``epoch`` and have their content in ``objects``.

        Args:
            objects: a folder that no other tree writes to; made if needed.
            epoch: seconds since 1970.
            nodes: what is there already.
        """
        self.nodes = {} if nodes is None else dict(nodes)
        self.epoch = epoch
        self._objects = objects
        self._count = 0
        objects.mkdir(parents=True, exist_ok=True)

    def __contains__(self, path: str) -> bool:
        """Say whether the path is there."""
        return path in self.nodes

    def resolve(self, path: str) -> str:
        """Return the path with symbolic links in its folders followed (``lib/x`` is ``usr/lib/x`` nowadays)."""
        done: list[str] = []
        for part in path.split("/")[:-1]:
            done.append(part)
            for _ in range(8):
                node = self.nodes.get("/".join(done))
                if node is None or node.kind != "link":
                    break
                base = "" if node.target.startswith("/") else "/".join(done[:-1])
                done = [p for p in posixpath.normpath(f"{base}/{node.target}").split("/") if p]
        return "/".join([*done, path.rsplit("/", 1)[-1]])

    def read(self, path: str) -> bytes:
        """Return a file's content, following links.

        Raises:
            KeyError: there is no such file.
        """
        path = self.resolve(path)
        node = self.nodes[path]
        if node.kind == "link":
            return self.read(
                posixpath.normpath(posixpath.join("/", posixpath.dirname(path), node.target))[1:]
            )
        return Path(node.source).read_bytes()

    def add_dir(self, path: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> None:
        """Add a folder and those above it; a folder that is there keeps its mode and owner."""
        path = self.resolve(path)
        parent = posixpath.dirname(path)
        if parent and parent not in self.nodes:
            self.add_dir(parent)
        if path not in self.nodes:
            self.nodes[path] = Node("dir", mode, uid, gid, self.epoch)

    def add_file(self, path: str, content: bytes, mode: int = 0o644, *, uid: int = 0, gid: int = 0) -> None:
        """Add a file or replace what is there."""
        path = self._place(path)
        source = self._new_object()
        source.write_bytes(content)
        self.nodes[path] = Node("file", mode, uid, gid, self.epoch, source=str(source))

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link or replace what is there."""
        self.nodes[self._place(path)] = Node("link", 0o777, 0, 0, self.epoch, target=target)

    def chmod(self, path: str, mode: int) -> None:
        """Change the mode of what is there."""
        path = self.resolve(path)
        self.nodes[path] = replace(self.nodes[path], mode=mode)

    def remove(self, path: str) -> None:
        """Remove a path and everything below it; one that is not there is no error."""
        path = self.resolve(path)
        for name in [path, *self.below(path)]:
            self.nodes.pop(name, None)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted."""
        prefix = self.resolve(folder) + "/"
        return [p.removeprefix(prefix) for p in self.below(folder) if "/" not in p.removeprefix(prefix)]

    def below(self, folder: str) -> list[str]:
        """Return every path below a folder, sorted."""
        prefix = self.resolve(folder) + "/"
        return sorted(p for p in self.nodes if p.startswith(prefix))

    def split(self, folder: str) -> dict[str, Node]:
        """Take out everything below ``folder`` (it becomes another file system); the empty folder stays."""
        prefix = folder + "/"
        return {p.removeprefix(prefix): self.nodes.pop(p) for p in self.below(folder)}

    def save(self, path: Path) -> None:
        """Write the tree as JSON; contents stay where they are and are named relative to the file's folder."""
        rows = {
            name: {
                **asdict(node),
                "source": node.source and Path(node.source).relative_to(path.parent).as_posix(),
            }
            for name, node in in_order(self.nodes)
        }
        path.write_text(json.dumps(rows, separators=(",", ":")))

    @classmethod
    def load(cls, path: Path, objects: Path, *, epoch: int) -> Tree:
        """Read what ``save`` wrote; new content goes to ``objects``."""
        rows = json.loads(path.read_text())
        for row in rows.values():
            row["source"] = row["source"] and str(path.parent / row["source"])
        return cls(objects, epoch=epoch, nodes={name: Node(**row) for name, row in rows.items()})

    def read_tar(self, file: IO[bytes]) -> None:
        """Take over a tar archive of a root file system. Device nodes are left out: devtmpfs makes them at boot."""
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                path = posixpath.normpath(member.name).removeprefix("/")
                if path not in (".", ""):
                    self._take(path, member, archive)

    def _take(self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        times = int(member.mtime)
        if member.isdir():
            self.nodes[path] = Node("dir", member.mode, member.uid, member.gid, times)
        elif member.issym():
            self.nodes[path] = Node("link", 0o777, member.uid, member.gid, times, target=member.linkname)
        elif member.islnk():
            # Two files instead of one with two names: the same bytes for whoever reads them.
            self.nodes[path] = self.nodes[posixpath.normpath(member.linkname).removeprefix("/")]
        elif member.isreg():
            source = self._new_object()
            content = archive.extractfile(member)
            if content is not None:
                with source.open("wb") as target:
                    shutil.copyfileobj(content, target)
            capability = member.pax_headers.get("SCHILY.xattr.security.capability", "")
            self.nodes[path] = Node(
                "file", member.mode, member.uid, member.gid, times, source=str(source),
                capability=capability.encode("utf-8", "surrogateescape").hex(),
            )  # fmt: skip

    def _place(self, path: str) -> str:
        path = self.resolve(path)
        if "/" in path:
            self.add_dir(posixpath.dirname(path))
        self.remove(path)
        return path

    def _new_object(self) -> Path:
        self._count += 1
        return self._objects / f"{self._count:06}"
