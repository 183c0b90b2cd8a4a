"""Answers as clients read them: JSON, or XML where a client does not ask for JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from xml.sax.saxutils import escape

from harness.management.api.problems import ApiError

Form: TypeAlias = Literal["json", "xml"]
_TYPES: dict[Form, str] = {
    "json": "application/json; charset=UTF-8",
    "xml": "text/xml; charset=UTF-8",
}
# What no XML document may hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class ApiAnswer:
    """An answer: status, body, and headers beside the usual ones."""

    status: int
    body: str
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)


def date(seconds: float) -> str:
    """Return a time, seconds since 1970, as CloudStack writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def form_of(wanted: str) -> Form:
    """Return the form that a client's ``response`` asks for: XML unless it says JSON."""
    return "json" if wanted.lower() == "json" else "xml"


def write(
    name: str, content: Mapping[str, Any], form: Form, status: int = 200, version: str = "", **more: Any
) -> ApiAnswer:
    """Return an answer.

    Args:
        name: what it is called, such as ``listroutersresponse``.
        content: its fields; one that is None is left out.
        form: JSON or XML.
        status: HTTP status.
        version: of the server, which the root of an XML document carries.
        **more: further attributes of the answer.
    """
    if form == "json":
        body = json.dumps({name: _plain(content)}, ensure_ascii=False, separators=(",", ":"))
        # Lone surrogates cannot be encoded; nothing of ours has them, and a guest's text might.
        body = body.encode("utf-8", "replace").decode()
    else:
        attribute = f' cloud-stack-version="{escape(version)}"' if version else ""
        body = f'<?xml version="1.0" encoding="UTF-8"?><{name}{attribute}>{_fields(content)}</{name}>'
    return ApiAnswer(status, body, _TYPES[form], **more)


def failure(problem: ApiError, name: str, form: Form, **more: Any) -> ApiAnswer:
    """Return the answer that a refused call gets."""
    content = {
        "uuidList": [],
        "errorcode": problem.status,
        "cserrorcode": problem.cs,
        "errortext": problem.text,
    }
    text = re.sub(r"[^\x20-\x7e]", "?", problem.text)[:1000]
    headers = {"X-Description": text, **more.pop("headers", {})}
    return write(problem.name or name, content, form, problem.status, headers=headers, **more)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _fields(content: Mapping[str, Any]) -> str:
    return "".join(_element(key, value) for key, value in content.items() if value is not None)


def _element(key: str, value: Any) -> str:
    if not _NAME.fullmatch(key):
        raise ValueError(f"no name of an element: {key!r}")
    if isinstance(value, (list, tuple)):
        return "".join(_element(key, one) for one in value)
    if isinstance(value, Mapping):
        return f"<{key}>{_fields(value)}</{key}>"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{key}>{escape(_NOT_XML.sub('?', text))}</{key}>"
