"""`flattr sites snippet`: the lines that put a button on a page."""

from __future__ import annotations

from html import escape
from typing import Annotated

import typer

from deploy.cli.options import web_address


def register(app: typer.Typer) -> None:
    """Add the commands."""
    sites = typer.Typer(help="Sites and their buttons.", no_args_is_help=True)
    sites.callback()(_group)
    sites.command("snippet")(snippet)
    app.add_typer(sites, name="sites")


def _group() -> None:
    """Commands about sites."""


def snippet(
    ingest: Annotated[str, typer.Option(callback=web_address, help="address of ingest, as browsers reach it")],
    counters: Annotated[str, typer.Option(callback=web_address, help="address of the read API, as browsers reach it")],
    creator: Annotated[str, typer.Option(help="whom the button flattrs")],
    thing: Annotated[str | None, typer.Option(help="what it flattrs; without it, the page's canonical address")] = None,
    site: Annotated[str | None, typer.Option(help="the site's key, if sites are configured")] = None,
    join: Annotated[
        str | None, typer.Option(callback=web_address, help="the platform's page that signs readers in")
    ] = None,
) -> None:
    """Print the script's tag, pinned to this release's button by its hash, and the button.

    The browser refuses a file that has another hash; print the snippet anew to move a page to a newer button.
    """
    from deploy.errors import CommandFailed
    from ingest.contract.names import identifier
    from ingest.contract.thing import canonical, plain
    from ingest.http.static_files import button_integrity, button_path

    try:
        identifier("creator", creator)
        canonical(plain(thing or ""))
    except ValueError as error:
        raise CommandFailed(f"No click of this button would be taken: {error}") from None
    script = {
        "src": ingest.rstrip("/") + button_path(),
        "integrity": button_integrity(),
        "crossorigin": "anonymous",
        "data-counters": counters.rstrip("/"),
        "data-site": site,
        "data-join": join,
    }
    typer.echo(f"<script async {_attributes(script)}></script>")
    typer.echo(f"<flattr-button {_attributes({'creator': creator, 'thing': thing})}></flattr-button>")


def _attributes(values: dict[str, str | None]) -> str:
    return " ".join(f'{name}="{escape(value)}"' for name, value in values.items() if value is not None)
