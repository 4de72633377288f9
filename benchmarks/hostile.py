"""Every known attack from outside against the real processes, with honest traffic beside it.

    flattr bench hostile --json .bench/hostile.json

The whole stack as `flattr up` starts it, on Apache Kafka if fetched. Attackers run in a process of their own and come
from another loopback address than honest clients do. Honest traffic is an open loop: clicks at ingest or counters at
the API, counted from when each was due. For each attack:

``memory_growth_mb``  the most resident memory of the attacked process during it, over what it had before
``honest_p99_ratio``  p99 of honest requests during it over p99 before, at the attacked port
``honest_refused``    honest requests that were not answered 202 or 200
``honest_lost``       acknowledged honest clicks that the warehouse does not know in the end
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import uvloop

from benchmarks import hostile_attacks, hostile_reads
from benchmarks.drive import CLICKS_URL, Outcome, drive
from benchmarks.ingest import _memory_mb
from deploy.proving.load.client import post
from deploy.stack.embedded import HOST, KAFKA_HOME, ROOT, ApacheKafka, ServiceProcess
from deploy.stack.supervisor import Service, Stack, StackPlan
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from warehouse.counts.equations import known
from warehouse.storage.client import Warehouse

MEMBERS: Final = 100
CREATORS: Final = 20
THINGS: Final = 200
CLICKS_PER_S: Final = 100.0
COUNTERS_PER_S: Final = 50.0
CONNECTIONS: Final = 16
#: p99 before is the median of so many rounds.
ROUNDS_BEFORE: Final = 3
ROUND_S: Final = 3.0
#: Honest clients come from here, attackers from 127.0.0.1: a share by address keeps them apart.
HONEST: Final = "127.0.0.9"
RUBBISH_PER_S: Final = 300.0
RUBBISH_BYTES: Final = 16_000
_SAMPLE_S: Final = 0.05
_COUNTED_TIMEOUT_S: Final = 60.0
_DAY_S: Final = 24 * 60 * 60
_MB: Final = 1 << 20
#: The names of two creators that have the same MurmurHash3 of 128 bits with seed 0, by which counts were kept once.
SAME_MURMUR3: Final = ("ada", "2V[y1,3_IV(.~_c3ug;Klu'3T&~BC4J+Yq#<}#QmXomP=pV@Wp4F&`9#gm=6Sm5L")


@dataclass(frozen=True)
class Attack:
    """One attack on one of the two ports; ``run(port, seconds)`` returns when it is over."""

    name: str
    on: str
    run: Callable[[int, float], Awaitable[object]]


async def _rubbish(port: int, seconds: float) -> None:
    """Large bodies without a token, each with another reason to be kept."""
    requests = [post(CLICKS_URL, os.urandom(RUBBISH_BYTES // 2).hex().encode(), {}) for _ in range(200)]
    await drive(port, requests, seconds=seconds, connections=CONNECTIONS, rate=RUBBISH_PER_S)


async def _read(run: hostile_reads.Attack, port: int, seconds: float) -> None:
    await run(f"http://{HOST}:{port}", seconds)


_BOTH: Final = (
    hostile_attacks.trailers, hostile_attacks.chunk_extensions, hostile_attacks.tiny_chunks,
    hostile_attacks.endless_head, hostile_attacks.endless_headers, hostile_attacks.slow_head,
    hostile_attacks.blank_lines, hostile_attacks.unread_answers, hostile_attacks.idle_connections,
)  # fmt: skip
_SOCKETS: Final = {
    "ingest": (*_BOTH, hostile_attacks.unread_refusals, hostile_attacks.half_bodies),
    "api": (*_BOTH, hostile_attacks.half_forms),
}


def attacks() -> list[Attack]:
    """All of them: what sockets can do on either port, what tokenless rubbish does at ingest, and reads at the API."""
    sockets = [
        Attack(f"{run.__name__}_at_{on}", on, partial(run, HOST)) for on, runs in _SOCKETS.items() for run in runs
    ]
    reads = [Attack(name, "api", partial(_read, run)) for name, run in hostile_reads.ATTACKS.items()]
    return [*sockets, Attack("rubbish", "ingest", _rubbish), *reads]


def run(*, seconds: float = 10, only: str = "", say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run each attack (those whose name contains ``only``) for so long, and tell what it did."""
    with _stack(say) as stack:
        bench = _Bench(stack, seconds)
        found = {}
        for attack in attacks():
            if only in attack.name:
                found[attack.name] = bench.attacked(attack)
                say(json.dumps({attack.name: found[attack.name]}))
        figures = {
            "memory_growth_mb": max((one["memory_growth_mb"] for one in found.values()), default=0),
            "honest_p99_ratio": max((one["honest_p99_ratio"] for one in found.values()), default=0),
            "honest_refused": sum(one["honest_refused"] for one in found.values()),
            "honest_lost": bench.lost(),
            "forged_identity": bench.forged_identities(),
            "kept_mb_a_day": bench.kept_mb_a_day(),
        }
    return {**figures, "attacks": found, "seconds": seconds, "cores": os.cpu_count()}


