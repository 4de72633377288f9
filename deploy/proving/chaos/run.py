"""One chaos run: start the stack under load, inject faults, let it recover, close the months, judge.

The seed decides the clicks and the faults, but not the scheduling: the same seed hits the same services at the same
times of the run, not at the same instructions.
"""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from clickhouse_driver import errors

from deploy.proving.chaos import history
from deploy.proving.chaos.arena import TICK_S, Arena, ArenaPlan, plain_command
from deploy.proving.chaos.inject import Closer, Injector
from deploy.proving.chaos.schedule import EVERY_S, Fault, draw
from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load
from deploy.proving.oracle import evidence, model, money, verdict
from deploy.proving.oracle.verdict import Mismatch, Verdict, Wrong
from deploy.proving.traffic import member_name
from deploy.stack.embedded import ServiceFailed
from ingest.contract.month import month_after, month_text

TOPIC: Final = "clicks"
_MEMBERS: Final = 150
#: How many months a run may span; there are pledges for all of them.
_MONTHS: Final = 6
_BEGIN_BEFORE_END_MS: Final = 3 * 86_400_000
_LOOK_EVERY_S: Final = 0.2
_BEGIN_TIMEOUT_S: Final = 60.0
_GIVE_UP_S: Final = 45.0


@dataclass(frozen=True)
class ChaosPlan:
    """The parameters of a run. ``schedule`` replaces the faults drawn from the seed."""

    folder: Path
    faults: int = 20
    seed: int = 1
    brokers: int = 1
    shards: int = 1
    replicas: int = 1
    rate: float = 60.0
    every_s: float = EVERY_S
    schedule: Sequence[Fault] | None = None
    #: Seconds of load without faults, before the first and after the last.
    lead_s: float = 1.0
    command: Callable[[str], list[str]] = plain_command
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How long the counting may take to catch up, and again how long the last close may take.
    patience_s: float = 90.0
    #: Overrides settings of the load.
    load: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ChaosResult:
    """The outcome of a run; ``report`` gives it as JSON."""

    plan: ChaosPlan
    faults: list[Fault]
    verdict: Verdict
    months_closed: list[int]
    exits: list[str]
    history: list[str]
    seconds: float
    load: dict[str, Any]

    @property
    def good(self) -> bool:
        """Whether no problem was found."""
        return not self.verdict.problems

    def report(self) -> dict[str, Any]:
        """The result as plain values."""
        judged = self.verdict
        return {
            "good": self.good,
            "seed": self.plan.seed,
            "brokers": self.plan.brokers,
            "shards": self.plan.shards,
            "replicas": self.plan.replicas,
            "faults": len(self.faults),
            "faults_by_kind": dict(Counter(fault.kind.value for fault in self.faults)),
            "acked": judged.acked,
            "in_log": judged.in_log,
            "counted": judged.counted,
            "duplicates": judged.duplicates,
            "undos": judged.undos,
            "late": judged.late,
            "lost": judged.count(Wrong.LOST),
            "double_counted": judged.count(Wrong.DOUBLE),
            "wrong_counts": judged.count(Wrong.COUNT),
            "altered": judged.count(Wrong.ALTERED),
            "wrong_receipts": judged.count(Wrong.RECEIPT),
            "months_closed": len(self.months_closed),
            "balanced": not judged.count(Wrong.MONEY) and not judged.count(Wrong.OPEN),
            "exits": self.exits,
            "seconds": round(self.seconds, 1),
            "load": self.load,
            "problems": [f"{problem.kind}: {problem.text}" for problem in judged.problems[:50]],
            "history": self.history,
        }


