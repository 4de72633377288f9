"""What public routes share: open to every origin, and cacheable."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import Response

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


def cacheable(body: object, etag: str, max_age_s: int) -> Response:
    """200 with the body as JSON."""
    headers = {
        **OPEN,
        "ETag": etag,
        # A CDN may serve a stale answer while it revalidates, and for an hour if we are down.
        "Cache-Control": f"public, max-age={max_age_s}, stale-while-revalidate=60, stale-if-error=3600",
    }
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)
