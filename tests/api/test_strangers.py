"""What strangers do to the read API's port, against a real process beside honest readers: nobody decides for others."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import hostile_reads
from benchmarks.hostile_reads import Stats, ask_all
from deploy.stack.embedded import ServiceProcess, free_port
from tests.api.rows import put_thing_counts
from tests.support.serving import ask
from warehouse.storage.client import Warehouse

ROOT = Path(__file__).resolve().parents[2]
THINGS = [f"{number:032x}" for number in range(3000)]
GROWTH_MAX_MB = 64
RATIO_MAX = 3
#: The machine may be busy with other tests: a wait below this is nobody's doing.
NOISE_S = 1.0
#: An attack that costs waiting and little processor time. The others cost some by their bytes, and on a machine that
#: others keep busy a test cannot tell theirs from that: `flattr bench hostile` asks for them on a quiet one, and
#: tests/api/test_counters.py and test_receipts.py hold the turns and the bounds themselves.
QUEUED = ("distinct_months",)


@pytest.fixture
def part(warehouse: Warehouse, tmp_path: Path) -> Iterator[ServiceProcess]:
    """`flattr api` as it is started for real, over a few thousand counters."""
    put_thing_counts(warehouse, [(202611, "anna", thing, 0, 1, 1) for thing in THINGS])
    port = free_port()
    told = {"FLATTR_WAREHOUSE": warehouse.url, "FLATTR_API_PORT": str(port), "PYTHONPATH": str(ROOT)}
    with ServiceProcess(
        "api", [sys.executable, "-m", "deploy", "api"], folder=tmp_path, port=port, environment=told
    ) as part:
        yield part


def rss_mb(part: ServiceProcess) -> float:
    assert part.process is not None
    status = Path(f"/proc/{part.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


async def honest(base_url: str, seconds: float) -> Stats:
    """Pages of a dozen buttons, of the current month, most of which nobody asked for just now."""
    pages = (f"/v1/counters?things={','.join(random.sample(THINGS, 12))}" for _ in itertools.count())
    return await ask_all(base_url, seconds, pages, per_s=25, clients=16)


def queries(base_url: str, name: str) -> float:
    text = ask(f"{base_url}/metrics").body.decode()
    lines = (line for line in text.splitlines() if line.startswith(f'flattr_api_query_seconds_count{{query="{name}"}}'))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def attack(base_url: str, name: str, seconds: float) -> dict[str, int]:
    """In a process of its own: an attacker does not share the honest readers' processor time. Answers by status."""
    command = [sys.executable, "-m", "benchmarks.hostile_reads", name, base_url, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    statuses: dict[str, int] = json.loads(told)
    return statuses


@pytest.mark.parametrize("name", sorted(hostile_reads.ATTACKS))
def test_attack_delays_no_honest_page_and_takes_no_memory(part: ServiceProcess, name: str) -> None:
    base_url = f"http://{part.address}"

    async def beside() -> tuple[Stats, Stats, dict[str, int], float]:
        await honest(base_url, 1)
        before = await honest(base_url, 3)
        memory_mb = rss_mb(part)
        attacked, during = await asyncio.gather(attack(base_url, name, 8), honest(base_url, 8))
        return before, during, attacked, rss_mb(part) - memory_mb

    before, during, attacked, growth_mb = asyncio.run(beside())
    # One in ten and not one in a hundred, of which two hundred pages have two: `flattr bench hostile` asks for that.
    waits = (before.quantile_s(0.9), during.quantile_s(0.9))
    assert sum(attacked.values()) > 20, "this was no attack"
    # 431 closes the connection, which a client that is still sending may see first.
    assert attacked.keys() <= {"200", "404", "414", "431", "503", "0"}
    assert set(during.statuses) == {200}, f"honest pages got {during.statuses}"
    bound_s = max(RATIO_MAX * waits[0], NOISE_S)
    assert name not in QUEUED or waits[1] <= bound_s, f"honest pages waited {waits}; the attack got {attacked}"
    assert growth_mb <= GROWTH_MAX_MB, f"grew by {growth_mb:.0f} MB"


def test_months_of_which_nothing_is_known_cost_no_query_each(part: ServiceProcess) -> None:
    base_url = f"http://{part.address}"
    key = THINGS[7]
    asked_before = queries(base_url, "thing_counts")
    for year in range(2000, 2020):
        body = ask(f"{base_url}/v1/counters?things={key}&month={year}-05").json
        assert (body["month"], body["counters"]) == (f"{year}-05", {key: 0})
    assert queries(base_url, "thing_counts") == asked_before
    for path in ("top/creators", "creators/anna/series", "creators/anna/things", "creators/anna/provisional"):
        for year in range(2000, 2020):
            assert ask(f"{base_url}/v1/{path}?month={year}-05").status == 200
    assert sum(queries(base_url, name) for name in ("top_creators", "creator_hours", "creator_things")) <= 9
    assert queries(base_url, "creator_take") == 1


def test_spellings_of_one_question_cost_one_query(part: ServiceProcess) -> None:
    base_url = f"http://{part.address}"
    one, two = THINGS[1], THINGS[2]
    spellings = [
        f"things={one},{two}",
        f"things={two},{one}",
        f"things={one},{two},{one}",
        f"things={one}%2C{two}",
        f"things=%30{one[1:]},{two}",
        f"things=z&things={one},{two}",
        f"things={'y' * 5000}&things={one},{two}",
    ]
    before = queries(base_url, "thing_counts")
    bodies = {ask(f"{base_url}/v1/counters?{spelling}").body for spelling in spellings}
    assert len(bodies) == 1
    assert queries(base_url, "thing_counts") - before <= 2, "the answer is kept for a second"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/counters?things=" + "a" * 33_000, 414),
        ("/v1/nothing?x=" + "a" * 33_000, 414),
        ("/" + "a" * 5000, 414),
        ("/v1/counters?creator=a&thing=" + "%F0%9F%92%B8" * 2048, 200),
    ],
)
def test_address_longer_than_any_that_means_something_is_refused(part: ServiceProcess, path: str, status: int) -> None:
    answer = ask(f"http://{part.address}{path}")
    assert answer.status == status
    assert status == 200 or answer.json["reason"] == "address_too_long"
    assert len(answer.body) < 1000


def test_head_answers_what_get_would_without_its_body(part: ServiceProcess) -> None:
    base_url = f"http://{part.address}"
    for path in ("/v1/counters?things=" + THINGS[1], "/", "/ready", "/v1/creators/anna/counts"):
        asked = ask(base_url + path, method="HEAD")
        assert (asked.status, asked.body) == (200, b"")
        assert int(asked.headers["content-length"]) > 0
    assert ask(f"{base_url}/v1/live", method="HEAD").status == 200