@contextmanager
def _stack(say: Callable[[str], None]) -> Iterator[Stack]:
    with ExitStack() as context:
        folder = Path(context.enter_context(tempfile.TemporaryDirectory(prefix="flattr-hostile-")))
        kafka = None
        if any((KAFKA_HOME / "libs").glob("kafka_2.13-*.jar")):
            kafka = context.enter_context(ApacheKafka(folder / "kafka"))
        plan = StackPlan(folder / "stack", broker=kafka.address if kafka else None)
        yield context.enter_context(Stack(plan, say))


@dataclass
class _Honest:
    """Honest clients: their requests, and how many of the clicks were acknowledged."""

    token_keys: Path
    ids: list[str] = field(default_factory=list)
    acknowledged: int = 0

    def requests(self, on: str, seconds: float) -> tuple[list[bytes], float]:
        """More than are sent in that time, and how many a second."""
        if on == "api":
            return [self._counter(number) for number in range(THINGS)], COUNTERS_PER_S
        tokens = [self.token(f"honest-{number}") for number in range(MEMBERS)]
        return [
            self.click(tokens[number % MEMBERS]) for number in range(round(2 * seconds * CLICKS_PER_S))
        ], CLICKS_PER_S

    def token(self, member_id: str) -> str:
        """A member's token for the time of the run."""
        return issue(self.token_keys, member_id, audience="flattr", now_ms=system_clock(), valid_s=3600)

    def click(self, token: str, creator_id: str = "") -> bytes:
        """A click on a thing of its own."""
        click_id = uuid.uuid4()
        self.ids.append(click_id.hex)
        body = {
            "click_id": str(click_id), "creator_id": creator_id or f"creator-{click_id.int % CREATORS}",
            "thing": f"https://honest.example/{click_id.int % THINGS}/{click_id}", "clicked_at": system_clock(),
        }  # fmt: skip
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        return post(CLICKS_URL, json.dumps(body).encode(), headers)

    @staticmethod
    def _counter(number: int) -> bytes:
        query = f"creator=creator-{number % CREATORS}&thing=https://honest.example/{number}"
        return f"GET /v1/counters?{query} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


