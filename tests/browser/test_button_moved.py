"""The button of a thing that moved to another address, with a member who subscribed at the old one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from deploy.stack.supervisor import Stack, StackPlan
from ingest.contract.month import month_after, month_of, month_start_ms, month_text
from ingest.runtime.clock import clock_from, system_clock, write_clock_file
from tests.browser.conftest import button, count, script, step_clock, token_for
from tests.browser.site import Site
from tests.support.serving import ask
from tests.support.waiting import wait_until

OLD, NEW = "https://old.example/song", "https://new.example/anna/song"
FOLLOWING = month_after(month_of(system_clock()))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With an alias from the next month on."""
    folder = tmp_path_factory.mktemp("stack")
    write_clock_file(folder / "clock", 0)
    moved = {"https://old.example/": {"to": "https://new.example/anna/", "from": month_text(FOLLOWING)}}
    (folder / "aliases.json").write_text(json.dumps(moved))
    plan = StackPlan(
        folder=folder / "data",
        clock=f"file:{folder / 'clock'}",
        environment={"FLATTR_INGEST_ALIASES_FILE": str(folder / "aliases.json")},
    )
    with Stack(plan, say=lambda _: None) as stack:
        yield stack


def subscriptions(stack: Stack) -> list[Any]:
    headers = {"Authorization": f"Bearer {token_for(stack, 'mia')}"}
    found: list[Any] = ask(f"{stack.api.url}/v1/me/subscriptions", headers=headers).json["subscriptions"]
    return [line["thing"] for line in found]


def test_subscription_shows_at_the_new_address_and_ends_there(page: Page, stack: Stack, site: Site) -> None:
    body = json.dumps({"creator_id": "anna", "thing": OLD, "action": "subscribe"}).encode()
    headers = {"Authorization": f"Bearer {token_for(stack, 'mia')}"}
    assert ask(f"{stack.ingest.url}/v1/clicks", method="POST", headers=headers, body=body).status == 202
    wait_until(lambda: subscriptions(stack) == [OLD] and count(stack, "anna", OLD) == 1, "it stands")

    step_clock(stack, month_start_ms(FOLLOWING) + 86_400_000)
    assert month_of(clock_from(stack.plan.clock)()) == FOLLOWING
    page.goto(site.page(script(stack, token=token_for(stack, "mia")) + button("anna", NEW)))
    page.get_by_role("switch", checked=True).click()
    page.get_by_role("switch", checked=False).wait_for(state="hidden")
    wait_until(lambda: subscriptions(stack) == [], "it is ended")
    page.reload()
    page.get_by_role("button", name="Flattr 0: ").wait_for()
    assert page.get_by_role("switch").count() == 0
