"""The rules, each with what it flags and what it leaves alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.quarantine.log import Subject
from warehouse.quarantine.rules import Bond, SiteShare, most_within, ring_groups, ring_pairs, site_share, velocity
from warehouse.quarantine.settings import QuarantineSettings

BOUNDS = QuarantineSettings()


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 60))
def test_most_within_a_window_is_what_counting_every_window_finds(times_ms: list[int], window_ms: int) -> None:
    every = [sum(begin <= at < begin + window_ms for at in times_ms) for begin in range(51)]
    assert most_within(times_ms, window_ms) == max(every)


def test_member_who_flattrs_faster_than_anybody_reads_is_flagged() -> None:
    at_the_bound = ("calm", [second * 1000 for second in range(120)])
    one_more = ("fast", [second * 1000 for second in range(121)])
    slowly = ("slow", [minute * 60_000 for minute in range(500)])
    (found,) = velocity([at_the_bound, one_more, slowly], BOUNDS)
    assert found.subject == Subject.of(member_id="fast")
    assert found.evidence == {"flattrs": 121, "window_s": 600}


def test_member_with_flattrs_from_one_site_alone_is_flagged_and_a_creator_only_when_asked_for() -> None:
    shares = [
        SiteShare(Subject.of(member_id="mono"), "s", 200, 200),
        SiteShare(Subject.of(member_id="poly"), "s", 199, 200),
        SiteShare(Subject.of(member_id="few"), "s", 199, 199),
        SiteShare(Subject.of(creator_id="ada"), "s", 990, 1000),
    ]
    assert [found.subject.member_id for found in site_share(shares, BOUNDS)] == ["mono"]
    asked = QuarantineSettings(quarantine_site_share_creator_percent=99)
    assert [str(found.subject) for found in site_share(shares, asked)] == ["member mono", "creator ada"]


def test_two_who_flattr_each_other_are_flagged_both_ways_and_one_way_is_not() -> None:
    bonds = [
        Bond("ann", "bob", 30, 30, 40), Bond("bob", "ann", 25, 26, 25), Bond("cat", "bob", 30, 30, 40),
        Bond("dan", "eve", 30, 60, 30), Bond("eve", "dan", 30, 30, 30), Bond("fay", "gus", 19, 19, 19),
        Bond("gus", "fay", 19, 19, 19), Bond("hal", "hal", 30, 30, 30),
    ]  # fmt: skip
    found = [(one.subject.member_id, one.subject.creator_id) for one in ring_pairs(bonds, BOUNDS)]
    assert found == [("ann", "bob"), ("bob", "ann")]


def test_group_that_makes_up_a_creator_is_flagged_and_fans_of_a_known_one_are_not() -> None:
    ring = [Bond(f"m{n}", "new", 20 + n, 20 + n, 70) for n in range(3)]
    fans = [Bond(f"f{n}", "star", 50, 50, 5000) for n in range(10)]
    two = [Bond(f"t{n}", "pair", 50, 50, 100) for n in range(2)]
    found = list(ring_groups([*ring, *fans, *two], BOUNDS))
    assert [str(one.subject) for one in found] == [f"member m{n}, creator new" for n in range(3)]
    assert found[0].evidence == {"members": 3, "flattrs": 63, "of": 70}
