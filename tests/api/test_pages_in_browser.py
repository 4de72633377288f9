"""The pages in headless Chromium: live without reload, by keyboard, in both schemes and phone width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from deploy.stack.embedded import free_port
from ingest.contract.thing import thing_id
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_creator_counts, put_flattr, put_log_end, put_progress, put_thing_counts
from tests.api.rows import put_things as name_things
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.support.serving import ask, serving
from warehouse import keys
from warehouse.api.app import create_app
from warehouse.payout.close.close import close_month
from warehouse.payout.close.stages import Stage, log_stage
from warehouse.storage.client import Warehouse

RULES = closing()
MONTH = 202611
SONG = thing_id("ada", "https://ada.example/song")


@contextmanager
def opened(browser: Browser, **options: object) -> Iterator[Page]:
    """A page that must not log an error, be refused anything by its policy, or ask another host."""
    context = browser.new_context(**options)  # type: ignore[arg-type]  # Playwright's own options
    context.set_default_timeout(10_000)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: troubles.append(request.url) if "127.0.0.1" not in request.url else None)
    try:
        yield page
    finally:
        context.close()
    assert troubles == []


@pytest.fixture
def november(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1\nleo bob 4\nzoe cat-with-a-rather-long-name 1"))
    pledge(warehouse, MONTH, {"mia": 2_000_000, "leo": 5_000_000, "zoe": 2_000_000})
    name_things(warehouse, [(thing_id("ada", "https://ada.example/0"), "ada", "https://ada.example/0")])


@pytest.fixture
def fast_polling_api(warehouse: Warehouse) -> Iterator[str]:
    settings = settings_for(warehouse, api_poll_ms=50, api_lists_ttl_ms=0, api_money_ttl_ms=0)
    with serving(create_app(settings, RULES)) as url:
        yield url


def count(warehouse: Warehouse, creator: str, flattrs: int, offset: int) -> None:
    """State a higher count of a creator and a thing, and the progress after it."""
    position = counted_until(offset)
    put_creator_counts(warehouse, [(MONTH, creator, 9, flattrs, position)])
    put_thing_counts(warehouse, [(MONTH, creator, SONG, 9, flattrs, position)])
    put_progress(warehouse, 9, position, NOON_MS)
    put_log_end(warehouse, 9, NOON_MS, offset + 3)


@pytest.mark.usefixtures("november")
def test_live_page_shows_a_count_rise_without_reload(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str
) -> None:
    with opened(browser) as page:
        page.goto(fast_polling_api)
        expect(page.locator("#state-text")).not_to_have_text("Connecting")
        first = page.locator("#creators tbody tr").first
        expect(first).to_contain_text("bob")
        count(warehouse, "ada", 41, 100)
        expect(first).to_contain_text("ada")
        expect(first.locator(".n")).to_have_text("43")
        expect(page.locator("#things tbody tr").first).to_contain_text("41")
        expect(page.locator("#partitions li").last).to_contain_text("2 to count")


def test_live_page_says_when_it_has_lost_the_service_and_when_it_is_back(
    browser: Browser, warehouse: Warehouse
) -> None:
    page = browser.new_page()
    port = free_port()
    with serving(create_app(settings_for(warehouse), RULES), port=port) as url:
        page.goto(url)
        expect(page.locator("#state")).not_to_contain_text("Connecting")
    expect(page.locator("#state")).to_contain_text("Disconnected")
    with serving(create_app(settings_for(warehouse), RULES), port=port):
        expect(page.locator("#state")).not_to_contain_text("Disconnected", timeout=15_000)
        page.close()


@pytest.mark.usefixtures("november")
def test_creators_page_counts_on_and_draws_its_days(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str
) -> None:
    put_flattr(warehouse, creator="ada", thing=SONG, click_id=None, position=1, clicked_at_ms=NOON_MS)
    with opened(browser) as page:
        page.goto(f"{fast_polling_api}/creators/ada")
        expect(page.locator("#flattrs")).to_have_text("2")
        expect(page.locator(".chart g")).to_have_count(20)
        assert page.locator(".chart g title").last.text_content() == "20 November: 1 flattr"
        expect(page.locator("#state-text")).to_have_text("Live")
        count(warehouse, "ada", 5, 100)
        expect(page.locator("#flattrs")).to_have_text("7")


@pytest.mark.usefixtures("november")
def test_members_page_shows_what_the_pool_would_become(browser: Browser, fast_polling_api: str) -> None:
    with opened(browser) as page:
        page.goto(f"{fast_polling_api}/members/mia")
        expect(page.locator(".sum .total").first).to_contain_text("€1.80")
        rows = page.locator("tbody tr")
        expect(rows.nth(0)).to_contain_text("€1.200000")
        expect(rows.nth(1)).to_contain_text("€0.600000")


@pytest.mark.usefixtures("november")
def test_month_end_page_follows_a_close_to_its_seal(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str
) -> None:
    with opened(browser) as page:
        page.goto(f"{fast_polling_api}/months/2026-11")
        expect(page.locator("#status")).to_contain_text("what the close is waiting for")
        log_stage(warehouse, MONTH, "run", Stage.GATE)
        expect(page.locator(".steps .done")).to_have_count(1)
        expect(page.locator(".steps .now")).to_contain_text("Compute")
        proof = close_month(warehouse, MONTH, clock=clock_after(MONTH, RULES), log_ends=drained, settings=RULES)
        expect(page.locator("#status")).to_have_attribute("data-state", "closed")
        expect(page.locator(".seal").first).to_have_text(proof.seal)
        with page.expect_download() as download:
            page.get_by_role("link", name="Payouts as CSV").click()
        assert download.value.path().read_text().count("\n") == 4


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_pages_have_no_barrier_that_axe_finds_and_fit_the_screen(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str, scheme: str, width: int
) -> None:
    if scheme == "dark":
        close_month(warehouse, MONTH, clock=clock_after(MONTH, RULES), log_ends=drained, settings=RULES)
    pages = ["/", "/creators/bob", "/members/mia", "/months", "/months/2026-11", "/verify", "/docs", "/login"]
    with opened(browser, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        for path in pages:
            page.goto(fast_polling_api + path)
            if path == "/":
                expect(page.locator("#parts li")).to_have_count(2)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path} {scheme} {width}: {found.generate_report()}"
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is wider than {width}"


@pytest.mark.usefixtures("november")
def test_operators_see_why_a_service_is_not_ready_and_others_that_it_is_not(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str, tmp_path: Path
) -> None:
    parts = {"streams": f"{fast_polling_api}/nothing"}
    with serving(create_app(settings_for(warehouse, api_parts=parts, api_poll_ms=50))) as url, opened(browser) as page:
        page.goto(url)
        expect(page.locator("#parts li").first).to_have_text("streams: not ready")
        expect(page.locator("#reasons li")).to_contain_text("streams: ")
    keys_file = tmp_path / "keys.json"
    keys.save(keys_file, [keys.issue("o", keys.Role.OPERATOR)[1]])
    closed = settings_for(warehouse, api_parts=parts, api_poll_ms=50, api_keys=keys_file)
    with serving(create_app(closed)) as url, opened(browser) as page:
        page.goto(url)
        expect(page.locator("#parts li").first).to_have_text("streams: not ready")
        expect(page.locator("#reasons")).to_have_count(0)


@pytest.mark.usefixtures("november")
def test_reader_with_a_keyboard_alone_gets_from_the_live_page_to_a_creator(
    browser: Browser, fast_polling_api: str
) -> None:
    with opened(browser) as page:
        page.goto(fast_polling_api)
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to content")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("bob")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("bob")


@pytest.mark.usefixtures("november")
def test_reader_logs_in_with_a_key_and_sees_the_month(browser: Browser, warehouse: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret, key = keys.issue("finance", keys.Role.FINANCE)
    keys.save(file, [key])
    with serving(create_app(settings_for(warehouse, api_keys=file), RULES)) as url, opened(browser) as page:
        page.goto(f"{url}/months/2026-11")
        page.get_by_label("API key").fill(secret)
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("November 2026")
        assert ask(f"{url}/months/2026-11", follow=False).status == 303


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_verify_page_follows_what_changes_in_every_scheme_and_width(
    browser: Browser, warehouse: Warehouse, scheme: str, width: int
) -> None:
    with (
        serving(create_app(settings_for(warehouse, api_verify_s=1), RULES)) as url,
        opened(browser, color_scheme=scheme, viewport={"width": width, "height": 800}) as page,
    ):
        page.clock.install()
        page.goto(f"{url}/verify")
        expect(page.locator("#status")).to_contain_text("Everything holds")
        put_creator_counts(warehouse, [(MONTH, "ada", 0, 41, 2)])
        page.wait_for_timeout(1100)
        page.clock.fast_forward(15_100)
        expect(page.locator("#status")).to_contain_text("1 of")
        expect(page.locator("li.no")).to_contain_text("41")
        assert Axe().run(page).violations_count == 0
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_numbers_keep_their_place_while_they_change(
    browser: Browser, warehouse: Warehouse, fast_polling_api: str
) -> None:
    put_creator_counts(warehouse, [(MONTH, "ada", 0, 1, 1), (MONTH, "bob", 0, 2, 1)])
    with opened(browser) as page:
        page.goto(fast_polling_api)
        expect(page.locator("#parts li")).to_have_count(2)
        # The list of things is empty and gets its first row.
        cells = "[...document.querySelectorAll('.figures dd, #creators td')]"
        places = f"{cells}.map(e => Math.round(e.getBoundingClientRect().x))"
        before = page.evaluate(places)
        count(warehouse, "ada", 123_456_789, 7)
        expect(page.locator("#creators .n").first).to_have_text("123,456,790")
        assert page.evaluate(places) == before
