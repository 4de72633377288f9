"""The button on all kinds of pages: however it is loaded, under strict policies, a hundred times, in any language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect

from deploy.stack.supervisor import Stack
from tests.browser.conftest import button, count, script, token_for, waiting
from tests.browser.site import Site
from tests.browser.test_button_build import node
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def press_counts(page: Page, stack: Stack, creator: str, thing: str, before: int = 0) -> None:
    """A press is shown, and counted by the server."""
    first = page.locator("flattr-button").first.get_by_role("button").first
    expect(first).to_have_text(f"Flattr {before}")
    first.click()
    page.locator("flattr-button").first.get_by_role("button", pressed=True).first.wait_for()
    wait_until(lambda: count(stack, creator, thing) == before + 1, "the API counts it")


LOADERS = {
    "async": '<script async src="{url}" data-counters="{api}" data-token="{token}"></script>{button}',
    "defer": '<script defer src="{url}" data-counters="{api}" data-token="{token}"></script>{button}',
    "blocking": '{button}<script src="{url}" data-counters="{api}" data-token="{token}"></script>',
    "module": '{button}<script type="module" src="{url}" data-counters="{api}" data-token="{token}"></script>',
    "import()": "{plain}<script>import('{url}')</script>",
    "loader": "{plain}<script>addEventListener('load', () => {{ const script = document.createElement('script');"
    "script.src = '{url}'; document.head.append(script); script.remove() }})</script>",
    "loader that hides currentScript": "<script>"
    "Object.defineProperty(document, 'currentScript', {{ value: null }})</script>"
    '{button}<script src="{url}" data-counters="{api}" data-token="{token}"></script>',
    "twice": '{button}<script src="{url}" data-counters="{api}" data-token="{token}"></script>'
    '<script async src="{url}?again" data-counters="{api}" data-token="{token}"></script>',
    "fetched text, with data-ingest": "{plain_ingest}<script>fetch('{url}').then(answer => answer.text())"
    ".then(text => {{ const script = document.createElement('script');"
    "script.textContent = text; document.head.append(script) }})</script>",
}


@pytest.mark.parametrize("how", LOADERS)
def test_button_finds_its_ingest_however_it_is_loaded(page: Page, stack: Stack, site: Site, how: str) -> None:
    thing = f"https://example.org/loaded/{re.sub('[^a-z]', '', how)}"
    token = token_for(stack, "p20-ann")
    settings = {"token": token, "counters": stack.api.url}
    html = LOADERS[how].format(
        url=f"{stack.ingest.url}/button.js",
        api=stack.api.url,
        token=token,
        button=button("bob", thing),
        plain=button("bob", thing, **settings),
        plain_ingest=button("bob", thing, ingest=stack.ingest.url, **settings),
    )
    page.goto(site.page(html))
    press_counts(page, stack, "bob", thing)
    assert not [path for method, path in site.asked if method == "POST"]


#: What readers may write on a page that takes HTML with names and data: the DOM finds such elements by their names.
NAMED = (
    '<img name="{name}" src="{url}" data-ingest="https://evil.example" data-token="x" data-creator="eve">'
    '<img name="{name}" src="{url}" data-ingest="https://evil.example" data-token="x" data-creator="eve">'
)


@pytest.mark.parametrize("name", ["scripts", "currentScript"])
@pytest.mark.parametrize("count_of_them", [1, 2])
def test_what_readers_write_is_not_taken_for_the_buttons_own_script(
    page: Page, stack: Stack, site: Site, name: str, count_of_them: int
) -> None:
    thing = f"https://example.org/named/{name}/{count_of_them}"
    url = f"{stack.ingest.url}/button.js"
    written = NAMED.format(name=name, url=url)
    written = written if count_of_them == 2 else written[: len(written) // 2]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.page(written + script(stack, token=token_for(stack, "named-ann"), how="") + button("bob", thing)))
    press_counts(page, stack, "bob", thing)
    assert not [one for one in asked if "evil" in one]


def test_button_works_where_a_page_has_changed_what_all_objects_have(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/changed"
    changed = (
        "<script>Object.defineProperty(Object.prototype, 'all', { enumerable: true, get() { return 1 } });"
        "Object.prototype.extra = 1; Array.prototype.last = () => 1;"
        "for (const kind of [Array, Map, Set, HTMLElement, Element, Node]) Object.freeze(kind.prototype)</script>"
    )
    page.goto(site.page(changed + script(stack, token=token_for(stack, "changed-ann"), how="") + button("bob", thing)))
    press_counts(page, stack, "bob", thing)


def test_button_in_a_bundle_of_the_site_says_loudly_what_is_missing_and_sends_nothing(page: Page, site: Site) -> None:
    """It cannot know ingest's address there, and the site's own is not ingest's."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    site.page((ROOT / "ingest/http/static/button.js").read_text(), "/app.js")
    page.goto(site.page('<script type="module" src="/app.js"></script>' + button("bob", "x", token="e30.e30.x")))
    page.get_by_text("flattr-button: no ingest").wait_for()
    page.locator("flattr-button").get_by_role("button").first.click()
    wait_until(lambda: page.evaluate("1") and any("no ingest" in text for text in said), "said in the console")
    assert not [path for method, path in site.asked if method == "POST"]
    assert waiting(page) == []


