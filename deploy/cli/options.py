"""Options that limit what a command is about."""

from __future__ import annotations

import typer


def limited(value: str | None) -> str | None:
    """The value of such an option, None where it was not given: for ``callback=``.

    An empty one is a script's variable that was not set, and without its limit the command is about far more.
    """
    if value is not None and not value.strip():
        raise typer.BadParameter("is empty, and without it this is about more: is a variable not set?")
    return value
