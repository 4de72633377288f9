"""A month as people see it: a click on one page, the number on another, and the close on the finance page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from deploy.stack.supervisor import Stack
from ingest.contract.month import month_after, month_of, month_start_ms
from ingest.runtime.clock import system_clock
from tests.browser.conftest import step_clock, visit

ROOT = Path(__file__).resolve().parents[2]
MONTH = month_of(system_clock())
MONTH_TEXT = f"{MONTH // 100}-{MONTH % 100:02}"
END_MS = month_start_ms(month_after(MONTH))


def flattr(stack: Stack, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deploy", *words],
        cwd=ROOT,
        env={**os.environ, **stack.environment(), "FLATTR_CLOSE_CLAIM_REQUIRED": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_click_shows_on_the_live_page_and_the_month_closes_before_the_readers_eyes(
    stack: Stack, page: Page, tmp_path: Path
) -> None:
    step_clock(stack, END_MS - 600_000)
    pledges = tmp_path / "pledges.csv"
    pledges.write_text(f"member_id,month,amount,currency,paid\nann,{MONTH_TEXT},2,EUR,yes\n")
    flattr(stack, "pledges", "import", str(pledges), "--yes")

    live = page.context.new_page()
    live.goto(f"{stack.api.url}/")
    expect(live.locator("#flattrs")).to_have_text("0")
    visit(page, stack, "ann")
    page.locator("#song").get_by_role("button").click()
    expect(live.locator("#flattrs")).to_have_text("1", timeout=20_000)
    expect(live.locator("#creators tbody tr").first).to_contain_text("bob", timeout=20_000)

    month = page.context.new_page()
    month.goto(f"{stack.api.url}/months/{MONTH_TEXT}")
    expect(month.locator("main")).to_contain_text("Open.")
    step_clock(stack, END_MS + 600_000)
    expect(month.locator("main")).to_contain_text("ready to close", timeout=20_000)
    flattr(stack, "month", "close", MONTH_TEXT, "--yes")
    expect(month.locator("main")).to_contain_text("Closed and sealed", timeout=20_000)
    expect(month.locator("main")).to_contain_text("€2.00 charged became")

    for seen in (live, month):
        assert Axe().run(seen).response["violations"] == []
