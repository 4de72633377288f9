"""One thing, one counter: the rules of canonical addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.canonical import AliasError, alias_table, canonical

SAME = """
HTTP://Example.ORG                      http://example.org/
http://example.org:80/                  http://example.org/
https://example.org:443/a               https://example.org/a
https://example.org:8443/a              https://example.org:8443/a
https://example.org./a#part             https://example.org/a
https://ann:secret@example.org/a        https://example.org/a
https://example.org/a/../b/./c          https://example.org/b/c
https://example.org/a/..                https://example.org/
https://example.org/%2e%2e/a            https://example.org/a
https://example.org/%7Eann/%c3%a4       https://example.org/~ann/%C3%A4
https://example.org/100%                https://example.org/100%25
https://example.org/?b=2&a=1            https://example.org/?a=1&b=2
https://example.org/?a=2&a=1            https://example.org/?a=1&a=2
https://example.org/?utm_source=x&a=1   https://example.org/?a=1
https://example.org/?FBCLID=x           https://example.org/
https://example.org/?a=&b&&=c           https://example.org/?a=&b
https://example.org/?a=x%26y            https://example.org/?a=x%26y
https://exämple.org/ä                   https://xn--exmple-cua.org/%C3%A4
https://[::1]:443/                      https://[::1]/
article-17                              article-17
urn:isbn:3-446-13878-4                  urn:isbn:3-446-13878-4
Article-17                              Article-17
"""


@pytest.mark.parametrize("line", SAME.strip().splitlines())
def test_thing_has_one_spelling(line: str) -> None:
    given_as, expected = line.split()
    assert canonical(given_as) == expected


def test_different_things_stay_different() -> None:
    things = [
        "https://a.org/x",
        "https://a.org/x/",
        "https://a.org/X",
        "http://a.org/x",
        "https://a.org/x?y",
        "a.org/x",
    ]
    assert len({canonical(thing) for thing in things}) == len(things)


@pytest.mark.parametrize(
    "thing", ["http://", "https:///a", "http://a b/", "http://a:port/", "http://[::1/", "http://<x>/"]
)
def test_what_starts_like_an_address_and_is_none_is_refused(thing: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(thing)


def test_alias_moves_a_thing_to_its_new_address() -> None:
    table = alias_table({"http://old.org/": "https://new.org/", "http://old.org/blog/": "https://blog.new.org/"})
    assert canonical("http://OLD.org/a?b", table) == "https://new.org/a?b"
    assert canonical("http://old.org/blog/a", table) == "https://blog.new.org/a"
    assert canonical("http://older.org/a", table) == "http://older.org/a"


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
        alias_table(pairs)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=30)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=6)
TABLE = alias_table({"http://old.org/": "https://new.org/"})


def address(host: str, path: str, pairs: list[tuple[str, str]]) -> str:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return f"HTTP://{host}/{path}?{query}"


HOSTS = st.sampled_from(["old.org", "Example.ORG:80", "a.b:8080", "[::1]", "exämple.org"])


@given(HOSTS, TEXT, PAIRS)
def test_canonical_of_canonical_is_itself(host: str, path: str, pairs: list[tuple[str, str]]) -> None:
    once = canonical(address(host, path, pairs), TABLE)
    assert canonical(once, TABLE) == once


@given(HOSTS, TEXT.filter(lambda path: not set(path) & set("?#")), st.data())
def test_order_of_parameters_does_not_matter(host: str, path: str, data: st.DataObject) -> None:
    plain = TEXT.filter(lambda text: not set(text) & set("#") and text.strip() == text)
    pairs = data.draw(st.lists(st.tuples(plain, plain), max_size=6))
    shuffled = data.draw(st.permutations(pairs))
    assert canonical(address(host, path, pairs) + "&", TABLE) == canonical(address(host, path, shuffled) + "&", TABLE)
