"""A reader without a token gets one from the platform's page; nobody else gets it, and nobody else's is taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from deploy.stack.supervisor import Stack
from tests.browser.conftest import button, count, script, token_for, waiting
from tests.browser.site import Site, serving_site
from tests.support.waiting import wait_until

#: What a platform's page does once it knows the reader.
HANDS_OVER = (
    "<script>const asker = new URLSearchParams(location.search).get('origin');"
    "opener.postMessage({{ flattrToken: '{token}' }}, asker); close()</script>"
)
DOCS = Path(__file__).resolve().parents[2] / "docs"


def printed(document: str, number: int) -> str:
    """A block of HTML as a document prints it."""
    blocks: list[str] = re.findall(r"^```html\n(.+?)^```", (DOCS / document).read_text(), re.MULTILINE | re.DOTALL)
    return blocks[number]


def test_snippet_of_the_document_works_on_a_page_of_another_origin(page: Page, stack: Stack, site: Site) -> None:
    with serving_site() as platform:
        reference = printed("platform.md", 0).replace("https://site.example", site.url)
        join = platform.page(reference.replace("TOKEN", token_for(stack, "u3-doc")), "/join")
        snippet = printed("sites.md", 0).replace("https://clicks.example", stack.ingest.url)
        snippet = snippet.replace("https://api.example", stack.api.url).replace("https://platform.example/join", join)
        page.goto(site.page(snippet))
        page.locator("flattr-button").get_by_role("button", name="Flattr 0: Night train").click()
        page.locator("flattr-button").get_by_role("button", name="Flattr 1: Night train", pressed=True).wait_for()
    wait_until(lambda: count(stack, "anna", "https://anna.example/songs/1") == 1, "the API counts 1")


def test_platform_of_the_document_hands_a_token_to_no_stranger(page: Page, stack: Stack, site: Site) -> None:
    with serving_site() as platform:
        join = platform.page(printed("platform.md", 0).replace("TOKEN", token_for(stack, "u3-fay")), "/join")
        page.goto(site.page(script(stack, join=join) + button("bob", "https://example.org/stranger")))
        with page.expect_popup() as opened:
            page.locator("flattr-button").get_by_role("button").first.click()
        opened.value.wait_for_load_state()
        assert not opened.value.is_closed()
        assert waiting(page) == []


def test_form_of_the_document_ends_on_a_page_that_says_what_happened(
    browser: Browser, stack: Stack, site: Site
) -> None:
    form = printed("sites.md", 1).replace("https://clicks.example", stack.ingest.url)
    form = form.replace("songs/1", "songs/form")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.page(form.replace("TOKEN", token_for(stack, "u8-form"))))
    page.get_by_role("button", name="Flattr").click()
    page.get_by_role("heading", name="Thank you").wait_for()
    wait_until(lambda: count(stack, "anna", "https://anna.example/songs/form") == 1, "the API counts 1")
    page.goto(site.page(form))
    page.get_by_role("button", name="Flattr").click()
    page.get_by_role("heading", name="Not counted").wait_for()
    page.get_by_text("Sign in on the page that you came from").wait_for()
    context.close()


def first(page: Page, **kind: bool) -> None:
    page.locator("flattr-button").first.get_by_role("button", **kind).first.wait_for()  # type: ignore[arg-type] # pressed


def test_reader_signs_in_at_the_platform_and_the_press_is_done(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/join"
    with serving_site() as platform:
        join = platform.page(HANDS_OVER.format(token=token_for(stack, "u3-ann")), "/join")
        url = site.page(script(stack, join=join + "?lang=en") + button("bob", thing) + button("bob", thing + "/2"))
        page.goto(url)
        page.locator("flattr-button").first.get_by_role("button").first.click()
        first(page, pressed=True)
        wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
    # The token is for the whole page, and for the tab's next one.
    page.locator("flattr-button").nth(1).get_by_role("button").first.click()
    wait_until(lambda: count(stack, "bob", thing + "/2") == 1, "the API counts 1")
    page.goto(url)
    first(page, pressed=True)


def test_window_that_stays_brings_newer_tokens_and_presses_nothing(page: Page, stack: Stack, site: Site) -> None:
    thing, tokens = "https://example.org/stays", [token_for(stack, "u3-gil", valid_s) for valid_s in (600, 700)]
    with serving_site() as platform:
        join = platform.page(HANDS_OVER.format(token=tokens[0]).replace("; close()", ""), "/join")
        page.goto(site.page(script(stack, join=join) + button("bob", thing)))
        with page.expect_popup() as opened:
            page.locator("flattr-button").get_by_role("button").first.click()
        first(page, pressed=True)
        wait_until(lambda: waiting(page) == [], "ingest has the press")
        page.locator("flattr-button").get_by_role("button").first.click()
        wait_until(lambda: count(stack, "bob", thing) == 0 and waiting(page) == [], "it is taken back")
        opened.value.evaluate("token => opener.postMessage({ flattrToken: token }, asker)", tokens[1])
        page.wait_for_function("token => Object.values(localStorage).includes(token)", arg=tokens[1])
        first(page, pressed=False)
        assert waiting(page) == []


def test_reader_without_a_token_and_a_platform_is_told_where_to_go(page: Page, stack: Stack, site: Site) -> None:
    page.goto(site.page(script(stack) + button("bob", "https://example.org/nobody")))
    page.locator("flattr-button").get_by_role("button").first.click()
    page.get_by_text("Sign in on this site").wait_for()
    first(page, pressed=False)
    assert waiting(page) == []


@pytest.mark.parametrize("forged", ["of another origin", "of another window"])
def test_token_of_anybody_but_the_platforms_window_is_not_taken(
    page: Page, stack: Stack, site: Site, forged: str
) -> None:
    token = token_for(stack, "u3-eve")
    with serving_site() as platform, serving_site() as stranger:
        # The platform's window waits; meanwhile others speak.
        join = platform.page("<p>Who are you?</p>", "/join")
        page.goto(site.page(script(stack, join=join) + button("bob", "https://example.org/forged")))
        with page.expect_popup() as opened:
            page.locator("flattr-button").get_by_role("button").first.click()
        if forged == "of another origin":
            speaks = stranger.page(HANDS_OVER.format(token=token).replace("asker)", "'*')"), "/join")
            with opened.value.expect_event("close"):
                page.evaluate("url => void open(url, 'flattr')", speaks)
        else:
            frame = f"<script>parent.postMessage({{ flattrToken: '{token}' }}, '*')</script>"
            page.evaluate(
                "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame);"
                "return new Promise(done => addEventListener('message', done)) }",
                platform.page(frame, "/frame"),
            )
        page.evaluate("postMessage({ flattrToken: 'x.y.z' }, '*')")
        page.evaluate("new Promise(done => setTimeout(done, 200))")
        assert waiting(page) == []
        assert page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"


def test_expired_token_is_renewed_at_the_platform_and_what_waited_is_sent(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/renewed"
    with serving_site() as platform:
        join = platform.page(HANDS_OVER.format(token=token_for(stack, "u3-cid")), "/join")
        page.goto(
            site.page(script(stack, join=join, token=token_for(stack, "u3-cid", valid_s=-5)) + button("bob", thing))
        )
        page.locator("flattr-button").get_by_role("button").first.click()
        page.get_by_text("Sign in on this site").wait_for()
        first(page, pressed=True)
        page.locator("flattr-button").get_by_role("button").first.click()
        wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")
        first(page, pressed=True)


def test_demo_shows_it_whole(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.ingest.url}/demo#counters={stack.api.url}")
    with page.expect_popup() as opened:
        page.locator("#song").get_by_role("button").first.click()
    opened.value.get_by_label("Token").fill(token_for(stack, "u3-demo"))
    opened.value.get_by_role("button", name="Sign in").click()
    page.locator("#song").get_by_role("button", pressed=True).first.wait_for()


def test_platform_of_the_demo_hands_a_token_to_no_stranger(page: Page, stack: Stack, site: Site) -> None:
    page.goto(
        site.page(
            "<button onclick=\"window.open('{0}/demo/join?origin=' + origin)\">open</button>".replace(
                "{0}", stack.ingest.url
            )
        )
    )
    with page.expect_popup() as opened:
        page.get_by_role("button").click()
    opened.value.get_by_text("is not a site of ours").wait_for()
    assert opened.value.locator("form").count() == 0
