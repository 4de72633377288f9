"""Health of the other services, from their /ready. Blocks: use one thread per service."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Final

_TIMEOUT_S: Final = 2


@dataclass(frozen=True)
class ServiceHealth:
    """A service, and whether it is ready."""

    name: str
    ready: bool


def ask(name: str, url: str) -> ServiceHealth:
    """Ask one service. Anything but a 200 within two seconds means not ready."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s), checked in the settings
            return ServiceHealth(name, answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return ServiceHealth(name, ready=False)
    except OSError:
        return ServiceHealth(name, ready=False)
