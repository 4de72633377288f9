"""What an outage costs: each part is killed and frozen under load, and comes back.

    flattr bench outage --json .bench/outage.json

The whole stack as `flattr up` starts it, on Apache Kafka if fetched, under a modest load of clients that retry. For
each outage: how long until those who depend on the part say so with its name, how long after its return until a click
is counted again, and how many lines the services write meanwhile. At the end everything is counted: nothing that was
acknowledged may be missing, and nothing may count twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from deploy.cli.promises import check_answers
from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load
from deploy.stack.embedded import ApacheKafka, ServiceProcess, kafka_missing
from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from warehouse.counts.equations import KafkaLog, check_log, check_warehouse, read_reached
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError

PARTITIONS: Final = 4
_PAUSE_S: Final = 0.2
_BACK_MAX_S: Final = 120.0
#: In the names of the equations that hold clicks, flattrs and counts against each other.
_COUNTS: Final = "count"
#: Who depends on a part, and the words with which its `/ready` says that the part is away.
_SAID_BY: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "kafka": (("streams", "Kafka"), ("ingest", '"broker":"away"')),
    "warehouse": (("streams", "warehouse"), ("api", "warehouse")),
    # Nobody waits for these two; whoever asks them gets no answer.
    "streams": (("streams", ""),),
    "ingest": (("ingest", ""),),
}


@dataclass(frozen=True)
class Outage:
    """One part's absence and return. Times in s; None where it did not happen within the outage."""

    part: str
    how: str
    not_ready_s: float | None
    back_s: float | None
    #: Of whoever wrote most.
    log_lines_per_min: float
    said: dict[str, str]


