"""Every page at every width, with nothing, one and ten million on it, and with the longest and strangest names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ingest.contract.thing import thing_id
from ingest.runtime.tokens import issue, keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import (
    at,
    counted_until,
    put_creator_counts,
    put_flattr,
    put_log_end,
    put_thing_counts,
    put_things,
)
from tests.payout.build import closing, pledge
from tests.support.serving import serving
from warehouse import keys
from warehouse.api.app import create_app
from warehouse.storage.client import Warehouse

RULES = closing()
MONTH = 202611
WIDE, MEMBER = "W" * 64, "M" * 64
ARABIC = "https://مثال.example/" + quote("مقال") + "/" + "x" * 300
THING = thing_id(WIDE, ARABIC)
#: Elements that are wider than the box they stand in, and do not scroll by themselves.
OVERFLOWING = """() => {
  const boxes = '.card, .big, h1, .lead, .small, .state, li, td, footer, header, nav';
  const shown = (e) => !e.closest('.scroll, .unseen') && e.getClientRects().length && e.clientWidth > 0;
  const leaves = (e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible';
  // A number that breaks reads as two.
  const broken = (e) => {
    const text = document.createRange();
    text.selectNodeContents(e);
    return e.matches('.big') && /\\d/.test(e.textContent) && text.getClientRects().length > 1;
  };
  return [...document.querySelectorAll(boxes)]
    .filter((e) => shown(e) && (leaves(e) || broken(e) || e.getBoundingClientRect().right > innerWidth + 1))
    .map((e) => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60));
}"""


def fill(warehouse: Warehouse, flattrs: int) -> None:
    """A month with so many flattrs, all of one creator's thing, and clicks and money to match."""
    if not flattrs:
        return
    put_things(warehouse, [(THING, WIDE, ARABIC)])
    put_creator_counts(
        warehouse, [(MONTH, WIDE, 0, flattrs, 9), (202609, WIDE, 0, flattrs, 9), (MONTH, "../x", 0, 1, 9)]
    )
    put_thing_counts(warehouse, [(MONTH, WIDE, THING, 0, flattrs, 9)])
    put_flattr(
        warehouse, member=MEMBER, creator=WIDE, thing=THING, click_id=UUID(int=1), position=1, clicked_at_ms=NOON_MS
    )
    warehouse.insert(
        "counts_by_member",
        {"month": [MONTH], "member_id": [MEMBER], "creator_id": [WIDE], "flattrs": [flattrs], "position": [9]},
    )
    tallies = {f"tallies.{name}": [[count]] for name, count in (
        ("month", MONTH), ("accepted", flattrs), ("counted", flattrs), ("duplicate", 0), ("undo", 0), ("rejected", 0),
        ("late", 0),
    )}  # fmt: skip
    warehouse.insert(
        "subscription_orders",
        {
            "member_id": [MEMBER],
            "creator_id": [WIDE],
            "thing_id": [bytes.fromhex(THING)],
            "click_id": [UUID(int=2).bytes],
            "ends": [0],
            "version": [(NOON_MS - 500) << 20],
            "position": [9],
            "until": [202703],
            "site_id": [""],
        },
    )
    moment = at(NOON_MS - 400)
    warehouse.insert(
        "progress",
        {"partition": [0], "position": [counted_until(9)], "record_at": [moment], "written_at": [moment], **tallies},
    )
    put_log_end(warehouse, 0, NOON_MS - 400, 10)
    pledge(warehouse, MONTH, {MEMBER: flattrs * 1_000_000})