def run_chaos(plan: ChaosPlan, say: Callable[[str], None] = lambda _: None) -> ChaosResult:
    """Execute one run. Raises ``ServiceFailed`` when the stack cannot start or recover."""
    began = time.monotonic()
    begin_ms = _begin_ms()
    arena = Arena(
        ArenaPlan(
            plan.folder,
            brokers=plan.brokers,
            shards=plan.shards,
            replicas=plan.replicas,
            begin_ms=begin_ms,
            command=plan.command,
            environment=plan.environment,
        ),
        say,
    )
    with arena:
        pledges = _import_pledges(arena, plan.seed)
        faults = list(plan.schedule or draw(plan.seed, plan.faults, arena.targets, every_s=plan.every_s))
        say(f"stack up after {time.monotonic() - began:.1f} s; {len(faults)} faults to inject")
        closer = Closer(arena, model.month_of(begin_ms))
        with Load(_load_plan(plan, arena)) as load:
            noted = _hurt(plan, arena, closer, faults)
            say("recovering")
            arena.heal()
            load.stop()
            _keep_until(arena, closer, lambda: not load.running(), _GIVE_UP_S + 15, "the load to end")
            sent = load.result()
        problems = _let_finish(arena, closer, plan.patience_s, say)
        closer.end()
        outcome = _judge(arena, closer, pledges)
        outcome.problems += problems + _ended(arena)
        attempts = list(evidence.read_attempts(arena.folder / "answers"))
        lines = evidence.read_log(arena.broker, TOPIC, arena.plan.partitions) if outcome.problems else []
        return ChaosResult(
            plan=plan,
            faults=faults,
            verdict=outcome,
            months_closed=closer.closed,
            exits=[f"{exit_.service} exited with code {exit_.code}" for exit_ in arena.exits],
            history=history.smallest(outcome.problems, attempts, lines, noted),
            seconds=time.monotonic() - began,
            load={
                "requests": sent.requests,
                "retries": sent.retries,
                "given_up": sent.given_up,
                "ms": sent.accepted_ms,
            },
        )


def _ended(arena: Arena) -> list[Mismatch]:
    """Ingest that ended by itself: whatever is away, it takes clicks into its spool. A stream worker may begin anew."""
    return [
        Mismatch(Wrong.ENDED, f"{ended.service} ended itself with code {ended.code}: {ended.tail}")
        for ended in arena.exits
        if ended.service.startswith("ingest")
    ]


