"""A member changes and ends subscriptions on their own page, on a phone, and nothing else changes by it."""

from __future__ import annotations

import json
import re
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from deploy.stack.supervisor import Stack
from ingest.contract.month import month_after, month_of, month_text
from ingest.runtime.clock import system_clock
from tests.browser.conftest import count, token_for
from tests.support.serving import ask
from tests.support.waiting import wait_until

THING = "https://anna.example/monthly?utm_source=x"
MONTH = month_of(system_clock())
LAST = month_text(month_after(month_after(MONTH)))


def click(stack: Stack, member: str, action: str, thing: str = THING) -> None:
    body = json.dumps({"creator_id": "anna", "thing": thing, "action": action}).encode()
    headers = {"Authorization": f"Bearer {token_for(stack, member)}"}
    assert ask(f"{stack.ingest.url}/v1/clicks", method="POST", headers=headers, body=body).status == 202


def subscriptions(stack: Stack, member: str) -> list[Any]:
    headers = {"Authorization": f"Bearer {token_for(stack, member)}"}
    found: list[Any] = ask(f"{stack.api.url}/v1/me/subscriptions", headers=headers).json["subscriptions"]
    return [line["until"] for line in found]


def save(page: Page, choice: str) -> None:
    page.get_by_label("How long anna.example/monthly is flattred", exact=True).select_option(choice)
    page.get_by_role("button", name="Save how long anna.example/monthly is flattred").click()
    expect(page.get_by_role("status")).to_contain_text("Sent")


def test_member_chooses_the_last_month_of_a_subscription_and_ends_it(browser: Browser, stack: Stack) -> None:
    click(stack, "mia", "subscribe")
    wait_until(lambda: subscriptions(stack, "mia") == [None] and count(stack, "anna", THING) == 1, "it stands")
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(f"{stack.api.url}/me")
    page.get_by_label("Member token").fill(token_for(stack, "mia"))
    page.get_by_role("button", name="Sign in").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert Axe().run(page).response["violations"] == []

    save(page, LAST)
    wait_until(lambda: subscriptions(stack, "mia") == [LAST], "the last month is as chosen")
    page.reload()
    expect(page.get_by_label("How long anna.example/monthly is flattred", exact=True)).to_have_value(LAST)

    # What the member took back this month stays taken back.
    click(stack, "mia", "undo")
    wait_until(lambda: count(stack, "anna", THING) == 0, "it is taken back")
    page.reload()
    save(page, "")
    wait_until(lambda: subscriptions(stack, "mia") == [None], "it has no end")
    assert count(stack, "anna", THING) == 0

    # An address that is short as it was sent, and too long to send as it is shown.
    long = "https://anna.example/" + "\u00e9" * 600
    click(stack, "mia", "subscribe", long)
    wait_until(lambda: len(subscriptions(stack, "mia")) == 2, "both stand")
    page.reload()
    page.get_by_label(re.compile("^How long .*%C3")).select_option("end")
    page.get_by_role("button", name=re.compile("^Save how long .*%C3")).click()
    wait_until(lambda: subscriptions(stack, "mia") == [None], "the long one is ended")

    page.reload()
    save(page, "end")
    wait_until(lambda: subscriptions(stack, "mia") == [], "it is ended")
    page.reload()
    expect(page.get_by_role("heading", name="Subscriptions")).to_have_count(0)
    assert count(stack, "anna", THING) == 0
    context.close()
