"""What can be done without a pointer, and what is said to who doesn't see the page, in a real browser."""

from playwright.sync_api import Page, Route, expect

from tests.browser import ask, send
from tests.test_app import type_raw


class TestKeys:
    def test_single_keys_work_outside_of_text_fields_only(self, page: Page) -> None:
        ask(page, "echo older")
        page.keyboard.press("n")
        expect(page.locator("#message textarea")).to_have_value("n")
        page.keyboard.press("Backspace")
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        expect(page.locator(".bot.message")).to_have_count(0)
        expect(page.locator("#message textarea")).to_be_focused()
        expect(page.locator("#message textarea")).to_have_value("")
        ask(page, "echo newer")
        expect(page.locator("#conversations a")).to_have_count(2)
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        expect(page.locator(".bot.message")).to_have_text("older")
        page.keyboard.press("k")
        expect(page.locator(".bot.message")).to_have_text("newer")
        page.keyboard.press("/")
        expect(page.get_by_label("Search your conversations")).to_be_focused()
        expect(page.get_by_label("Search your conversations")).to_have_value("")
        page.keyboard.press("Tab")
        page.keyboard.press("m")
        expect(page.locator("#message textarea")).to_be_focused()

    def test_escape_stops_the_reply_and_the_prompt_comes_back_with_the_arrow(self, page: Page) -> None:
        box = page.locator("#message textarea")
        ask(page, "echo first <b>\nof two lines")
        send(page, "slow 500")
        expect(page.locator(".bot.message").last).to_contain_text("word2")
        page.keyboard.press("Escape")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        page.keyboard.press("ArrowUp")
        expect(box).to_have_value("slow 500")
        page.keyboard.press("ArrowUp")
        expect(box).to_have_value("echo first <b>\nof two lines")
        page.keyboard.press("ArrowDown")
        expect(box).to_have_value("slow 500")
        page.keyboard.type("x")
        page.keyboard.press("ArrowUp")
        expect(box).to_have_value("slow 500x")
        box.fill("")
        page.keyboard.press("ArrowUp")
        expect(box).to_have_value("slow 500")
        box.press("Backspace")
        box.press("Backspace")
        box.press("Backspace")
        box.press("Enter")
        expect(page.locator(".user.message").last).to_have_text("slow")

    def test_the_keys_are_listed_and_can_be_switched_off(self, page: Page) -> None:
        page.get_by_role("button", name="Keyboard shortcuts").click()
        dialog = page.get_by_role("dialog", name="Keyboard")
        expect(dialog).to_contain_text("Next conversation")
        page.keyboard.press("n")
        expect(dialog).to_be_visible()
        dialog.get_by_role("checkbox").uncheck()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_focused()
        page.keyboard.press("?")
        expect(dialog).to_have_count(0)
        page.get_by_role("button", name="Keyboard shortcuts").click()
        dialog.get_by_role("checkbox").check()
        dialog.get_by_role("button", name="Close").click()
        page.keyboard.press("?")
        expect(dialog).to_be_visible()


def test_a_reply_that_grows_is_not_read_again_and_again_but_its_end_is_said(page: Page) -> None:
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    spoken = page.locator("#spoken")
    send(page, "slow 8")
    expect(spoken).to_have_text("The reply is being written.")
    expect(spoken).to_have_text("Reply complete.")
    send(page, "approve")
    expect(spoken).to_have_text("The reply waits for your decision.")


def test_that_a_reply_is_written_is_said_before_the_first_frame_of_it(page: Page) -> None:
    # A short reply can be complete in that frame: its end would not be said, as that of nothing.
    held: list[Route] = []
    page.route("**/queue/join*", lambda route: held.append(route))
    send(page, "echo at once")
    expect(page.locator("#spoken")).to_have_text("The reply is being written.")
    held[0].continue_()
    expect(page.locator("#spoken")).to_have_text("Reply complete.")


def test_no_reply_is_said_to_a_message_that_was_refused(page: Page) -> None:
    ask(page, "echo before")
    type_raw(page, "half \ud83d")
    page.locator("#message textarea").press("Enter")
    expect(page.locator(".toast-wrap")).to_contain_text("half of a Unicode character")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    expect(page.locator("#spoken")).to_have_text("")
