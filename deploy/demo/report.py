"""The demo's output: growing counts, payouts, where every cent went, and what became of every click."""

from __future__ import annotations

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.send import Answers
from ingest.contract.month import month_text
from warehouse.counts.rankings import CreatorRank
from warehouse.payout.close.gate import Tallies
from warehouse.payout.close.proof import Proof
from warehouse.payout.closed_months import top_payouts
from warehouse.storage.client import Warehouse

CREATORS_SHOWN: Final = 10
MICRO: Final = 1_000_000


def live_table(top: list[CreatorRank]) -> Table:
    """The leading creators and their current counts."""
    table = Table(box=None, padding=(0, 2), title="most flattred so far", title_justify="left", title_style="dim")
    table.add_column("creator")
    table.add_column("flattrs", justify="right")
    for rank in top:
        table.add_row(Text(rank.creator_id), f"{rank.flattrs:,}")
    return table


def show(console: Console, warehouse: Warehouse, answers: Answers, tallies: Tallies, proof: Proof) -> None:
    """Print the three tables of a closed month."""
    console.print(_payouts(warehouse, proof))
    console.print(_money(proof))
    console.print(_clicks(answers, tallies, proof))
    console.print(f"[dim]sealed as {proof.seal}[/]", highlight=False)


def figures(answers: Answers, tallies: Tallies, proof: Proof, *, seconds: float) -> dict[str, Any]:
    """The same figures for ``--json``; amounts in micro-euro."""
    return {
        "month": month_text(proof.month),
        "clicks_sent": answers.sent,
        "accepted": tallies.accepted,
        "refused": answers.refused.total(),
        "refused_by_reason": dict(sorted(answers.refused.items())),
        "retries": answers.retries,
        "counted": tallies.counted,
        "duplicates": tallies.duplicate,
        "undos": tallies.undo,
        "rejected": tallies.rejected,
        "late": tallies.late,
        "flattrs": proof.flattrs,
        "members": proof.members,
        "members_unfunded": proof.members_unfunded,
        "creators": proof.creators,
        "creators_paid": proof.creators_paid,
        "pledged_micro": proof.pledged_micro,
        "fee_micro": proof.fee_micro,
        "paid_micro": proof.paid_micro,
        "carried_micro": proof.carried_micro,
        "charity_micro": proof.charity_micro,
        "held_micro": proof.held_micro,
        "balanced": proof.balanced and answers.accepted <= tallies.accepted,
        "seal": proof.seal,
        "seconds": round(seconds, 1),
    }


def euro(micro: int) -> str:
    """All digits of an amount of micro-euro, with a mark after the cents: 12.34'5678."""
    sign, micro = ("-", -micro) if micro < 0 else ("", micro)
    return f"{sign}{micro // MICRO:,}.{micro % MICRO // 10_000:02}'{micro % 10_000:04}"


def _payouts(warehouse: Warehouse, proof: Proof) -> Table:
    table = _table(
        f"Payouts of {month_text(proof.month)} in EUR: {proof.creators_paid} of {proof.creators} creators paid",
        caption="digits after ' are fractions of a cent, carried to the next month",
    )
    table.add_column("creator", no_wrap=True)
    for heading in ("flattrs", "members", "earned", "paid", "carried"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    rows = top_payouts(warehouse, proof.month, CREATORS_SHOWN)
    for row in rows:
        carried = euro(row.carried_out_micro + row.held_out_micro)
        paid = euro(row.paid_micro).partition("'")[0]
        numbers = (f"{row.flattrs:,}", f"{row.members:,}", euro(row.earned_micro), paid, carried)
        table.add_row(Text(row.creator_id), *numbers, row.reason)
    if proof.creators > len(rows):
        table.add_row(f"… {proof.creators - len(rows)} more", *[""] * 6, style="dim")
    return table


def _table(title: str, caption: str | None = None, *, show_header: bool = True) -> Table:
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        show_header=show_header,
        box=box.SIMPLE_HEAD,
    )


def _money(proof: Proof) -> Table:
    table = _table("Where every cent went, in EUR", show_header=False)
    table.add_column("account")
    table.add_column("amount", justify="right")
    paid = proof.members - proof.members_unfunded
    table.add_row(f"charged to {paid:,} members", euro(proof.pledged_micro), style="bold")
    table.add_section()
    table.add_row("paid to creators", euro(proof.paid_micro))
    table.add_row("fee", euro(proof.fee_micro))
    table.add_row("carried for creators to next month", euro(proof.carried_micro))
    table.add_row("held", euro(proof.held_micro))
    table.add_row("charity (members without a click)", euro(proof.charity_micro))
    table.add_section()
    total = sum(proof.terms.values())
    table.add_row("sum", euro(total), style="bold")
    table.add_row("missing", euro(proof.pledged_micro - total), style="bold green" if proof.balanced else "bold red")
    return table


def _clicks(answers: Answers, tallies: Tallies, proof: Proof) -> Table:
    table = _table("What became of every click", show_header=False)
    table.add_column("label")
    table.add_column("clicks", justify="right")
    table.add_row("sent over HTTP", f"{answers.sent:,}")
    for reason, clicks in sorted(answers.refused.items()):
        table.add_row(f"  refused: {reason}", f"{clicks:,}", style="dim")
    table.add_section()
    table.add_row("accepted", f"{tallies.accepted:,}", style="bold")
    table.add_row("  counted: first of its month, member and thing", f"{tallies.counted:,}")
    table.add_row("  duplicate", f"{tallies.duplicate:,}")
    if tallies.undo:
        table.add_row("  undo", f"{tallies.undo:,}")
    table.add_row("  rejected by the stream", f"{tallies.rejected:,}")
    table.add_row("  late", f"{tallies.late:,}")
    table.add_section()
    table.add_row("unexplained", f"{tallies.unexplained:,}", style="bold red" if tallies.unexplained else "bold green")
    table.add_row("flattrs that divide the money", f"{proof.flattrs:,}")
    return table
