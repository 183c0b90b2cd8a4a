"""Options and output that the commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bundle.sink import tell

if TYPE_CHECKING:
    from bundle.seal.signer import Signer

_F = TypeVar("_F", bound=Callable[..., Any])

PATH: click.Path = click.Path(path_type=Path)
# The key of the root context's object that says that a machine reads.
JSON_ASKED = "json"
_PASSPHRASE = "SYSVM_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def bundle_argument(function: _F) -> _F:
    """Add the argument DIR: a bundle folder."""
    return click.argument("folder", metavar="DIR", type=PATH)(function)


def json_option(function: _F) -> _F:
    """Add ``--json``."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_note_json,
        help="Print JSON for a machine.",
    )(function)


def _note_json(ctx: click.Context, _option: click.Parameter, value: bool) -> bool:
    """Remember that a machine reads: errors are JSON, too, then."""
    if value:
        ctx.find_root().ensure_object(dict)[JSON_ASKED] = True
    return value


def renamed(old: str, new: str, name: str, **attributes: Any) -> Callable[[_F], _F]:
    """Add an option that had another word until 0.1; the old one is understood with a warning, until 0.3.

    Args:
        old: the former word.
        new: the word.
        name: the argument that gets the value.
        **attributes: of ``click.option``.
    """

    def take(ctx: click.Context, _option: click.Parameter, value: object) -> None:
        if value is not None and value is not False:
            tell(f"warning: {old} is called {new} now, and goes with version 0.3", err=True)
            ctx.meta[old] = value

    def choose(ctx: click.Context, _option: click.Parameter, value: object) -> object:
        return ctx.meta.get(old, value)

    def add(function: _F) -> _F:
        kind = {name: attributes[name] for name in ("type", "is_flag") if name in attributes}
        own_name = f"former_{old.lstrip('-').replace('-', '_')}"
        function = click.option(
            old, own_name, **kind, default=None, hidden=True, expose_value=False, is_eager=True, callback=take
        )(function)
        return click.option(new, name, callback=choose, **attributes)(function)

    return add


@dataclass(frozen=True)
class Keys:
    """The options about signing."""

    key: Path | None
    passphrase_file: Path | None
    sign_with: str | None
    signatures: Path | None
    public: Path | None

    def _passphrase(self) -> bytes | None:
        from bundle.errors import UsageError

        if self.passphrase_file is None:
            said = os.environ.get(_PASSPHRASE)
            return said.encode() if said else None
        try:
            return self.passphrase_file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise UsageError(f"{self.passphrase_file}: {error.strerror}") from error

    def signer(self) -> Signer | None:
        """Return who signs; None when nobody does."""
        if self.key is None and self.sign_with is None and self.signatures is None:
            return None
        from bundle.seal.signer import choose

        return choose(self.key, self._passphrase(), self.sign_with, self.signatures, self.public)


_KEY_OPTIONS = (
    click.option("--key", type=PATH, metavar="KEY", help="Sign with this private key."),
    click.option(
        "--passphrase-file", type=PATH, metavar="FILE", help=f"Passphrase of KEY; ${_PASSPHRASE} without it."
    ),
    click.option(
        "--sign-with",
        metavar="CMD",
        help="Sign with a program: data on its input, a DER signature on its output.",
    ),
    click.option(
        "--signatures",
        type=PATH,
        metavar="DIR",
        help="Attach signatures made elsewhere; says what is to be signed.",
    ),
    click.option("--public", type=PATH, metavar="PUBKEY", help="Public key of --sign-with or --signatures."),
)


def key_options(function: _F) -> Callable[..., Any]:
    """Add the options that say who signs, and pass them as ``keys``."""

    @functools.wraps(function)
    def run(
        *args: Any,
        key: Path | None,
        passphrase_file: Path | None,
        sign_with: str | None,
        signatures: Path | None,
        public: Path | None,
        **options: Any,
    ) -> Any:
        return function(*args, keys=Keys(key, passphrase_file, sign_with, signatures, public), **options)

    for option in reversed(_KEY_OPTIONS):
        run = option(run)
    return run
