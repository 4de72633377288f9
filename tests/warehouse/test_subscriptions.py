"""Which subscriptions stand when, and what a month's close asks of them."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from deploy.cli.post_subscriptions import click_of
from deploy.stack.embedded import ROOT
from ingest.contract.click import Click, encode
from ingest.contract.month import month_start_ms, month_text
from ingest.contract.thing import thing_id
from ingest.runtime.aliases import AliasTable
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.recovery import Recovery, load_partition
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from tests.payout.build import clock_after, closing, drained, pledge
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.erasure.erase import erase, find
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.books.statements import member_statement
from warehouse.payout.close.close import close_month
from warehouse.payout.close.proof import stored
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.money import as_text
from warehouse.storage.client import Warehouse
from warehouse.subscriptions.standing import Subscription, note_posted, posted, posted_click_id, standing, unposted

DECEMBER, JANUARY = 202612, 202701
DAY_MS = 86_400_000
LATER_MS = month_start_ms(JANUARY)


class Log:
    """One partition, counted click by click as a worker does."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.offset = 0

    def count(self, clicks: Sequence[Click]) -> None:
        """Count these after the others."""
        erased = ErasureList(self.warehouse)
        rules = CountingRules(1, 0, 1 << 40, "clicks", erased.newest())
        writer = Writer(self.warehouse, patience_s=5)
        recovery = Recovery(self.warehouse, 1, writer.write, erased.newest)
        state, rows = load_partition(self.warehouse, 0), Rows()
        records = [LogRecord(self.offset + n, click.received_at, encode(click)) for n, click in enumerate(clicks)]
        self.offset += len(records)
        count_records(state, records, rules, lambda month: recovery.load([state], month)[0], rows)
        add_progress(state, 0, rows)
        writer.write(rows)


@pytest.fixture
def log(warehouse: Warehouse) -> Log:
    return Log(warehouse)


def order(action: str, member: str = "mia", thing: str = "a", *, after_days: float = 0, **fields: object) -> Click:
    at_ms = NOVEMBER_MS + round(after_days * DAY_MS)
    return make_click(member, "ada", thing, at_ms=at_ms, action=action, **fields)


def found(warehouse: Warehouse, month: int, *, page: int = 100) -> list[tuple[str, str, int]]:
    return [(one.member_id, one.thing, one.last_month) for one, _ in standing(warehouse, month, page=page)]


def test_subscription_stands_from_the_next_month_until_it_is_ended(log: Log) -> None:
    log.count([order("subscribe", after_days=3), order("unsubscribe", after_days=40)])
    assert found(log.warehouse, NOVEMBER) == []
    assert found(log.warehouse, DECEMBER) == [("mia", "https://ada.example/a", 0)]
    assert found(log.warehouse, JANUARY) == []


def test_newest_click_by_true_time_decides_in_whatever_order_they_come(log: Log) -> None:
    clicks = [
        order("subscribe", after_days=9, until="2026-12"),
        order("unsubscribe", after_days=5),
        order("subscribe", after_days=1, until="2028-01"),
    ]
    log.count(clicks[:2])
    log.count(clicks[2:])
    assert found(log.warehouse, DECEMBER) == [("mia", "https://ada.example/a", DECEMBER)]
    assert found(log.warehouse, JANUARY) == []


def test_retry_of_an_ended_subscription_does_not_bring_it_back(log: Log) -> None:
    again = order("subscribe", after_days=1, click_id=str(uuid.UUID(int=7)))
    log.count([again, order("unsubscribe", after_days=2), again])
    assert found(log.warehouse, DECEMBER) == []


def test_subscriptions_are_read_page_by_page_and_each_once(log: Log) -> None:
    names = [(f"member-{n % 4}", f"thing-{n}") for n in range(25)]
    log.count([order("subscribe", member, thing) for member, thing in names])
    everything = found(log.warehouse, DECEMBER)
    assert sorted((member, thing.rpartition("/")[2]) for member, thing, _ in everything) == sorted(names)
    assert found(log.warehouse, DECEMBER, page=4) == everything


def test_flattr_of_the_month_given_or_taken_back_is_known(log: Log) -> None:
    log.count([order("subscribe", thing=thing) for thing in ("given", "taken", "neither")])
    log.count(
        [
            order("flattr", thing="given", after_days=33),
            order("flattr", thing="taken", after_days=33),
            order("undo", thing="taken", after_days=34),
            order("flattr", member="leo", thing="neither", after_days=34),
        ]
    )
    known = {one.thing.rpartition("/")[2]: flattred for one, flattred in standing(log.warehouse, DECEMBER)}
    assert known == {"given": True, "taken": True, "neither": False}


