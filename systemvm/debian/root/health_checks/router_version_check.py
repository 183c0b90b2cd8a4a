#!/usr/bin/python3 -ES
# kind: basic
"""Compare template and scripts of this router with what management expects."""

import json
import sys
from pathlib import Path

RELEASE = Path("/etc/cloudstack-release")
SIGNATURE = Path("/var/cache/cloud/cloud-scripts-signature")
DATA = Path("/root/health_checks_data.json")


def text(path):
    """Return the content of a file without blanks around it; an absent one is empty."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def expected():
    """Return the versions that management sent, or nothing."""
    found = json.loads(text(DATA) or "{}").get("health_checks_config") or {}
    versions = found.get("routerVersion") or {}
    return versions[0] if isinstance(versions, list) else versions


def main():
    """Say what differs."""
    wanted = expected()
    actual = {"templateVersion": text(RELEASE), "scriptsVersion": text(SIGNATURE)}
    wrong = [
        f"{key} is {value!r}, expected {wanted[key].strip()!r}"
        for key, value in actual.items()
        if wanted.get(key) and wanted[key].strip() != value
    ]
    if wrong:
        sys.exit("; ".join(wrong))
    print(
        "template and scripts are the expected ones"
        if wanted
        else "management sent no versions to compare with"
    )


if __name__ == "__main__":
    main()
