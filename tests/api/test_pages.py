from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.api.conftest import settings_for
from tests.api.rows import put_creator_counts, put_flattr, put_thing_counts, put_things
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.support.serving import Answer, ask, serving
from warehouse import keys
from warehouse.api import formatting
from warehouse.api.app import create_app
from warehouse.payout.close.close import close_month
from warehouse.storage.client import Warehouse

RULES = closing()
PAGES = ["/", "/creators/anna", "/members/m-1", "/months", "/months/2026-11", "/verify", "/docs", "/login"]


@pytest.mark.parametrize("path", PAGES)
def test_page_lets_nothing_in_from_other_hosts(idle_api: str, path: str) -> None:
    answer = ask(idle_api + path)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = answer.body.decode()
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", html)
    assert not re.search(r"""\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)""", html), "inline style or script"


@pytest.mark.parametrize("path", PAGES)
def test_files_of_a_page_are_there_and_kept_for_ever(idle_api: str, path: str) -> None:
    for file in set(re.findall(r'"(/page/[^"]+)"', ask(idle_api + path).body.decode())):
        answer = ask(idle_api + file)
        assert answer.status == 200, file
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("name", ["base.html", "../keys.py", "%2e%2e/keys.py", "nothing.js", "flattr.css.map"])
def test_only_style_sheets_scripts_and_pictures_are_served(idle_api: str, name: str) -> None:
    assert ask(f"{idle_api}/page/{name}").status == 404


def test_names_from_clicks_are_text_and_never_markup(warehouse: Warehouse, api: str) -> None:
    evil = "<img/src=x/onerror=alert(1)>\"'"
    put_creator_counts(warehouse, [(202611, evil, 0, 5, 1)])
    put_flattr(warehouse, creator=evil, thing="1" * 32, click_id=None, position=1, clicked_at_ms=1793600000000)
    put_things(warehouse, [("1" * 32, evil, "https://x.example/<script>alert(1)</script>")])
    for path in ("/", f"/creators/{quote(evil, safe='')}"):
        html = ask(api + path).body.decode()
        assert "&lt;img/src=x" in html
        assert "<img" not in html
        assert "<script>" not in html


@pytest.mark.parametrize(
    ("sent", "thing", "on_the_page"),
    [
        (
            "HTTPS://paypal.com@Anna.Example:443/song?utm_source=me#x",
            "https://anna.example/song",
            "anna.example/<wbr>song",
        ),
        ("https://anna.example/\u202egnos", "https://anna.example/%E2%80%AEgnos", "anna.example/<wbr>%E2%80%AEgnos"),
        ("https://\u0430nna.example/", "https://xn--nna-5cd.example/", "xn--nna-5cd.example/<wbr>"),
        ("song \u202e\u200b7", "song \u202e\u200b7", "song \\u{202e}\\u{200b}7"),
        ("javascript:alert(1)", "javascript:alert(1)", "javascript:alert(1)"),
        ("https://anna.example/" + "a" * 2000 + "/end", "https://anna.example/" + "a" * 2000 + "/end", "\u2026aaa"),
        ("https://", "", "1" * 32),
    ],
)
def test_thing_is_called_what_it_is_however_its_first_click_wrote_it(
    warehouse: Warehouse, api: str, sent: str, thing: str, on_the_page: str
) -> None:
    put_thing_counts(warehouse, [(202611, "anna", "1" * 32, 0, 5, 1)])
    put_flattr(warehouse, creator="anna", thing="1" * 32, click_id=None, position=1, clicked_at_ms=1793600000000)
    put_things(warehouse, [("1" * 32, "anna", sent)])
    assert ask(f"{api}/v1/things/{'1' * 32}/counts").json["thing"] == thing
    for path in ("/v1/top/things", "/v1/creators/anna/things"):
        assert [line["thing"] for line in ask(api + path).json["things"]] == [thing]
    for path in ("/", "/creators/anna"):
        html = ask(api + path).body.decode()
        assert on_the_page in html
        assert sent not in html or sent == on_the_page
        assert not re.search(r"""href=["'](?!\#|/(?!/))""", html), "only addresses of our own are links"
        assert "a" * 200 not in html


def test_creators_page_of_an_old_month_is_not_live(api: str) -> None:
    assert b"creator.js" in ask(f"{api}/creators/anna").body
    assert b"creator.js" not in ask(f"{api}/creators/anna?month=2026-10").body


