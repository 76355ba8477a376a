"""Take the README's pictures: of the chat, and of a conversation in which an agent does all that agents do.

python -m tests.screenshots [folder]
"""

import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import ROOT, Chat, ask, browser_path, open_page, send
from tests.showcase import BEFORE, CODE, TRIP
from tests.workday import picture

COLOURS = 64
"""What a picture of text looks the same with, at a fraction of the size."""

HEIGHT = 900

PICTURES = {
    "workday": ("", 900),
    "workday-dark": ("?__theme=dark", 900),
    "workday-phone": ("", 390),
}
"""By name: the address, and the width of the window, of what an agent does. It is as high as what it shows."""


def main() -> None:
    """Take all of them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(playwright), args=["--no-sandbox"])
        with closing(browser):
            _take_showcase(browser, folder)
            _take_workday(browser, folder)


def _take_showcase(browser: Browser, folder: Path) -> None:
    with _serving("tests.showcase:agent") as chat:
        page = _page(browser, chat.url, 1280)
        for prompt in BEFORE:
            ask(page, prompt)
            page.get_by_role("button", name="New chat").click()
            expect(page.locator(".bot.message")).to_have_count(0)
        _date(chat.database)
        page.goto(chat.url)
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        ask(page, TRIP)
        ask(page, CODE)
        page.locator("#message textarea").blur()
        page.mouse.move(0, 0)
        page.wait_for_function("document.getAnimations().length === 0")
        _keep(page.screenshot(), folder / "screenshot.png")


def _date(database: Path) -> None:
    """Have what was asked before be as old as it should be."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for title, days in BEFORE.items():
            connection.execute(
                "UPDATE conversation SET updated_at = ? WHERE conversation_id IN "
                "(SELECT conversation_id FROM title WHERE title = ?)",
                ((datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds"), title),
            )


def _take_workday(browser: Browser, folder: Path) -> None:
    with _serving("tests.workday:agent") as chat:
        for name, (query, width) in PICTURES.items():
            page = _page(browser, f"{chat.url}/{query}", width)
            _plan(page)
            _keep(page.screenshot(), folder / f"{name}.png")


@contextmanager
def _serving(agent: str) -> Iterator[Chat]:
    with tempfile.TemporaryDirectory() as directory:
        chat = Chat(Path(directory), "--agent", agent)
        try:
            yield chat
        finally:
            chat.kill()


def _page(browser: Browser, url: str, width: int) -> Page:
    phone = width < 400
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, reduced_motion="reduce", is_mobile=phone, has_touch=phone
    )
    return open_page(context, url)


def _plan(page: Page) -> None:
    """Have a trip planned, and decide about what is booked for it."""
    page.locator("#message input[type=file]").set_input_files(
        [
            {"name": "coast.png", "mimeType": "image/png", "buffer": picture()},
            {"name": "wishes.md", "mimeType": "text/markdown", "buffer": b"No museums."},
        ]
    )
    expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
    send(page, "Plan two days in Lisbon for Ann.")
    form = page.locator("#decisions-form")
    form.get_by_text("Approve", exact=True).first.click()
    form.get_by_text("Deny", exact=True).last.click()
    form.locator("input, textarea").fill("She gets seasick.")
    form.get_by_text("Deny", exact=True).last.click()
    expect(page.locator("#conversation")).to_contain_text("Alfama and the castle")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    page.get_by_text("Tool: ask_guide").click()
    page.mouse.move(0, 0)
    page.wait_for_function("document.getAnimations().length === 0")
    hidden = page.locator("#conversation .bubble-wrap").evaluate("(shown) => shown.scrollHeight - shown.clientHeight")
    width = page.evaluate("innerWidth")
    page.set_viewport_size({"width": width, "height": HEIGHT + hidden})
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    page.wait_for_function("document.getAnimations().length === 0")


def _keep(png: bytes, path: Path) -> None:
    few = Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    main()
