"""What uses the load's client besides the load: the demo's sender and the benchmarks' driver."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from benchmarks.drive import CLICKS_URL, drive
from deploy.demo.send import send
from deploy.proving.load.client import Pool, post
from deploy.proving.traffic import Traffic, requests
from tests.load.test_load import server


def test_demo_sends_again_what_was_dropped_or_refused() -> None:
    with server(drop_first=3, refuse_first=5) as url:
        answers = asyncio.run(send(requests(Traffic(clicks=60)), url, lambda _member: "token"))
    assert answers.sent == 60
    assert answers.retries == 8


def test_request_that_finds_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))

        async def ask() -> str:
            pool = Pool([f"http://127.0.0.1:{nobody.getsockname()[1]}"], 1, 0.1)
            pool.open()
            reply = await pool.request(lambda url: post(url, b"", {}))
            await pool.close()
            return reply.error

        assert asyncio.run(ask()) == "no connection in time"


def test_server_that_stands_still_is_an_answer_of_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def ask() -> str:
            pool = Pool([f"http://127.0.0.1:{silent.getsockname()[1]}"], 1, 0.2)
            pool.open()
            reply = await pool.request(lambda url: post(url, b"", {}))
            await pool.close()
            return reply.error

        assert asyncio.run(ask()) == "no answer in time"


def test_driver_counts_every_answer_and_keeps_its_rate() -> None:
    one = [post(CLICKS_URL, b"{}", {"content-type": "application/json"})]
    with server() as url:
        port = urlsplit(url).port or 0
        closed = asyncio.run(drive(port, one, seconds=0.5, connections=4))
        steady = asyncio.run(drive(port, one, seconds=1, connections=4, rate=50))
    assert closed.statuses[202] == closed.latency_us.get_total_count() > 0
    assert 45 <= sum(steady.statuses.values()) <= 51
