"""One thing, one counter: the rules of canonical addresses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.contract.thing import canonical, plain
from tests.ingest import first_thing_rules

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


@pytest.mark.parametrize("around", ["\ufeff", " \ufeff ", "\ufeff\u00a0\ufeff", "\u3000"])
def test_what_stands_around_a_thing_is_no_part_of_it(around: str) -> None:
    for thing in ("https://example.org/a", "article-17"):
        assert canonical(around + thing + around) == thing


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
    "thing", ["http://", "https:", "http://a b/", "http://a:port/", "http://[::1/", "http://<x>/", "http://./"]
)
def test_what_starts_like_an_address_and_is_none_is_refused(thing: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(thing)


#: What browsers read in another way than we did: what was given, what it was, what it is. None: it was refused.
DIFFERENT: list[tuple[str, str | None, str]] = [
    ("https://example.org/a\\b", "https://example.org/a%5Cb", "https://example.org/a/b"),
    ("https:\\\\example.org\\a", "https:\\\\example.org\\a", "https://example.org/a"),
    ("https:example.org", "https:example.org", "https://example.org/"),
    ("https://evil.example\\@example.org/", "https://example.org/", "https://evil.example/@example.org/"),
    ("https:///example.org", None, "https://example.org/"),
    ("http://0x7f.1/", "http://0x7f.1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://2130706433/", "http://127.0.0.1/"),
    ("http://[0:0::1]/", "http://[0:0::1]/", "http://[::1]/"),
    ("https://fa\u00df.example/", "https://fass.example/", "https://xn--fa-hia.example/"),
    ("https://ex%61mple.org/", None, "https://example.org/"),
    ("https://example.org/?it's", "https://example.org/?it's", "https://example.org/?it%27s"),
    ("https://example.org/?ysclid=1", "https://example.org/?ysclid=1", "https://example.org/"),
]


@pytest.mark.parametrize(("given_as", "before", "now"), DIFFERENT)
def test_browsers_rules_differ_from_ours_of_before_in_what_the_document_lists(
    given_as: str, before: str | None, now: str
) -> None:
    assert canonical(given_as) == now
    if before is None:
        with pytest.raises(ValueError, match=r".+"):
            first_thing_rules.canonical(given_as)
    else:
        assert first_thing_rules.canonical(given_as) == before


@pytest.mark.parametrize("breaks", ["\n", "\t", "\r\n"])
def test_tabs_and_line_ends_in_an_address_go_as_they_do_in_a_browser(breaks: str) -> None:
    sent = f"{breaks}https://example.org/{breaks}a?b{breaks}=c{breaks}"
    assert plain(sent) == "https://example.org/a?b=c"
    assert canonical(sent) == canonical(plain(sent)) == "https://example.org/a?b=c"


@pytest.mark.parametrize("thing", ["a\nb", "urn:x\ty", "https://example.org/\0", "https://example.org/\x7f", "\x85"])
def test_any_other_control_character_is_in_no_thing(thing: str) -> None:
    with pytest.raises(ValueError, match="a control character"):
        plain(thing)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=30)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=6)


def address(host: str, path: str, pairs: list[tuple[str, str]]) -> str:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return f"HTTP://{host}/{path}?{query}"


HOSTS = st.sampled_from(["old.org", "Example.ORG:80", "a.b:8080", "[::1]", "exämple.org"])


#: Any sign that an address can have but for those of DIFFERENT.
SIGNS = st.characters(codec="utf-8", exclude_characters="\\'", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"])
LABEL = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-", min_size=1, max_size=12).filter(
    lambda label: not label.startswith("-") and not label.endswith("-") and label[:4].lower() != "xn--"
)
ORDINARY = st.builds(
    lambda scheme, user, labels, port, path, rest: f"{scheme}://{user}{'.'.join(labels)}{port}{path}{rest}",
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["", "ann@", "ann:secret@"]),
    st.lists(LABEL, min_size=1, max_size=3).map(lambda labels: [*labels, "example"]),
    st.sampled_from(["", ":80", ":443", ":8080", "."]),
    st.text(SIGNS, max_size=25).map(lambda path: "/" + path)
    | st.sampled_from(["", "/a/../b/./", "/%7ea%2fb/..", "/%"]),
    st.text(SIGNS, max_size=25).map(lambda query: "?" + query) | st.just(""),
)


@given(ORDINARY)
@settings(max_examples=1000)
def test_ordinary_addresses_are_called_what_they_always_were(given_as: str) -> None:
    assert canonical(given_as) == first_thing_rules.canonical(given_as)


@given(st.text(max_size=30).map(lambda rest: "http:" + rest) | ORDINARY)
def test_canonical_of_whatever_a_browser_would_open_is_itself(given_as: str) -> None:
    try:
        once = canonical(given_as)
    except ValueError:
        return
    assert canonical(once) == once


@given(HOSTS, TEXT, PAIRS)
def test_canonical_of_canonical_is_itself(host: str, path: str, pairs: list[tuple[str, str]]) -> None:
    once = canonical(address(host, path, pairs))
    assert canonical(once) == once


@given(HOSTS, TEXT.filter(lambda path: not set(path) & set("?#")), st.data())
def test_order_of_parameters_does_not_matter(host: str, path: str, data: st.DataObject) -> None:
    plain = TEXT.filter(lambda text: not set(text) & set("#") and text.strip() == text)
    pairs = data.draw(st.lists(st.tuples(plain, plain), max_size=6))
    shuffled = data.draw(st.permutations(pairs))
    assert canonical(address(host, path, pairs) + "&") == canonical(address(host, path, shuffled) + "&")
