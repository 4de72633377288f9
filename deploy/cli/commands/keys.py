"""`flattr keys`: API keys of the read API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import limited
from warehouse.keys import Key, Role

_File = Annotated[Path, typer.Option("--file", envvar="FLATTR_API_KEYS", help="file of API keys")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="API keys of the read API.", no_args_is_help=True)
    keys.command("issue")(issue)
    keys.command("list")(show)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys")


def issue(
    name: Annotated[str, typer.Argument(help="name of the key's holder")],
    role: Role,
    file: _File,
    creator: Annotated[str | None, typer.Option(callback=limited, help="only what is about this creator")] = None,
    member: Annotated[
        str | None, typer.Option(callback=limited, help="only what is about this member; needs the role finance")
    ] = None,
    site: Annotated[
        str | None, typer.Option(callback=limited, help="only counts of the things of this host, such as anna.example")
    ] = None,
) -> None:
    """Create a key for ROLE and print it once. The file stores only its hash.

    A key for one creator, member or site may stand in a page or app of theirs.
    """
    from deploy.errors import CommandFailed
    from warehouse import keys

    if not name.strip() or not name.isprintable():
        raise CommandFailed("a key is somebody's: give a name, one line of printable text")
    known = _known(file)
    if any(key.name == name for key in known):
        raise CommandFailed(f"{file} already has a key for {name!r}: revoke it first, or use another name")
    secret, key = keys.issue(name, role, _only(role, creator, member, site))
    keys.save(file, [*known, key])
    typer.echo(secret)


def show(file: _File) -> None:
    """List roles and names, and what a key is limited to."""
    for key in _known(file):
        typer.echo(f"{key.role:10} {key.name}" + (f"  only {key.only.replace(':', ' ', 1)}" if key.only else ""))


def revoke(name: str, file: _File) -> None:
    """Remove a key. The API refuses it from the next request on."""
    from deploy.errors import CommandFailed
    from warehouse import keys

    known = _known(file)
    retained = [key for key in known if key.name != name]
    if len(retained) == len(known):
        raise CommandFailed(f"{file} has no key for {name!r}")
    keys.save(file, retained)
    typer.echo(f"revoked {name}")


def _only(role: Role, creator: str | None, member: str | None, site: str | None) -> str:
    """The limit of a new key. Raises ``CommandFailed`` for one that no route could honour."""
    from deploy.errors import CommandFailed
    from ingest.contract.names import identifier
    from warehouse import sites

    if sum(map(bool, (creator, member, site))) > 1:
        raise CommandFailed("a key is for one creator, one member or one site: issue a key for each")
    if member and not role.may(Role.FINANCE):
        raise CommandFailed(f"the role {role} reads nothing of members: give finance with --member")
    try:
        if creator:
            return f"creator:{identifier('creator', creator)}"
        if member:
            return f"member:{identifier('member', member)}"
        return f"site:{sites.site(site)}" if site else ""
    except ValueError as error:
        raise CommandFailed(str(error)) from error


def _known(file: Path) -> list[Key]:
    from deploy.errors import CommandFailed
    from warehouse import keys

    if not file.exists():
        return []
    try:
        return keys.load(file)
    except keys.KeysError as error:
        raise CommandFailed(str(error)) from error