def run(
    *, outage_s: float = 60, stall_s: float = 30, rate: float = 50, only: str = "", say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Have every part away in both ways, one after the other, for ``outage_s`` each."""
    with ExitStack() as context:
        folder = Path(context.enter_context(tempfile.TemporaryDirectory(prefix="flattr-outage-")))
        kafka = context.enter_context(ApacheKafka(folder / "kafka")) if kafka_missing() is None else None
        plan = StackPlan(
            folder / "stack", broker=kafka.address if kafka else None, partitions=PARTITIONS,
            environment={"FLATTR_STREAMS_STALL_S": str(stall_s)},
        )  # fmt: skip
        stack = context.enter_context(Stack(plan, say))
        services: dict[str, ServiceProcess | None] = {
            "kafka": kafka, "warehouse": stack.warehouse,
            "streams": stack.services["streams"], "ingest": stack.services["ingest"],
        }  # fmt: skip
        answers = folder / "answers"
        load = LoadPlan(
            urls=(f"{stack.ingest.url}/v1/clicks",), token_keys=str(stack.token_keys), rate=rate, burst_factor=1.0,
            give_up_s=10 * outage_s, answers=str(answers),
        )  # fmt: skip
        outages = []
        with Load(load) as running:
            _counted_again(stack)
            for part in (part for name, part in services.items() if part is not None and only in ("", name)):
                for how in ("killed", "frozen"):
                    outages.append(_outage(stack, part, how, outage_s))
                    say(json.dumps(asdict(outages[-1])))
            running.stop()
            result = running.result()
        _counted_again(stack)
        sums = asyncio.run(_sums(stack, answers))
    return {
        "outages": [asdict(outage) for outage in outages], **_worst(outages), **sums,
        "accepted": result.clicks_accepted,
        "given_up": result.given_up, "outage_s": outage_s, "stall_s": stall_s, "kafka": kafka is not None,
    }  # fmt: skip


def _worst(outages: Sequence[Outage]) -> dict[str, Any]:
    """Of all outages the slowest to be said, and to be over, and the one of most lines; None: one never was."""
    not_ready_s, back_s = ([getattr(one, name) for one in outages] for name in ("not_ready_s", "back_s"))
    return {
        "not_ready_max_s": None if None in not_ready_s else max(not_ready_s),
        "back_max_s": None if None in back_s else max(back_s),
        "log_lines_per_min_max": max(one.log_lines_per_min for one in outages),
    }


def _outage(stack: Stack, part: ServiceProcess, how: str, outage_s: float) -> Outage:
    name = part.name
    asked = _SAID_BY[name]
    before = _lines(stack)
    began = time.monotonic()
    if how == "killed":
        part.kill()
    else:
        _signal(part, signal.SIGSTOP)
    said: dict[str, str] = {}
    not_ready_s = None
    while time.monotonic() < began + outage_s:
        # Whoever has said it is not asked again: a question that hangs would delay the others.
        for service, words in (one for one in asked if one[0] not in said):
            text = _not_ready(stack, service)
            if text is not None and words in text:
                said[service] = text.strip()
        if not_ready_s is None and len(said) == len(asked):
            not_ready_s = round(time.monotonic() - began, 1)
        time.sleep(_PAUSE_S)
    lines = {service: count - before[service] for service, count in _lines(stack).items()}
    if how == "killed":
        part.start()
    else:
        _signal(part, signal.SIGCONT)
    back_s = _counted_again(stack)
    return Outage(name, how, not_ready_s, back_s, round(max(lines.values()) * 60 / outage_s, 1), said)


def _signal(part: ServiceProcess, number: signal.Signals) -> None:
    if part.process is not None:
        part.process.send_signal(number)


def _not_ready(stack: Stack, service: str) -> str | None:
    """What `/ready` says, "no answer" if it says nothing, or None if the service is ready and lacks nothing."""
    try:
        with urllib.request.urlopen(f"{stack.services[service].url}/ready", timeout=2) as answer:  # noqa: S310 - http
            text = str(answer.read().decode())
            # Ingest goes on with its spool, and says what it lacks.
            return text if '"away"' in text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return "no answer"


def _lines(stack: Stack) -> dict[str, int]:
    return {name: service.log.read_bytes().count(b"\n") for name, service in stack.services.items()}


def _counted_again(stack: Stack) -> float | None:
    """Seconds until a click that is sent from now on is counted; None if that takes too long."""
    began = time.monotonic()
    member = f"probe-{uuid.uuid4().hex}"
    token = issue(stack.token_keys, member, audience="flattr", now_ms=system_clock(), valid_s=3600)
    body = json.dumps(
        {"click_id": str(uuid.uuid4()), "creator_id": "probe", "thing": "https://probe.example/"}
    ).encode()
    request = urllib.request.Request(  # noqa: S310 - http
        f"{stack.ingest.url}/v1/clicks", data=body, headers={"Authorization": f"Bearer {token}"}
    )
    is_sent = False
    with contextlib.closing(Warehouse(stack.warehouse_url, timeout_s=5)) as warehouse:
        while time.monotonic() < began + _BACK_MAX_S:
            with contextlib.suppress(OSError, WarehouseError):
                is_sent = is_sent or _taken(request)
                if is_sent and warehouse.rows("SELECT 1 FROM flattrs WHERE member_id = %(member)s", {"member": member}):
                    return round(time.monotonic() - began, 1)
            time.sleep(_PAUSE_S)
    return None


def _taken(request: urllib.request.Request) -> bool:
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http
        return bool(answer.status == 202)


async def _sums(stack: Stack, answers: Path) -> dict[str, Any]:
    """What was lost of what was acknowledged, and what counts twice."""
    with contextlib.closing(Warehouse(stack.warehouse_url, timeout_s=600)) as warehouse:
        log = KafkaLog(stack.broker_address, stack.plan.topic_clicks)
        await _drained(warehouse, log)
        reached = read_reached(warehouse, PARTITIONS, stack.epoch)
        checks = [*check_warehouse(warehouse, reached), *await check_log(warehouse, reached, log)]
        promised = check_answers(warehouse, reached, answers)
    wrong = [check for check in checks if not check.holds]
    return {
        "lost": promised.left - promised.right,
        "double_counted": sum(abs(check.left - check.right) for check in wrong if _COUNTS in check.name),
        "equations": len(checks),
        "wrong": [f"{check.name}: {check.left} is not {check.right}" for check in wrong],
    }


async def _drained(warehouse: Warehouse, log: KafkaLog) -> None:
    deadline = time.monotonic() + _BACK_MAX_S
    while time.monotonic() < deadline:
        reached = read_reached(warehouse, PARTITIONS).next_offsets()
        if all(offset >= end for offset, (_, end) in zip(reached, await log.ends(PARTITIONS), strict=True)):
            return
        await asyncio.sleep(_PAUSE_S)
    raise RuntimeError(f"clicks are still uncounted after {_BACK_MAX_S:.0f} s")


if __name__ == "__main__":
    print(json.dumps(run(outage_s=30, stall_s=10), indent=1))
