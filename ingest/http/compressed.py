"""A file in the codings that browsers take, compressed once, and the choice among them (RFC 9110, 12.5.3). Pure."""

from __future__ import annotations

import gzip
import hashlib
from typing import Final

import cramjam

#: The best first.
_CODINGS: Final = ("br", "gzip")


class Compressed:
    """One file's content as it is, and as brotli and gzip where that is smaller."""

    def __init__(self, content: bytes) -> None:
        compressed = {
            "br": bytes(cramjam.brotli.compress(content, level=11)),
            "gzip": gzip.compress(content, 9, mtime=0),
        }
        self._bodies = {"": content} | {name: body for name, body in compressed.items() if len(body) < len(content)}
        digest = hashlib.sha256(content).hexdigest()[:16]
        # A strong tag stands for bytes, so each coding has its own.
        self._etags = {name: f'"{digest}{name and "-"}{name}"' for name in self._bodies}

    def chosen(self, accept_encoding: str) -> tuple[str, bytes, str]:
        """Content coding (empty for none), body and ETag for a client's ``Accept-Encoding``."""
        weights = accepted(accept_encoding)
        anything = weights.get("*", 0.0)
        coding = next((name for name in _CODINGS if name in self._bodies and weights.get(name, anything) > 0), "")
        return coding, self._bodies[coding], self._etags[coding]


def accepted(accept_encoding: str) -> dict[str, float]:
    """The weight of each coding that the header names, by lower-case name; what is malformed weighs nothing."""
    weights = {}
    for one in accept_encoding.split(","):
        name, _, parameter = one.partition(";")
        key, _, value = parameter.strip().partition("=")
        try:
            weight = float(value) if key.strip().lower() == "q" else float(not parameter)
        except ValueError:
            weight = 0.0
        weights[name.strip().lower()] = weight
    return weights
