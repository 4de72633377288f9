"""What the button shows and what a press does: by member, tab, device and route, with the number that is right."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from deploy.stack.supervisor import Stack
from tests.browser.conftest import button, count, script, token_for, waiting
from tests.browser.site import Site
from tests.support.waiting import wait_until


@pytest.fixture
def other(browser: Browser) -> Iterator[Page]:
    """A page on another device."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def article(site: Site, stack: Stack, member: str, thing: str) -> str:
    """A page with one button of bob's, for a member."""
    return site.page(script(stack, token=token_for(stack, member)) + button("bob", thing))


def shown(page: Page, number: int | str, *, pressed: bool) -> None:
    """Wait until the page's first button says so."""
    text = f"Flattr {number}".strip()
    page.locator("flattr-button").first.get_by_role("button", name=f"{text}: ", pressed=pressed).wait_for()


def press(page: Page) -> None:
    page.locator("flattr-button").first.get_by_role("button").first.click()


def test_second_tab_shows_what_the_first_one_did_and_takes_nothing_back(page: Page, stack: Stack, site: Site) -> None:
    url = article(site, stack, "u2-ann", thing := "https://example.org/tabs")
    second = page.context.new_page()
    page.goto(url)
    second.goto(url)
    shown(second, 0, pressed=False)
    press(page)
    shown(second, 1, pressed=True)
    # Within the time of the first one's request.
    press(second)
    shown(page, 0, pressed=False)
    wait_until(lambda: not waiting(page) and not waiting(second), "sent")
    wait_until(lambda: count(stack, "bob", thing) == 0, "the API counts 0")


def test_press_does_what_the_button_shows_and_not_what_storage_says(page: Page, stack: Stack, site: Site) -> None:
    """A tab that has not heard of the other's press."""
    url = article(site, stack, "u2-bea", thing := "https://example.org/stale")
    page.goto(url)
    shown(page, 0, pressed=False)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.evaluate("addEventListener('storage', event => event.stopImmediatePropagation(), true)")
    second = page.context.new_page()
    second.goto(url)
    press(second)
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    page.evaluate(
        "() => { const button = document.querySelector('flattr-button').shadowRoot.querySelector('button');"
        "button.className = ''; button.click() }"
    )
    wait_until(lambda: page.evaluate("1") and any('"action"' in body for body in sent), "sent")
    assert not [body for body in sent if '"undo"' in body]


def test_two_buttons_for_one_thing_are_one(page: Page, stack: Stack, site: Site) -> None:
    pair = button("bob", thing := "https://example.org/pair") * 2
    page.goto(site.page(script(stack, token=token_for(stack, "u2-cid")) + pair))
    shown(page, 0, pressed=False)
    press(page)
    second = page.locator("flattr-button").nth(1).get_by_role("button", pressed=True)
    second.wait_for()
    second.click()
    shown(page, 0, pressed=False)
    wait_until(lambda: not waiting(page), "sent")
    assert count(stack, "bob", thing) == 0


