#!/usr/bin/python3 -ES
"""Compare template and scripts of this router with what management expects."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

FILES = {
    "templateVersion": Path("/etc/cloudstack-release"),
    "scriptsVersion": Path("/var/cache/cloud/cloud-scripts-signature"),
}


def check() -> health.Answer:
    """Say what differs."""
    wanted = health.sent("routerVersion")
    if not wanted:
        return health.SUCCESS, "management sent no versions to compare with"
    actual = {key: health.text(path).split("\n")[0].strip() for key, path in FILES.items()}
    wrong = [
        f"{key} is {value!r}, expected {wanted[0][key]!r}"
        for key, value in actual.items()
        if wanted[0].get(key) and wanted[0][key] != value
    ]
    return health.verdict(wrong, "template and scripts are the expected ones")


if __name__ == "__main__":
    health.main("basic", check)
