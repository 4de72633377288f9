"""Options that several commands share the rule of; each function is a ``callback=`` of such an option."""

from __future__ import annotations

from urllib.parse import urlsplit

import typer


def limited(value: str | None) -> str | None:
    """The value of an option that limits what a command is about, None where it was not given.

    An empty one is a script's variable that was not set, and without its limit the command is about far more.
    """
    if value is not None and not value.strip():
        raise typer.BadParameter("is empty, and without it this is about more: is a variable not set?")
    return value


def listening_host(value: str) -> str:
    """An address to listen on."""
    from ingest.runtime.host_port import HOST

    if HOST.fullmatch(value) is None:
        raise typer.BadParameter(f"{value!r} is no address to listen on, such as 127.0.0.1, or 0.0.0.0 for all")
    return value


def web_address(value: str | None) -> str | None:
    """The address of a server, as a browser or a command asks it: http or https, and a host."""
    if value is not None and not _is_web_address(value):
        raise typer.BadParameter(f"{value!r} is no address such as https://ingest.example")
    return value


def web_addresses(values: list[str] | None) -> list[str] | None:
    """Several of them."""
    for value in values or []:
        web_address(value)
    return values


def _is_web_address(address: str) -> bool:
    try:
        found = urlsplit(address)
        _ = found.port
    except ValueError:
        return False
    return found.scheme in {"http", "https"} and bool(found.hostname) and not set(address) & set(" \t\r\n\"'<>\\")
