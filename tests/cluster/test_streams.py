"""The stream on a cluster: rows go to their shards, a worker finds them again, and the lock keeps others out."""

from __future__ import annotations

import pytest

from ingest.contract.click import encode
from ingest.contract.month import month_of
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.recovery import Recovery, load_partition
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.deploy.test_verify import AT_MS, click
from tests.streams.test_growth import BEFORE, Log, equations, moved, presses, shown
from tests.support.recount import recount
from warehouse.counts.counts import known_months
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.growth.carry import carry
from warehouse.payout.close.lock import locked
from warehouse.payout.errors import MonthLocked
from warehouse.storage.client import Warehouse

pytestmark = pytest.mark.timeout(300)


def test_a_flush_is_whole_on_every_node_and_recovered_by_any(many: Warehouse) -> None:
    rows, state = Rows(), PartitionState(0)
    block = b"\n".join(encode(click(number, f"member-{number}", "song")) for number in range(1, 21))
    rules = CountingRules(1, 0, 3_600_000, "clicks")
    count_records(state, [LogRecord(0, AT_MS, block)], rules, lambda _: MonthState(), rows)
    add_progress(state, AT_MS, rows)
    Writer(many, patience_s=30).write(rows)
    for node in many.topology.nodes:
        one = Warehouse(many.url, topology=many.topology.server(node))
        of_shard = one.rows("SELECT count() FROM flattrs_here")
        assert 0 < of_shard[0][0] < 20
        assert one.rows("SELECT count() FROM flattrs") == [(20,)]
        one.close()
    assert load_partition(many, 0).position == state.position
    month = month_of(AT_MS)
    (loaded,) = Recovery(many, 1, lambda _: None, ErasureList(many).newest).load([load_partition(many, 0)], month)
    assert loaded.flattrs.size == 20
    assert month in known_months(many)
    counts = [check for check in check_warehouse(many, read_reached(many, 1)) if "payouts" not in check.name]
    assert len(counts) > 3
    assert [check for check in counts if not check.holds] == []


def test_whoever_speaks_with_another_node_finds_the_lock_taken_and_loses_it_when_it_is_taken_over(
    many: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.payout.close.lock._PATIENCE_S", 0)
    reverse = many.topology.only(*reversed(many.topology.nodes))
    other = Warehouse(many.url, topology=reverse)
    with locked(many, "tried") as held:
        with pytest.raises(MonthLocked), locked(other, "tried"):
            pass
        held._done.set()
        held._renewing.join()
        held._plain.command("ALTER TABLE locks UPDATE state = 'released' WHERE holder = %(holder)s", held._claim)
        with locked(other, "tried") as next_held:
            next_held.check()
            with pytest.raises(MonthLocked):
                held.insert("close_log", {"month": [1], "run": ["late"], "stage": ["gate"]})
    other.close()


def test_a_log_grows_as_on_one_server(many: Warehouse) -> None:
    clicks = presses(300, seed=11)
    half = len(clicks) // 2
    Log(many, BEFORE, 0).count(clicks[:half])
    seen = shown(many)
    carry(many, moved(BEFORE, 2 * BEFORE))
    many.sync()
    assert shown(many) == seen
    Log(many, 2 * BEFORE, 1).count(clicks[half:])
    expected = recount(clicks, grace_ms=3_600_000)
    found = many.rows("SELECT month, creator_id, flattrs FROM creator_flattrs WHERE flattrs > 0 ORDER BY ALL")
    assert {(month, creator): flattrs for month, creator, flattrs in found} == expected.counts(0, 2)
    assert len(many.rows("SELECT partition FROM progress FINAL")) == 2 * BEFORE
    # Other tests have closed months on this cluster, of flattrs that are gone.
    assert [line for line in equations(many, 2 * BEFORE) if "payouts" not in line] == []
