"""What ingest serves to browsers besides the beacon: the button, demo pages and the click's JSON Schema."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ingest.http.compressed import Compressed
from ingest.http.openapi import CLICK_SCHEMA

_STATIC: Final = Path(__file__).parent / "static"
#: Readers get a new button within an hour, and until then a page with the button costs no request.
_CACHE: Final = "public, max-age=3600"
#: What stands under its own hash never changes.
_CACHE_FOR_EVER: Final = "public, max-age=31536000, immutable"
_SCRIPT: Final = "text/javascript; charset=utf-8"
_HTML: Final = "text/html; charset=utf-8"
_PAGES: Final = {
    "/button.js": ("button.js", _SCRIPT),
    "/demo": ("demo.html", _HTML),
    "/demo.js": ("demo.js", _SCRIPT),
    "/demo/join": ("join.html", _HTML),
    "/demo/join.js": ("join.js", _SCRIPT),
}
#: Strict, because the page shares the origin of the readers' cookie.
PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
SCHEMA_PATH: Final = "/v1/click.schema.json"


def button_path() -> str:
    """The address of this very button, which a page can pin: it has the file's hash."""
    return _pinned((_STATIC / "button.js").read_bytes())


def button_integrity() -> str:
    """The button's hash as a page states it in ``integrity`` (Subresource Integrity)."""
    return "sha384-" + base64.b64encode(hashlib.sha384((_STATIC / "button.js").read_bytes()).digest()).decode()


def _pinned(content: bytes) -> str:
    return f"/button-{hashlib.sha256(content).hexdigest()[:16]}.js"


def add_pages(app: FastAPI) -> None:
    """Add the routes."""
    for path, (name, media_type) in _PAGES.items():
        _add_file(app, path, (_STATIC / name).read_bytes(), media_type, _CACHE)
    # Buttons of earlier releases stay, because pages have pinned them.
    for file in (_STATIC / "button.js", *_STATIC.glob("button-*.js")):
        content = file.read_bytes()
        _add_file(app, _pinned(content), content, _SCRIPT, _CACHE_FOR_EVER)

    @app.get(SCHEMA_PATH, tags=["clicks"])
    async def schema() -> JSONResponse:
        """The format of a click as a JSON Schema (draft 2020-12)."""
        return JSONResponse(_schema(), headers={"cache-control": _CACHE, "access-control-allow-origin": "*"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(_routes_page(app), media_type=_HTML, headers=PAGE_HEADERS)


def _routes_page(app: FastAPI) -> str:
    """A list of the routes, made from the OpenAPI document; no scripts, and nothing from other hosts."""
    lines = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>\n"
        f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(app.title)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>\n<h1>{title}</h1>\n'
        f'<p>For programs: <a href="/openapi.json">openapi.json</a>, '
        f'<a href="{SCHEMA_PATH}">the click as a JSON Schema</a>.</p>\n' + "\n".join(lines) + "\n</html>\n"
    )


def _schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_PATH, **CLICK_SCHEMA}


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str, cache: str) -> None:
    file = Compressed(content)

    @app.get(path, include_in_schema=False)
    async def serve(request: Request) -> Response:
        coding, body, etag = file.chosen(request.headers.get("accept-encoding", ""))
        headers = {
            "cache-control": cache,
            "etag": etag,
            "vary": "accept-encoding",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
        }
        if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if coding:
            headers["content-encoding"] = coding
        return Response(body, media_type=media_type, headers=headers)
