"""The close of a month: gate, compute, check, publish, seal.

It runs under one lock. Each stage is idempotent and logged in ``close_log`` when done; a crashed run resumes after
its last logged stage, and gives the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from ingest.contract.month import month_text
from ingest.runtime.clock import Clock
from warehouse.payout.close import checks, compute, gate, proof, quarantine_set
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.outliers import check_outliers
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.provisional_run import keep_run
from warehouse.payout.close.recount import Restated, check_recount
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot, sealed_snapshot, take_snapshot
from warehouse.payout.close.stages import Stage, forget_stages, log_stage, run_name, stages_done
from warehouse.payout.errors import NotConserved, PayoutRefused
from warehouse.storage.client import Warehouse

if TYPE_CHECKING:  # it brings the client of Kafka, and most who import this never ask it
    from warehouse.payout.close.log_ends import LogEnds

#: Called with the stage or step just finished, and the percentage of the work done so far.
Progress = Callable[[str, int], None]

One = TypeVar("One")
Other = TypeVar("Other")

_PERCENT_DONE: Final = {
    "gate": 2, "pools": 50, "payouts": 60, "ledger": 62, "compute": 65, "check": 90, "publish": 95, "seal": 100,
}  # fmt: skip


def close_month(  # noqa: PLR0913 - the parts that a close composes, each injected
    warehouse: Warehouse,
    month: int,
    *,
    clock: Clock,
    log_ends: LogEnds,
    settings: CloseSettings,
    progress: Progress = lambda _step, _percent: None,
    confirm: Callable[[Proof], bool] = lambda _: True,
    without_pledges: bool = False,
) -> Proof:
    """Close the month and return its proof; if it is already closed under the same rules, return the stored proof.

    ``confirm`` is shown the figures before anything is published. Raises ``PayoutRefused`` with what is missing
    and ``NotConserved`` when the sums are wrong (nothing is published then), ``MonthLocked`` while another close runs.
    """
    before = _closed_already(warehouse, month, settings)
    if before is not None:
        return before
    with locked(warehouse, CLOSE) as held:
        before = _closed_already(held, month, settings)
        if before is not None:
            return before
        # Only after the gate: the quarantine would miss flattrs that are counted after the refresh.
        tallies = gate.pass_gate(
            held, month, clock=clock, log_ends=log_ends, settings=settings, waiting=lambda on: progress(on, 0),
            without_pledges=without_pledges,
        )  # fmt: skip
        quarantine_set.refresh(held, month)
        run = _Run(held, month, settings, progress, log_ends)
        return run.finish(tallies, confirm)


def rehearse_month(  # noqa: PLR0913 - as close_month
    warehouse: Warehouse,
    month: int,
    *,
    clock: Clock,
    log_ends: LogEnds,
    settings: CloseSettings,
    progress: Progress = lambda _step, _percent: None,
    keep: bool = False,
    differs: Callable[[Restated], None] = lambda _: None,
) -> Proof:
    """Do everything except publish and seal, then empty the staging tables; return the proof a close would give.

    ``keep`` stores the payouts as a provisional run, for comparison with the final month. ``differs`` is called with
    the counts that a close would restate. A month that is not over is rehearsed on what is counted so far, without a
    recount: counts and flattrs move meanwhile. A closed month is rehearsed on its own inputs, so the proof differs from
    the sealed one only where rules or code have changed.
    """
    with locked(warehouse, CLOSE) as held:
        sealed = proof.stored(held, month)
        early = clock() < gate.opens_at_ms(month, settings)
        snapshot = None if sealed is None else sealed_snapshot(held, sealed.snapshot, sealed.adjustments)
        if sealed is None:
            forget_stages(held, month)
            tallies = gate.pass_gate(
                held, month, clock=clock, log_ends=log_ends, settings=settings, waiting=lambda on: progress(on, 0),
                without_pledges=True, early=early,
            )  # fmt: skip
            quarantine_set.refresh(held, month)
        else:
            tallies = gate.read_tallies(held, month)
        run = _Run(held, month, settings, progress, log_ends, snapshot)
        try:
            progress("gate", _PERCENT_DONE["gate"])
            found = run.compute(tallies, restate=False, recount=not early)
            if found is not None:
                differs(found)
            statement = run.prove(tallies)
            if keep:
                keep_run(held, statement)
            return statement
        finally:
            compute.drop_staging(held, month)


def _closed_already(warehouse: Warehouse, month: int, settings: CloseSettings) -> Proof | None:
    before = proof.stored(warehouse, month)
    if before is not None and before.rules != settings.rules:
        changed = sorted(name for name, rule in settings.rules.items() if before.rules.get(name) != rule)
        raise PayoutRefused(
            f"{month_text(month)} was closed under different rules ({', '.join(changed)}), and a sealed month never "
            "changes. Restore those rules to see its proof, or make a correction in an open month."
        )
    return before


class _Run:
    """One close, run under its lock."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a run is made of
        self,
        warehouse: Warehouse,
        month: int,
        settings: CloseSettings,
        progress: Progress,
        log_ends: LogEnds,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._month = month
        self._settings = settings
        self._progress = progress
        self._log_ends = log_ends
        self._snapshot = snapshot or take_snapshot(warehouse, month)
        self._name = run_name(month, settings, self._snapshot)

    def finish(self, tallies: gate.Tallies, confirm: Callable[[Proof], bool]) -> Proof:
        """Do the stages that are not done, and publish when ``confirm`` says so of the month's figures."""
        done = stages_done(self._warehouse, self._month, self._name)
        self._progress(Stage.GATE, _PERCENT_DONE[Stage.GATE])
        if Stage.COMPUTE not in done:
            self.compute(tallies, restate=True)
            log_stage(self._warehouse, self._month, self._name, Stage.GATE)
            self._done(Stage.COMPUTE)
        try:
            statement = self.prove(tallies)
        except NotConserved:
            forget_stages(self._warehouse, self._month)
            raise
        self._done(Stage.CHECK)
        if Stage.PUBLISH not in done:
            check_outliers(self._warehouse, self._month, self._settings)
        if Stage.PUBLISH not in done and not confirm(statement):
            raise PayoutRefused(f"{month_text(self._month)} was not closed: nothing was published.")
        compute.publish(
            self._warehouse,
            self._month,
            lambda table: self._progress(f"publish {table}", _PERCENT_DONE[Stage.CHECK]),
        )
        self._done(Stage.PUBLISH)
        self._seal(statement)
        self._done(Stage.SEAL)
        compute.drop_staging(self._warehouse, self._month)
        return statement

    def compute(self, tallies: gate.Tallies, *, restate: bool, recount: bool = True) -> Restated | None:
        """Fill the staging tables, and empty them if the recount refuses; return the counts restated, or to restate."""
        values = (self._warehouse, self._month, self._settings, self._snapshot)

        def step_done(table: str) -> None:
            self._progress(table, _PERCENT_DONE.get(table, _PERCENT_DONE["ledger"]))

        compute.drop_staging(self._warehouse, self._month)
        compute.take_adjustments(self._warehouse, self._month, self._snapshot)
        compute.stage(*values, ["pools"], step_done)
        if not recount:
            compute.stage(*values, ["payouts", "ledger"], step_done)
            return None
        try:
            _, found = _both(
                self._warehouse,
                lambda: compute.stage(*values, ["payouts", "ledger"], step_done),
                lambda: check_recount(*values, tallies, self._partitions, restate=restate, step_done=step_done),
            )
        except (NotConserved, PayoutRefused):
            compute.drop_staging(self._warehouse, self._month)
            raise
        return found

    def _partitions(self) -> int:
        """The log's number of partitions: a member's counts belong to the partition of the member's clicks."""
        return len(self._log_ends())

    def prove(self, tallies: gate.Tallies) -> Proof:
        """Check the staged month and build its proof. Raises ``NotConserved``."""
        values = (self._warehouse, self._month, self._settings, self._snapshot)
        digests, (totals, moved) = _both(
            self._warehouse,
            lambda: proof.table_digests(*values),
            lambda: checks.check(*values),
        )
        statement = proof.build(*values, totals=totals, tallies=tallies, moved=moved, digests=digests)
        if not statement.balanced:
            raise NotConserved(
                f"{month_text(self._month)}: charged does not equal paid + fee + held + carried + charity + charged "
                "back"
            )
        return statement

    def _seal(self, statement: Proof) -> None:
        """Insert one row atomically; from here on the month is closed."""
        self._warehouse.insert(
            "seals",
            {
                "month": [self._month],
                "seal": [statement.seal],
                "previous": [statement.previous],
                "proof": [statement.text()],
                "sealed_at": [datetime.now(UTC)],
            },
        )

    def _done(self, stage: Stage) -> None:
        log_stage(self._warehouse, self._month, self._name, stage)
        self._progress(stage, _PERCENT_DONE[stage])


def _both(warehouse: Warehouse, one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """Run both concurrently, the second in a thread with its own connection, and return both results.

    Waits for both to end, then raises what the first raised, or else what the second raised.
    """

    def beside() -> Other:
        try:
            return other()
        finally:
            warehouse.close()

    with ThreadPoolExecutor(1, "beside") as thread:
        second = thread.submit(beside)
        return one(), second.result()
