"""The page that a plain form ends on, in a browser without scripts: what became of the click, for its reader."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Final

from ingest.contract.rejection import Reason
from ingest.http.form_texts import TEXTS, FormTexts, language_of
from ingest.runtime.refusal import RETRYABLE

FORM_PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


def form_page(status: int, reason: Reason | None, accepted_languages: bytes = b"") -> bytes:
    """The page for an answer: of ``status``, refused for ``reason`` if there is one, by the Accept-Language header."""
    return _page(status, reason, language_of(accepted_languages))


@lru_cache(1024)
def _page(status: int, reason: Reason | None, language: str) -> bytes:
    texts = TEXTS[language]
    is_stored = reason is None and status < 400
    title, said = (texts.thanks, texts.stored) if is_stored else (texts.not_counted, texts.later)
    if reason is not None:
        said = _why(reason, texts)
    return (
        f'<!doctype html>\n<html lang="{language}"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)} - Flattr</title>\n<main><h1>{escape(title)}</h1>\n<p>{escape(said)}</p>\n"
        f"<p>{escape(texts.back)}</p></main>\n</html>\n"
    ).encode()


def _why(reason: Reason, texts: FormTexts) -> str:
    sentences = {
        Reason.TOKEN_MISSING: texts.sign_in,
        Reason.TOKEN_INVALID: texts.sign_in,
        Reason.TOKEN_EXPIRED: f"{texts.expired} {texts.sign_in}",
        Reason.OWN_THING: texts.own_work,
        Reason.RATE_LIMITED: texts.too_fast,
    }
    return sentences.get(reason) or (texts.later if reason in RETRYABLE else f"{texts.broken} {reason}")
