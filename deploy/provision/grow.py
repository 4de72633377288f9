"""The log moves to a topic with more partitions, and no click is lost, counted twice or counted elsewhere.

| step    | does                                                             | a crash right after it costs       |
|---------|------------------------------------------------------------------|------------------------------------|
| created | the new topic, which takes nothing yet                           | an empty topic                     |
| begun   | notes both topics                                                | no close until done or abandoned   |
| closed  | closes the old topic, and asks every leader whether it is        | ingest spools until done           |
| drained | waits until all of it is counted; notes its ends                 | the same; its workers do not begin |
| stopped | waits until its workers are gone, and looks at the ends again    | the same                           |
| (carry) | states all for the new partitions (warehouse/growth/carry.py)    | the same                           |
| opened  | the new topic takes clicks                                       | one line is missing                |
| done    | notes it                                                         | nothing                            |

Every step is idempotent, and a rerun repeats all of them, up to the last of `carry`: once the new log has its number
of partitions, its workers may begin, and nothing is stated for them any more.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from deploy.errors import CommandFailed
from deploy.provision.closing import RECORD_MAX, connected, final_ends, members_of, wait_until_closed
from deploy.provision.topics import TopicError, own_settings, set_settings, wait_for_partitions
from ingest.contract.month import month_before, month_of, month_text
from ingest.contract.position import EPOCH_MAX
from ingest.runtime.clock import Clock
from warehouse.growth.carry import carry, check_pseudonyms
from warehouse.moves import notes
from warehouse.moves.notes import FACTORS, Move, Step
from warehouse.payout.close.gate import behind_of
from warehouse.payout.close.months import cutoff_ms
from warehouse.storage.client import Warehouse, named

T = TypeVar("T")
#: Clicks in ingest's spools must reach the new log before their month and its grace are over.
_BEFORE_CUTOFF_MS: Final = 24 * 3600 * 1000
_EPOCH: Final = re.compile(r"-e\d+$")
_LOOK_S: Final = 0.25
_CLOSED: Final = {RECORD_MAX: "0"}
#: Kafka's own default.
_RECORD_MAX_BYTES: Final = "1048588"


@dataclass(frozen=True)
class Places:
    """Where the log is, and who counts it."""

    broker: str
    client: Mapping[str, Any]
    topic: str
    epoch: int
    group: str
    warehouse: Warehouse


@dataclass(frozen=True)
class Wishes:
    """What an operator may decide about a move."""

    partitions: int
    #: Name of the new topic; by default the old one's with the new epoch.
    topic: str = ""
    #: The new topic has clicks already: an older backup was restored.
    again: bool = False
    #: Although the month, or its grace, ends within a day.
    anyway: bool = False
    wait_s: float = 600.0


class Growth:
    """One run of the command. ``say`` is told what happens, ``after_step`` the name of each step that is done."""

    def __init__(
        self,
        places: Places,
        say: Callable[[str], None] = lambda _: None,
        after_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._at = places
        self._say = say
        self._done = after_step

    def grow(self, wishes: Wishes, clock: Clock, grace_s: float) -> Move:
        """Move the log, or finish a move that was interrupted. Raises ``CommandFailed``, and what its parts raise."""
        found = notes.newest(self._at.warehouse)
        move = found[0] if found is not None and self._is_ours(found, wishes) else None
        if move is not None and found is not None and found[1] is Step.DONE:
            return move
        if move is None:
            if not wishes.anyway:
                check_time(clock, grace_s)
            move = self._begin(wishes)
        if not self._is_carried(move):
            self._close(move)
            self._drain(move, wishes.wait_s)
            self._wait_for_workers(wishes.wait_s)
            self._check_ends(move)
            self._done("stopped")
            carry(self._at.warehouse, move, self._done)
        self._ask(lambda admin: set_settings(admin, move.topic, {RECORD_MAX: _record_max(move)}))
        self._done("opened")
        notes.note(self._at.warehouse, move, Step.DONE)
        self._done("done")
        return move

    def abandon(self) -> Move:
        """Have the old topic take clicks again. Raises ``CommandFailed`` if there is no move, or too much is done."""
        found = notes.newest(self._at.warehouse)
        if found is None or found[1] is Step.DONE:
            raise CommandFailed("No move of the log was begun that is not done: there is nothing to abandon.")
        move = found[0]
        if found[1] is Step.DRAINED:
            raise CommandFailed(
                f"The move {move} has gone too far: new partitions may be stated already. "
                f"Run `flattr topics grow {move.partitions}` again to finish it."
            )
        self._ask(lambda admin: set_settings(admin, move.from_topic, {RECORD_MAX: _record_max(move)}))
        notes.note(self._at.warehouse, move, Step.ABANDONED)
        return move

    def _is_ours(self, found: tuple[Move, Step], wishes: Wishes) -> bool:
        """Whether this is the move that is asked for. Raises ``CommandFailed`` if another one is not done."""
        move, step = found
        is_same = move.partitions == wishes.partitions and (move.topic == wishes.topic or not wishes.topic)
        is_here = (move.from_topic, move.epoch - 1) == (self._at.topic, self._at.epoch)
        if step is Step.DONE:
            # Said again after it was done: with the old settings, or with those that it asked for.
            is_after = (move.topic, move.epoch) == (self._at.topic, self._at.epoch)
            return is_same and (is_here or is_after)
        if not is_same or not is_here:
            raise CommandFailed(
                f"A move {move} is not done: finish it with `flattr topics grow {move.partitions}` and "
                f"FLATTR_TOPIC_CLICKS={move.from_topic}, FLATTR_LOG_EPOCH={move.epoch - 1}, or --abandon it."
            )
        return True

    def _begin(self, wishes: Wishes) -> Move:
        at = self._at
        if reason := notes.left(at.warehouse, at.epoch):
            raise CommandFailed(reason)
        _, counted = notes.current_epoch(at.warehouse) or (0, 0)
        if not counted:
            raise CommandFailed(
                "Nothing was counted of this log yet: create another topic with as many partitions as you want "
                "(`flattr topics create`), and name it in FLATTR_TOPIC_CLICKS."
            )
        if wishes.partitions not in {factor * counted for factor in FACTORS}:
            several = " or ".join(str(factor * counted) for factor in FACTORS)
            raise CommandFailed(
                f"{at.topic} is counted by {counted} partitions; it can grow to {several}: every partition's members "
                "then go to two or four new ones, whose state is that of the old one."
            )
        if at.epoch == EPOCH_MAX:
            raise CommandFailed("This is the last log epoch: the log cannot move any more.")
        check_pseudonyms(at.warehouse, wishes.partitions)
        name = wishes.topic or f"{_EPOCH.sub('', at.topic)}-e{at.epoch + 1}"
        move = self._ask(lambda admin: self._create(admin, name, counted, wishes))
        self._done("created")
        notes.note(at.warehouse, move, Step.BEGUN)
        self._done("begun")
        return move

    async def _create(self, admin: AIOKafkaAdminClient, name: str, counted: int, wishes: Wishes) -> Move:
        """Create the new topic like the old one, but closed."""
        (old,) = await admin.describe_topics([self._at.topic])
        if old["error_code"]:
            raise CommandFailed(
                f"no topic {self._at.topic!r} at {self._at.broker}: set FLATTR_TOPIC_CLICKS to the topic of clicks."
            )
        # Whoever cannot do this cannot close a topic either, and has to say so before anything is done.
        await set_settings(admin, self._at.topic, {})
        settings = {RECORD_MAX: _RECORD_MAX_BYTES} | await own_settings(admin, self._at.topic)
        if settings[RECORD_MAX] == "0":
            if not wishes.again:
                raise CommandFailed(
                    f"{self._at.topic} is closed ({RECORD_MAX} is 0), and no move of it is known. If an older backup "
                    "was restored, add --again."
                )
            settings[RECORD_MAX] = await _record_max_of(admin, name)
        copies = min(len(one["replicas"]) for one in old["partitions"])
        answer = await admin.create_topics(
            [NewTopic(name, wishes.partitions, copies, topic_configs=settings | _CLOSED)]
        )
        ((_, code, *_),) = answer.topic_errors
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise TopicError(f"the broker refused to create topic {name!r}: {for_code(code).__name__}")
        await wait_for_partitions(admin, name, wishes.partitions)
        if not wishes.again and any(await final_ends(admin, name, wishes.partitions)):
            raise CommandFailed(
                f"topic {name} has records already: choose another name with --to. If the log had moved to it before "
                "an older backup was restored, add --again."
            )
        return Move(self._at.epoch + 1, self._at.topic, counted, name, wishes.partitions, settings)

    def _is_carried(self, move: Move) -> bool:
        current = notes.current_epoch(self._at.warehouse)
        return current is not None and current[0] >= move.epoch

    def _close(self, move: Move) -> None:
        async def close(admin: AIOKafkaAdminClient) -> None:
            for topic, partitions in ((move.topic, move.partitions), (move.from_topic, move.from_partitions)):
                await set_settings(admin, topic, _CLOSED)
                await wait_until_closed(admin, topic, partitions)

        self._ask(close)
        self._done("closed")
        self._say(f"{move.from_topic} takes no clicks any more; ingest keeps them in its spool.")

    def _drain(self, move: Move, wait_s: float) -> None:
        ends = self._ask(lambda admin: final_ends(admin, move.from_topic, move.from_partitions))
        by_partition = dict(enumerate(ends))
        self._wait(
            lambda: behind_of(self._at.warehouse, by_partition, self._at.epoch),
            wait_s,
            "Start `flattr streams` with the settings that it had",
        )
        self._at.warehouse.sync()
        months = [month for (month,) in self._at.warehouse.rows(named("tallied_months"))]
        notes.note(self._at.warehouse, move, Step.DRAINED, ends=ends, months=months)
        self._done("drained")
        self._say(f"All of {move.from_topic} is counted, to offsets {', '.join(map(str, ends))}.")

    def _wait_for_workers(self, wait_s: float) -> None:
        def running() -> Sequence[str]:
            members = self._ask(lambda admin: members_of(admin, self._at.group))
            return [f"{members} stream workers still run (group {self._at.group})"] if members else []

        if running():
            self._say("Now stop `flattr streams`.")
        self._wait(running, wait_s, "Stop them")

    def _check_ends(self, move: Move) -> None:
        """Raise ``CommandFailed`` if the closed topic does not end where it was counted to, whatever the reason."""
        ends = self._ask(lambda admin: final_ends(admin, move.from_topic, move.from_partitions))
        noted = notes.drained_ends(self._at.warehouse, move.epoch)
        if any(one != ends for one in noted):
            raise CommandFailed(
                f"{move.from_topic} ends at offsets {ends}, and ended at {noted[0]} when it was closed and counted: "
                "the broker took records into a closed topic, or lost some. Find out which before the log moves."
            )

    def _wait(self, missing: Callable[[], Sequence[str]], wait_s: float, remedy: str) -> None:
        give_up_at = time.monotonic() + wait_s
        while found := missing():
            if time.monotonic() > give_up_at:
                raise CommandFailed(f"{'; '.join(found)}. {remedy}, then run the same command again.")
            time.sleep(_LOOK_S)

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, T]]) -> T:
        async def asked() -> T:
            async with connected(self._at.broker, self._at.client) as admin:
                return await question(admin)

        return asyncio.run(asked())


def check_time(clock: Clock, grace_s: float) -> None:
    """Raise ``CommandFailed`` within a day of the end of a month's grace: clicks in a spool might come too late."""
    now_ms = clock()
    this = month_of(now_ms)
    for month in (month_before(this), this):
        left_ms = cutoff_ms(month, round(grace_s)) - now_ms
        if 0 < left_ms <= _BEFORE_CUTOFF_MS:
            raise CommandFailed(
                f"{month_text(month)} with its grace ends in {left_ms / 3_600_000:.1f} hours. Clicks wait in ingest's "
                "spool while the log moves, and those that come later are not paid. Wait until then, or add --anyway."
            )


async def _record_max_of(admin: AIOKafkaAdminClient, topic: str) -> str:
    """What a topic to which the log had moved takes: the old one, which is closed, says it no more."""
    (found,) = await admin.describe_topics([topic])
    known = {} if found["error_code"] else await own_settings(admin, topic)
    said = known.get(RECORD_MAX, "0")
    return _RECORD_MAX_BYTES if said == "0" else said


def _record_max(move: Move) -> str:
    return move.settings[RECORD_MAX]
