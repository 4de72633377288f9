"""The demo: the whole pipeline once, on a clock set shortly before the end of a month.

It starts the stack, imports pledges, sends traffic over HTTP, shows the counts, lets the month end, closes it, and
shows where every cent went. Every number is read back from the system, except what was sent and how it was answered.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.demo import report
from deploy.demo.send import Answers, send
from deploy.errors import CommandFailed
from deploy.proving.traffic import Traffic, TrafficRequest, member_name, requests, requests_from
from deploy.stack.supervisor import Stack, StackPlan
from ingest.contract.month import month_after, month_of, month_start_ms, month_text
from ingest.runtime.clock import Clock, clock_from, system_clock, write_clock_file
from warehouse.counts.rankings import top_creators
from warehouse.payout.close.close import close_month
from warehouse.payout.close.gate import Tallies, read_tallies
from warehouse.payout.close.log_ends import KafkaLogEnds
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.storage.client import Warehouse

#: The demo's clock starts this long before the end of the month: longer than any demo takes.
BEFORE_MONTH_END_MS: Final = 60 * 60 * 1000
GRACE_S: Final = 60
#: How far the clock is stepped past the end of the month: beyond its grace and the close's settling time.
AFTER_MONTH_END_MS: Final = 10 * 60 * 1000
COUNTED_TIMEOUT_S: Final = 120.0
LOOK_EVERY_S: Final = 0.25
PLEDGE_EUR: Final = 2


@dataclass(frozen=True)
class DemoPlan:
    """What to simulate: a traffic plan, or a file of clicks instead."""

    traffic: Traffic
    source: Path | None = None
    folder: Path = Path(".flattr/demo")
    minimum_minor: int = 100
    broker: str | None = None

    def requests(self) -> list[TrafficRequest]:
        """All requests to send. Raises ``CommandFailed`` if the file is empty."""
        if self.source is None:
            return list(requests(self.traffic))
        found = list(requests_from(self.source))
        if not found:
            raise CommandFailed(f"{self.source} contains no clicks: it needs one JSON object per line")
        return found

    def members(self, todo: Iterable[TrafficRequest]) -> list[str]:
        """The members who pledge: all who click, and simulated members who never do."""
        silent = [] if self.source else [member_name(number) for number in range(self.traffic.members)]
        return sorted({request.member_id for request in todo} | set(silent))


class Demo:
    """One run on one console."""

    def __init__(self, plan: DemoPlan, console: Console) -> None:
        self.plan = plan
        self.console = console
        self.month = month_of(system_clock())
        self.month_end_ms = month_start_ms(month_after(self.month))
        self.run_id = system_clock()
        self.clock_file = (plan.folder / "clock").resolve()

    def run(self, at_end: Callable[[Stack, dict[str, Any]], None] = lambda _stack, _figures: None) -> dict[str, Any]:
        """Run the demo and return its figures; ``at_end`` gets them while the stack is still running."""
        started = time.monotonic()
        todo = self.plan.requests()
        self._empty_folder()
        self._set_clock(self.month_end_ms - BEFORE_MONTH_END_MS)
        self.console.rule("[bold]1  The stack starts, an hour before the end of the month", align="left")
        with Stack(self._stack_plan(), self._say) as stack:
            self.console.print(f"[bold]live page  {stack.api.url}/[/]", highlight=False)
            warehouse = Warehouse(stack.warehouse_url)
            self._take_pledges(warehouse, self.plan.members(todo))
            self.console.rule("[bold]2  Clicks arrive over HTTP and are counted", align="left")
            answers = self._send_and_count(stack, warehouse, todo)
            self.console.rule("[bold]3  The month ends and is closed", align="left")
            self._set_clock(self.month_end_ms + AFTER_MONTH_END_MS)
            proof = self._close(stack, warehouse)
            tallies = read_tallies(warehouse, self.month)
            report.show(self.console, warehouse, answers, tallies, proof)
            warehouse.close()
            figures = report.figures(answers, tallies, proof, seconds=time.monotonic() - started)
            at_end(stack, figures)
        return figures

    def _stack_plan(self) -> StackPlan:
        return StackPlan(
            folder=self.plan.folder,
            broker=self.plan.broker,
            # Separate topics, so that the demo does not mix with other data on the user's broker.
            topic_clicks=f"demo-clicks-{self.run_id}" if self.plan.broker else "clicks",
            topic_rejected=f"demo-rejected-{self.run_id}" if self.plan.broker else "rejected",
            clock=f"file:{self.clock_file}",
            grace_s=GRACE_S,
        )

    def _empty_folder(self) -> None:
        folder = self.plan.folder
        if folder.exists() and any(folder.iterdir()) and not self.clock_file.exists():
            raise CommandFailed(f"{folder} is not from an earlier demo and will not be emptied: name another folder")
        shutil.rmtree(folder, ignore_errors=True)

    def _say(self, line: str) -> None:
        self.console.print(line, style="dim", markup=False, highlight=False)

    def _set_clock(self, now_ms: int) -> None:
        write_clock_file(self.clock_file, now_ms - system_clock())

    @property
    def _clock(self) -> Clock:
        return clock_from(f"file:{self.clock_file}")

    def _take_pledges(self, warehouse: Warehouse, members: list[str]) -> None:
        path = self.plan.folder / "pledges.csv"
        month = month_text(self.month)
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["member_id", "month", "amount", "currency", "paid"])
            for number, member in enumerate(members):
                rows.writerow([member, month, PLEDGE_EUR, "EUR", "no" if number % 50 == 49 else "yes"])
        import_pledges(warehouse, path, self._close_settings().close_currency)
        self.console.print(f"{len(members)} members pledge EUR {PLEDGE_EUR} each; one in fifty does not pay.")

    def _send_and_count(self, stack: Stack, warehouse: Warehouse, todo: list[TrafficRequest]) -> Answers:
        """Send everything, wait until all accepted clicks are counted, and show the progress of both."""
        bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        total = sum(request.clicks for request in todo)
        sent, counted = bars.add_task("answered", total=total), bars.add_task("counted", total=total)
        with Live(bars, console=self.console, refresh_per_second=8) as live:

            def look() -> Tallies:
                list(stack.watch())
                tallies = read_tallies(warehouse, self.month)
                bars.update(counted, completed=tallies.accepted)
                live.update(Group(bars, report.live_table(top_creators(warehouse, self.month, 5))))
                return tallies

            answers = asyncio.run(
                self._send(stack, todo, lambda so_far: bars.update(sent, completed=so_far.sent), look)
            )
            bars.update(counted, total=answers.accepted)
            self._wait_counted(answers.accepted, look)
        self.console.print()
        return answers

    async def _send(
        self, stack: Stack, todo: list[TrafficRequest], on_answer: Callable[[Answers], None], look: Callable[[], object]
    ) -> Answers:
        async def look_often() -> None:
            while True:
                # Must run in this thread: a service that is restarted here dies with the thread that launched it.
                look()
                await asyncio.sleep(LOOK_EVERY_S)

        looking = asyncio.create_task(look_often())
        try:
            return await send(todo, f"{stack.ingest.url}/v1/clicks", self._token_of(stack), on_answer)
        finally:
            looking.cancel()

    def _token_of(self, stack: Stack) -> Callable[[str], str]:
        from ingest.runtime.tokens import issue
        from ingest.settings import IngestSettings

        audience = IngestSettings().token_audience

        @cache
        def token_of(member_id: str) -> str:
            return issue(stack.token_keys, member_id, audience=audience, now_ms=self._clock(), valid_s=3600)

        return token_of

    def _wait_counted(self, accepted: int, look: Callable[[], Tallies]) -> None:
        deadline = time.monotonic() + COUNTED_TIMEOUT_S
        while (tallies := look()).accepted < accepted:
            if time.monotonic() > deadline:
                raise CommandFailed(
                    f"only {tallies.accepted} of {accepted} clicks were counted within {COUNTED_TIMEOUT_S:.0f} s: "
                    f"see the log of streams in {self.plan.folder}"
                )
            time.sleep(LOOK_EVERY_S)

    def _close_settings(self) -> CloseSettings:
        return CloseSettings(grace_s=GRACE_S, close_minimum_minor=self.plan.minimum_minor, close_claim_required=False)

    def _close(self, stack: Stack, warehouse: Warehouse) -> Proof:
        with self.console.status("closing") as status:
            return close_month(
                warehouse,
                self.month,
                clock=self._clock,
                log_ends=KafkaLogEnds(stack.broker_address, stack.plan.topic_clicks, settle_ms=None),
                settings=self._close_settings().model_copy(update={"log_epoch": stack.epoch}),
                progress=lambda step, percent: status.update(f"closing: {step} ({percent} %)"),
            )
