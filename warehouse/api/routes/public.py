"""What routes that any site may read share: open to every origin, cacheable, validated by ETag."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from fastapi import Request, Response

OPEN: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
PREFLIGHT: Final = {
    **OPEN,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "If-None-Match, Content-Type",
    "Access-Control-Max-Age": "86400",
}


def weak_etag(stated: object) -> str:
    """Weak, for it covers what is counted and not the moment that stands beside it."""
    return f'W/"{hashlib.blake2b(msgspec.json.encode(stated, order="sorted"), digest_size=12).hexdigest()}"'


def unchanged(request: Request, etag: str) -> bool:
    """Whether the client has this version already."""
    asked = request.headers.get("if-none-match")
    return asked is not None and (asked.strip() == "*" or etag in (tag.strip() for tag in asked.split(",")))


def cacheable(body: object, etag: str, max_age_s: int) -> Response:
    """200 with the body as JSON."""
    headers = {
        **OPEN,
        "ETag": etag,
        # An edge may answer with an old one while it asks anew, and for an hour while we are away.
        "Cache-Control": f"public, max-age={max_age_s}, stale-while-revalidate=60, stale-if-error=3600",
    }
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


def not_modified(answer: Response) -> Response:
    """304: the same answer without its body."""
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return Response(status_code=304, headers=headers)
