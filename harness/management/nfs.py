"""A real NFS server for secondary storage: nfs-ganesha, as a process on loopback whose files live in memory.

It needs no root and no kernel module. The packages ``nfs-ganesha`` and ``nfs-ganesha-mem`` are wanted on the host by
whoever tests mounts, and by nobody else.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Self

from bundle.errors import InfrastructureError
from harness import children

PROGRAM = "ganesha.nfsd"
EXPORT = "/secondary"
_CONFIGURATION = """\
NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false;
    Enable_UDP = false; allow_set_io_flusher_fail = true; }}
NFSv4 {{ RecoveryBackend = fs; RecoveryRoot = "{folder}/recovery"; Graceless = true; Only_Numeric_Owners = true; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = {export}; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
    Transports = TCP; Protocols = 4; FSAL {{ Name = MEM; }} }}
"""


def installed() -> bool:
    """Say whether the host has the server."""
    return shutil.which(PROGRAM) is not None


class NfsServer:
    """A server of NFS 4 with one share, as a context manager."""

    def __init__(self, port: int, folder: Path) -> None:
        """Prepare it.

        Args:
            port: on 127.0.0.1.
            folder: for its configuration, state and log; exists.
        """
        self.port, self._folder = port, folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            InfrastructureError: it is not installed, or does not come up.
        """
        if not installed():
            raise InfrastructureError(
                f"{PROGRAM} is missing", hint="install the packages nfs-ganesha and nfs-ganesha-mem"
            )
        (self._folder / "recovery").mkdir()
        configuration = self._folder / "ganesha.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, folder=self._folder, export=EXPORT))
        log = self._folder / "ganesha.log"
        files = ["-f", str(configuration), "-L", str(log), "-p", str(self._folder / "pid")]
        self._process = children.start([PROGRAM, "-F", *files])
        try:
            children.wait_listening(self._process, self.port, PROGRAM, log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it; its files are gone."""
        if self._process is not None:
            children.end(self._process)