def test_only_ingests_own_verdict_ends_a_click(page: Page, stack: Stack, site: Site) -> None:
    """The site's 404, for a button whose address is wrong."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    thing = "https://example.org/own-404"
    wrong = button("bob", thing, token=token_for(stack, "p20-bea"), ingest=site.url)
    page.goto(site.page(script(stack) + wrong))
    page.locator("flattr-button").get_by_role("button").first.click()
    page.get_by_text("Not counted…").wait_for()
    assert any("no answer" in text for text in said)
    assert len(waiting(page)) == 1
    page.evaluate(
        "ingest => { const [key] = Object.keys(localStorage); const record = JSON.parse(localStorage[key]);"
        "localStorage[key] = JSON.stringify({ ...record, url: ingest + '/v1/clicks' });"
        "dispatchEvent(new Event('online')) }",
        stack.ingest.url,
    )
    wait_until(lambda: count(stack, "bob", thing) == 1, "the API counts 1")


def test_site_without_creator_is_told_and_nothing_is_sent(page: Page, stack: Stack, site: Site) -> None:
    said: list[ConsoleMessage] = []
    page.on("console", lambda message: said.append(message))  # noqa: PLW0108 - Playwright wants a function
    page.goto(site.page(script(stack, token=token_for(stack, "u8-ann")) + '<flattr-button thing="x"></flattr-button>'))
    page.get_by_text("flattr-button: no creator").wait_for()
    page.locator("flattr-button").get_by_role("button").first.click()
    wait_until(
        lambda: page.evaluate("1") and any("no creator" in one.text and one.type == "error" for one in said), "said"
    )
    assert waiting(page) == []


def policy(stack: Stack) -> str:
    """The policy of docs/sites.md, as printed there, with the addresses of this stack."""
    found = re.search(r"^Content-Security-Policy: (.+)$", (ROOT / "docs/sites.md").read_text(), re.MULTILINE)
    assert found
    printed = found[1].replace("https://clicks.example", stack.ingest.url).replace("https://api.example", stack.api.url)
    assert "default-src 'none'" in printed
    assert "require-trusted-types-for 'script'" in printed
    return printed


def test_button_works_under_the_policy_of_the_document(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/strict"
    html = script(stack, token=token_for(stack, "u5-ann")) + button("bob", thing)
    page.goto(site.page(html, content_security_policy=policy(stack)))
    press_counts(page, stack, "bob", thing)
    styled = page.evaluate(
        "getComputedStyle(document.querySelector('flattr-button').shadowRoot.querySelector('button')).backgroundColor"
    )
    assert styled == "rgb(72, 123, 24)"


def test_policy_without_connect_src_shows_that_nothing_was_sent(page: Page, stack: Stack, site: Site) -> None:
    html = script(stack, token=token_for(stack, "u5-bea")) + button("bob", "https://example.org/cut")
    page.goto(site.page(html, content_security_policy=re.sub(r"connect-src [^;]+;", "", policy(stack))))
    page.locator("flattr-button").get_by_role("button").first.click()
    page.get_by_text("Not counted…").wait_for()
    expect(page.locator("flattr-button").get_by_role("button").first).to_have_text("Flattr")


def hundred(stack: Stack, member: str) -> str:
    things = "".join(button(f"creator-{number % 7}", f"https://example.org/hundred/{number}") for number in range(100))
    return things + script(stack, token=token_for(stack, member))


def test_hundred_buttons_make_one_request_for_their_counters_and_one_for_the_members_state(
    page: Page, stack: Stack, site: Site
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/" in request.url else None)
    page.goto(site.page(hundred(stack, "u7-ann")))
    expect(page.locator("flattr-button").last.get_by_role("button").first).to_have_text("Flattr 0")
    first = asked[: 1 + next(at for at, url in enumerate(asked) if "/me/flattrs" in url)]
    assert len([url for url in first if "/v1/counters" in url]) == 1
    assert len([url for url in asked if "/me/flattrs" in url]) == 1
    assert max(map(len, asked)) < 8_200


def test_things_of_long_addresses_are_asked_for_in_several_requests(page: Page, stack: Stack, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/counters" in request.url else None)
    things = "".join(button("bob", f"https://example.org/{'x' * 1000}{number}") for number in range(20))
    page.goto(site.page(things + script(stack)))
    expect(page.locator("flattr-button").last.get_by_role("button").first).to_have_text("Flattr 0")
    assert max(map(len, asked)) < 8_200


def test_one_thing_that_is_none_spoils_no_others_number(page: Page, stack: Stack, site: Site) -> None:
    html = button("bob", "http://[") + button("a b c", "x") + button("bob", "https://example.org/unspoilt")
    page.goto(site.page(html + script(stack, token=token_for(stack, "u7-cid"))))
    expect(page.locator("flattr-button").last.get_by_role("button").first).to_have_text("Flattr 0")
    expect(page.locator("flattr-button").first.get_by_role("button").first).to_have_text("Flattr")


def test_hundred_buttons_take_little_of_the_main_thread(page: Page, stack: Stack, site: Site) -> None:
    """From the script's start until all are laid out; the machine may be busy, so the best of some."""
    url = site.page("".join(button("bob", f"https://example.org/hundred/{number}") for number in range(100)))
    took = []
    for _ in range(8):
        page.goto(url)
        ms = page.evaluate(
            "async url => { const text = await (await fetch(url)).text();"
            "const script = document.createElement('script');"
            "script.textContent = text; Object.assign(script.dataset, { ingest: 'http://127.0.0.1:1' });"
            "const began = performance.now(); document.head.append(script); document.body.offsetHeight;"
            "return performance.now() - began }",
            f"{stack.ingest.url}/button.js",
        )
        took.append(ms)
    assert page.locator("flattr-button").last.get_by_role("button").inner_text() == "Flattr"
    assert min(took) < 50, took


