"""The button in a real browser, in front of the whole stack: a click counts once, whatever the network does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from deploy.stack.supervisor import Stack
from tests.browser.conftest import count, token_for, visit, waiting
from tests.support.serving import ask
from tests.support.waiting import wait_until


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
    assert retained["click_id"] in page.locator("#said").inner_text()
    # The same click once more, as the button of before stored it and a retry whose answer was lost would send it.
    page.evaluate(
        "([body, url, token]) => localStorage.setItem('flattr:click:' + body.click_id,"
        "JSON.stringify({ url, token, body }))",
        [retained, f"{stack.ingest.url}/v1/clicks", page.locator("#song").get_attribute("token")],
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
    page.locator("#article").get_by_role("button", name="Flattr 1: An article", pressed=True).wait_for()


def put(page: Page, thing: str, token: str, stack: Stack) -> None:
    """Have the demo's first button be about a thing, for the holder of a token."""
    settings = {"thing": thing, "token": token, "counters": stack.api.url}
    page.evaluate("settings => Object.assign(document.querySelector('#article'), settings)", settings)


def ask_clicks(stack: Stack, token: str | None) -> int:
    """The status that a token gets from ingest."""
    headers = {"authorization": f"Bearer {token}"}
    return ask(f"{stack.ingest.url}/v1/clicks", method="POST", headers=headers, body=b"{}").status


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
    assert waiting(page)[0].keys().isdisjoint({"sent_at", "token"})


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
    assert attempts[0]["clicked_at"] == retained["clicked_at"]
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
    assert retained["clicked_at"] == 60_000
    page.goto("about:blank")
    page.context.set_offline(False)
    attempts: list[dict[str, Any]] = []
    page.on("request", lambda sent: attempts.append(json.loads(sent.post_data or "{}")))
    visit(page, stack, "jan")
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    (sent,) = [click for click in attempts if click]
    assert (sent["click_id"], sent["clicked_at"]) == (retained["click_id"], 60_000)
    assert sent["sent_at"] > 1e12


def test_click_that_waited_longer_than_its_token_is_sent_with_the_pages_fresh_one(page: Page, stack: Stack) -> None:
    thing = "https://example.org/waited"
    page.goto(f"{stack.ingest.url}/demo")
    page.evaluate("document.querySelector('#song').remove()")
    put(page, thing, token_for(stack, "kay", valid_s=2), stack)
    page.context.set_offline(True)
    page.locator("#article").get_by_role("button").click()
    page.wait_for_function("document.querySelector('#article').shadowRoot.textContent.includes('…')")
    wait_until(lambda: ask_clicks(stack, page.locator("#article").get_attribute("token")) == 401, "the token expired")
    page.context.set_offline(False)
    page.get_by_text("Sign in on this site").wait_for()
    assert len(waiting(page)) == 1
    assert page.locator("#article").get_by_role("button", pressed=True).is_visible()
    put(page, thing, token_for(stack, "lea"), stack)
    put(page, thing, token_for(stack, "kay"), stack)
    wait_until(lambda: not waiting(page), "the browser sent what it kept")
    wait_until(lambda: count(stack, "ann", thing) == 1, "the API counts 1")
    # Whose it is: the other member's press is another flattr.
    put(page, thing, token_for(stack, "lea"), stack)
    page.locator("#article").get_by_role("button", pressed=False).click()
    wait_until(lambda: count(stack, "ann", thing) == 2, "the API counts 2")


@pytest.mark.parametrize("corrupt", ["undefined", '{"url":', "null", "{}", '{"clicks":[null]}', '{"clicks":7}', "[7]"])
def test_entry_that_is_not_as_expected_is_removed_and_stops_no_click(page: Page, stack: Stack, corrupt: str) -> None:
    visit(page, stack, "max")
    page.evaluate("text => localStorage.setItem('flattr:click:zz', text)", corrupt)
    # Where the button's own record stands, too.
    thing = f"https://example.org/corrupt/{corrupt}"
    page.evaluate("thing => document.querySelector('#song').setAttribute('thing', thing)", thing)
    page.evaluate("text => localStorage.setItem(document.querySelector('#song').key, text)", corrupt)
    page.reload()
    page.evaluate("thing => document.querySelector('#song').setAttribute('thing', thing)", thing)
    page.locator("#song").get_by_role("button").click()
    wait_until(lambda: not waiting(page), "the browser sent it")
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    assert page.evaluate("localStorage.getItem('flattr:click:zz')") is None


