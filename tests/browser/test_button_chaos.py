"""Seeded evenings in real browsers before the real stack: two members, three devices, networks that go and come back.

The same evenings run by the hundred without a screen in tests/browser/button/chaos.mjs.
"""

from __future__ import annotations

import random

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from deploy.stack.supervisor import Stack
from tests.browser.conftest import button, count, script, token_for, waiting
from tests.browser.site import Site
from tests.support.waiting import wait_until

STEPS = 30
CORRUPT = ["undefined", '{"url":', "null", "{}", '{"clicks":[null]}']


def open_page(context: BrowserContext, stack: Stack, site: Site, member: str, things: list[str]) -> Page:
    buttons = "".join(button("bob", thing) for thing in things)
    page = context.new_page()
    page.goto(site.page(script(stack, how="", token=token_for(stack, member)) + buttons, f"/{member}"))
    return page


def shown(page: Page) -> list[tuple[bool, str]]:
    """Of each button: whether it is pressed, and its text."""
    found: list[tuple[bool, str]] = [
        tuple(pair)
        for pair in page.evaluate(
            "[...document.querySelectorAll('flattr-button')].map(one => one.shadowRoot.querySelector('button'))"
            ".map(button => [button.ariaPressed === 'true', button.textContent])"
        )
    ]
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_an_evening_every_page_shows_what_the_server_counts(
    browser: Browser, stack: Stack, site: Site, seed: int
) -> None:
    chance = random.Random(seed)
    members = {f"chaos-{seed}-ann": 2, f"chaos-{seed}-bea": 1}
    things = [f"https://example.org/chaos/{seed}/{name}" for name in "ab"]
    devices = [(member, browser.new_context()) for member, number in members.items() for _ in range(number)]
    pages = [(member, open_page(context, stack, site, member, things)) for member, context in devices]
    for _ in range(STEPS):
        member, page = chance.choice(pages)
        what = chance.choice(["press", "press", "press", "press", "cut", "mend", "corrupt", "again"])
        if what == "press":
            page.locator("flattr-button").nth(chance.randrange(2)).get_by_role("button").click()
        elif what == "corrupt":
            page.evaluate("text => localStorage.setItem('flattr:click:zz', text)", chance.choice(CORRUPT))
        elif what == "again":
            pages.remove((member, page))
            context = page.context
            page.close(run_before_unload=chance.random() < 0.5)
            context.set_offline(False)
            pages.append((member, open_page(context, stack, site, member, things)))
        else:
            page.context.set_offline(what == "cut")
    for _, context in devices:
        context.set_offline(False)
    for _, page in pages:
        page.reload()
    wait_until(lambda: not any(waiting(page) for _, page in pages), "all clicks were sent")

    def agree() -> bool:
        """All of a member's pages are alike, and the numbers are the members who have pressed."""
        found = {member: shown(page) for member, page in pages}
        numbers = [sum(states[at][0] for states in found.values()) for at in range(2)]
        right = all(shown(page) == found[member] for member, page in pages)
        texts = {member: [text for _, text in states] for member, states in found.items()}
        return (
            right
            and all(text == [f"Flattr {number}" for number in numbers] for text in texts.values())
            and numbers == [count(stack, "bob", thing) for thing in things]
        )

    for _, page in pages:
        page.evaluate("dispatchEvent(new Event('pageshow'))")
    wait_until(agree, "every page shows what the server counts")
    for _, context in devices:
        context.close()