def test_removed_button_is_forgotten_and_one_that_comes_back_works(page: Page, stack: Stack, site: Site) -> None:
    thing = "https://example.org/removed"
    page.goto(site.page(script(stack, token=token_for(stack, "u7-dan")) + button("bob", thing)))
    expect(page.get_by_role("button").first).to_have_text("Flattr 0")
    page.evaluate("window.one = document.querySelector('flattr-button'); one.remove()")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("for (const type of ['online', 'storage', 'pageshow']) dispatchEvent(new Event(type))")
    page.evaluate("new Promise(done => setTimeout(done, 300))")
    assert asked == []
    page.evaluate("document.body.append(one)")
    press_counts(page, stack, "bob", thing)


def test_nothing_holds_on_to_a_removed_button(page: Page, stack: Stack, site: Site) -> None:
    page.goto(site.page(script(stack) + button("bob", "x")))
    expect(page.get_by_role("button")).to_have_text("Flattr 0")
    page.evaluate("window.held = new WeakRef(document.querySelector('flattr-button')); held.deref().remove()")
    page.evaluate("dispatchEvent(new Event('pageshow'))")
    devtools = page.context.new_cdp_session(page)

    def is_gone() -> bool:
        devtools.send("HeapProfiler.collectGarbage")
        return bool(page.evaluate("held.deref() === undefined"))

    wait_until(is_gone, "the button was forgotten")


