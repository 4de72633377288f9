"""`flattr rejected`: what was refused, why, and in again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.cli.resend import Door, Repair
    from warehouse.counts.rejections import Rejected, RejectedId
    from warehouse.storage.client import Warehouse

_Warehouse = Annotated[str, typer.Option("--warehouse", envvar="FLATTR_WAREHOUSE", help="clickhouse://...")]
_URL = "clickhouse://127.0.0.1:9000/flattr"
_Month = Annotated[str, typer.Option(help="only of this month, YYYY-MM")]
_Reason = Annotated[str, typer.Option(help="only for this reason code")]
_Limit = Annotated[int, typer.Option(min=1, help="at most so many, newest first")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rejected = typer.Typer(help="Input that was refused: kept with its reason and bytes.", no_args_is_help=True)
    rejected.command("list")(list_rejected)
    rejected.command("show")(show)
    rejected.command("replay")(replay)
    app.add_typer(rejected, name="rejected")


def list_rejected(
    month: _Month = "",
    reason: _Reason = "",
    limit: _Limit = 20,
    warehouse: _Warehouse = _URL,
    *,
    replayed: Annotated[bool, typer.Option("--replayed", help="list what was replayed, too")] = False,
) -> None:
    """List refused input that was not replayed, newest first."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table

    from warehouse.counts.rejections import rejected

    database = _opened(warehouse)
    found = rejected(database, month=_month(month), reason=reason, limit=limit, replayed=replayed)
    database.close()
    table = Table("id", "time (UTC)", "reason", "member", "detail", box=None)
    for one in found:
        at = datetime.fromtimestamp(one.rejected_at_ms / 1000, UTC)
        detail = f"(replayed) {one.detail}" if one.replayed_at_ms else one.detail
        table.add_row(str(one.id), f"{at:%Y-%m-%d %H:%M:%S}", one.reason, one.member_id or "-", detail)
    Console(soft_wrap=True).print(table if found else "Nothing was refused.")


def show(
    record: Annotated[str, typer.Argument(help="its id, as `flattr rejected list` shows it")],
    warehouse: _Warehouse = _URL,
) -> None:
    """Show one refused input as it came."""
    from rich.console import Console

    database = _opened(warehouse)
    (one,) = _of(database, [record])
    database.close()
    console = Console(soft_wrap=True, highlight=False)
    for name in ("id", "rejected_at_ms", "reason", "detail", "member_id", "site_id", "cut", "replayed_at_ms"):
        console.print(f"{name}: {getattr(one, name)}", markup=False)
    # repr of what is no text: control characters must not reach the terminal.
    text = one.raw.decode("utf-8", "backslashreplace")
    console.print("".join(char if char.isprintable() else repr(char)[1:-1] for char in text), markup=False)


def replay(
    records: Annotated[
        list[str] | None, typer.Argument(help="ids; otherwise all that --reason and --month name")
    ] = None,
    month: _Month = "",
    reason: _Reason = "",
    limit: _Limit = 1000,
    drop: Annotated[list[str] | None, typer.Option(help="field to take out; may be repeated")] = None,
    put: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE to put in; may be repeated")] = None,
    member: Annotated[str, typer.Option(help="whose clicks they are, where nobody had proved it")] = "",
    url: Annotated[str, typer.Option(help="where ingest listens")] = "http://127.0.0.1:8001",
    keys: Annotated[Path, typer.Option(envvar="FLATTR_TOKEN_KEYS")] = Path(".flattr/token-keys.json"),
    audience: Annotated[str, typer.Option(envvar="FLATTR_INGEST_TOKEN_AUDIENCE")] = "flattr",
    clock: Annotated[str, typer.Option(envvar="FLATTR_CLOCK")] = "system",
    warehouse: _Warehouse = _URL,
) -> None:
    """Send refused input again, repaired. Safe to repeat: a click keeps its id, and its time.

    A refused batch goes in click by click, as far as it was kept. What is in again leaves the list.
    """
    from deploy.cli.resend import Door, Repair
    from deploy.errors import CommandFailed
    from ingest.runtime.clock import clock_from
    from ingest.runtime.watched_file import FileError
    from warehouse.counts.rejections import rejected

    if not records and not reason:
        raise CommandFailed("name what to replay: ids, or --reason and perhaps --month")
    database = _opened(warehouse)
    found = _of(database, records) if records else rejected(database, month=_month(month), reason=reason, limit=limit)
    repair = Repair(drop or (), dict(_assignment(one) for one in put or ()), member)
    try:
        taken = _replay(found, repair, Door(url, keys, audience=audience, clock=clock_from(clock)), database)
    except (FileError, OSError) as error:
        raise CommandFailed(f"could not send to {url}: {error}") from error
    finally:
        database.close()
    typer.echo(f"{taken} of {len(found)} taken")
    if taken < len(found):
        raise typer.Exit(1)


def _replay(found: list[Rejected], repair: Repair, door: Door, database: Warehouse) -> int:
    """Send each record and mark what is in; the number of records all of which is."""
    from deploy.cli.resend import pieces_of
    from warehouse.counts.rejections import mark_replayed

    taken = 0
    for record in found:
        pieces = pieces_of(record)
        sent = sum(_send(record, item, click, repair, door) for item, click in pieces.clicks)
        if pieces.rest or len(pieces.clicks) != 1:
            typer.echo(
                f"{record.id}: {sent} of {len(pieces.clicks)} clicks taken{'; ' * bool(pieces.rest)}{pieces.rest}"
            )
        # Of what was cut off there is no more to be had here.
        if sent and sent == len(pieces.clicks) and (record.cut or not pieces.rest):
            mark_replayed(database, record.id, sent)
            taken += 1
    return taken


def _send(record: Rejected, item: int | None, click: dict[str, object], repair: Repair, door: Door) -> bool:
    from deploy.cli.resend import NotReplayable, repaired_item

    name = str(record.id) if item is None else f"{record.id} item {item}"
    try:
        outcome = door.send(*repaired_item(record, item, click, repair))
    except NotReplayable as error:
        typer.echo(f"{name}: not sent: {error}")
        return False
    if outcome.status != 202:
        typer.echo(f"{name}: refused again: {outcome.status} {outcome.reason}")
    return outcome.status == 202


def _opened(url: str) -> Warehouse:
    from warehouse.storage.client import Warehouse

    return Warehouse(url)


def _of(database: Warehouse, records: list[str]) -> list[Rejected]:
    from deploy.errors import CommandFailed
    from warehouse.counts.rejections import RejectedId, rejected

    try:
        ids: list[RejectedId] = [RejectedId.parse(record) for record in records]
    except ValueError:
        raise CommandFailed("an id looks like rejected:0:65536; `flattr rejected list` shows them") from None
    found = {one.id: one for one in rejected(database, ids=ids, limit=len(ids))}
    missing = [str(one) for one in ids if one not in found]
    if missing:
        raise CommandFailed(f"nothing refused is called {', '.join(missing)}")
    return [found[one] for one in ids]


def _month(text: str) -> int:
    from warehouse.payout.close.months import parse_month

    return parse_month(text) if text else 0


def _assignment(text: str) -> tuple[str, object]:
    import json

    from deploy.errors import CommandFailed

    name, found, value = text.partition("=")
    if not found or not name:
        raise CommandFailed(f"--set {text!r}: FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
