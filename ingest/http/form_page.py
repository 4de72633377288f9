"""The page that a plain form ends on, in a browser without scripts: what became of the click, for its reader."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Final

from ingest.contract.rejection import Reason
from ingest.runtime.refusal import RETRYABLE

FORM_PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
_SIGN_IN: Final = "Sign in on the page that you came from, then press again."
_SENTENCES: Final = {
    Reason.TOKEN_MISSING: _SIGN_IN,
    Reason.TOKEN_INVALID: _SIGN_IN,
    Reason.TOKEN_EXPIRED: "You have been signed in for too long. " + _SIGN_IN,
    Reason.OWN_THING: "You cannot flattr your own work.",
    Reason.RATE_LIMITED: "That was very fast. Wait a moment, then load this page again.",
}
_LATER: Final = "We could not store it just now. Load this page again in a moment; it counts only once."
_BROKEN: Final = (
    "The page that you came from sent something that we do not understand. Its owner can look it up by this word:"
)


@lru_cache(256)
def form_page(status: int, reason: Reason | None) -> bytes:
    """The page for an answer: of ``status``, refused for ``reason`` if there is one."""
    if reason is None:
        title, said = ("Thank you", "It is stored.") if status < 400 else ("Not counted", _LATER)
    else:
        title = "Not counted"
        said = _SENTENCES.get(reason) or (_LATER if reason in RETRYABLE else f"{_BROKEN} {reason}")
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{title} - Flattr</title>\n<main><h1>{title}</h1>\n<p>{escape(said)}</p>\n"
        "<p>Go back with your browser's back button.</p></main>\n</html>\n"
    ).encode()
