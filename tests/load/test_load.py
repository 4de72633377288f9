"""The load generator: seeded, open loop, honest about pauses, and a witness of every promise."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hdrh.histogram import HdrHistogram

from deploy.proving.load.answers import AnswersFile, Attempt, read_answers
from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load, corrected, quantiles, run_load
from deploy.proving.load.worker import HISTOGRAM
from deploy.proving.traffic import Traffic, requests
from ingest.runtime.tokens import keygen
from tests.ingest.conftest import Ingest, ingest, records, token_keys

__all__ = ["ingest", "token_keys"]


@pytest.fixture
def plan(tmp_path: Path) -> LoadPlan:
    keys = tmp_path / "keys.json"
    keygen(keys, algorithm="HS256", kid="1")
    return LoadPlan(urls=(), token_keys=str(keys), connections=8, seconds=1.0, answers=str(tmp_path / "answers"))


@contextmanager
def server(*, pause_s: float = 0.0, pause_at: int = -1, refuse_first: int = 0, drop_first: int = 0) -> Iterator[str]:
    """Answers every request 202 with no receipts; pauses everybody, refuses or drops some, as told."""
    numbers = itertools.count()
    started: threading.Event = threading.Event()
    address: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                number = next(numbers)
                if number == pause_at:
                    threading.Event().wait(pause_s)  # the whole server stands still, as in a stop-the-world pause
                if number < drop_first:
                    writer.close()
                    return
                status = b"503 x" if number < drop_first + refuse_first else b"202 x"
                body = b'{"receipts":[],"refused":[]}'
                writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        stop = asyncio.Event()
        loops.append(asyncio.get_running_loop())
        stops.append(stop)
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        address.append(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/clicks")
        started.set()
        await stop.wait()
        listening.close()

    stops: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield address[0]
    finally:
        loops[0].call_soon_threadsafe(stops[0].set)
        thread.join(10)


def test_same_seed_sends_the_same_clicks_and_another_seed_others(plan: LoadPlan) -> None:
    def first(seed: int) -> list[bytes]:
        clicks = requests(msgspec.structs.replace(plan, seed=seed).traffic(0), clock=lambda: 1_700_000_000_000)
        return [request.body for request in itertools.islice(clicks, 200)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_traffic_holds_every_kind_of_click() -> None:
    traffic = replace(Traffic(seed=3, members=50, clicks=5000), undo_share=0.1, batch_share=0.0, skew_share=0.5)
    clicks = []
    for request in requests(traffic, clock=lambda: 1_700_000_000_000):
        try:
            clicks.append((request.member_id, json.loads(request.body)))
        except ValueError:
            clicks.append((request.member_id, None))
    good = [(member, click) for member, click in clicks if isinstance(click, dict) and "thing" in click]
    ids = [click["click_id"] for _, click in good]
    assert len(set(ids)) < len(ids), "no retry"
    assert {click.get("action", "flattr") for _, click in good} == {"flattr", "undo"}
    assert any(click is None for _, click in clicks), "nothing malformed"
    skewed = {member for member, click in good if click["clicked_at"] != 1_700_000_000_000}
    assert 10 < len(skewed) < 40
    by_id: dict[str, set[int]] = {}
    for _, click in good:
        if click["click_id"] == "not-a-uuid":
            continue
        by_id.setdefault(click["click_id"], set()).add(click["clicked_at"])
    assert all(len(times) == 1 for times in by_id.values()), "a retry carries another time"


def test_each_attempt_says_when_it_leaves_by_the_clock_of_its_clicks() -> None:
    made_at, skews = 1_700_000_000_000, set()
    traffic = Traffic(seed=3, members=50, clicks=3000, malformed_share=0, skew_share=0.5)
    for request in requests(traffic, clock=lambda: made_at):
        first, again = request.sent(made_at + 5), request.sent(made_at + 90_000)
        for late_ms, body in ((5, first), (90_000, again)):
            clicks = json.loads(body) if body.startswith(b"[") else [json.loads(line) for line in body.splitlines()]
            assert {click["sent_at"] - request.skew_ms for click in clicks} == {made_at + late_ms}
            assert {click["clicked_at"] - request.skew_ms for click in clicks} == {made_at}
        skews.add(request.skew_ms)
    assert len(skews) > 10


def test_open_loop_keeps_its_rate(plan: LoadPlan) -> None:
    with server() as url:
        result = run_load(msgspec.structs.replace(plan, urls=(url,), rate=400, burst_factor=1, processes=2, seconds=2))
    assert result.requests == result.answered
    assert 650 < result.requests < 950
    assert result.statuses == {202: result.requests}


def test_open_loop_feels_a_pause_for_everybody_who_came_in_it(plan: LoadPlan) -> None:
    with server(pause_s=1.0, pause_at=100) as url:
        result = run_load(msgspec.structs.replace(plan, urls=(url,), rate=300, burst_factor=1, seconds=2))
    # Half the requests fell due in the pause of one second; on the stopwatch, only a connection's one each did.
    assert result.accepted_ms["p90"] > 400
    assert result.attempt_ms["p90"] < 400


def test_closed_loop_is_corrected_for_what_a_slow_answer_kept_from_being_sent() -> None:
    measured = HdrHistogram(*HISTOGRAM)
    measured.record_value(1_000, 1000)
    measured.record_value(1_000_000)
    assert quantiles(measured)["p99"] == pytest.approx(1, rel=0.01)
    assert quantiles(corrected(measured))["p99"] == pytest.approx(980, rel=0.02)


def test_what_is_not_answered_is_sent_again_until_it_is(plan: LoadPlan, tmp_path: Path) -> None:
    with server(drop_first=5, refuse_first=5) as url:
        result = run_load(msgspec.structs.replace(plan, urls=(url,), rate=50, burst_factor=1))
    assert result.given_up == 0
    assert result.answered == result.requests
    assert result.retries >= 10
    attempts = list(read_answers(tmp_path / "answers"))
    final = {attempt.request for attempt in attempts if attempt.status == 202}
    assert len(final) == result.requests
    assert sum(attempt.status == 0 and attempt.error != "" for attempt in attempts) >= 5


def test_a_request_that_nobody_takes_is_given_up(plan: LoadPlan) -> None:
    with server(refuse_first=1_000_000) as url:
        result = run_load(msgspec.structs.replace(plan, urls=(url,), rate=20, give_up_s=0.5, seconds=0.5))
    assert result.given_up == result.requests > 0
    assert result.clicks_accepted == 0


def test_closing_the_input_ends_a_load_without_end(plan: LoadPlan) -> None:
    with server() as url, Load(msgspec.structs.replace(plan, urls=(url,), rate=100, seconds=None)) as load:
        while load.now().answered < 20:
            assert load.running()
        load.stop()
        result = load.result()
    assert result.answered == result.requests


def test_an_answer_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    with AnswersFile(tmp_path / "answers-0.ndjson") as answers:
        answers.append(Attempt("0-0", 1, "ann", "http://x", 1, 2, 202, body="{}", answer=msgspec.Raw(b'{"a":1}')))
    whole = (tmp_path / "answers-0.ndjson").read_bytes()
    (tmp_path / "answers-0.ndjson").write_bytes(whole + whole[:30])
    (attempt,) = read_answers(tmp_path)
    assert bytes(attempt.answer) == b'{"a":1}'


def test_every_promise_on_record_is_in_the_log_where_the_receipt_says(
    ingest: Ingest, plan: LoadPlan, tmp_path: Path
) -> None:
    keys = str(ingest.settings.token_keys)
    result = run_load(
        msgspec.structs.replace(
            plan,
            urls=(f"{ingest.url}/v1/clicks",),
            token_keys=keys,
            rate=200,
            members=40,
            malformed_share=0.1,
            processes=2,
        )
    )
    promised = [
        (receipt["partition"], receipt["offset"], receipt["index"], receipt["click_id"])
        for attempt in read_answers(tmp_path / "answers")
        if attempt.status == 202
        for receipt in json.loads(bytes(attempt.answer))["receipts"]
    ]
    retained = {
        (record.partition, record.offset, index, json.loads(line)["click_id"])
        for record in records(ingest.settings.broker, ingest.settings.topic_clicks)
        for index, line in enumerate(record.value.split(b"\n"))
    }
    assert len(promised) == result.clicks_accepted > 100
    assert result.clicks_refused > 0
    assert set(promised) == retained
