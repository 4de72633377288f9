from __future__ import annotations

from tests.api.rows import put_creator_counts, put_member_counts, put_thing_counts, put_things
from tests.support.serving import ask
from warehouse.counts.counts import MemberCount, Thing, creator_counts, member_counts, thing_counts, things
from warehouse.storage.client import Warehouse

SONG = "9f86d081884c7d659a2feaa0c55ad015"


def test_creator_count_is_the_sum_of_each_partitions_newest_row(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(
        warehouse,
        [
            (202611, "anna", 0, 5, 100),
            (202611, "anna", 1, 3, 90),
            (202611, "bob", 0, 50, 100),
            (202610, "anna", 0, 1000, 99),
        ],
    )
    # a newer count that fell (an undo), and an older one that a zombie writes late
    put_creator_counts(warehouse, [(202611, "anna", 0, 4, 200)])
    put_creator_counts(warehouse, [(202611, "anna", 1, 2, 50)])
    body = ask(f"{api}/v1/creators/anna/counts?month=2026-11").json
    assert (body["creator_id"], body["month"], body["flattrs"]) == ("anna", "2026-11", 7)


def test_thing_count_names_its_creator_and_address(warehouse: Warehouse, api: str) -> None:
    put_thing_counts(warehouse, [(202611, "anna", SONG, 0, 2, 1), (202611, "anna", SONG, 7, 3, 1)])
    put_things(warehouse, [(SONG, "anna", "https://anna.example/song")])
    body = ask(f"{api}/v1/things/{SONG}/counts?month=2026-11").json
    assert (body["flattrs"], body["creator_id"], body["thing"]) == (5, "anna", "https://anna.example/song")


def test_address_of_a_thing_is_asked_for_once_and_its_count_each_time(warehouse: Warehouse, api: str) -> None:
    put_things(warehouse, [(SONG, "anna", "https://anna.example/song")])
    for flattrs in (2, 3):
        put_thing_counts(warehouse, [(202611, "anna", SONG, 0, flattrs, flattrs)])
        body = ask(f"{api}/v1/things/{SONG}/counts").json
        assert (body["flattrs"], body["thing"]) == (flattrs, "https://anna.example/song")
    metrics = ask(f"{api}/metrics").body.decode()
    assert 'query_seconds_count{query="thing_counts"} 2.0' in metrics
    assert 'query_seconds_count{query="things"} 1.0' in metrics


def test_thing_that_nobody_flattred_counts_zero(api: str) -> None:
    body = ask(f"{api}/v1/things/{SONG}/counts").json
    assert (body["flattrs"], body["creator_id"], body["thing"]) == (0, None, None)


def test_member_count_tells_flattrs_and_creators_that_still_have_one(warehouse: Warehouse, api: str) -> None:
    put_member_counts(
        warehouse, [(202611, "m-1", "anna", 2, 1), (202611, "m-1", "bob", 1, 2), (202611, "m-2", "x", 9, 3)]
    )
    put_member_counts(warehouse, [(202611, "m-1", "bob", 0, 5)])
    body = ask(f"{api}/v1/members/m-1/counts?month=2026-11").json
    assert (body["flattrs"], body["creators"]) == (2, 1)


def test_month_is_the_clocks_when_none_is_given(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(warehouse, [(202611, "anna", 0, 5, 1), (202610, "anna", 0, 7, 1)])
    body = ask(f"{api}/v1/creators/anna/counts").json
    assert (body["month"], body["flattrs"]) == ("2026-11", 5)


def test_identifier_may_look_like_an_address(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(warehouse, [(202611, "github.com/anna?x#y", 0, 5, 1)])
    assert ask(f"{api}/v1/creators/github.com%2Fanna%3Fx%23y/counts").json["flattrs"] == 5


def test_identifier_with_quotes_and_slashes_is_only_a_value(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(warehouse, [(202611, "an'n\\a%--", 0, 5, 1), (202611, "bob", 0, 7, 1)])
    body = ask(f"{api}/v1/creators/an'n%5Ca%25--/counts").json
    assert body["flattrs"] == 5
    assert ask(f"{api}/v1/creators/'OR'1'='1/counts").json["flattrs"] == 0


def test_few_names_and_many_have_the_same_counts(warehouse: Warehouse) -> None:
    """Of a few the newest rows are chosen by the API, of many by the server."""
    creators = [f"c{number}" for number in range(40)]
    things = [f"{number * 2**121 + number:032x}" for number in range(40)]
    for at in (1, 3, 2):
        each = [(partition, 10 * at + partition, at) for partition in (0, 1, 11)]
        put_creator_counts(warehouse, [(202611, name, *rest) for name in creators for rest in each])
        put_thing_counts(warehouse, [(202611, "anna", name, *rest) for name in things for rest in each])
    put_creator_counts(warehouse, [(202611, "c1", 0, 0, 4), (202610, "c1", 0, 9, 9)])
    put_thing_counts(warehouse, [(202611, "anna", things[1], 0, 0, 4), (202610, "anna", things[1], 0, 9, 9)])
    for count, names in ((creator_counts, creators), (thing_counts, things)):
        of_many = count(warehouse, 202611, names, 0)
        of_few = {
            name: one for at in range(0, 40, 8) for name, one in count(warehouse, 202611, names[at : at + 8], 0).items()
        }
        assert of_few == of_many
        assert [of_many[name].flattrs for name in names[:3]] == [102, 72, 102]


def test_members_with_any_number_of_creators_have_their_counts(warehouse: Warehouse) -> None:
    put_member_counts(warehouse, [(202611, "few", "anna", 1, 1), (202611, "few", "bob", 3, 1)])
    put_member_counts(warehouse, [(202611, "few", "bob", 0, 2), (202610, "few", "bob", 7, 3)])
    put_member_counts(warehouse, [(202611, "many", f"c{number}", 2, 1) for number in range(2500)])
    put_member_counts(warehouse, [(202611, "many", "c7", 0, 2)])
    few, many = MemberCount(1, 1), MemberCount(4998, 2499)
    assert member_counts(warehouse, 202611, ["few"], 0) == {"few": few}
    assert member_counts(warehouse, 202611, ["many", "few", "none"], 0) == {
        "many": many, "few": few, "none": MemberCount(0, 0),
    }  # fmt: skip
    others = [f"m{number}" for number in range(40)]
    assert member_counts(warehouse, 202611, ["few", *others], 0)["few"] == few


def test_thing_with_several_spellings_has_the_one_that_merging_would_leave(warehouse: Warehouse) -> None:
    for address in ("https://anna.example/song/", "https://anna.example/Song", "https://anna.example/song"):
        put_things(warehouse, [(SONG, "anna", address)])
    assert things(warehouse, [SONG, "0" * 32]) == {SONG: Thing("anna", "https://anna.example/Song"), "0" * 32: None}
    assert things(warehouse, []) == {}
