"""Requests: what clients have sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ApiRequest:
    """One request.

    Attributes:
        method: GET or POST.
        sent: parameters, names as sent: of the query string, and of the body where the query string has none such.
        cookies: by name.
    """

    method: Literal["GET", "POST"]
    sent: Mapping[str, str]
    cookies: Mapping[str, str] = field(default_factory=dict)
