"""The pictures of the documents, taken of the real pages: `make screenshots` writes them to docs/images.

Always the same month, at the same moment, so that a picture changes when its page does.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from ingest.contract.month import month_start_ms
from ingest.contract.thing import thing_id
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import at, put_log_end, put_things
from tests.payout.build import PARTITIONS, Flattr, clock_after, closing, drained, pledge, state_month
from tests.support.serving import serving
from warehouse.api.app import create_app
from warehouse.payout.close.close import close_month
from warehouse.storage.client import Warehouse

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs/images"
BYTES_MAX = 120_000
#: The live page with most of its lists.
HEIGHT_MAX = 898
PHONE_HEIGHT_MAX = 1400
RULES = closing(close_minimum_minor=1000)
OCTOBER, NOVEMBER = 202610, 202611
WORKS = {
    "ada": ("songs/night-train", "songs/harbour-lights", "songs/first-snow"),
    "bob": ("posts/bread-without-kneading", "posts/a-winter-garden"),
    "carla": ("podcast/41-the-lighthouse-keeper", "podcast/40-salt"),
    "dmitri": ("maps/cycling-the-danube",),
    "elena": ("comics/moth-and-lamp", "comics/the-lift"),
    "farid": ("code/tinyqueue", "code/dotenv-lint"),
    "greta": ("essays/on-slow-news",),
    "hugo": ("films/tuesday-market",),
    "ines": ("games/paper-boats",),
    "jon": ("photos/brutalism-in-bloom",),
    "kaya": ("recipes/red-lentil-soup",),
}
ARTICLE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Night train</title><style>
body{font:18px/1.6 "DejaVu Serif",serif;max-width:38rem;margin:2.5rem auto;padding:0 1.25rem;color:#222;background:#fff}
h1{font-size:2rem;line-height:1.2;margin:0 0 .25rem} .by{color:#595959;font-size:1rem;margin:0 0 1.5rem}
flattr-button{font:16px/1.4 "DejaVu Sans",sans-serif}</style>
<main><h1>Night train</h1><p class="by">A song by Ada, 20 November 2026</p>
<p>I wrote this one between Vienna and Venice, on the upper bunk, with the window open a hand's breadth and
somebody's radio two doors down. Headphones on; it is quiet at first.</p>
<p>The song is free. If you like it, leave a flattr.</p>
<flattr-button creator="ada" thing="https://ada.example/songs/night-train" label="Night train"></flattr-button></main>
<script src="/button.js" data-counters="https://ada.example"></script></html>"""
PULSE = "M0 12L4 11L8 12.5L12 9L16 10L20 8.5L24 9.5L28 7L32 8L36 5.5L40 6.5L44 4L48 5L52 3L56 4L60 2.5"


@dataclass(frozen=True)
class Shot:
    """One picture: of which page, how wide, in which colours."""

    name: str
    path: str
    width: int = 1024
    scheme: str = "light"


SHOTS = [
    Shot("live", "/"),
    Shot("live-dark", "/", scheme="dark"),
    Shot("live-phone", "/", width=390),
    Shot("creator", "/creators/ada"),
    Shot("creator-phone-dark", "/creators/ada", width=390, scheme="dark"),
    Shot("member", "/members/mia"),
    Shot("member-phone", "/members/mia", width=390),
    Shot("month-open", "/months/2026-11"),
    Shot("month-closed", "/months/2026-10"),
    Shot("month-closed-phone", "/months/2026-10", width=390),
]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium that draws text the same way wherever it runs."""
    flags = ["--no-sandbox", "--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


def flattrs(members: int, seed: int) -> list[Flattr]:
    """What a small crowd flattred: a few creators lead, as they do."""
    chance = random.Random(seed)
    creators = list(WORKS)
    made = set()
    for number in range(members):
        member = ("mia", "leo", "zoe")[number] if number < 3 else f"m{number:03}"
        for _ in range(12 if number < 3 else chance.randint(1, 7)):
            creator = creators[min(int(chance.paretovariate(0.7)) - 1, len(creators) - 1)]
            made.add((member, creator, chance.choice(WORKS[creator])))
    return [Flattr(m, c, f"https://{c}.example/{t}", undone=chance.random() < 0.02) for m, c, t in sorted(made)]


def fill(warehouse: Warehouse) -> None:
    """October, closed; November, until noon of the 20th."""
    for month, crowd in ((OCTOBER, flattrs(140, 10)), (NOVEMBER, flattrs(180, 11))):
        state_month(warehouse, month, crowd, duplicates=17)
        members = sorted({flattr.member_id for flattr in crowd})
        pledge(warehouse, month, dict.fromkeys(members, 2_000_000), unpaid=members[3:6])
    things = [(thing_id(c, f"https://{c}.example/{t}"), c, f"https://{c}.example/{t}") for c in WORKS for t in WORKS[c]]
    put_things(warehouse, things)
    close_month(warehouse, OCTOBER, clock=clock_after(OCTOBER, RULES), log_ends=drained, settings=RULES)
    at_half_past_nine(warehouse)
    spread_over_days(warehouse)
    moment = f"toDateTime64({(NOON_MS - 400) / 1000}, 3, 'UTC')"
    warehouse.command(
        f"ALTER TABLE progress UPDATE record_at = {moment}, written_at = {moment} WHERE 1 SETTINGS mutations_sync = 2"
    )
    newest: dict[int, int] = dict(warehouse.rows("SELECT partition, max(position) FROM progress GROUP BY partition"))
    for partition in range(PARTITIONS):
        put_log_end(warehouse, partition, NOON_MS - 400, (newest[partition] >> 16) + 1)


def at_half_past_nine(warehouse: Warehouse) -> None:
    """Say that October was closed on its second morning."""
    rows = warehouse.rows("SELECT month, run, stage FROM close_log ORDER BY stage")
    warehouse.command("TRUNCATE TABLE close_log")
    second = month_start_ms(NOVEMBER) + 34_200_000 + 86_400_000
    months, runs, stages = zip(*rows, strict=True)
    done = [at(second + 800 * number) for number in range(len(rows))]
    warehouse.insert("close_log", {"month": months, "run": runs, "stage": stages, "done_at": done})


def spread_over_days(warehouse: Warehouse) -> None:
    """Give November's flattrs a day each: the builder states them all at its first moment."""
    chance = random.Random(3)
    days = [max(1.0, 9 + 4 * (day % 7 in (5, 6)) + chance.uniform(-3, 3)) for day in range(19)]
    names = "month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id"
    rows = warehouse.rows(f"SELECT {names} FROM flattrs WHERE month = {NOVEMBER} ORDER BY member_id, thing_id")
    warehouse.command(f"ALTER TABLE flattrs DELETE WHERE month = {NOVEMBER} SETTINGS mutations_sync = 2")
    times = [month_start_ms(NOVEMBER) + chance.choices(range(19), days)[0] * 86_400_000 + 43_200_000 for _ in rows]
    columns = dict(zip(names.split(", "), zip(*rows, strict=True), strict=True))
    warehouse.insert("flattrs", {**columns, "clicked_at": [at(ms) for ms in times]})


