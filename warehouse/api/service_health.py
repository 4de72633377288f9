"""Health of the other services, from their /ready. Blocks: use one thread per service."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

_TIMEOUT_S: Final = 2


#: What a service says is repeated up to here, and in one line.
_SAID_MAX: Final = 500


@dataclass(frozen=True)
class ServiceHealth:
    """A service, whether it is ready, and what it said: for operators, as it may name hosts and reasons."""

    name: str
    ready: bool
    said: str = ""


def ask(name: str, url: str) -> ServiceHealth:
    """Ask one service. Anything but a 200 within two seconds means not ready."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s), checked in the settings
            return ServiceHealth(name, answer.status == 200, _line(answer.read(_SAID_MAX)))
    except urllib.error.HTTPError as error:
        with error:
            return ServiceHealth(name, ready=False, said=_said(error))
    except (OSError, HTTPException) as error:
        return ServiceHealth(name, ready=False, said=f"no answer: {error}"[:_SAID_MAX])


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return _line(error.read(_SAID_MAX))
    except (OSError, HTTPException):
        return f"answered {error.code}"


def _line(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())
