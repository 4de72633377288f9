"""`flattr rejected`: list refused input with its reason, and replay it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import web_address
from deploy.cli.output import cells, printable

if TYPE_CHECKING:
    from deploy.cli.resend import Door, Repair
    from warehouse.counts.rejections import Rejected, RejectedId
    from warehouse.storage.client import Warehouse

_Warehouse = Annotated[str, typer.Option("--warehouse", envvar="FLATTR_WAREHOUSE", help="clickhouse://...")]
_URL = "clickhouse://127.0.0.1:9000/flattr"
_Month = Annotated[str, typer.Option(help="only this month, YYYY-MM")]
_Reason = Annotated[str, typer.Option(help="only this reason code")]
_Limit = Annotated[int, typer.Option(min=1, help="maximum number, newest first")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rejected = typer.Typer(help="Refused input, stored with its reason and bytes.", no_args_is_help=True)
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
    replayed: Annotated[bool, typer.Option("--replayed", help="include replayed input")] = False,
) -> None:
    """List refused input that has not been replayed, newest first."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Column, Table

    from warehouse.counts.rejections import rejected

    database = _opened(warehouse)
    found = rejected(database, month=_month(month), reason=reason, limit=limit, replayed=replayed)
    database.close()
    # Whole, however narrow the terminal is: `show` and `replay` ask for it.
    width = max((len(str(record.id)) for record in found), default=0)
    table = Table(Column("id", min_width=width), "time (UTC)", "reason", "member", "detail", box=None)
    for record in found:
        at = datetime.fromtimestamp(record.rejected_at_ms / 1000, UTC)
        detail = f"(replayed) {record.detail}" if record.replayed_at_ms else record.detail
        table.add_row(*cells(str(record.id), f"{at:%Y-%m-%d %H:%M:%S}", record.reason, record.member_id or "-", detail))
    Console(soft_wrap=True).print(table if found else "Nothing was refused.")


def show(
    record: Annotated[str, typer.Argument(help="id, as shown by `flattr rejected list`")],
    warehouse: _Warehouse = _URL,
) -> None:
    """Show one refused input as it was received."""
    database = _opened(warehouse)
    (one,) = _of(database, [record])
    database.close()
    for name in ("id", "rejected_at_ms", "reason", "detail", "member_id", "site_id", "cut", "replayed_at_ms"):
        typer.echo(printable(f"{name}: {getattr(one, name)}"))
    typer.echo(printable(one.raw.decode("utf-8", "backslashreplace")))


def replay(
    records: Annotated[
        list[str] | None, typer.Argument(help="ids; default: all that match --reason and --month")
    ] = None,
    month: _Month = "",
    reason: _Reason = "",
    limit: _Limit = 1000,
    drop: Annotated[list[str] | None, typer.Option(help="field to remove; may be repeated")] = None,
    put: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE to set; may be repeated")] = None,
    member: Annotated[str, typer.Option(help="the clicks' member, if the sender was not authenticated")] = "",
    url: Annotated[str, typer.Option(callback=web_address, help="ingest's address")] = "http://127.0.0.1:8001",
    keys: Annotated[Path, typer.Option(envvar="FLATTR_TOKEN_KEYS")] = Path(".flattr/token-keys.json"),
    audience: Annotated[str, typer.Option(envvar="FLATTR_INGEST_TOKEN_AUDIENCE")] = "flattr",
    clock: Annotated[str, typer.Option(envvar="FLATTR_CLOCK")] = "system",
    warehouse: _Warehouse = _URL,
) -> None:
    """Repair refused input and send it again. Safe to repeat: a click keeps its id and its time.

    A refused batch is sent click by click, as far as it was stored. Accepted input leaves the list.
    """
    import contextlib

    from deploy.cli.resend import Door, Repair
    from deploy.errors import CommandFailed
    from ingest.runtime.clock import clock_from
    from ingest.runtime.watched_file import FileError
    from warehouse.counts.rejections import rejected

    if not records and not reason:
        raise CommandFailed("say what to replay: ids, or --reason and optionally --month")
    repair = Repair(drop or (), dict(_assignment(text) for text in put or ()), member)
    door, wanted = Door(url, keys, audience=audience, clock=clock_from(clock)), _month(month)
    with contextlib.closing(_opened(warehouse)) as database:
        found = _of(database, records) if records else rejected(database, month=wanted, reason=reason, limit=limit)
        try:
            taken = _replay(found, repair, door, database)
        except (FileError, OSError) as error:
            raise CommandFailed(f"cannot send to {url}: {error}") from error
    typer.echo(f"{taken} of {len(found)} accepted")
    if taken < len(found):
        raise typer.Exit(1)


def _replay(found: list[Rejected], repair: Repair, door: Door, database: Warehouse) -> int:
    """Send each record and mark those accepted in full; returns how many those are."""
    from deploy.cli.resend import pieces_of
    from warehouse.counts.rejections import mark_replayed

    taken = 0
    for record in found:
        pieces = pieces_of(record)
        sent = sum(_send(record, item, click, repair, door) for item, click in pieces.clicks)
        if pieces.rest or len(pieces.clicks) != 1:
            typer.echo(
                f"{record.id}: {sent} of {len(pieces.clicks)} clicks accepted{'; ' * bool(pieces.rest)}{pieces.rest}"
            )
        # What was cut off is not available, so it must not keep the record on the list.
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
        raise CommandFailed("an id looks like rejected:0:65536; list them with `flattr rejected list`") from None
    found = {record.id: record for record in rejected(database, ids=ids, limit=len(ids))}
    missing = [str(wanted) for wanted in ids if wanted not in found]
    if missing:
        raise CommandFailed(f"no refused input with id {', '.join(missing)}")
    return [found[wanted] for wanted in ids]


def _month(text: str) -> int:
    from warehouse.payout.close.months import parse_month

    return parse_month(text) if text else 0


def _assignment(text: str) -> tuple[str, object]:
    import json

    from deploy.errors import CommandFailed

    name, found, value = text.partition("=")
    if not found or not name:
        raise CommandFailed(f"--set {text!r}: must be FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