@pytest.fixture
def site(warehouse: Warehouse) -> Iterator[str]:
    """The pages, at noon of 20 November 2026 for as long as it takes."""
    fill(warehouse)
    parts = settings_for(warehouse, api_lists_ttl_ms=0)
    app = create_app(parts, RULES)
    app.state.reads.clock = lambda: NOON_MS
    with serving(app) as url:
        yield url


def keep(page: Page, name: str, folder: Path, height_max: int = HEIGHT_MAX) -> None:
    """Take the picture; a page that has a barrier or does not fit its screen is not worth one."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, name
    path = folder / f"{name}.png"
    size = page.evaluate("({ width: innerWidth, height: document.documentElement.scrollHeight })")
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height_max)}
    page.screenshot(path=path, full_page=True, clip=clip, animations="disabled", caret="hide")  # type: ignore[arg-type] # a clip
    assert path.stat().st_size < BYTES_MAX, f"{name}: {path.stat().st_size} bytes"


def settle(page: Page, path: str) -> None:
    """Wait until the page stands still; the second's figures are those of a busy evening, always the same."""
    page.evaluate("document.fonts.ready")
    if path == "/":
        expect(page.locator("#parts li")).to_have_count(2)
        page.evaluate(
            "pulse => { const still = (id, text) => { const old = document.getElementById(id);"
            " const copy = old.cloneNode(true); if (text) copy.textContent = text; old.replaceWith(copy);"
            " copy.removeAttribute('id'); return copy; };"
            " still('rate', '128'); still('spark').setAttribute('d', pulse); }",
            PULSE,
        )
        expect(page.locator("#state-text")).to_have_text("Live")
    elif path.startswith("/creators"):
        expect(page.locator("#state-text")).to_have_text("Live")


@pytest.mark.timeout(240)
def test_pictures_of_the_documents_show_the_pages_without_barriers(browser: Browser, site: str, tmp_path: Path) -> None:
    folder = IMAGES if os.environ.get("FLATTR_SCREENSHOTS") == "1" else tmp_path
    folder.mkdir(exist_ok=True)
    for shot in SHOTS:
        context = browser.new_context(
            viewport={"width": shot.width, "height": 700},
            color_scheme="dark" if shot.scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(site + shot.path)
        settle(page, shot.path)
        keep(page, shot.name, folder, PHONE_HEIGHT_MAX if shot.width < 500 else HEIGHT_MAX)
        context.close()
    page = browser.new_page(viewport={"width": 720, "height": 420})

    def article(route: Route) -> None:
        address = route.request.url
        if "/v1/counters" in address:
            # The real answer; a browser would not let a page of the network ask this machine.
            route.fulfill(response=page.request.get(site + address.removeprefix("https://ada.example")))
        elif address.endswith("/button.js"):
            route.fulfill(path=ROOT / "ingest/http/static/button.js", content_type="text/javascript")
        else:
            route.fulfill(body=ARTICLE, content_type="text/html")

    page.route("https://ada.example/**", article)
    page.goto("https://ada.example/songs/night-train")
    button = page.locator("flattr-button").get_by_role("button")
    expect(button).to_have_text(re.compile(r"^Flattr [1-9]\d*$"))
    keep(page, "button", folder)
    page.close()


def test_every_picture_is_shown_somewhere_and_small() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(path.read_text() for path in documents)
    pictures = sorted(IMAGES.glob("*.png"))
    assert pictures
    for picture in pictures:
        assert f"images/{picture.name}" in text, picture.name
        assert picture.stat().st_size < BYTES_MAX, picture.name