@pytest.fixture(params=[0, 1, 10_000_000], ids=["zero", "one", "ten million"])
def amount(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path, amount: int) -> Iterator[tuple[str, str, str]]:
    """The pages with that month; a key of the operator, and a member's token."""
    fill(warehouse, amount)
    secret, key = keys.issue("the operator with a rather long name", keys.Role.OPERATOR)
    keys.save(tmp_path / "keys.json", [key])
    keygen(tmp_path / "tokens.json", algorithm="HS256", kid="first")
    told = {"api_keys": tmp_path / "keys.json", "token_keys": tmp_path / "tokens.json", "api_public": True}
    told["api_ingest"] = "http://127.0.0.1:9"
    token = issue(tmp_path / "tokens.json", MEMBER, audience="flattr", now_ms=NOON_MS, valid_s=3600)
    with serving(create_app(settings_for(warehouse, **told), RULES)) as url:
        yield url, secret, token


PATHS = (
    "/", "/creators", "/creators?q=W", "/things", f"/creators/{WIDE}", f"/things/{THING}", f"/members/{MEMBER}",
    "/months", "/months/2026-11", "/months/2020-01", "/months/foo", "/verify", "/docs", "/login", "/me", "/me/flattrs",
)  # fmt: skip


def sign_in(page: Page, url: str, secret: str, token: str) -> None:
    page.goto(f"{url}/me")
    page.get_by_label("Member token").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("My flattrs")
    page.goto(f"{url}/login")
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("live")


#: Width in px, colour scheme, and whether axe looks as well, which takes longest.
LOOKS = (
    (320, "light", True),
    (320, "dark", False),
    (768, "light", False),
    (1920, "light", False),
    (1920, "dark", True),
)


@pytest.mark.timeout(300)
def test_page_fits_every_width_whatever_is_on_it(browser: Browser, site: tuple[str, str, str]) -> None:
    url, secret, token = site
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    sign_in(page, url, secret, token)
    for path in PATHS:
        page.set_viewport_size({"width": LOOKS[0][0], "height": 800})
        page.goto(url + path)
        if path == "/":
            expect(page.locator("#parts li")).to_have_count(2)
        for width, scheme, thoroughly in LOOKS:
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px wider than {width}"
            assert page.evaluate(OVERFLOWING) == [], f"{path} at {width}"
            if thoroughly:
                found = Axe().run(page)
                assert found.violations_count == 0, f"{path} {scheme} {width}: {found.generate_report()}"
    context.close()


@pytest.mark.parametrize("amount", [0], indirect=True)
def test_empty_month_shows_what_to_do_next_and_no_empty_rows(browser: Browser, site: tuple[str, str, str]) -> None:
    page = browser.new_page()
    page.goto(site[0])
    expect(page.locator("#parts li")).to_have_count(2)
    assert page.locator(".rank tbody tr:visible").count() == 0
    expect(page.locator("#creators-none")).to_contain_text("put a button on a page")
    page.close()


@pytest.mark.parametrize("amount", [1], indirect=True)
def test_empty_month_of_the_live_page_fills_by_itself(
    browser: Browser, warehouse: Warehouse, site: tuple[str, str, str]
) -> None:
    page = browser.new_page()
    page.goto(site[0])
    expect(page.locator("#creators tbody tr:visible")).to_have_count(2)
    put_creator_counts(warehouse, [(MONTH, "newcomer", 0, 5, 10)])
    put_log_end(warehouse, 0, NOON_MS, 20)
    warehouse.command("INSERT INTO progress SELECT * REPLACE (position + 65536 AS position) FROM progress FINAL")
    expect(page.locator("#creators tbody tr:visible")).to_have_count(3, timeout=15_000)
    expect(page.get_by_role("link", name="newcomer")).to_have_attribute("href", "/creators/newcomer")
    page.close()


@pytest.mark.parametrize("amount", [1], indirect=True)
def test_reader_signs_out_by_the_button_on_the_page(browser: Browser, site: tuple[str, str, str]) -> None:
    url, secret, token = site
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, url, secret, token)
    page.goto(f"{url}/months")
    assert secret not in str(context.cookies())
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_contain_text("live")
    assert context.cookies() == []
    page.goto(f"{url}/months")
    expect(page.locator("h1")).to_have_text("Log in")
    page.goto(f"{url}/me")
    expect(page.get_by_label("Member token")).to_be_visible()
    context.close()
