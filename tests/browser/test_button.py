"""The button in a real browser, in front of the whole stack: a click counts once, whatever the network does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from deploy.stack import Stack
from tests.browser.conftest import visit
from tests.support.serving import ask
from tests.support.waiting import wait_until


def count(stack: Stack, creator: str, thing: str) -> int:
    """What the read API counts."""
    answer = ask(f"{stack.api.url}/v1/counters?creator={creator}&thing={thing}")
    (counted,) = answer.json["counters"].values()
    return int(counted)


def waiting(page: Page) -> list[Any]:
    """The clicks that the browser keeps."""
    clicks: list[Any] = json.loads(
        page.evaluate(
            "JSON.stringify(Object.keys(localStorage).filter((key) => key.startsWith('flattr:click:'))"
            ".map((key) => JSON.parse(localStorage[key])))"
        )
    )
    return clicks


def test_click_made_offline_counts_exactly_once_when_the_network_is_back(page: Page, stack: Stack) -> None:
    visit(page, stack, "ann-1")
    song = ("bob", "https://example.org/song")
    page.context.set_offline(True)
    button = page.locator("#song").get_by_role("button")
    button.click()
    page.wait_for_timeout(100)
    (kept,) = waiting(page)
    assert button.get_attribute("aria-pressed") == "true"
    assert count(stack, *song) == 0
    page.context.set_offline(False)
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    assert kept["body"]["click_id"] in page.locator("#said").inner_text()
    # The same click once more, as a retry whose answer was lost would send it.
    page.evaluate("click => localStorage.setItem('flattr:click:' + click.body.click_id, JSON.stringify(click))", kept)
    page.reload()
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    wait_until(lambda: count(stack, *song) == 1, "the API counts 1")
    # Another member's click comes behind it in time: by then a second count would show.
    other = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    visit(other, stack, "ann-2")
    other.locator("#song").get_by_role("button").click()
    wait_until(lambda: count(stack, *song) == 2, "the API counts 2")
    other.context.close()


def test_click_that_is_open_when_the_page_goes_is_sent_when_it_is_opened_again(page: Page, stack: Stack) -> None:
    article = ("ann", "https://example.org/article")
    visit(page, stack, "cid")
    page.context.set_offline(True)
    page.locator("#article").get_by_role("button").click()
    page.goto("about:blank")
    page.context.set_offline(False)
    assert count(stack, *article) == 0
    visit(page, stack, "cid")
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    wait_until(lambda: count(stack, *article) == 1, "the API counts 1")
    page.reload()
    page.locator("#article").get_by_role("button", name="An article, 1 flattrs", pressed=True).wait_for()


def test_second_press_takes_the_flattr_back(page: Page, stack: Stack) -> None:
    visit(page, stack, "dan")
    page.evaluate("document.querySelector('#song').setAttribute('thing', 'https://example.org/undone')")
    button = page.locator("#song").get_by_role("button")
    button.click()
    wait_until(lambda: count(stack, "bob", "https://example.org/undone") == 1, "the API counts 1")
    button.click()
    wait_until(lambda: count(stack, "bob", "https://example.org/undone") == 0, "the API counts 0")
    assert button.get_attribute("aria-pressed") == "false"


def test_button_is_worked_by_keyboard_and_says_what_happened(page: Page, stack: Stack) -> None:
    visit(page, stack, "eve")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.locator("#article").get_by_role("button", pressed=True).wait_for()
    assert page.locator("#article").get_by_role("status").inner_text() == "Flattred"


def test_refused_click_is_taken_back_and_said(page: Page, stack: Stack) -> None:
    visit(page, stack, "ann")
    button = page.locator("#article").get_by_role("button")
    button.click()
    page.locator("#article").get_by_role("button", pressed=False).wait_for()
    wait_until(lambda: "Not taken" in page.locator("#article").get_by_role("status").inner_text(), "said")
    assert waiting(page) == []


def test_page_passes_the_accessibility_rules(page: Page, stack: Stack) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit(page, stack, "fay")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_button_is_small_and_blocks_nothing() -> None:
    source = (Path(__file__).parents[2] / "ingest/static/button.js").read_bytes()
    assert len(source) < 6000
    assert b"XMLHttpRequest" not in source