def test_click_of_a_subscription_is_another_one_in_every_month_and_for_everything() -> None:
    cases = list(itertools.product(("a", "b"), ("a", "b"), ("1" * 32, "2" * 32), (NOVEMBER, DECEMBER)))
    ids = [posted_click_id(*case) for case in cases]
    assert len(set(ids)) == len(cases)
    assert ids == [posted_click_id(*case) for case in cases]


def test_posted_click_goes_where_the_thing_is_in_that_month() -> None:
    one = Subscription("mia", "ada", "0" * 32, "https://old.example/song", "blog", 0, 0)
    moved = click_of(one, DECEMBER, AliasTable({"https://old.example/": "https://new.example/"}), LATER_MS)
    there = thing_id("ada", "https://new.example/song")
    assert (moved.thing_id, moved.click_id) == (there, posted_click_id("mia", "ada", there, DECEMBER))
    assert (moved.clicked_at, moved.site_id) == (month_start_ms(DECEMBER), "blog")
    bare = Subscription("mia", "ada", "0" * 32, "", "", 0, 0)
    assert click_of(bare, DECEMBER, AliasTable({}), LATER_MS).thing_id == "0" * 32


def said(action: str, member: str, after_days: float, address: str, **fields: object) -> Click:
    """About Ada's thing at an address of any site."""
    named = order(action, member, address, after_days=after_days, **fields)
    return msgspec.structs.replace(named, thing=address, thing_id=thing_id("ada", address))


def test_subscription_to_a_thing_that_moved_ends_where_the_thing_is_now(log: Log) -> None:
    """Clicks name a thing by its new address: without this rule, nobody could end what began under the old one."""
    table = AliasTable({"https://old.example/": "https://new.example/"})

    def standing_in(month: int) -> list[tuple[str, int]]:
        return [(one.thing, one.last_month) for one, _ in standing(log.warehouse, month, table=table)]

    old, new = "https://old.example/song", "https://new.example/song"
    log.count([said("subscribe", "mia", 3, old), said("subscribe", "leo", 3, old), said("subscribe", "zoe", 3, old)])
    assert standing_in(DECEMBER) == [(old, 0)] * 3
    log.count([said("unsubscribe", "mia", 32, new), said("subscribe", "leo", 32, new, until="2027-01")])
    # What stood when December began, did.
    assert standing_in(DECEMBER) == [(old, 0)] * 3
    assert sorted(standing_in(JANUARY)) == [(new, JANUARY), (old, 0)]
    # Whoever subscribes anew under an old link names the new address, too; an older word there decides nothing.
    log.count([said("unsubscribe", "zoe", 1, new)])
    assert sorted(standing_in(JANUARY)) == [(new, JANUARY), (old, 0)]


def test_subscription_ended_after_the_first_of_two_moves_stays_ended_after_the_second(log: Log) -> None:
    """An alias points to where a thing is, so that with the second move both old addresses lead to the third."""
    one, two, three = (f"https://{number}.example/song" for number in ("one", "two", "three"))
    table = AliasTable({f"https://{number}.example/": "https://three.example/" for number in ("one", "two")})
    log.count([said("subscribe", "mia", 1, one), said("subscribe", "leo", 1, one), said("subscribe", "zoe", 1, one)])
    log.count([said("unsubscribe", "mia", 2, two), said("subscribe", "leo", 2, two, until="2026-12")])
    found = [(one.member_id, one.thing) for one, _ in standing(log.warehouse, DECEMBER, table=table)]
    assert sorted(found) == [("leo", two), ("zoe", one)]
    log.count([said("subscribe", "zoe", 3, three), said("unsubscribe", "leo", 3, three)])
    found = [(one.member_id, one.thing) for one, _ in standing(log.warehouse, DECEMBER, table=table)]
    assert found == [("zoe", three)]