def test_next_member_of_a_browser_inherits_nothing(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/shared"
    page.goto(article(site, stack, "p19-ann", thing))
    press(page)
    shown(page, 1, pressed=True)
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    page.goto(article(site, stack, "p19-bea", thing))
    shown(page, 1, pressed=False)
    press(page)
    shown(page, 2, pressed=True)
    wait_until(lambda: count(stack, "bob", thing) == 2, "the API counts 2")
    page.goto(article(site, stack, "p19-ann", thing))
    shown(page, 2, pressed=True)


def test_second_device_shows_what_the_member_did_on_the_first(
    page: Page, other: Page, stack: Stack, site: Site
) -> None:
    url = article(site, stack, "c10-ann", thing := "https://example.org/devices")
    page.goto(url)
    press(page)
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    other.goto(url)
    shown(other, 1, pressed=True)
    press(other)
    shown(other, 0, pressed=False)
    wait_until(lambda: count(stack, "bob", thing) == 0, "the API counts 0")
    page.evaluate("dispatchEvent(new Event('pageshow'))")
    shown(page, 0, pressed=False)


def test_flattr_is_repeated_every_month_by_a_switch_beside_it(
    page: Page, other: Page, stack: Stack, site: Site
) -> None:
    url = article(site, stack, "f1-ann", thing := "https://example.org/monthly")
    page.goto(url)
    assert page.get_by_role("switch").count() == 0
    press(page)
    page.get_by_role("switch", name="↻ month: ", checked=False).click()
    page.get_by_role("switch", checked=True).wait_for()
    wait_until(lambda: not waiting(page), "sent")
    wait_until(lambda: count(stack, "bob", thing) == 1, "it is one flattr")
    other.goto(url)
    # The first answer may be from before the subscription was counted.
    wait_until(lambda: says(other, checked=True), "the second device shows it")
    other.get_by_role("switch").press("Space")
    other.get_by_role("switch", checked=False).wait_for()
    wait_until(lambda: not waiting(other), "sent")
    shown(other, 1, pressed=True)
    wait_until(lambda: says(page, checked=False), "the first device shows that it has ended")


def says(page: Page, *, checked: bool) -> bool:
    """Whether the page's switch is so, after the page has come back to its reader and had a second to ask again."""
    page.evaluate("dispatchEvent(new Event('pageshow'))")
    try:
        page.get_by_role("switch", checked=checked).wait_for(timeout=1000)
    except PlaywrightTimeout:
        return False
    return True


def test_number_never_goes_back_after_a_press(page: Page, other: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/number"
    for member in ("u6-x", "u6-y"):
        other.goto(article(site, stack, member, thing))
        press(other)
        shown(other, 1 if member == "u6-x" else 2, pressed=True)
    wait_until(lambda: count(stack, "bob", thing) == 2, "the API counts 2")
    url = article(site, stack, "u6-ann", thing)
    page.goto(url)
    shown(page, 2, pressed=False)
    page.evaluate(
        "() => { const root = document.querySelector('flattr-button').shadowRoot; window.seen = [];"
        "new MutationObserver(() => seen.push(root.querySelector('button').textContent))"
        ".observe(root, { subtree: true, childList: true, characterData: true }) }"
    )
    press(page)
    shown(page, 3, pressed=True)
    wait_until(lambda: count(stack, "bob", thing) == 3, "the API counts 3")
    page.wait_for_function("document.querySelector('flattr-button').count === 3")
    assert set(page.evaluate("seen")) <= {"Flattr 3"}
    page.reload()
    shown(page, 3, pressed=True)


def test_number_moves_while_one_looks(page: Page, other: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/moves"
    page.goto(article(site, stack, "c11-ann", thing))
    shown(page, 0, pressed=False)
    other.goto(article(site, stack, "c11-bea", thing))
    press(other)
    shown(page, 1, pressed=False)


def test_unreachable_counters_show_no_number_rather_than_a_wrong_one(page: Page, stack: Stack, site: Site) -> None:
    page.route(f"{stack.api.url}/**", lambda route: route.abort())
    page.goto(article(site, stack, "u6-bob", "https://example.org/unreachable"))
    button_ = page.locator("flattr-button").get_by_role("button").first
    expect(button_).to_have_text("Flattr")
    button_.click()
    shown(page, "", pressed=True)
    expect(button_).to_have_text("Flattr")


def test_press_before_the_first_count_is_in_it(page: Page, stack: Stack, site: Site) -> None:
    held: list[Route] = []
    page.route(re.compile("/v1/(counters|clicks)"), lambda route: held.append(route))  # noqa: PLW0108 - Playwright wants a function
    page.goto(article(site, stack, "u6-cid", "https://example.org/early"))
    press(page)
    wait_until(lambda: page.evaluate("1") and len(held) >= 2, "both were asked")
    for route in held:
        if "counters" in route.request.url:
            route.continue_()
    shown(page, 1, pressed=True)


def test_button_of_the_next_route_is_unpressed_and_has_its_own_count(page: Page, stack: Stack, site: Site) -> None:
    page.goto(
        site.page(script(stack, token=token_for(stack, "p21-ann")) + "<flattr-button creator=bob></flattr-button>")
    )
    shown(page, 0, pressed=False)
    press(page)
    shown(page, 1, pressed=True)
    page.evaluate("history.pushState({}, '', '/next')")
    shown(page, 0, pressed=False)
    press(page)
    shown(page, 1, pressed=True)
    wait_until(lambda: count(stack, "bob", f"{site.url}/next") == 1, "the next page's thing counts")
    wait_until(lambda: count(stack, "bob", f"{site.url}/") == 1, "the first one counts, too")
    # The canonical link comes a moment after the route.
    page.evaluate("document.head.insertAdjacentHTML('beforeend', '<link rel=canonical href=/canonical>')")
    shown(page, 0, pressed=False)
    page.evaluate("document.querySelector('link[rel=canonical]').href = '/'")
    shown(page, 1, pressed=True)


def test_press_takes_nothing_back_of_a_page_that_moved_on_under_it(page: Page, stack: Stack, site: Site) -> None:
    page.goto(
        site.page(script(stack, token=token_for(stack, "p21-bea")) + "<flattr-button creator=bob></flattr-button>")
    )
    press(page)
    shown(page, 1, pressed=True)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.evaluate(
        "() => { const button = document.querySelector('flattr-button').shadowRoot.querySelector('button');"
        "history.replaceState({}, '', '/moved'); button.className = 'on';"
        "document.querySelector('flattr-button').key = 'what it showed'; button.click() }"
    )
    shown(page, 0, pressed=False)
    assert not [body for body in sent if '"action"' in body]


def test_new_month_begins_unpressed(page: Page, stack: Stack, site: Site) -> None:
    page.route("**/v1/me/**", lambda route: route.abort())
    page.clock.install(time="2026-11-30T23:59:00Z")
    page.goto(article(site, stack, "month-ann", "https://example.org/month"))
    press(page)
    page.locator("flattr-button").get_by_role("button", pressed=True).first.wait_for()
    wait_until(lambda: not waiting(page), "sent")
    page.clock.fast_forward(120_000)
    page.evaluate("dispatchEvent(new Event('pageshow'))")
    page.locator("flattr-button").get_by_role("button", pressed=False).first.wait_for()
