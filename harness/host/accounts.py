"""Accounts of the host, apart from libvirt: a host without its Python module must be examined, too."""

from __future__ import annotations

import os
import pwd


def groups_of(uid: int, gid: int) -> tuple[int, ...]:
    """Return all groups of a user, its own first."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return (gid,)
    return (gid, *os.getgrouplist(user.pw_name, user.pw_gid))
