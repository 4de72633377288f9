"""Things that moved keep one counter, and no counter is split in the middle of a month."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.stack.embedded import EmbeddedBroker
from ingest.admission.validate import Caller, Validator
from ingest.contract.click import Click, decode_block
from ingest.contract.month import month_of, month_start_ms, month_text
from ingest.contract.thing import canonical
from ingest.runtime.aliases import AliasError, Aliases, AliasTable, thing_id
from ingest.runtime.watched_file import FileError
from tests.ingest.conftest import make_topics, records, serving, settings_for, wait_until

NOVEMBER, DECEMBER = 202611, 202612
NOON_MS = month_start_ms(NOVEMBER) + 20 * 86_400_000
DECEMBER_MS = month_start_ms(DECEMBER)
OLD, NEW = "https://old.example/blog", "https://new.example/blog"


@pytest.mark.parametrize(
    ("address", "moved_to"),
    [
        (OLD, NEW),
        (f"{OLD}/1", f"{NEW}/1"),
        (f"{OLD}/", f"{NEW}/"),
        (f"{OLD}?a=1", f"{NEW}?a=1"),
        (f"{OLD}/1/2?a=/blog", f"{NEW}/1/2?a=/blog"),
        (f"{OLD}ger/1", f"{OLD}ger/1"),
        ("https://old.example/", "https://old.example/"),
        ("https://old.example/a/blog/1", "https://old.example/a/blog/1"),
        ("https://old.example.org/blog/1", "https://old.example.org/blog/1"),
        ("http://old.example/blog/1", "http://old.example/blog/1"),
        (f"https://else.example/?to={OLD}/1", f"https://else.example/?to={OLD}/1"),
    ],
)
def test_prefix_matches_whole_segments_only(address: str, moved_to: str) -> None:
    assert AliasTable({OLD: NEW}).moved(address) == moved_to


def test_longest_prefix_wins_and_slashes_are_joined_to_one() -> None:
    table = AliasTable({
        "http://old.org/": "https://new.org/",
        "http://old.org/blog/": "https://blog.new.org/x",
        "http://old.org/shop": "https://shop.new.org/",
    })  # fmt: skip
    assert table.moved(canonical("http://OLD.org/a?b")) == "https://new.org/a?b"
    assert table.moved("http://old.org/blog/a") == "https://blog.new.org/x/a"
    assert table.moved("http://old.org/shop/a") == "https://shop.new.org/a"
    assert table.moved("http://older.org/a") == "http://older.org/a"


def test_names_of_an_address_are_all_that_moved_there() -> None:
    table = AliasTable({
        "http://old.org/": "https://new.org/",
        "http://old.org/blog": "https://blog.org/x",
        "http://older.org/": "https://blog.org/x",
        "http://www.old.org/shop": "https://new.org/",
    })  # fmt: skip
    assert table.names("https://else.org/a?b") == ["https://else.org/a?b"]
    assert table.names("https://blog.org/xy") == ["https://blog.org/xy"]
    now, *before = table.names("https://new.org/a?b")
    assert now == "https://new.org/a?b"
    assert {"http://old.org/a?b", "http://www.old.org/shop/a?b"} <= set(before)
    assert "http://old.org/blog" not in table.names("https://new.org/blog")
    segments = ("", "blog", "blog/", "shop", "shop/", "x", "x/", "blog/a", "shop/a", "x/a?b=/c")
    hosts = ("http://old.org", "http://older.org", "http://www.old.org", "https://new.org", "https://blog.org")
    for address in (f"{host}/{rest}" for host in hosts for rest in segments):
        names = table.names(table.moved(address))
        assert names[0] == table.moved(address)
        assert address in names
        assert {table.moved(one) for one in names} == {names[0]}


@pytest.mark.parametrize(
    "pairs",
    [
        {"http://a.org/": "http://a.org/b/"},
        {"http://a.org/": "http://b.org/", "http://b.org/": "http://c.org/"},
        {"http://a.org/b/": "http://a.org/"},
        {"http://A.org/": "http://b.org/"},
        {"http://a.org": "http://b.org"},
        {"a": "b"},
        {"http://a.org/?x=1": "http://b.org/"},
    ],
)
def test_alias_that_would_be_replaced_again_or_is_not_canonical_is_refused(pairs: dict[str, str]) -> None:
    with pytest.raises(AliasError):
        AliasTable(pairs)


@given(st.lists(st.sampled_from(["blog", "blogger", "a", ""]), max_size=4))
def test_what_has_moved_stays_where_it_is(segments: list[str]) -> None:
    table = AliasTable({OLD: NEW, "https://old.example/a/": "https://new.example/b"})
    for host in ("old", "new"):
        once = table.moved(canonical(f"https://{host}.example/" + "/".join(segments)))
        assert table.moved(once) == once == canonical(once)


class Deployment:
    """An alias file and what one process makes of it, on a clock that the test turns."""

    def __init__(self, path: Path, entries: object) -> None:
        self.path = path
        self.now_ms = NOON_MS
        self._looked = 0.0
        self.write(entries)
        self.restart()

    def restart(self) -> None:
        self.aliases = Aliases(self.path, lambda: self.now_ms, monotonic=lambda: self._looked)
        self.validator = Validator(self.aliases)

    def write(self, entries: object) -> None:
        self.path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
        self._looked += 2

    def click(self, thing: str, **times: int) -> Click:
        body = json.dumps({"creator_id": "bob", "thing": thing, **times}).encode()
        (found,) = self.validator.read(body, b"application/json", Caller("ann"), self.now_ms)
        assert isinstance(found, Click), found
        return found


def name(address: str) -> str:
    return thing_id("bob", address, AliasTable({}))


def test_alias_added_in_mid_month_splits_no_counter_and_counts_from_the_next_month_on(tmp_path: Path) -> None:
    site = Deployment(tmp_path / "aliases.json", {})
    assert site.click(f"{OLD}/1").thing_id == name(f"{OLD}/1")
    site.write({OLD: NEW})
    assert site.click(f"{OLD}/1").thing_id == name(f"{OLD}/1")
    site.now_ms = DECEMBER_MS - 1
    assert site.click(f"{OLD}/1").thing_id == name(f"{OLD}/1")
    site.now_ms = DECEMBER_MS
    assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")


def test_retry_after_the_months_end_names_the_thing_of_its_own_month(tmp_path: Path) -> None:
    site = Deployment(tmp_path / "aliases.json", {OLD: {"to": NEW, "from": "2026-12"}})
    before, after = DECEMBER_MS - 5_000, DECEMBER_MS + 7_200_000
    for site.now_ms in (before, after):
        # of a right clock, and of one that is 50 years behind
        for clicked_at, behind_ms in ((before - 1, 0), (before - 1 - 50 * 31_536_000_000, 50 * 31_536_000_000)):
            click = site.click(f"{OLD}/1", clicked_at=clicked_at, sent_at=site.now_ms - behind_ms)
            assert click.thing_id == name(f"{OLD}/1")
    assert site.click(f"{OLD}/1", clicked_at=after, sent_at=after).thing_id == name(f"{NEW}/1")


@pytest.mark.parametrize(("entry", "moves_at_once"), [(NEW, False), ({"to": NEW, "from": "2026-12"}, False), ({"to": NEW, "from": "2026-11"}, True)])  # fmt: skip # noqa: E501
def test_entry_with_a_month_counts_from_it_on_whoever_reads_it_when(
    tmp_path: Path, entry: object, moves_at_once: bool  # noqa: FBT001
) -> None:  # fmt: skip
    site = Deployment(tmp_path / "aliases.json", {})
    site.write({OLD: entry})
    expected = name(f"{NEW}/1") if moves_at_once else name(f"{OLD}/1")
    assert site.click(f"{OLD}/1").thing_id == expected
    if isinstance(entry, dict):  # without a month, a restart cannot know that the entry is new: the log says so
        site.restart()
        assert site.click(f"{OLD}/1").thing_id == expected
    site.now_ms = DECEMBER_MS
    assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")


def test_alias_taken_out_or_changed_stays_until_the_months_end(tmp_path: Path) -> None:
    elsewhere = "https://else.example/blog"
    for after, then in (({}, OLD), ({OLD: elsewhere}, elsewhere)):
        site = Deployment(tmp_path / "aliases.json", {OLD: NEW})
        assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")
        site.write(after)
        assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")
        site.now_ms = DECEMBER_MS
        assert site.click(f"{OLD}/1").thing_id == name(f"{then}/1")


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "[]",
        '{"https://old.example/blog": 7}',
        json.dumps({OLD: {"to": NEW}}),
        json.dumps({OLD: {"to": NEW, "from": "2026-13"}}),
        json.dumps({OLD: {"to": NEW, "from": "2026-12", "until": "2027-01"}}),
        json.dumps({OLD: NEW, NEW: OLD}),
        json.dumps({OLD: OLD.upper()}),
    ],
)
def test_broken_file_changes_nothing_and_none_starts_on_it(tmp_path: Path, broken: str) -> None:
    site = Deployment(tmp_path / "aliases.json", {OLD: NEW})
    site.write(broken)
    for site.now_ms in (NOON_MS, DECEMBER_MS):
        assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")
    with pytest.raises(FileError, match=r"alias"):
        site.restart()


def test_month_that_would_chain_with_what_is_in_force_is_refused_until_then(tmp_path: Path) -> None:
    site = Deployment(tmp_path / "aliases.json", {OLD: NEW})
    site.write({NEW: {"to": "https://else.example/", "from": "2026-11"}})
    assert site.click(f"{OLD}/1").thing_id == name(f"{NEW}/1")


def test_running_ingest_reads_its_aliases_anew(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, tmp_path: Path
) -> None:
    def named() -> str:
        assert ingest.post({"creator_id": "bob", "thing": f"{OLD}/1"}).status == 202
        return decode_block(records(embedded_broker.address, topic)[-1].value)[-1].thing_id

    make_topics(embedded_broker.address, topic, 1)
    path = tmp_path / "aliases.json"
    path.write_text("{}")
    with serving(settings_for(embedded_broker, topic, token_keys, aliases_file=path)) as ingest:
        assert named() == name(f"{OLD}/1")
        month = month_of(time.time_ns() // 1_000_000)
        path.write_text(json.dumps({OLD: {"to": NEW, "from": month_text(month)}}))
        wait_until(lambda: named() == name(f"{NEW}/1"))
