"""The files of a folder as an SSH server of tests shares them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko


def _answers(act: Callable[[], Any]) -> Any:
    """Return what a server answers: what was asked for, or the error's number."""
    try:
        return act()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _done(_result: object) -> int:
    return paramiko.SFTP_OK


class Files(paramiko.SFTPServerInterface):
    """The files below a folder, which clients see as ``/``."""

    def __init__(self, server: paramiko.ServerInterface, root: Path = Path("/")) -> None:
        super().__init__(server)
        self._root = root

    def _place(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def list_folder(self, path: str) -> Any:
        def look() -> list[paramiko.SFTPAttributes]:
            rows = []
            for one in list(self._place(path).iterdir()):
                row = paramiko.SFTPAttributes.from_stat(one.stat())
                row.filename = one.name
                rows.append(row)
            return rows

        return _answers(look)

    def stat(self, path: str) -> Any:
        return _answers(lambda: paramiko.SFTPAttributes.from_stat(self._place(path).stat()))

    def open(self, path: str, flags: int, _attributes: paramiko.SFTPAttributes) -> Any:
        def begin() -> paramiko.SFTPHandle:
            handle_number = os.open(self._place(path), flags, 0o600)
            stream = os.fdopen(handle_number, "wb" if flags & os.O_WRONLY else "rb")
            handle: Any = paramiko.SFTPHandle(flags)
            handle.readfile = handle.writefile = stream
            handle.stat = lambda: paramiko.SFTPAttributes.from_stat(os.fstat(stream.fileno()))
            return handle

        return _answers(begin)

    def remove(self, path: str) -> Any:
        return _answers(lambda: _done(self._place(path).unlink()))

    def posix_rename(self, old: str, new: str) -> Any:
        return _answers(lambda: _done(self._place(old).replace(self._place(new))))

    def mkdir(self, path: str, _attributes: paramiko.SFTPAttributes) -> Any:
        return _answers(lambda: _done(self._place(path).mkdir(0o700)))
