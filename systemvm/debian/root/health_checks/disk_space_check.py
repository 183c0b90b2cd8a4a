#!/usr/bin/python3 -ES
# kind: basic
"""Find file systems that are nearly full."""

import os
import sys

LEAST_FREE = 0.05
FOLDERS = ("/", "/var", "/run")


def main():
    """Say which are."""
    short = []
    for folder in FOLDERS:
        found = os.statvfs(folder)
        if found.f_blocks and found.f_bavail / found.f_blocks < LEAST_FREE:
            short.append(f"{folder} has {found.f_bavail * found.f_frsize >> 20} MiB left")
    if short:
        sys.exit("; ".join(short))
    print(f"every file system has more than {LEAST_FREE:.0%} free")


if __name__ == "__main__":
    main()
