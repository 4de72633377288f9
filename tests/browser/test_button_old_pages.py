"""The button on pages whose old scripts have changed what all scripts use: no press is lost or changed."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import Page, expect

from deploy.stack.supervisor import Stack
from tests.browser.conftest import button, count, script, token_for, waiting
from tests.browser.site import Site
from tests.support.waiting import wait_until

#: What a library does that sites still have, and that changed a press, the number or what is stored.
OLD: Final = {
    "Prototype 1.6, MooTools 1.2": "for (const kind of [Array, String, Number, Date])"
    "kind.prototype.toJSON = function () { return String(this) }",
    "extended objects": "Object.prototype.toJSON = function () { return '{}' }",
    "Datejs": "Date.now = () => new Date()",
    "Sugar 1.2": "for (const name of ['map', 'every', 'filter', 'find']) { const own = Array.prototype[name];"
    "Array.prototype[name] = function (what, scope) { return own.call(this,"
    "{}.toString.call(what) === '[object Function]' ? what : one => one === what, scope) } }",
    "an event of the site": "function CustomEvent() { throw Error('of the site') }",
}


def old_page(site: Site, stack: Stack, thing: str, old: str) -> str:
    """A page with the old script before the button; returns its address."""
    tags = script(stack, token=token_for(stack, "old-ann"), how="")
    return site.page(f"<script>{old}</script>{tags}{button('bob', thing)}", "/old" if old else "/")


@pytest.mark.parametrize("library", OLD)
def test_press_is_stored_sent_and_taken_back_whatever_an_old_library_has_changed(
    page: Page, stack: Stack, site: Site, library: str
) -> None:
    thing = f"https://example.org/old/{library}"
    url = old_page(site, stack, thing, OLD[library])
    first = page.locator("flattr-button").get_by_role("button").first
    page.route("**/v1/clicks*", lambda route: route.abort())
    page.goto(url)
    expect(first).to_have_text("Flattr 0")
    first.click()
    expect(first).to_have_text("Flattr 1")
    (retained,) = waiting(page)
    page.reload()
    expect(first).to_have_attribute("aria-pressed", "true")
    assert waiting(page) == [retained]
    page.unroute("**/v1/clicks*")
    wait_until(lambda: not waiting(page), "sent")
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    # Without a look at another page in between.
    first.click()
    expect(first).to_have_attribute("aria-pressed", "false")
    wait_until(lambda: not waiting(page), "sent")
    wait_until(lambda: count(stack, "bob", thing) == 0, "the API counts 0")


#: What leaves the button nothing to store with, or to send with.
DISABLED: Final = {
    "JSON": "JSON = { encode: JSON.stringify, decode: JSON.parse }",
    "fetch": "function fetch() { return 7 }",
}


@pytest.mark.parametrize("what", DISABLED)
def test_page_on_which_nothing_can_be_sent_says_so_and_leaves_the_other_pages_presses(
    page: Page, stack: Stack, site: Site, what: str
) -> None:
    thing = f"https://example.org/unable/{what}"
    first = page.locator("flattr-button").get_by_role("button").first
    page.route("**/v1/clicks*", lambda route: route.abort())
    page.goto(url := old_page(site, stack, thing, ""))
    first.click()
    page.get_by_text("Not counted…").wait_for()
    retained = page.evaluate("Object.keys(localStorage)")
    assert retained
    page.goto(old_page(site, stack, f"{thing}/other", DISABLED[what]))
    first.click()
    if what == "fetch":
        page.get_by_text("Not counted…").wait_for()
    else:
        expect(first).to_have_attribute("aria-pressed", "false")
    assert set(retained) <= set(page.evaluate("Object.keys(localStorage)"))
    page.unroute("**/v1/clicks*")
    page.goto(url)
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    wait_until(lambda: count(stack, "bob", f"{thing}/other") == int(what == "fetch"), "and what was shown as pressed")
