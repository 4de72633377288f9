"""What is kept of refused input: a few samples of strangers', a budget for members', and never a token."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.embedded import EmbeddedBroker
from ingest.admission.rate_limit import RateLimits
from ingest.admission.validate import Caller
from ingest.contract.rejection import Reason, Rejection, decode_rejection, encode_rejection
from ingest.http import refused_input
from ingest.http.refused_input import RefusedInput
from ingest.metrics import Metrics
from ingest.runtime.refusal import Refusal
from ingest.settings import IngestSettings
from tests.ingest.conftest import Ingest, make_topics, records, serving, settings_for, wait_until
from tests.support.serving import ask

NO_TOKEN = Refusal(Reason.TOKEN_MISSING, "send a member token")
UNKNOWN = Refusal(Reason.FIELD_UNKNOWN, "no such field", 0, "colour")
NOBODY, ANN, EVE = Caller(""), Caller("ann", "blog"), Caller("eve")


class Shelf:
    """Kept, on a clock that the test turns, and what it has kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limits: RateLimits | None = None, **settings: object) -> None:
        self.now_s = 1000.0
        self.found: list[Rejection] = []
        self.metrics = Metrics()
        monkeypatch.setattr("ingest.http.refused_input.time.monotonic", lambda: self.now_s)
        chosen = IngestSettings.model_validate(settings)
        self.retained = RefusedInput(chosen, limits or RateLimits(), self.metrics, lambda: 5, self._keep)

    def _keep(self, rejection: Rejection) -> bool:
        self.found.append(rejection)
        return True

    def bytes_kept(self) -> int:
        return sum(len(encode_rejection(one)) for one in self.found)


def test_flood_of_a_day_without_a_token_leaves_a_few_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch)
    raw = b'{"thing":"' + b"x" * 16_000
    for _ in range(21_600):
        shelf.now_s += 4
        shelf.retained.take(NO_TOKEN, raw, NOBODY, packed=False)
    assert all(len(one.raw) == 256 and one.cut and one.member_id == "" for one in shelf.found)
    assert 6 * 1439 <= len(shelf.found) <= 6 * 1441
    assert shelf.bytes_kept() < 10_000_000
    assert shelf.metrics.rejections_dropped == 21_600 - len(shelf.found)


def test_samples_have_a_budget_of_bytes_a_day_and_members_one_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch, rejected_samples_per_min=60_000, rejected_samples_mb_a_day=1)
    for _ in range(20_000):
        shelf.now_s += 4
        shelf.retained.take(NO_TOKEN, b"x" * 300, NOBODY, packed=False)
    strangers = len(shelf.found)
    assert 200_000 < shelf.bytes_kept() <= 1_000_000
    shelf.retained.take(UNKNOWN, b"{}", ANN, packed=False)
    assert len(shelf.found) == strangers + 1
    assert (shelf.found[-1].member_id, shelf.found[-1].site_id, shelf.found[-1].cut) == ("ann", "blog", False)


def test_member_uses_up_their_own_share_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch, rejected_per_s=1e6, rejected_member_mb_a_day=1, rejected_mb_a_day=10)
    looked_at: list[bytes] = []

    def count(raw: bytes) -> bytes:
        looked_at.append(raw)
        return raw

    monkeypatch.setattr(refused_input, "redacted", count)
    for _ in range(10_000):
        shelf.now_s += 8
        shelf.retained.take(UNKNOWN, b"y" * 20_000, EVE, packed=False)
    assert 500_000 < shelf.bytes_kept() <= 1_000_000
    # Looking for tokens costs the process milliseconds, and who has used up their share causes none of that.
    assert len(looked_at) <= len(shelf.found) + 10
    assert all(one.cut and len(one.raw) == 16 * 1024 for one in shelf.found)
    before = len(shelf.found)
    shelf.retained.take(UNKNOWN, b"{}", ANN, packed=False)
    assert len(shelf.found) == before + 1


def test_budgets_are_one_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimits()
    shelves = [Shelf(monkeypatch, limits) for _ in range(2)]
    for shelf in shelves:
        for _ in range(10):
            shelf.retained.take(NO_TOKEN, b"x", NOBODY, packed=False)
    assert [len(shelf.found) for shelf in shelves] == [6, 0]


def test_what_is_sent_again_and_what_nobody_can_look_into_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch)
    shelf.retained.take(Refusal(Reason.RATE_LIMITED, "wait"), b"{}", ANN, packed=False)
    shelf.retained.take(Refusal(Reason.BODY_TIMEOUT, "slow"), b"{", NOBODY, packed=False)
    assert shelf.found == []
    shelf.retained.take(NO_TOKEN, gzip.compress(b"x"), NOBODY, packed=False)
    shelf.retained.take(NO_TOKEN, b"any", NOBODY, packed=True)
    assert [one.raw for one in shelf.found] == [b"", b""]


@pytest.fixture
def ingest(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path) -> Iterator[Ingest]:
    make_topics(embedded_broker.address, topic)
    with serving(settings_for(embedded_broker, topic, token_keys, rejected_samples_per_min=100)) as service:
        yield service


def test_no_token_is_kept_whatever_it_was_refused_in(ingest: Ingest, embedded_broker: EmbeddedBroker) -> None:
    token = ingest.token()
    signature = token.rsplit(".", 1)[1]
    plain = json.dumps({"thing": "x", "token": token}).encode()
    refused = [
        (b"token=" + token.encode() + b"&thing=%ff", "application/x-www-form-urlencoded", {}),
        (b"&".join([b"token=" + token.encode()] * 40), "application/x-www-form-urlencoded", {}),
        (b"--b\r\n\r\n" + token.encode() + b"\r\n--b--", "multipart/form-data; boundary=b", {}),
        (plain[:-1], "application/json", {}),
        (plain.replace(b"eyJ", b"\\u0065yJ"), "application/json", {}),
        (json.dumps({"creator_id": "bob", "thing": "x", token: 1}).encode(), "application/json", {}),
        (b" " * 600_000 + plain, "application/json", {}),
        (plain + b" " * 600_000, "application/json", {}),
        (gzip.compress(plain) + b"x", "application/json", {"content-encoding": "gzip"}),
        (gzip.compress(plain), "application/json", {"content-encoding": "br"}),
        (gzip.compress(plain), "application/json", {}),
        (plain.decode().encode("utf-16"), "application/json", {}),
    ]
    for body, content_type, headers in refused:
        for who in ({}, {"authorization": f"Bearer {token}"}):
            url = f"{ingest.url}/v1/clicks"
            sent = {"content-type": content_type, **headers, **who}
            assert ask(url, method="POST", headers=sent, body=body).status in (400, 401, 413, 415, 422)
    wait_until(lambda: ingest.metric("flattr_ingest_rejections_kept_total") == 2 * len(refused))
    found = [one.value for one in records(embedded_broker.address, ingest.settings.topic_rejected)]
    assert len(found) == 2 * len(refused)
    for value in found:
        rejection = decode_rejection(value)
        retained = b"|".join([value, rejection.raw, rejection.raw.replace(b"\0", b""), rejection.detail.encode()])
        if rejection.raw[:2] == b"\x1f\x8b":
            retained += gzip.decompress(rejection.raw)
        assert signature.encode() not in retained
        assert signature[:30].encode() not in retained
    # Who shows a token in the head is known, however broken the body is.
    assert {decode_rejection(value).member_id for value in found} == {"ann", ""}
    assert [decode_rejection(value).member_id for value in found].count("ann") >= len(refused)
