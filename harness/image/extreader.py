"""Read files out of an ext file system inside a disk file, with debugfs: no mount, no root."""

from __future__ import annotations

import os
import posixpath
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import InfrastructureError

_LINKS = 8


@dataclass(frozen=True)
class ExtReader:
    """A file system at an offset of a disk."""

    disk: Path
    offset: int

    def valid(self) -> bool:
        """Say whether there is an ext file system."""
        with self.disk.open("rb") as file:
            file.seek(self.offset + 1024 + 56)
            return file.read(2) == b"\x53\xef"

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none when it is not there."""
        # Each line is /inode/mode/uid/gid/name/size/.
        lines = self._request(f'ls -p "{self._resolved(folder)}"').decode(errors="replace").splitlines()
        found = [line.split("/")[5] for line in lines if line.count("/") >= 6]
        return sorted(name for name in found if name not in (".", "..", ""))

    def read(self, path: str) -> bytes:
        """Return a file's content, following symbolic links.

        Raises:
            KeyError: there is no such file.
        """
        target = self._resolved(path)
        if b"Type: regular" not in self._request(f'stat "{target}"'):
            raise KeyError(path)
        return self._request(f'cat "{target}"')

    def _resolved(self, path: str) -> str:
        """Follow symbolic links in every part of a path, which debugfs does in folders only."""
        path = posixpath.normpath("/" + path)
        done = "/"
        for part in path.split("/")[1:]:
            done = posixpath.join(done, part)
            for _ in range(_LINKS):
                target = self._link(done)
                if target is None:
                    break
                done = posixpath.normpath(posixpath.join(posixpath.dirname(done), target))
        return done

    def _link(self, path: str) -> str | None:
        answer = self._request(f'stat "{path}"').decode(errors="replace")
        if "Type: symlink" not in answer:
            return None
        _, found, rest = answer.partition('Fast link dest: "')
        if found:
            return rest.rpartition('"')[0]
        return self._request(f'cat "{path}"').decode(errors="replace")

    def _request(self, request: str) -> bytes:
        environment = {**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "cat", "PAGER": "cat"}
        environment["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        command = ["debugfs", "-R", request, f"{self.disk}?offset={self.offset}"]
        try:
            return subprocess.run(command, env=environment, capture_output=True, check=False).stdout
        except FileNotFoundError:
            raise InfrastructureError("debugfs is missing", hint="install the package e2fsprogs") from None
