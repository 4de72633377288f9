"""Whose request it is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingest.runtime.client_address import NOBODY, client_address, networks, share_of
from ingest.settings import IngestSettings

PROXIES = networks("10.0.0.0/8, 2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("host", "share"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:bbbb::2", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, NOBODY),
        ("", NOBODY),
        ("/run/socket", NOBODY),
    ],
)
def test_an_address_has_one_share_and_a_subscriber_of_ipv6_too(host: str | None, share: str) -> None:
    assert share_of(host) == share


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.7", [b"203.0.113.9"], "192.0.2.7"),  # not a proxy of ours: it may write what it likes
        ("10.1.2.3", [b"203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.1.2.3", [b"203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"198.51.100.1, 203.0.113.9"], "203.0.113.9"),  # the client wrote the first one itself
        ("10.1.2.3", [b"198.51.100.1", b"203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"203.0.113.9, 10.9.9.9"], "203.0.113.9"),  # two proxies in a row
        ("10.1.2.3", [b"203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.2.3", [b"[2001:db8:0:1::5]:4711"], "2001:db8:0:1::/64"),
        ("10.1.2.3", [b"2001:db8:0:1::5"], "2001:db8:0:1::/64"),
        ("2001:db8:ffff::1", [b"203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"203.0.113.9, unknown"], "10.1.2.3"),
        ("10.1.2.3", [b"203.0.113.9,"], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", [b"10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (None, [b"203.0.113.9"], NOBODY),
    ],
)
def test_only_a_trusted_proxy_names_the_address(peer: str | None, forwarded: list[bytes], address: str) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value) for value in forwarded)]
    assert client_address(peer, headers, PROXIES) == address
    assert client_address(peer, headers, ()) == share_of(peer)


def test_many_hops_are_not_walked_for_ever() -> None:
    headers = [(b"x-forwarded-for", b"10.0.0.1," * 100_000 + b"10.0.0.2")]
    assert client_address("10.1.2.3", headers, PROXIES) == "10.0.0.1"


def test_setting_takes_networks_with_commas_and_refuses_a_typo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATTR_TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.7")
    assert IngestSettings().trusted_proxies == networks("10.0.0.0/8, 192.0.2.7/32")
    monkeypatch.setenv("FLATTR_TRUSTED_PROXIES", "10.0.0.1/8")
    with pytest.raises(ValidationError, match="has host bits set"):
        IngestSettings()