LANGUAGES = {
    "en": "Sign in on this site",
    "de-AT": "Bitte hier anmelden",
    "fr": "Connectez-vous ici",
    "es-MX": "Inicia sesión aquí",
    "it": "Accedi a questo sito",
    "pt-BR": "Inicie sessão neste site",
    "nl": "Log in op deze site",
    "sv": "Logga in här",
    "da": "Log ind her",
    "pl": "Zaloguj się tutaj",
    "uk": "Увійдіть тут",
    "zh-Hant": "请登录本站",
    "xx": "Sign in on this site",
    "not a language": "Sign in on this site",
}


def test_button_speaks_the_language_next_to_it(page: Page, stack: Stack, site: Site) -> None:
    spoken = "".join(f'<p lang="{lang}">{button("bob", "x")}</p>' for lang in LANGUAGES)
    page.goto(site.page(script(stack) + spoken))
    for lang, sentence in LANGUAGES.items():
        found = page.locator(f'p[lang="{lang}"] flattr-button')
        found.get_by_role("button").first.click()
        expect(found.get_by_role("status")).to_have_text(sentence)


@pytest.mark.parametrize(
    ("lang", "text"), [("en", "1,234,567"), ("de", "1.234.567"), ("fr", "1 234 567"), ("not a language", "1,234,567")]
)
def test_number_is_written_as_the_language_does_and_stands_in_the_accessible_name(
    page: Page, stack: Stack, site: Site, lang: str, text: str
) -> None:
    answer: dict[str, Any] = {"things": ["t"], "counters": {"t": 1_234_567}}
    page.route(
        "**/v1/counters*", lambda route: route.fulfill(json=answer, headers={"access-control-allow-origin": "*"})
    )
    page.goto(site.page(script(stack) + f'<p lang="{lang}">{button("bob", "x", label="A song")}</p>'))
    found = page.locator("flattr-button").get_by_role("button").first
    expect(found).to_have_text(f"Flattr {text}")
    assert found.get_attribute("aria-label") == f"{found.inner_text()}: A song"


@pytest.mark.parametrize("wrong", [-1, "7", None, {}, 1.5])
def test_what_is_no_number_is_not_shown(page: Page, stack: Stack, site: Site, wrong: Any) -> None:
    answer: dict[str, Any] = {"things": ["t"], "counters": {"t": wrong}}
    page.route(
        "**/v1/counters*", lambda route: route.fulfill(json=answer, headers={"access-control-allow-origin": "*"})
    )
    page.goto(site.page(script(stack) + button("bob", "x")))
    with page.expect_response("**/v1/counters*"):
        pass
    expect(page.locator("flattr-button").get_by_role("button").first).to_have_text("Flattr")


