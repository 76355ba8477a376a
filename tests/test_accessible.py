"""What axe, which knows the rules for accessible pages, finds on the chat's pages: nothing that is the chat's own."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import Chat, open_page, send

GRADIOS = {
    "aria-required-children": ".examples",  # A list whose items are buttons.
    "color-contrast": ".token",  # The colours of code.
    "aria-required-parent": ".thumbnail-wrapper",  # Items without a list.
}
"""What Gradio makes and its components have no setting for: by rule, what it is about."""


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["light", "dark on a phone"])
def page(request: pytest.FixtureRequest, browser: Browser, chat: Chat) -> Iterator[Page]:
    theme, width = request.param
    touch = width < 1000
    context = browser.new_context(
        viewport={"width": width, "height": 860}, reduced_motion="reduce", has_touch=touch, is_mobile=touch
    )
    yield open_page(context, f"{chat.url}/?__theme={theme}")
    context.close()


def test_axe_finds_nothing(page: Page) -> None:
    found = {"empty": problems(page)}
    send(page, "tool")
    expect(page.locator(".bot.message").last).to_contain_text("42")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
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


def problems(page: Page) -> list[str]:
    """What axe finds that isn't Gradio's own: the rule, and where."""
    page.wait_for_function("document.getAnimations().every((each) => each.effect.getTiming().iterations === Infinity)")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in Axe().run(page).response["violations"]
        for node in violation["nodes"]
        if not (selector := GRADIOS.get(violation["id"])) or not page.locator(selector).and_(_at(page, node)).count()
    ]


def _at(page: Page, node: dict[str, Any]) -> Locator:
    return page.locator(node["target"][0])
