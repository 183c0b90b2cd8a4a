"""Address of the API, and who calls: read as ``cs`` reads it, from ``CLOUDSTACK_*`` and ``cloudstack.ini``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

from bundle.errors import UsageError

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_PASSWORD = "CLOUDSTACK_PASSWORD"  # noqa: S105 - the name of a variable
HIDDEN = "[hidden]"
# What is read from the environment where no file and no address is there.
_NAMES = ("key", "secret", "timeout", "method", "verify")


@dataclass
class Access:
    """An account of a server.

    Attributes:
        endpoint: address of the API, such as ``https://cloud.example/client/api``.
        options: what ``cs`` takes besides, such as ``verify`` and ``timeout``.
        key: API key; empty when the account signs in with a password.
        secret: secret key.
        user: name to sign in with; empty with keys.
        password: of that user.
        domain: path of the user's domain.
    """

    endpoint: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    domain: str = "/"
    _more: list[str] = field(default_factory=list, repr=False)

    def keep_secret(self, text: str) -> None:
        """Add a secret that came up on the way, such as a session's key."""
        if text and text not in self._more:
            self._more.append(text)

    def hide(self, text: str) -> str:
        """Return a text in which every secret, as it is or as part of an address, is hidden."""
        for secret in (self.secret, self.key, self.password, *self._more):
            for form in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)} if secret else ():
                text = text.replace(form, HIDDEN)
        return text


def read_access(
    api: str | None, region: str | None, user: str | None, domain: str, *, plain_http: bool
) -> Access:
    """Return the account that the environment, the files and the options name.

    Args:
        api: address of the API; None takes the configuration's.
        region: section of ``cloudstack.ini``; None takes ``cs``'s default.
        user: name to sign in with, with ``CLOUDSTACK_PASSWORD``; None signs with the configuration's keys.
        domain: path of that user's domain.
        plain_http: whether a server that is not on this machine may be called without TLS.

    Raises:
        UsageError: something is missing, or TLS would not be verified.
    """
    config = _configuration(api, region)
    endpoint = api or str(config.get("endpoint") or "")
    _check_address(endpoint, config, plain_http=plain_http)
    names = ("timeout", "method", "verify", "cert", "cert_key", "expiration", "headers")
    options = {name: config[name] for name in names if config.get(name) not in (None, "")}
    if user:
        password = os.environ.get(_PASSWORD, "")
        if not password:
            raise UsageError(f"no password for {user!r}", hint=f"set {_PASSWORD}")
        return Access(endpoint, options, user=user, password=password, domain=domain)
    key, secret = str(config.get("key") or ""), str(config.get("secret") or "")
    if not key or not secret:
        missing = "API key" if not key else "secret key"
        raise UsageError(
            f"no {missing} for {endpoint}",
            hint="set CLOUDSTACK_KEY and CLOUDSTACK_SECRET, or key and secret in ~/.cloudstack.ini; or --user",
        )
    return Access(endpoint, options, key=key, secret=secret)


def _configuration(api: str | None, region: str | None) -> dict[str, Any]:
    import cs

    try:
        return dict(cs.read_config(region))
    except (SystemExit, ValueError, KeyError) as error:
        if api is None or region is not None:
            raise UsageError(
                f"no address of an API: {error}",
                hint="name it with --api, CLOUDSTACK_ENDPOINT or ~/.cloudstack.ini",
            ) from None
    except Exception as error:  # configparser has a dozen of them, and their words may hold a secret
        raise UsageError(f"cloudstack.ini cannot be read ({type(error).__name__})") from None
    # No file and no address in the environment: the rest of it may be there all the same.
    return {name: os.environ.get(f"CLOUDSTACK_{name.upper()}") for name in _NAMES}


def _check_address(endpoint: str, config: dict[str, Any], *, plain_http: bool) -> None:
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"}:
        raise UsageError(f"invalid address of an API {endpoint!r} (expected https://HOST/client/api)")
    if parts.username or parts.password or parts.query:
        raise UsageError("the address of the API holds more than scheme, host, port and path")
    if config.get("dangerous_no_tls_verify") or str(config.get("verify") or "").lower() in {
        "false",
        "no",
        "0",
    }:
        raise UsageError(
            "TLS is not verified by this configuration",
            hint="set verify to the file of the authority's certificate",
        )
    if parts.scheme == "http" and host not in _LOOPBACK and not plain_http:
        raise UsageError(
            f"{endpoint} is not encrypted", hint="use https, or --plain-http when nobody else is on the way"
        )
