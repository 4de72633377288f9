"""How soon a press shows on another reader's page.

    flattr bench button --json .bench/button.json

The embedded stack and two readers in Chromium, each with the demo page open. One presses, after a pause of a random
length in which nothing happens; the other's number is watched. What it costs to keep numbers moving is in
`flattr bench reads`: a conditional request (``counters_from_cache_cpu_ms``) against an event (``event_cpu_us``).
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from deploy.errors import CommandFailed
from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue

#: How long nothing happens before a press, in seconds: somebody reads.
PAUSE_S: Final = (0.5, 10.0)
_FLAGS: Final = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_SHOWN: Final = 'document.querySelector("#article").shadowRoot.querySelector("button")'
#: Puts the time when the number changes, in ms since 1970, into a promise.
_WATCH: Final = f"""() => {{
  const shown = {_SHOWN}, before = shown.textContent;
  window.changed = new Promise((resolve) => {{
    new MutationObserver(() => shown.textContent === before || resolve(Date.now()))
      .observe(shown, {{ childList: true, characterData: true, subtree: true }});
  }});
}}"""
_PRESS: Final = f"() => {{ {_SHOWN}.click(); return Date.now(); }}"


def run(*, presses: int = 30, seed: int = 1) -> dict[str, Any]:
    """Measure, in ms. Raises ``CommandFailed`` without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise CommandFailed("no Chromium on the PATH: make browser")
    with (
        tempfile.TemporaryDirectory(prefix="flattr-bench-") as folder,
        Stack(StackPlan(folder=Path(folder)), say=lambda _: None) as stack,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        waited_ms = _press(_reader(browser, stack, "m-1"), _reader(browser, stack, "m-2"), presses, random.Random(seed))
        browser.close()
    cuts = quantiles(waited_ms, n=100, method="inclusive")
    return {
        "presses": presses,
        "pause_s": PAUSE_S,
        "press_to_page_ms_p50": round(cuts[49]),
        "press_to_page_ms_p95": round(cuts[94]),
        "press_to_page_ms_max": round(max(waited_ms)),
    }


def _reader(browser: Browser, stack: Stack, member: str) -> Page:
    """A reader of their own browser, whose page shows a number."""
    page = browser.new_context().new_page()
    token = issue(stack.token_keys, member, audience="flattr", now_ms=system_clock(), valid_s=3600)
    page.goto(f"{stack.ingest.url}/demo#token={token}&counters={stack.api.url}")
    page.wait_for_function(f"/[0-9]/.test({_SHOWN}.textContent)")
    return page


def _press(presser: Page, watcher: Page, presses: int, draw: random.Random) -> list[float]:
    waited_ms = []
    for _ in range(presses):
        time.sleep(draw.uniform(*PAUSE_S))
        watcher.evaluate(_WATCH)
        pressed_ms = presser.evaluate(_PRESS)
        waited_ms.append(watcher.evaluate("window.changed") - pressed_ms)
    return waited_ms