@pytest.mark.parametrize("order", ["button first", "button last"])
@pytest.mark.parametrize("framework", ["react", "vue", "svelte"])
def test_button_lives_in_an_app(  # noqa: PLR0913, PLR0917 - fixtures
    page: Page, stack: Stack, site: Site, bundles: Path, framework: str, order: str
) -> None:
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    site.page((bundles / f"{framework}.js").read_text(), "/app.js")
    name = f"{framework}-{order[-4:].strip()}"
    settings = f'{{"name": "{name}", "token": "{token_for(stack, "u1-ann")}", "counters": "{stack.api.url}"}}'
    tags = [f'<script src="{stack.ingest.url}/button.js"></script>', '<script src="/app.js"></script>']
    app = f'<div id="app"></div><script>window.settings = {settings}</script>'
    page.goto(site.page(app + "".join(tags if order == "button first" else tags[::-1])))
    press_counts(page, stack, "bob", f"https://example.org/{name}/first")
    page.locator("#next").click()
    page.locator("flattr-button").get_by_role("button", pressed=False).first.wait_for()
    press_counts(page, stack, "bob", f"https://example.org/{name}/second")
    assert count(stack, "bob", f"https://example.org/{name}/first") == 1
    assert failed == []
    assert page.evaluate("document.querySelector('flattr-button').getAttribute('thing')").endswith("/second")


@pytest.fixture(scope="module")
def bundles(npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The apps of tests/browser/button/frameworks.mjs, bundled."""
    folder = tmp_path_factory.mktemp("bundles")
    done = node("tests/browser/button/frameworks.mjs", str(folder))
    assert npm
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("upgraded", [False, True])
def test_properties_reflect_whether_they_are_set_before_or_after_the_script(
    page: Page, stack: Stack, site: Site, *, upgraded: bool
) -> None:
    thing = f"https://example.org/properties/{upgraded}"
    settings = {
        "creator": "bob",
        "thing": thing,
        "label": "A",
        "token": token_for(stack, "u1-bea"),
        "counters": stack.api.url + "/",
    }
    page.goto(site.page("<flattr-button></flattr-button>"))
    load = (
        "new Promise(done => { const script = document.createElement('script'); script.src = url;"
        "script.onload = done; document.head.append(script) })"
    )
    put = "Object.assign(document.querySelector('flattr-button'), settings)"
    order = [load, put] if upgraded else [put, load]
    arguments = [settings, f"{stack.ingest.url}/button.js"]
    page.evaluate(f"async ([settings, url]) => {{ await {order[0]}; await {order[1]} }}", arguments)
    attributes = "[...document.querySelector('flattr-button').attributes].map(({ name, value }) => [name, value])"
    reflected = dict(page.evaluate(attributes))
    assert reflected == settings
    press_counts(page, stack, "bob", thing)
    page.evaluate("document.querySelector('flattr-button').label = null")
    assert page.evaluate("document.querySelector('flattr-button').label") == ""


HOSTILE = ["=1+1", "../x", "x" * 64, "__proto__", "constructor", "a?b>~", '"><img/src=x/onerror=alert(1)>']


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_any_kind_are_taken_as_they_are(page: Page, stack: Stack, site: Site, name: str) -> None:
    dialogs: list[str] = []

    def close(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", close)
    thing = f"thing of {name} \u202e\u05d0\u05d1"
    page.goto(site.page(script(stack, token=token_for(stack, name)) + button(f"c{name}"[:64], thing, label=name)))
    press_counts(page, stack, f"c{name}"[:64], thing)
    assert dialogs == []


def test_button_passes_the_accessibility_rules_in_each_state(page: Page, stack: Stack, site: Site) -> None:
    html = (
        "<main><h1>Buttons</h1>"
        + button("bob", "https://example.org/axe")
        + button("u7-eve", "https://example.org/own")
    )
    page.goto(site.page(html + "</main>" + script(stack, token=token_for(stack, "u7-eve"))))
    for one in (0, 1):
        page.locator("flattr-button").nth(one).get_by_role("button").first.click()
    page.get_by_text("Not counted").wait_for()
    page.locator("flattr-button").first.get_by_role("button", pressed=True).first.wait_for()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