@pytest.mark.parametrize(
    "broken",
    [
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('off') } })",
        "Object.defineProperty(window, 'localStorage', { value: null })",
        (
            "for (let size = 1 << 20; size; size >>= 1)"
            " try { for (;;) localStorage['x' + Math.random()] = 'x'.repeat(size) } catch {}"
        ),
    ],
    ids=["throws", "null", "full"],
)
def test_click_is_sent_without_storage(page: Page, stack: Stack, broken: str) -> None:
    thing = f"https://example.org/storage/{len(broken)}"
    page.add_init_script(broken)
    visit(page, stack, "ned")
    page.evaluate("thing => document.querySelector('#song').setAttribute('thing', thing)", thing)
    page.context.set_offline(True)
    page.locator("#song").get_by_role("button").click()
    page.get_by_text("Not counted…").wait_for()
    page.context.set_offline(False)
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")


def test_stuck_click_holds_up_no_other(page: Page, stack: Stack) -> None:
    visit(page, stack, "ola")
    page.evaluate("document.querySelector('#song').setAttribute('thing', 'https://example.org/behind')")
    page.evaluate("document.querySelector('#article').setAttribute('thing', 'https://example.org/stuck')")
    page.route(
        "**/v1/clicks*",
        lambda route: route.fulfill(status=503) if "stuck" in (route.request.post_data or "") else route.continue_(),
    )
    page.locator("#article").get_by_role("button").click()
    page.locator("#article").get_by_text("Not counted…").wait_for()
    page.locator("#song").get_by_role("button").click()
    # Asking the page is what lets Playwright answer for ingest.
    behind = ("bob", "https://example.org/behind")
    wait_until(lambda: page.evaluate("1") and count(stack, *behind) == 1, "the API counts 1")
    assert [click["thing"] for click in waiting(page)] == ["https://example.org/stuck"]


def test_retry_after_of_ingest_is_waited_for(page: Page, stack: Stack) -> None:
    visit(page, stack, "pia")
    page.clock.install()
    asked: list[float] = []

    def busy(route: Route) -> None:
        asked.append(1)
        headers = {
            "retry-after": "90",
            "access-control-allow-origin": "*",
            "access-control-expose-headers": "retry-after",
        }
        route.fulfill(
            status=429, headers=headers, json={"type": "urn:flattr:reason:rate_limited", "reason": "rate_limited"}
        )

    page.route("**/v1/clicks*", busy)
    page.locator("#song").get_by_role("button").click()
    wait_until(lambda: page.evaluate("1") and asked, "the click was sent")
    page.get_by_text("Not counted…").wait_for()
    page.clock.run_for(85_000)
    assert len(asked) == 1
    page.clock.run_for(10_000)
    wait_until(lambda: page.evaluate("1") and len(asked) == 2, "the click was sent again")


def test_second_press_takes_the_flattr_back(page: Page, stack: Stack) -> None:
    visit(page, stack, "dan")
    page.evaluate("document.querySelector('#song').setAttribute('thing', 'https://example.org/undone')")
    button = page.locator("#song").get_by_role("button")
    button.click()
    wait_until(lambda: count(stack, "bob", "https://example.org/undone") == 1, "the API counts 1")
    button.click()
    wait_until(lambda: count(stack, "bob", "https://example.org/undone") == 0, "the API counts 0")
    assert button.get_attribute("aria-pressed") == "false"


def test_button_is_worked_by_keyboard(page: Page, stack: Stack) -> None:
    visit(page, stack, "eve")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.locator("#article").get_by_role("button", pressed=True).wait_for()


def test_refused_click_is_taken_back_and_said(page: Page, stack: Stack) -> None:
    visit(page, stack, "ann")
    button = page.locator("#article").get_by_role("button")
    button.click()
    page.locator("#article").get_by_text("Not counted", exact=True).wait_for()
    page.locator("#article").get_by_role("button", pressed=False).wait_for()
    assert waiting(page) == []
    assert "own_thing" in page.locator("#said").inner_text()


def test_page_passes_the_accessibility_rules(page: Page, stack: Stack) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit(page, stack, "fay")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