def test_erased_member_subscribes_to_nothing_any_more(log: Log) -> None:
    log.count([order("subscribe"), order("subscribe", "leo")])
    assert ("subscription_orders", 0, 1) in {(one.table, one.month, one.rows) for one in find(log.warehouse, "mia")}
    erase(log.warehouse, "mia", 1, log_days=1, settle_s=0)
    # One more that waited on a phone: its flattr counts under the pseudonym.
    log.count([order("subscribe", thing="late", after_days=1)])
    assert [member for member, _, _ in found(log.warehouse, DECEMBER)] == ["leo"]
    assert not any(one.table == "subscription_orders" for one in find(log.warehouse, "mia"))


def test_subscription_that_a_worker_writes_back_after_an_erasure_is_found_and_goes(log: Log) -> None:
    log.count([order("subscribe")])
    columns = "member_id, creator_id, thing_id, click_id, ends, version, position, until, site_id"
    log.warehouse.command("CREATE TABLE held AS subscription_orders ENGINE = Memory")
    log.warehouse.command("INSERT INTO held SELECT * FROM subscription_orders")
    erase(log.warehouse, "mia", 1, log_days=1, settle_s=0)
    came_back = "rows of erased members that came back"

    def wrong() -> list[str]:
        checks = check_warehouse(log.warehouse, read_reached(log.warehouse, 1))
        return [check.name for check in checks if not check.holds]

    assert wrong() == []
    log.warehouse.command(f"INSERT INTO subscription_orders ({columns}) SELECT {columns} FROM held")
    assert wrong() == [came_back]
    erase(log.warehouse, "mia", 1, log_days=1, settle_s=0)
    assert wrong() == []
    assert found(log.warehouse, DECEMBER) == []


def test_month_does_not_close_before_its_subscriptions_were_posted(log: Log) -> None:
    settings = closing(close_drain_timeout_s=0, grace_s=3600)
    log.count([order("subscribe"), order("flattr", "leo", after_days=31)])

    def close(month: int) -> None:
        pledge(log.warehouse, month, {"mia": 2_000_000, "leo": 2_000_000})
        close_month(log.warehouse, month, clock=clock_after(month, settings), log_ends=drained, settings=settings)

    close(NOVEMBER)
    assert unposted(log.warehouse, DECEMBER)
    with pytest.raises(
        PayoutRefused, match="subscriptions of 2026-12 were never posted: run `flattr subscriptions post"
    ):
        close(DECEMBER)
    note_posted(log.warehouse, DECEMBER, 0, LATER_MS)
    assert posted(log.warehouse, DECEMBER) == (datetime.fromtimestamp(LATER_MS / 1000, UTC), 0)
    close(DECEMBER)


def block(name: str) -> list[list[str]]:
    """The words of each line of a table of docs/subscriptions.md."""
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)```", (ROOT / "docs/subscriptions.md").read_text(), re.DOTALL)
    assert found is not None
    return [line.split() for line in found[1].splitlines()]


def test_january_pays_in_march_as_the_page_says(log: Log) -> None:
    settings = closing(close_drain_timeout_s=0)
    clicks = block("clicks")
    for month in (202601, 202602, 202603):
        posts = [
            click_of(one, month, AliasTable({}), month_start_ms(month)) for one, _ in standing(log.warehouse, month)
        ]
        own = [
            make_click(
                member, creator, thing.strip("/"), action=action, until=until[0] if until else None,
                thing_id=thing_id(creator, f"https://{creator}.example{thing}"),
                at_ms=round(datetime.fromisoformat(f"{day}T12:00+00:00").timestamp() * 1000),
            )
            for day, member, action, creator, thing, *until in clicks
            if day.startswith(month_text(month))
        ]  # fmt: skip
        log.count([*posts, *own, *posts])
        note_posted(log.warehouse, month, len(posts), month_start_ms(month))
        pledge(log.warehouse, month, {"mia": 2_000_000, "leo": 2_000_000})
        close_month(log.warehouse, month, clock=clock_after(month, settings), log_ends=drained, settings=settings)
        assert verify_month(log.warehouse, month).clean
    paid = log.warehouse.rows("SELECT month, creator_id, flattrs, earned_micro FROM payouts ORDER BY month, creator_id")
    assert [[month_text(month), creator, str(n), as_text(micro, "EUR")] for month, creator, n, micro in paid] == block(
        "paid"
    )
    march = stored(log.warehouse, 202603)
    assert march is not None
    told = member_statement(log.warehouse, march, "mia").clicks
    assert [(line.creator_id, line.by_subscription) for line in told] == [("ada", True), ("bob", False)]
