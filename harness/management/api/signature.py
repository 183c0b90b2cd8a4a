"""The signature of a request: HMAC-SHA1 of its sorted parameters, as CloudStack's server works it out."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote_plus

EXPIRES = "%Y-%m-%dT%H:%M:%S%z"
_UNSIGNED = "signature"


def encode(value: str) -> str:
    """Return a value as Java's ``URLEncoder`` writes it, with blanks as ``%20``: only ``~`` differs from Python's."""
    return quote_plus(value, safe="*-._").replace("+", "%20").replace("~", "%7E")


def sign(parameters: Mapping[str, str], secret: str) -> str:
    """Return the signature of a request.

    Args:
        parameters: as sent: name and decoded value; a signature among them does not count.
        secret: the secret key.
    """
    text = "&".join(
        f"{name}={encode(value)}" for name, value in sorted(parameters.items()) if name.lower() != _UNSIGNED
    ).lower()
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def is_signed(parameters: Mapping[str, str], secret: str) -> bool:
    """Say whether the signature of a request is the right one; takes as long for a wrong one."""
    given = next((value for name, value in parameters.items() if name.lower() == _UNSIGNED), "")
    return hmac.compare_digest(given.encode(), sign(parameters, secret).encode())


def expiry(parameters: Mapping[str, str]) -> datetime | None:
    """Return when a request expires; None where its signature has none (any version but 3).

    Raises:
        ValueError: the version is 3, and the expiry is missing or unreadable.
    """
    lower = {name.lower(): value for name, value in parameters.items()}
    if lower.get("signatureversion") != "3":
        return None
    return datetime.strptime(lower.get("expires", ""), EXPIRES).astimezone(UTC)