class _Bench:
    """A running stack, its honest clients, and what becomes of both under attack."""

    def __init__(self, stack: Stack, seconds: float) -> None:
        self._stack = stack
        self._seconds = seconds
        self._honest = _Honest(stack.token_keys)
        self._p99_ms: dict[str, float] = {}

    def attacked(self, attack: Attack) -> dict[str, Any]:
        """Honest traffic before and during the attack, and the memory of what is attacked."""
        part = self._stack.services[attack.on]
        before_ms = statistics.median(self._drive(attack.on, ROUND_S).quantile_ms(99) for _ in range(ROUNDS_BEFORE))
        with _Memory(part) as memory, self._attacker(attack, part):
            outcome = self._drive(attack.on, self._seconds)
        during_ms = outcome.quantile_ms(99)
        return {
            "memory_growth_mb": round(memory.most_mb - memory.before_mb, 1),
            "honest_p99_ms": [round(before_ms, 1), round(during_ms, 1)],
            "honest_p99_ratio": round(during_ms / before_ms, 2),
            "honest_refused": sum(outcome.statuses.values()) - outcome.statuses[200] - outcome.statuses[202],
            "honest_answered": outcome.statuses[200] + outcome.statuses[202],
        }

    def _drive(self, on: str, seconds: float) -> Outcome:
        requests, rate = self._honest.requests(on, seconds)
        outcome = uvloop.run(
            drive(
                self._stack.services[on].port, requests, seconds=seconds, connections=CONNECTIONS, rate=rate,
                source=HONEST,
            )
        )  # fmt: skip
        self._honest.acknowledged += outcome.statuses[202]
        return outcome

    @contextmanager
    def _attacker(self, attack: Attack, part: Service) -> Iterator[None]:
        command = [sys.executable, "-m", "benchmarks.hostile", attack.name, str(part.port), str(self._seconds)]
        attacker = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})  # noqa: S603 - ours
        try:
            time.sleep(1)  # it imports and connects; what it does before the first honest request does no harm
            yield
        finally:
            attacker.kill()
            attacker.wait()

    def lost(self) -> int:
        """Acknowledged clicks that the warehouse does not know once the stream has come to the log's end."""
        ids = self._honest.ids
        warehouse = Warehouse(self._stack.warehouse_url)
        deadline = time.monotonic() + _COUNTED_TIMEOUT_S
        missing = self._honest.acknowledged
        while missing > 0 and time.monotonic() < deadline:
            time.sleep(1)
            missing = self._honest.acknowledged - len(known(warehouse, ids))
        warehouse.close()
        return max(0, missing)

    def forged_identities(self) -> int:
        """Creators with colliding names: how many of their counts are not what was clicked."""
        clicks = {SAME_MURMUR3[0]: 3, SAME_MURMUR3[1]: 5}
        token = self._honest.token("forger")
        requests = [self._honest.click(token, name) for name, count in clicks.items() for _ in range(count)]
        port = self._stack.ingest.port

        async def send() -> None:
            # One more than is sent: the client begins with the second.
            await drive(port, [*requests[-1:], *requests[:-1]], seconds=1, connections=1, rate=len(requests))

        uvloop.run(send())
        self._honest.acknowledged = len(self._honest.ids)
        warehouse = Warehouse(self._stack.warehouse_url)
        query = "SELECT creator_id, sum(flattrs) FROM counts_by_creator FINAL WHERE creator_id IN %(names)s GROUP BY 1"
        counts: dict[str, int] = {}
        deadline = time.monotonic() + _COUNTED_TIMEOUT_S
        while sum(counts.values()) < sum(clicks.values()) and time.monotonic() < deadline:
            time.sleep(0.5)
            counts = dict(warehouse.rows(query, {"names": list(clicks)}))
        warehouse.close()
        return sum(counts.get(name, 0) != count for name, count in clicks.items())

    def kept_mb_a_day(self) -> float:
        """What tokenless rubbish leaves in Kafka and ClickHouse in a day.

        The first burst, and behind it the steady rate for a day; but never more than is kept in a day's budget,
        which a test of admission holds.
        """
        port = self._stack.ingest.port
        sizes = [self._stored_bytes()]
        for _ in range(2):
            uvloop.run(_rubbish(port, self._seconds))
            time.sleep(3)  # the stream takes them over within its flush time
            sizes.append(self._stored_bytes())
        burst, steady = sizes[1] - sizes[0], sizes[2] - sizes[1]
        return round((burst + steady / (self._seconds + 3) * _DAY_S) / _MB, 1)

    def _stored_bytes(self) -> int:
        """Bytes of refused input in both: of its records in the topic, and of its rows uncompressed."""
        warehouse = Warehouse(self._stack.warehouse_url)
        ((rows, raw),) = warehouse.rows("SELECT count(), sum(length(raw) + length(detail)) FROM rejected")
        warehouse.close()
        return 2 * int(raw) + 300 * int(rows)


class _Memory:
    """The most resident memory of a part while this is open."""

    def __init__(self, part: ServiceProcess) -> None:
        self._part = part
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before_mb = self.most_mb = _memory_mb(part)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            with suppress(OSError, StopIteration):
                self.most_mb = max(self.most_mb, _memory_mb(self._part))


def _attack_once(name: str, port: str, seconds: str) -> None:
    attack = next(attack for attack in attacks() if attack.name == name)

    async def run() -> None:
        await attack.run(int(port), float(seconds))

    uvloop.run(run())


if __name__ == "__main__":
    _attack_once(*sys.argv[1:])
