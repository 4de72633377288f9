"""`flattr ingest` and `flattr token`: accept clicks, and issue the tokens to send them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fastapi import FastAPI

_KeyFile = Annotated[Path, typer.Option("--keys", envvar="FLATTR_TOKEN_KEYS", help="file of token keys")]
_KEYS = Path(".flattr/token-keys.json")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ingest")(serve)
    token = typer.Typer(help="Member tokens and their keys.", no_args_is_help=True)
    token.command("issue")(issue)
    token.command("keygen")(keygen)
    app.add_typer(token, name="token")


def serve() -> None:
    """Accept clicks over HTTP until SIGTERM. Settings: FLATTR_INGEST_* (docs/ingest.md)."""
    from deploy.cli import logs
    from deploy.errors import CommandFailed
    from ingest.log.producer import TopicMissing
    from ingest.log.spool import SpoolBroken
    from ingest.runtime.watched_file import FileError
    from ingest.serve import serve as run
    from ingest.settings import IngestSettings

    logs.set_up()
    try:
        run(IngestSettings(), worker="deploy.cli.commands.ingest:worker")
    except (FileError, SpoolBroken, TopicMissing) as error:
        raise CommandFailed(str(error)) from error


def worker() -> FastAPI:
    """Build the app of one of several workers."""
    from deploy.cli import logs
    from deploy.stack.embedded import die_with_parent
    from ingest.app import create_app
    from ingest.runtime.garbage import collect_rarely
    from ingest.settings import IngestSettings

    # Otherwise a parent killed with -9 would leave its workers running on the port.
    die_with_parent()
    logs.set_up()
    app = create_app(IngestSettings())
    collect_rarely()
    return app


def issue(
    member: Annotated[str, typer.Argument(help="the member's id")],
    keys: _KeyFile = _KEYS,
    audience: Annotated[str, typer.Option(envvar="FLATTR_INGEST_TOKEN_AUDIENCE")] = "flattr",
    days: Annotated[float, typer.Option(min=0.001, max=36_500, help="lifetime of the token in days")] = 30,
    kid: Annotated[str | None, typer.Option(help="id of the key to sign with; default: the newest")] = None,
    clock: Annotated[str, typer.Option(envvar="FLATTR_CLOCK")] = "system",
    *,
    pixel: Annotated[bool, typer.Option("--pixel", help="issue a pixel token: one flattr, for minutes")] = False,
    creator: Annotated[str, typer.Option(help="with --pixel: the creator")] = "",
    thing: Annotated[str, typer.Option(help="with --pixel: the thing's address or id")] = "",
    site: Annotated[str, typer.Option(help="with --pixel: id of the site that shows it")] = "",
    minutes: Annotated[float, typer.Option(min=0.1, max=60, help="with --pixel: lifetime in minutes")] = 10,
) -> None:
    """Print a token that lets MEMBER click, or with --pixel lets an image flattr one thing for MEMBER."""
    from deploy.errors import CommandFailed
    from ingest.runtime.clock import clock_from
    from ingest.runtime.tokens import issue as sign
    from ingest.runtime.watched_file import FileError

    bound = {"creator": creator, "thing": thing, "site": site}
    missing = [f"--{name}" for name, value in bound.items() if not value]
    if pixel and missing:
        raise CommandFailed(f"a pixel token is for one flattr: give {', '.join(missing)}")
    if not pixel and len(missing) < len(bound):
        raise CommandFailed("--creator, --thing and --site need --pixel")
    try:
        typer.echo(
            sign(
                keys,
                member,
                audience=audience,
                now_ms=clock_from(clock)(),
                valid_s=round(minutes * 60 if pixel else days * 86400),
                kid=kid,
                bound=bound if pixel else None,
            )
        )
    except (FileError, ValueError) as error:
        raise CommandFailed(str(error)) from error


def keygen(
    keys: _KeyFile = _KEYS,
    algorithm: Annotated[str, typer.Option(help="HS256 or EdDSA")] = "HS256",
    kid: Annotated[str | None, typer.Option(help="id of the key; default: random")] = None,
) -> None:
    """Add a signing key. Ingest reloads the file; old tokens stay valid while their key is in it."""
    import secrets

    from deploy.errors import CommandFailed
    from ingest.runtime.tokens import ALGORITHMS
    from ingest.runtime.tokens import keygen as generate
    from ingest.runtime.watched_file import FileError

    if algorithm not in ALGORITHMS:
        raise CommandFailed(f"algorithm {algorithm!r} must be one of {', '.join(ALGORITHMS)}")
    kid = kid or secrets.token_hex(4)
    try:
        generate(keys, algorithm=algorithm, kid=kid)
    except (FileError, ValueError) as error:
        raise CommandFailed(str(error)) from error
    typer.echo(f"{keys}: key {kid} ({algorithm}) added")
