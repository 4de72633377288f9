"""A whole stack and a browser in front of it, one of each per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import clock_from, system_clock, write_clock_file
from ingest.runtime.tokens import issue

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


def visit(page: Page, stack: Stack, member: str) -> None:
    """Open the button's demo page as a member."""
    now_ms = clock_from(stack.plan.clock)()
    token = issue(stack.token_keys, member, audience="flattr", now_ms=now_ms, valid_s=600)
    page.goto(f"{stack.ingest.url}/demo#token={token}&counters={stack.api.url}")
    page.wait_for_function("!!customElements.get('flattr-button')")
