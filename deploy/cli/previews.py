"""What an import would change, on a terminal, and the question whether it shall."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import typer

if TYPE_CHECKING:
    from warehouse.payout.inputs.creators import RegisterPreview
    from warehouse.payout.inputs.pledge_preview import Owed, PledgePreview

T = TypeVar("T")
_SHOWN_MAX: Final = 10


def asking(show: Callable[[T], None], question: str, *, yes: bool) -> Callable[[T], bool]:
    """A ``confirm`` callback: show the preview, then ask, unless ``yes``.

    Raises ``CommandFailed`` without a terminal: a script has to say beforehand that it wants what it sends.
    """

    def confirm(preview: T) -> bool:
        from deploy.errors import CommandFailed

        show(preview)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise CommandFailed(
                "Nothing was written: there is no terminal to ask at. Add --yes to write what is shown above."
            )
        return typer.confirm(question, err=True)

    return confirm


def show_pledges(noclick: str) -> Callable[[PledgePreview], None]:
    """What prints a preview of pledges; ``noclick`` is where the money of a member without flattrs goes."""

    def show(preview: PledgePreview) -> None:
        from warehouse.payout.money import as_text

        counts = {
            "added": preview.added,
            "changed": preview.changed,
            "withdrawn": preview.withdrawn,
            "unchanged": preview.unchanged,
        }
        typer.echo(f"pledges: {', '.join(f'{count} {name}' for name, count in counts.items())}")
        if preview.untouched:
            typer.echo(f"  {preview.untouched} more of these months are not named here and stay as they are")
        _show_sums(preview)
        if preview.largest:
            typer.echo("  largest changes:")
        for change in preview.largest:
            month = _month(change.month)
            typer.echo(f"    {month}  {change.member_id}: {_owed(change.before)} -> {_owed(change.after)}")
        if preview.charged_back:
            amount = as_text(sum(micro for _, micro in preview.charged_back))
            names = [cites for cites, _ in preview.charged_back]
            typer.echo(
                f"  {len(names)} of closed months, {amount}, are charged back with the next close: {named(names)}"
            )
        if preview.never_seen:
            typer.echo(
                f"  {len(preview.never_seen)} members have never flattred or pledged: {named(preview.never_seen)}. "
                f"If an id is mistyped, its money goes where that of members without flattrs goes ({noclick})."
            )

    return show


def _show_sums(preview: PledgePreview) -> None:
    from warehouse.payout.money import as_text

    currencies = {owed.currency for one in preview.largest for owed in (one.before, one.after) if owed}
    currency = currencies.pop() if len(currencies) == 1 else None
    for line in preview.sums:
        amounts = (
            line.pledged_before_micro,
            line.pledged_after_micro,
            line.paid_before_micro,
            line.paid_after_micro,
        )
        before, after, paid_before, paid_after = (as_text(amount, currency) for amount in amounts)
        typer.echo(f"  {_month(line.month)}  pledged {before} -> {after}, paid {paid_before} -> {paid_after}")


def show_register(preview: RegisterPreview) -> None:
    """Print what an import of creators would change."""
    typer.echo(
        f"creators: {len(preview.added)} added, {len(preview.accounts)} with another account, "
        f"{len(preview.renamed)} with another name, {preview.unchanged} unchanged"
    )
    for creator_id, (before, after) in list(preview.accounts.items())[:_SHOWN_MAX]:
        typer.echo(f"  account of {creator_id}: {before} -> {after}")
    _more(len(preview.accounts), "accounts")
    for creator_id, (before, after) in list(preview.renamed.items())[:_SHOWN_MAX]:
        typer.echo(f"  name of {creator_id}: {before} -> {after}")
    _more(len(preview.renamed), "names")
    if preview.released:
        typer.echo(f"  released, because a payment came back from the account before: {named(preview.released)}")
    for creator_id, (given, written) in preview.written.items():
        typer.echo(f"  {creator_id}: {given!r} goes to the bank as {written!r}")
    if preview.never_seen:
        typer.echo(
            f"  {len(preview.never_seen)} creators were never flattred: {named(preview.never_seen)}. Are their ids "
            "spelt as on their sites?"
        )


def named(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more


def _more(count: int, what: str) -> None:
    if count > _SHOWN_MAX:
        typer.echo(f"  and {count - _SHOWN_MAX} more {what}")


def _owed(owed: Owed | None) -> str:
    from warehouse.payout.money import as_text

    if owed is None:
        return "nothing"
    return f"{as_text(owed.amount_micro, owed.currency)} {owed.currency}, {'paid' if owed.paid else 'not paid'}"


def _month(month: int) -> str:
    from ingest.contract.month import month_text

    return month_text(month)
