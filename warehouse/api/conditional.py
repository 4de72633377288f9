"""Conditional requests (RFC 9110, section 13): an ``ETag`` against ``If-None-Match``; answers that caches keep."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from fastapi import Response


def weak_etag(stated: object) -> str:
    """A weak ETag, because it covers the counts but not the moment stated with them."""
    return f'W/"{hashlib.blake2b(msgspec.json.encode(stated, order="sorted"), digest_size=12).hexdigest()}"'


def cacheable(body: object, etag: str, max_age_s: int) -> Response:
    """200 with the body as JSON."""
    headers = {
        "ETag": etag,
        # A CDN may serve a stale answer while it revalidates, and for an hour if we are down.
        "Cache-Control": f"public, max-age={max_age_s}, stale-while-revalidate=60, stale-if-error=3600",
    }
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


def is_current(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the client already has this version, by weak comparison."""
    asked = headers.get("if-none-match")
    if asked is None:
        return False
    return asked.strip() == "*" or etag.removeprefix("W/") in (
        tag.strip().removeprefix("W/") for tag in asked.split(",")
    )


def revalidated(answer: Response, headers: Mapping[str, str]) -> Response:
    """The answer, or a 304 without body if the client already has it."""
    if "if-none-match" not in headers or not is_current(headers, answer.headers["etag"]):
        return answer
    return Response(
        status_code=304,
        headers={name: value for name, value in answer.headers.items() if not name.startswith("content-")},
    )
