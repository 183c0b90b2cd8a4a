"""The page: one template, one script, one style sheet, and no other way in than the API."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from bundle.errors import UsageError
from harness.management.api.app import HEADERS

# Nothing but what this server sends itself: no inline script, no other origin, no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_FILES = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}


def pages(version: str, ui: Path | None = None) -> list[BaseRoute]:
    """Return the routes of the page, and of a built CloudStack UI.

    Args:
        version: of the server, which the page shows.
        ui: folder of the UI.

    Raises:
        UsageError: the folder holds no UI.
    """
    environment = Environment(
        loader=PackageLoader("harness.management.api", "page"), autoescape=select_autoescape(default=True)
    )
    text = environment.get_template("page.html.j2").render(version=version)
    folder = Path(__file__).parent / "page"
    routes: list[BaseRoute] = [_file("/", text.encode(), "text/html; charset=utf-8")]
    for name, kind in _FILES.items():
        routes.append(_file(f"/{name}", (folder / name).read_bytes(), kind))
    if ui is not None:
        if not (ui / "index.html").is_file():
            raise UsageError(
                f"{ui}: no index.html in it", hint="--ui takes the folder of a built CloudStack UI"
            )
        routes.append(Mount("/client", StaticFiles(directory=ui, html=True)))
    return routes


def _file(path: str, content: bytes, kind: str) -> Route:
    headers = {**HEADERS, "Content-Security-Policy": POLICY}

    def send(_: HttpRequest) -> Response:
        return Response(content, headers=headers, media_type=kind)

    return Route(path, send, methods=["GET"])
