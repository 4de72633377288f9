"""A whole stack and a browser in front of it, one of each per module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import clock_from, system_clock, write_clock_file
from ingest.runtime.tokens import issue
from tests.browser.site import Site, serving_site
from tests.support.serving import ask

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
GRACE_S = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded stack on a clock that a test may step."""
    folder = tmp_path_factory.mktemp("stack")
    write_clock_file(folder / "clock", 0)
    plan = StackPlan(folder=folder / "data", clock=f"file:{folder / 'clock'}", grace_s=GRACE_S)
    with Stack(plan, say=lambda _: None) as stack:
        yield stack


def step_clock(stack: Stack, now_ms: int) -> None:
    """Let it be ``now_ms`` for every service."""
    write_clock_file(stack.folder.parent / "clock", now_ms - system_clock())


@pytest.fixture(scope="module")
def browser(stack: Stack, chromium: str) -> Iterator[Browser]:
    """After the stack: Playwright keeps an event loop running in this thread, and the stack runs its own to start."""
    assert stack.ingest.running()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    yield page
    context.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of another origin, without pages yet."""
    with serving_site() as site:
        yield site


def token_for(stack: Stack, member: str, valid_s: int = 600) -> str:
    """A member's token."""
    now_ms = clock_from(stack.plan.clock)()
    return issue(stack.token_keys, member, audience="flattr", now_ms=now_ms, valid_s=valid_s)


def visit(page: Page, stack: Stack, member: str) -> None:
    """Open the button's demo page as a member."""
    page.goto("about:blank")
    page.goto(f"{stack.ingest.url}/demo#token={token_for(stack, member)}&counters={stack.api.url}")
    page.wait_for_function("!!customElements.get('flattr-button')")


def button(creator: str, thing: str = "", **attributes: str) -> str:
    """The element in HTML."""
    named = {"creator": creator, "thing": thing, **attributes}
    return (
        "<flattr-button " + " ".join(f'{name}="{escape(value)}"' for name, value in named.items()) + "></flattr-button>"
    )


def script(stack: Stack, *, token: str = "", how: str = "async", **data: str) -> str:
    """The tag that loads the button from ingest, with the counters of the read API."""
    named = {"counters": stack.api.url, "token": token, **data}
    attributes = " ".join(f'data-{name}="{escape(value)}"' for name, value in named.items() if value)
    return f'<script {how} src="{stack.ingest.url}/button.js" {attributes}></script>'


def waiting(page: Page) -> list[Any]:
    """The clicks that the browser keeps."""
    kept = page.evaluate("Object.entries(localStorage).filter(([key]) => key.startsWith('flattr:click:'))")
    records = [json.loads(record) for _, record in kept]
    return [click for record in records for click in (record["clicks"] if "clicks" in record else [record["body"]])]


def count(stack: Stack, creator: str, thing: str) -> int:
    """What the read API counts."""
    answer = ask(f"{stack.api.url}/v1/counters?{urlencode({'creator': creator, 'thing': thing})}")
    (counted,) = answer.json["counters"].values()
    return int(counted)
