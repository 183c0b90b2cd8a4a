"""Read files out of an ext file system inside a disk file, with debugfs: no mount, no root."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from bundle import programs
from bundle.archive.limits import ImageLimits
from bundle.errors import UsageError

_LINKS = 8
# What a link, a folder's list and the facts about a file may hold, in bytes; seconds for debugfs over a broken disk.
_LINK, _LIST, _FACTS = 4096, 16 << 20, 1 << 20
_DEADLINE = 120.0
_SIZE = re.compile(r"\bSize: (\d+)")


@dataclass(frozen=True)
class ExtReader:
    """A file system at an offset of a disk."""

    disk: Path
    offset: int

    def valid(self) -> bool:
        """Say whether there is an ext file system."""
        if not 0 <= self.offset < self.disk.stat().st_size:
            return False
        with self.disk.open("rb") as file:
            file.seek(self.offset + 1024 + 56)
            return file.read(2) == b"\x53\xef"

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none when it is not there."""
        # Each line is /inode/mode/uid/gid/name/size/.
        listing = self._request(f"ls -p {_quoted(self._resolved(folder))}", _LIST)
        lines = listing.decode(errors="replace").splitlines()
        found = [line.split("/")[5] for line in lines if line.count("/") >= 6]
        return sorted(name for name in found if name not in (".", "..", ""))

    def read(self, path: str, most: int = ImageLimits.file) -> bytes:
        """Return a file's content, following symbolic links.

        Args:
            path: from the root of the file system.
            most: bytes that it may hold.

        Raises:
            KeyError: there is no such file.
            UsageError: it is larger, also where most of it is a hole.
        """
        target = _quoted(self._resolved(path))
        facts = self._request(f"stat {target}", _FACTS).decode(errors="replace")
        if "Type: regular" not in facts:
            raise KeyError(path)
        size = _SIZE.search(facts)
        if size is not None and (len(size[1]) > len(str(most)) or int(size[1]) > most):
            raise UsageError(
                f"/{path.lstrip('/')} in the image has {size[1][:20]} bytes (at most {most} are read)"
            )
        return self._request(f"cat {target}", most)

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
        answer = self._request(f"stat {_quoted(path)}", _FACTS).decode(errors="replace")
        if "Type: symlink" not in answer:
            return None
        _, found, rest = answer.partition('Fast link dest: "')
        if found:
            return rest.rpartition('"')[0]
        return self._request(f"cat {_quoted(path)}", _LINK).decode(errors="replace")

    def _request(self, request: str, most: int) -> bytes:
        """Return the output of debugfs, which a broken file system may make endless or never end."""
        environment = {**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "cat", "PAGER": "cat"}
        environment["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        command = ["debugfs", "-R", request, f"{self.disk}?offset={self.offset}"]
        with programs.starting("debugfs", f"read {self.disk}"):
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        watch = Timer(_DEADLINE, process.kill)
        watch.start()
        try:
            output = process.stdout.read(most + 1) if process.stdout else b""
        finally:
            in_time = watch.is_alive()
            watch.cancel()
            process.kill()
            process.communicate()
        if not in_time:
            raise UsageError(
                f"the image's file system is damaged: no end of {request!r} within {_DEADLINE:g} s"
            )
        if len(output) > most:
            raise UsageError(f"the image's file system says more than {most} bytes to {request[:80]!r}")
        return output


def _quoted(path: str) -> str:
    """Return a path as debugfs reads it.

    Raises:
        KeyError: no file can have that name.
    """
    if "\0" in path or "\n" in path or len(path) > _LINK:
        raise KeyError(path[:80])
    return '"' + path.replace('"', '""') + '"'
