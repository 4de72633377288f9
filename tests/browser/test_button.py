"""The button in a real browser, in front of the whole stack: a click counts once, whatever the network does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from deploy.stack.supervisor import Stack
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
    (retained,) = waiting(page)
    assert button.get_attribute("aria-pressed") == "true"
    assert count(stack, *song) == 0
    page.context.set_offline(False)
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    assert retained["body"]["click_id"] in page.locator("#said").inner_text()
    # The same click once more, as a retry whose answer was lost would send it.
    page.evaluate(
        "click => localStorage.setItem('flattr:click:' + click.body.click_id, JSON.stringify(click))", retained
    )
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


def attempts_of(page: Page) -> list[dict[str, Any]]:
    """The clicks of every request and beacon from here on, each as it left; none of them arrives."""
    found: list[dict[str, Any]] = []

    def lose(route: Route) -> None:
        if route.request.method == "POST":
            found.append(json.loads(route.request.post_data or "null"))
        route.abort()

    page.route("**/v1/clicks*", lose)
    return found


def wait_for_attempts(page: Page, attempts: list[dict[str, Any]], count: int) -> None:
    """Until so many left. Asking the page is what lets Playwright see them."""
    wait_until(lambda: page.evaluate("1") and len(attempts) >= count, f"{count} attempts left")


def test_every_attempt_says_when_it_leaves_and_is_the_same_click(page: Page, stack: Stack) -> None:
    visit(page, stack, "gus")
    attempts = attempts_of(page)
    page.locator("#song").get_by_role("button").click()
    wait_for_attempts(page, attempts, 2)
    tried = len(attempts)
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    wait_for_attempts(page, attempts, tried + 1)
    page.reload()
    wait_for_attempts(page, attempts, tried + 3)
    assert len({(click["click_id"], click["clicked_at"]) for click in attempts}) == 1
    times = [click["sent_at"] for click in attempts]
    assert times == sorted(times)
    assert len(set(times)) >= 3
    assert 0 <= times[0] - attempts[0]["clicked_at"] < 5_000
    assert waiting(page)[0]["body"].keys().isdisjoint({"sent_at", "token"})


@pytest.mark.parametrize("clock", ["1970-01-01T00:01:00Z", "2100-01-01T00:00:00Z"])
def test_click_made_by_a_wrong_clock_is_sent_by_that_clock_after_it_was_set(
    page: Page, stack: Stack, clock: str
) -> None:
    visit(page, stack, "hal" if clock < "2000" else "ida")
    page.clock.install(time=clock)
    page.context.set_offline(True)
    page.locator("#song").get_by_role("button").click()
    (retained,) = waiting(page)
    attempts = attempts_of(page)
    page.clock.set_system_time(datetime.now(UTC))
    page.context.set_offline(False)
    page.clock.fast_forward(3_000)
    wait_for_attempts(page, attempts, 1)
    assert attempts[0]["clicked_at"] == retained["body"]["clicked_at"]
    assert 0 <= attempts[0]["sent_at"] - attempts[0]["clicked_at"] < 60_000


def test_click_of_a_clock_of_1970_is_sent_from_the_next_page(page: Page, stack: Stack) -> None:
    visit(page, stack, "jan")
    page.context.set_offline(True)
    page.locator("#song").get_by_role("button").click()
    page.evaluate(
        "for (const key in localStorage) if (key.startsWith('flattr:click:'))"
        "localStorage[key] = localStorage[key].replace(/clicked_at.:[0-9]+/, 'clicked_at\":60000')"
    )
    (retained,) = waiting(page)
    assert retained["body"]["clicked_at"] == 60_000
    page.goto("about:blank")
    page.context.set_offline(False)
    attempts: list[dict[str, Any]] = []
    page.on("request", lambda sent: attempts.append(json.loads(sent.post_data or "{}")))
    visit(page, stack, "jan")
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    (sent,) = [click for click in attempts if click]
    assert (sent["click_id"], sent["clicked_at"]) == (retained["body"]["click_id"], 60_000)
    assert sent["sent_at"] > 1e12


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
    wait_until(lambda: "Refused" in page.locator("#article").get_by_role("status").inner_text(), "said")
    assert waiting(page) == []


def test_page_passes_the_accessibility_rules(page: Page, stack: Stack) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit(page, stack, "fay")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_button_is_small_and_blocks_nothing() -> None:
    source = (Path(__file__).parents[2] / "ingest/http/static/button.js").read_bytes()
    assert len(source) < 6000
    assert b"XMLHttpRequest" not in source
