"""What axe, which knows the rules for accessible pages, finds on the chat's pages: nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect

from chat.login_page import login_page
from chat.shared_page import missing_page, shared_page
from chat.shares import SharedPage
from chat.transcript import Detail, Folded, Said
from tests.browser import Chat, ask, open_page, send

PAGES = {
    "light": ("light", 1280),
    "light on a phone": ("light", 390),
    "dark": ("dark", 1280),
    "dark on a phone": ("dark", 390),
}


@pytest.fixture(params=PAGES.values(), ids=PAGES)
def page(request: pytest.FixtureRequest, browser: Browser, chat: Chat) -> Iterator[Page]:
    theme, width = request.param
    context = visitor(browser, theme, width)
    yield open_page(context, f"{chat.url}/?__theme={theme}")
    context.close()


def visitor(browser: Browser, theme: Literal["light", "dark"], width: int) -> BrowserContext:
    touch = width < 1000
    return browser.new_context(
        viewport={"width": width, "height": 860},
        reduced_motion="reduce",
        color_scheme=theme,
        has_touch=touch,
        is_mobile=touch,
    )


def test_axe_finds_nothing(page: Page) -> None:
    found = {"empty": problems(page)}
    attached = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"}
    page.locator("#message input[type=file]").set_input_files([cast("FilePayload", attached)])
    expect(page.locator("#message .thumbnail-wrapper")).to_have_attribute("data-name", "notes.txt")
    found["attached"] = problems(page)
    ask(page, "markdown")
    ask(page, "tool")
    page.get_by_text("Tool: add").click()
    page.get_by_label("Good reply").last.click()
    expect(page.get_by_label("Comment on the reply")).to_be_focused()
    page.locator(".user-row").last.hover()
    page.get_by_label("Edit", exact=True).last.click()
    expect(page.get_by_label("Edit the message")).to_be_focused()
    found["comment and edit"] = problems(page)
    page.keyboard.press("Escape")
    send(page, "approve two")
    expect(page.locator("#decisions-form")).to_contain_text("send_mail")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    found["decision"] = problems(page)
    page.locator("#choice summary").click()
    found["choice"] = problems(page)
    page.keyboard.press("Escape")
    page.locator("#message textarea").blur()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found["keys"] = problems(page)
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("approve")
    expect(page.get_by_role("navigation", name="Found conversations")).to_be_visible()
    found["search"] = problems(page)
    page.keyboard.press("Escape")
    page.locator(".conversation button").first.click()
    expect(page.get_by_role("menu")).to_be_visible()
    found["menu"] = problems(page)
    assert {state: about for state, about in found.items() if about} == {}


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_where_people_sign_in_and_read_what_is_shared(
    browser: Browser, tmp_path: Path, theme: Literal["light", "dark"], width: int
) -> None:
    said = [Said("person", "Which **one**?"), Folded("assistant", "Tool: add", [Detail("{}", "json", "Arguments")])]
    table = Said("assistant", "# This\n\n| a | b |\n|---|---|\n| [c](https://example.com) | `d` |\n\n> e")
    shown = SharedPage("A title", datetime(2026, 1, 2, tzinfo=UTC), [*said, table], None, 1)
    form: dict[str, Any] = {
        "title": "Parley",
        "root": "",
        "sentence": "That is wrong.",
        "name": "anna",
        "claimable": True,
    }
    pages = {
        "login": login_page(**form, accounts=True),
        "Hugging Face": login_page(**form, accounts=False),
        "shared": shared_page(shown, "Parley", lambda entry, file: "file"),
        "nothing shared": missing_page("Parley"),
    }
    context = visitor(browser, theme, width)
    page = context.new_page()
    found: dict[str, list[str]] = {}
    for name, html in pages.items():
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        page.goto((tmp_path / "page.html").as_uri())
        found[name] = problems(page)
    context.close()
    assert {name: about for name, about in found.items() if about} == {}


def test_nothing_moves_for_who_asked_for_that(browser: Browser, chat: Chat) -> None:
    context = visitor(browser, "light", 1280)
    page = open_page(context, chat.url)
    send(page, "slow 10")
    expect(page.locator(".sign.writing")).to_have_count(1)
    assert (
        page.evaluate("document.getAnimations().filter((each) => each.effect.getTiming().iterations > 1).length") == 0
    )
    context.close()


def problems(page: Page) -> list[str]:
    """What axe finds: the rule, and where."""
    page.wait_for_function("document.getAnimations().length === 0")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in Axe().run(page).response["violations"]
        for node in violation["nodes"]
    ]