def test_month_end_page_tells_gate_and_then_proof_and_downloads(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, 202611, flattrs_of("mia ada 2\nmia bob 1"))
    pledge(warehouse, 202611, {"mia": 2_000_000})
    before = ask(f"{api}/months/2026-11")
    assert before.headers["x-state"] == "open"
    assert "what the close is waiting for" in before.body.decode()
    proof = close_month(warehouse, 202611, clock=clock_after(202611, RULES), log_ends=drained, settings=RULES)
    after = ask(f"{api}/months/2026-11")
    html = after.body.decode()
    assert (after.headers["x-state"], proof.seal in html, "€1.200000" in html) == ("closed", True, True)
    part = ask(f"{api}/months/2026-11?part=status").body.decode()
    assert part in html
    for address in re.findall(r'href="(/v1/[^"]+)"', html):
        assert ask(api + address).status == 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def locked(warehouse: Warehouse, file: Path) -> Iterator[tuple[str, str, str]]:
    finance, finance_key = keys.issue("f", keys.Role.FINANCE)
    dashboard, dashboard_key = keys.issue("d", keys.Role.DASHBOARD)
    keys.save(file, [finance_key, dashboard_key])
    with serving(create_app(settings_for(warehouse, api_keys=file))) as url:
        yield url, finance, dashboard


def log_in(url: str, key: str, address: str = "/months") -> Answer:
    return ask(f"{url}/login", method="POST", body=f"key={key}&next={address}".encode(), follow=False)


def test_reader_without_a_key_is_asked_for_one_and_brought_back(locked: tuple[str, str, str]) -> None:
    url, finance, _ = locked
    assert ask(f"{url}/").status == 200
    asked = ask(f"{url}/months/2026-11?part=status", follow=False)
    assert (asked.status, asked.headers["location"]) == (303, "/login?next=%2Fmonths%2F2026-11%3Fpart%3Dstatus")
    answer = log_in(url, finance)
    assert (answer.status, answer.headers["location"]) == (303, "/months")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert ask(f"{url}/months", headers={"Cookie": cookie.partition(";")[0]}).status == 200


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        # A proxy ends TLS, and the browser says how it came.
        ({"Origin": "https://api.example"}, True),
    ],
)
def test_cookie_of_a_reader_who_came_by_https_stays_on_https(
    locked: tuple[str, str, str], headers: dict[str, str], *, secure: bool
) -> None:
    url, finance, _ = locked
    answer = ask(f"{url}/login", method="POST", body=f"key={finance}".encode(), headers=headers, follow=False)
    assert ("; Secure" in answer.headers["set-cookie"]) is secure


def test_wrong_key_and_wrong_role_are_told_apart(locked: tuple[str, str, str]) -> None:
    url, _, dashboard = locked
    assert log_in(url, "flk_nonsense").status == 401
    cookie = log_in(url, dashboard).headers["set-cookie"].partition(";")[0]
    assert ask(f"{url}/creators/anna", headers={"Cookie": cookie}).status == 200
    answer = ask(f"{url}/members/m-1", headers={"Cookie": cookie})
    assert answer.status == 403
    assert b"has the role dashboard, but this needs finance" in answer.body


@pytest.mark.parametrize("address", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", ""])
def test_form_sends_nobody_to_another_site(locked: tuple[str, str, str], address: str) -> None:
    url, finance, _ = locked
    assert log_in(url, finance, address).headers["location"] == "/"


def test_form_takes_no_more_than_a_key(locked: tuple[str, str, str]) -> None:
    url, _, _ = locked
    assert log_in(url, "x" * 10_000).status == 413


@pytest.mark.parametrize(
    ("micro", "options", "text"),
    [
        (1_234_560_000, {}, "€1,234.56"),
        (1_999_999, {}, "€1.99"),
        (1_999_999, {"exact": True}, "€1.999999"),
        (2_000_000, {"exact": True}, "€2.00"),
        (2_000_000, {"digits": 6}, "€2.000000"),
        (-200_000, {"exact": True}, "\N{MINUS SIGN}€0.20"),
        (-9_999, {}, "€0.00"),
    ],
)
def test_money_is_written_rounded_towards_zero_or_exactly(micro: int, options: dict[str, int], text: str) -> None:
    assert formatting.money(micro, "EUR", **options) == text  # type: ignore[arg-type]  # exact and digits in one table


def test_money_without_a_sign_of_its_own_is_written_with_its_code_and_decimals() -> None:
    assert (formatting.money(5_000_000, "CHF"), formatting.money(5_900_000, "JPY")) == ("CHF 5.00", "JPY 5")


@pytest.mark.parametrize(("largest", "top"), [(0, 1), (1, 1), (3, 4), (65, 80), (100, 100), (101, 200), (999, 1000)])
def test_scale_ends_at_a_round_number(largest: int, top: int) -> None:
    assert formatting.nice_top(largest) == top


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "not known"), (0, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (180, "3 min"), (7200, "2 h")],
)
def test_age_is_no_finer_than_it_matters(seconds: float | None, text: str) -> None:
    assert formatting.age(seconds) == text
