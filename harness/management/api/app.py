"""The API behind HTTP: two addresses for calls, one page, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from harness.management.api.answers import ApiAnswer, failure, form_of
from harness.management.api.limits import ApiLimits
from harness.management.api.problems import ApiError
from harness.management.api.request import ApiRequest
from harness.management.api.service import ApiService

_FORM = "application/x-www-form-urlencoded"
# What every answer carries: nothing of ours is to be cached, framed, or taken for another type than it says.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def app(service: ApiService, hosts: Sequence[str], pages: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the application.

    Args:
        service: the server.
        hosts: names and addresses that clients may call it by; another ``Host`` is refused, for a foreign page might
            have a browser call this machine by a name of its own.
        pages: further routes.
    """

    async def call(http: HttpRequest) -> Response:
        try:
            request = await _read(http, service.limits)
        except ApiError as problem:
            wanted = form_of(http.query_params.get("response", "xml")) if problem.status != 414 else "xml"
            return _response(failure(problem, "errorresponse", wanted), secure=False)
        except ClientDisconnect:
            return Response(status_code=400)
        answer = await run_in_threadpool(service.answer, request)
        return _response(answer, secure=http.url.scheme == "https")

    methods = ["GET", "POST"]
    routes = [Route("/client/api", call, methods=methods), Route("/client/api/", call, methods=methods)]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    made = Starlette(routes=[*routes, *pages], middleware=[guard])
    made.router.redirect_slashes = False
    return made


async def _read(http: HttpRequest, limits: ApiLimits) -> ApiRequest:
    """Read a request within its bounds.

    Raises:
        ApiError: it is too long, too slow, or no form.
    """
    query = http.scope["query_string"]
    if len(query) > limits.query:
        raise ApiError(414, "the query string is too long")
    sent = _parse(query, limits)
    method: Literal["GET", "POST"] = "POST" if http.method == "POST" else "GET"
    if method == "POST":
        body = await _body(http, limits)
        kind = http.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
        if body and kind != _FORM:
            raise ApiError(415, f"a body has to be {_FORM}")
        sent = {**_parse(body, limits), **sent}
    if len(sent) > limits.parameters:
        raise ApiError(430, "too many parameters")
    return ApiRequest(method, sent, http.cookies)


async def _body(http: HttpRequest, limits: ApiLimits) -> bytes:
    too_long = ApiError(413, f"the body is longer than {limits.body} bytes")
    if int(http.headers.get("content-length", "0")) > limits.body:
        raise too_long
    body = b""
    try:
        async with asyncio.timeout(limits.body_time):
            async for chunk in http.stream():
                body += chunk
                if len(body) > limits.body:
                    raise too_long
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {limits.body_time:g} s") from None
    return body


def _parse(text: bytes, limits: ApiLimits) -> dict[str, str]:
    """Return the parameters of a query string or a form; a part without ``=`` is dropped, the last of a name counts."""
    told = b"&".join(part for part in text.split(b"&") if b"=" in part)
    try:
        pairs = parse_qsl(
            told.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=limits.parameters
        )
    except UnicodeDecodeError:
        raise ApiError(430, "parameters have to be UTF-8, and encoded for a URL") from None
    except ValueError:
        raise ApiError(430, "too many parameters") from None
    return dict(pairs)


def _response(answer: ApiAnswer, *, secure: bool) -> Response:
    response = Response(
        answer.body.encode(),
        status_code=answer.status,
        headers={**HEADERS, "Content-Type": answer.content_type, **answer.headers},
    )
    for name, value in answer.cookies.items():
        response.set_cookie(
            name,
            value,
            max_age=None if value else 0,
            path="/client",
            httponly=True,
            samesite="lax",
            secure=secure,
        )
    return response
