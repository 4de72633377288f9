"""What ingest serves to browsers beside the beacon: the button, a page that shows it, and the click's schema."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ingest.openapi import CLICK_SCHEMA

_STATIC: Final = Path(__file__).parent / "static"
#: An hour: a new button reaches its readers within it, and a page with it costs no request until then.
_CACHE: Final = "public, max-age=3600"
_PAGES: Final = {
    "/button.js": ("button.js", "text/javascript; charset=utf-8"),
    "/demo": ("demo.html", "text/html; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
SCHEMA_PATH: Final = "/v1/click.schema.json"


def add_pages(app: FastAPI) -> None:
    """Add the routes."""
    for path, (name, media_type) in _PAGES.items():
        _add_file(app, path, (_STATIC / name).read_bytes(), media_type)

    @app.get(SCHEMA_PATH, tags=["clicks"])
    async def schema() -> JSONResponse:
        """The format of a click as a JSON Schema (draft 2020-12)."""
        return JSONResponse(_schema(), headers={"cache-control": _CACHE, "access-control-allow-origin": "*"})


def _schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_PATH, **CLICK_SCHEMA}


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"cache-control": _CACHE, "etag": etag, "access-control-allow-origin": "*"}

    @app.get(path, include_in_schema=False)
    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)