def _begin_ms() -> int:
    """Three days before the end of a recent month: Kafka refuses future times, and retains records for 100 days."""
    now = datetime.now(UTC)
    month = now.year * 12 + now.month - 1 - 3
    return model.month_end_ms(month // 12 * 100 + month % 12 + 1) - _BEGIN_BEFORE_END_MS


def _import_pledges(arena: Arena, seed: int) -> Path:
    """Import pledges as finance does: most members pay EUR 2, some more, some nothing. Returns the file."""
    chance = random.Random(f"pledges {seed}")  # noqa: S311 - a simulation wants repeatable dice
    path = arena.folder / "pledges.csv"
    month = arena.month()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member_id", "month", "amount", "currency", "paid"])
        for _ in range(_MONTHS):
            for number in range(_MEMBERS):
                if chance.random() < 0.95:
                    amount, paid = chance.choice(["2.00"] * 8 + ["5.00", "20.00"]), chance.random() < 0.96
                    writer.writerow([member_name(number), month_text(month), amount, "EUR", str(paid).lower()])
            month = month_after(month)
    importing = arena.command("pledges", ["pledges", "import", str(path), "--yes"])
    if importing.process is None or importing.process.wait(60) != 0:
        raise ServiceFailed(f"cannot import the pledges.\n{importing.tail()}")
    return path


def _load_plan(plan: ChaosPlan, arena: Arena) -> LoadPlan:
    usual = LoadPlan(
        urls=arena.urls,
        token_keys=str(arena.token_keys),
        rate=plan.rate,
        seconds=None,
        connections=48,
        seed=plan.seed,
        members=_MEMBERS,
        creators=30,
        things_per_creator=12,
        retry_share=0.05,
        duplicate_share=0.08,
        undo_share=0.05,
        malformed_share=0.02,
        skew_share=0.1,
        batch_share=0.15,
        timeout_s=6,
        give_up_s=_GIVE_UP_S,
        clock=arena.clock_setting,
        answers=str(arena.folder / "answers"),
    )
    return msgspec.structs.replace(usual, **plan.load)


def _hurt(plan: ChaosPlan, arena: Arena, closer: Closer, faults: Sequence[Fault]) -> list[tuple[int, str]]:
    """Inject the faults once clicks are being counted. Returns when each began and ended."""
    _keep_until(arena, closer, lambda: len(_positions(arena)) == arena.plan.partitions, _BEGIN_TIMEOUT_S, "a count")
    _keep_for(arena, closer, plan.lead_s)
    injector = Injector(arena, closer, faults)
    while not injector.done:
        injector.tick()
        arena.tick()
        closer.tick()
        time.sleep(TICK_S)
    injector.leave()
    _keep_for(arena, closer, plan.lead_s)
    return injector.noted


def _keep_for(arena: Arena, closer: Closer, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        arena.tick()
        closer.tick()
        time.sleep(TICK_S)


def _keep_until(arena: Arena, closer: Closer, condition: Callable[[], bool], timeout_s: float, what: str = "") -> bool:
    """Keep the stack up until a condition holds. On a timeout, raise if ``what`` names it, or return False."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            if what:
                raise ServiceFailed(f"waited {timeout_s:.0f} s for {what}")
            return False
        _keep_for(arena, closer, _LOOK_EVERY_S)
    return True


def _let_finish(arena: Arena, closer: Closer, patience_s: float, say: Callable[[str], None]) -> list[Mismatch]:
    """After the load: wait until everything is counted, let the last month end, and close it."""
    problems = []
    if not _keep_until(arena, closer, lambda: not list(arena.spool.rglob("*.segment")), patience_s):
        problems.append(Mismatch(Wrong.LOST, f"the spool was not empty within {patience_s:.0f} s"))
    ends = evidence.log_ends(arena.broker, TOPIC, arena.plan.partitions)
    say(f"draining to {sum(ends.values())} records")
    if not _keep_until(arena, closer, lambda: _counted(arena, ends), patience_s):
        behind = {service: end for service, end in ends.items() if _positions(arena).get(service, 0) < end}
        problems.append(
            Mismatch(Wrong.LOST, f"partitions not counted to their ends {behind} within {patience_s:.0f} s")
        )
    last = arena.month()
    arena.move_clock_to(model.month_end_ms(last) + (arena.plan.grace_s + arena.plan.settle_s + 1) * 1000)
    say(f"closing up to {last}")
    if not _keep_until(arena, closer, lambda: last in closer.closed, patience_s):
        problems.append(Mismatch(Wrong.OPEN, f"cannot close {last}: {closer.tail()}"))
    return problems


def _counted(arena: Arena, ends: Mapping[int, int]) -> bool:
    reached = _positions(arena)
    return all(reached.get(partition, 0) >= end for partition, end in ends.items() if end)


def _positions(arena: Arena) -> dict[int, int]:
    try:
        return evidence.counted_to(arena.store.oracle_url)
    except (errors.Error, OSError, EOFError):
        return {}


def _judge(arena: Arena, closer: Closer, pledges: Path) -> Verdict:
    partitions, warehouse_url = arena.plan.partitions, arena.store.oracle_url
    arena.store.settle()
    lines = evidence.read_log(arena.broker, TOPIC, arena.plan.partitions)
    expected = model.expect(lines, arena.plan.grace_s)
    stated = evidence.read_stated(warehouse_url, TOPIC, lambda member_id: model.partition_of(member_id, partitions))
    promised = evidence.promises(evidence.read_attempts(arena.folder / "answers"))
    outcome = verdict.judge(promised, lines, expected, stated, partitions)
    sealed = money.sealed_months(warehouse_url)
    outcome.problems += money.check_money(warehouse_url, sealed, money.read_pledges(pledges), expected, money.Rules())
    if sealed != closer.closed:
        outcome.problems.append(Mismatch(Wrong.OPEN, f"closed {closer.closed}, sealed {sealed}"))
    return outcome
