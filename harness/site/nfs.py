"""A real NFS server for secondary storage: nfs-ganesha, as a process on loopback whose files live in memory.

It needs no root and no kernel module. The packages ``nfs-ganesha`` and ``nfs-ganesha-mem`` are wanted on the host by
whoever tests mounts, and by nobody else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import InfrastructureError
from harness.host import servers

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


@contextmanager
def serve(folder: Path) -> Iterator[int]:
    """Serve NFS 4 with one share, whose files go with the server; yields the port on 127.0.0.1.

    Args:
        folder: for its configuration, state and log; exists.

    Raises:
        InfrastructureError: it is not installed, or does not come up.
    """
    if not installed():
        raise InfrastructureError(
            f"{PROGRAM} is missing", hint="install the packages nfs-ganesha and nfs-ganesha-mem"
        )
    (folder / "recovery").mkdir()
    configuration = folder / "ganesha.conf"

    def command(port: int) -> list[str]:
        configuration.write_text(_CONFIGURATION.format(port=port, folder=folder, export=EXPORT))
        return [PROGRAM, "-F", "-f", str(configuration), "-L", "STDERR", "-p", str(folder / "pid")]

    with servers.serve(PROGRAM, command, folder / "ganesha.log") as port:
        yield port
