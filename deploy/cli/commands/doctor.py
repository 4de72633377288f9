"""`flattr doctor`: looks at an installation and says what is wrong, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.cli.doctor.findings import Finding


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    service: Annotated[
        str, typer.Argument(help="whose rights to look at, such as streams; otherwise those of the configured users")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    timeout_s: Annotated[float, typer.Option(min=1, max=3600, help="how long to wait for answers")] = 15,
) -> None:
    """Look at settings, files, disks, certificates, Kafka, ClickHouse; change nothing. Fails if something is wrong."""
    import os

    from deploy.cli.doctor.checks import checks
    from deploy.cli.doctor.findings import State, examine
    from deploy.errors import CommandFailed
    from deploy.provision.secret_files import SERVICES

    if service and service not in SERVICES:
        raise CommandFailed(f"there is no service {service!r}: it is one of {', '.join(SERVICES)}")
    found = examine(checks(os.environ, context.obj, service, timeout_s), timeout_s)
    _tell(found, as_json=as_json)
    if any(finding.state is State.WRONG for finding in found):
        raise typer.Exit(1)


def _tell(found: Sequence[Finding], *, as_json: bool) -> None:
    import dataclasses
    import json
    from collections import Counter

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
        return
    for finding in found:
        typer.echo(f"{finding.state:<8} {finding.about}: {finding.found}")
        if finding.to_do:
            typer.echo(f"{'':8}   to do: {finding.to_do}")
    numbers = Counter(finding.state for finding in found)
    typer.echo(", ".join(f"{number} {state}" for state, number in numbers.items()))
