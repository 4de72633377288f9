"""Renders pages from the templates under page/ and serves its files, with headers that allow nothing else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Final

from fastapi import Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ingest.contract.month import month_text
from warehouse.api import formatting

#: Nothing from other hosts, nothing inline, no framing.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pages go out of date at once, and may be meant for one reader only.
    "Cache-Control": "no-store",
}
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@cache
def _file(name: str) -> tuple[bytes, str] | None:
    """A file's bytes, and the hash that goes into its URL."""
    if name.rpartition(".")[2] not in _TYPES:
        return None
    known = {entry.name: entry for entry in (resources.files("warehouse.api") / "page").iterdir()}
    if name not in known:
        return None
    text = known[name].read_bytes()
    return text, hashlib.sha256(text).hexdigest()[:12]


def address(name: str) -> str:
    """A file's URL for use in pages. It changes with the content, so it may be cached for ever."""
    found = _file(name)
    if found is None:
        raise LookupError(f"there is no page/{name}")
    return f"/page/{name}?v={found[1]}"


def file_response(name: str, version: str) -> Response | None:
    """A file of page/, or None."""
    found = _file(name)
    if found is None:
        return None
    # Scripts import each other without a version, so those requests must revalidate.
    fresh = "public, max-age=31536000, immutable" if version == found[1] else "no-cache"
    headers = {**HEADERS, "Cache-Control": fresh, "ETag": f'"{found[1]}"'}
    return Response(found[0], media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


def _code(text: str) -> Markup:
    """Escape text and turn `backticks` into code elements."""
    pieces = str(escape(text)).split("`")
    return Markup("".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces)))  # noqa: S704 - escaped above


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("warehouse.api", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        file=address,
        number=formatting.number,
        money=formatting.money,
        moment=formatting.moment,
        age=formatting.age,
        part=formatting.part,
        day=formatting.day,
        thing_text=formatting.thing_text,
        creator_path=formatting.creator_path,
        month_text=month_text,
        month_name_of=formatting.month_name,
        code=_code,
        here="",
        reader="",
    )
    return environment


_ENVIRONMENT: Final = _environment()


def page(template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Render a template with its values."""
    html = _ENVIRONMENT.get_template(template).render(**values)
    return HTMLResponse(html, status_code=status, headers=HEADERS)
