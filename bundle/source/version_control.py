"""Git's knowledge of a source tree: where it is from, what differs from its commit, and what git does not know."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bundle.errors import InfrastructureError

_DEADLINE = 60


@dataclass(frozen=True)
class Checkout:
    """The state of a checkout, as far as the packed files go.

    Attributes:
        remote: URL of ``origin`` without a password; empty when there is none.
        commit: the commit that is checked out.
        dirty: packed files that differ from the commit, relative to the checkout.
        unknown: packed files that git does not know, likewise.
    """

    remote: str
    commit: str
    dirty: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def _git(root: Path, *words: str) -> str:
    """Return what git says.

    Raises:
        InfrastructureError: it is not there, failed, or did not answer.
    """
    # The tree may be anybody's: nothing that its configuration names is run.
    safe = ("safe.directory=*", "core.fsmonitor=false", f"core.hooksPath={os.devnull}")
    flags = [word for value in safe for word in ("-c", value)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *flags, "-C", os.fspath(root), *words],
            env=environment,
            capture_output=True,
            timeout=_DEADLINE,
            check=False,
        )
    except OSError as error:
        raise InfrastructureError(f"git: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"git did not answer in {_DEADLINE} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InfrastructureError(f"git: {said[-1] if said else f'status {done.returncode}'}")
    return os.fsdecode(done.stdout)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _remote(root: Path) -> str:
    try:
        return _without_password(_git(root, "config", "--get", "remote.origin.url").strip())
    except InfrastructureError:
        return ""


def look(root: Path, files: tuple[Path, ...]) -> Checkout | None:
    """Return what git knows about the files of a tree; None when the tree is in no checkout.

    Args:
        root: the source tree.
        files: the files that are packed; those outside of the checkout are passed over.

    Raises:
        InfrastructureError: there is a checkout, and git cannot say anything about it.
    """
    top = next((path for path in (root.resolve(), *root.resolve().parents) if (path / ".git").exists()), None)
    if top is None:
        return None
    commit = _git(top, "rev-parse", "--verify", "HEAD").strip()
    tracked = set(_git(top, "ls-files", "-z", "--cached").split("\0"))
    changed = set(
        _git(top, "diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "HEAD").split("\0")
    )
    names = []
    for path in files:
        place = path.parent.resolve() / path.name
        if place.is_relative_to(top):
            names.append(place.relative_to(top).as_posix())
    if not tracked & set(names):
        return None  # a copy inside somebody else's checkout
    return Checkout(
        remote=_remote(top),
        commit=commit,
        dirty=tuple(sorted(changed & set(names))),
        unknown=tuple(sorted(set(names) - tracked)),
    )
