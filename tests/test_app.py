"""The chat in a real browser, with the scripted agent."""

import json
import re
import sqlite3
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import Chat, ask, open_again, open_page, replies, send


class TestConversation:
    def test_a_reply_appears_word_by_word(self, page: Page) -> None:
        send(page, "slow 8")
        expect(page.locator(".bot.message")).to_contain_text("word2")
        assert "word8" not in page.locator(".bot.message").inner_text()
        expect(page.locator(".bot.message")).to_contain_text("word8")

    def test_the_box_is_empty_once_the_message_is_stored(self, page: Page) -> None:
        send(page, "echo hello")
        expect(page.locator("#message textarea")).to_have_value("")

    def test_a_message_is_one_queued_request_and_carries_nothing_of_the_history(self, page: Page) -> None:
        # Gradio's own chain is replaced in `ChatPage._setup_events`: a name that a new version may change.
        ask(page, "echo " + "earlier" * 1000)
        sent: list[str] = []
        page.on(
            "request", lambda request: sent.append(request.post_data or "") if "queue/join" in request.url else None
        )
        ask(page, "echo later")
        assert len(sent) == 1
        assert len(sent[0]) < 1000

    def test_shift_enter_breaks_the_line_and_enter_sends(self, page: Page) -> None:
        box = page.locator("#message textarea")
        box.fill("echo first")
        box.press("Shift+Enter")
        box.press_sequentially("second")
        expect(box).to_have_value("echo first\nsecond")
        assert page.locator(".user-row").count() == 0
        box.press("Enter")
        expect(page.locator(".bot.message")).to_contain_text("first")
        expect(page.locator(".bot.message")).to_contain_text("second")

    def test_a_blank_message_is_not_sent(self, page: Page) -> None:
        send(page, "  \n ")
        expect(page.locator(".toast-wrap")).to_contain_text("Type a message first.")
        assert page.locator(".user-row").count() == 0
        assert "?c=" not in page.url

    def test_the_agent_remembers_what_was_said(self, page: Page) -> None:
        ask(page, "echo one")
        ask(page, "turns")
        assert replies(page) == ["one", "2 turns"]

    def test_markdown_code_and_formulas_are_shown_as_such(self, page: Page) -> None:
        ask(page, "markdown")
        reply = page.locator(".bot.message")
        expect(reply.locator("strong")).to_have_text("bold")
        expect(reply.locator("td").first).to_have_text("Paris")
        expect(reply.locator(".katex").first).to_be_visible()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        reply.locator("pre").hover()
        reply.locator("button.copy_code_button, pre button, .code_wrap button").first.click()
        assert "def greet" in page.evaluate("navigator.clipboard.readText()")

    def test_a_tool_call_is_one_folded_block_with_its_result(self, page: Page) -> None:
        ask(page, "tool")
        block = page.locator(".thought-group")
        expect(block).to_have_count(1)
        expect(block).to_contain_text("Tool: add")
        block.locator(".title").click()
        expect(block).to_contain_text("42")

    def test_an_agent_that_raises_becomes_one_sentence_and_the_next_message_works(self, page: Page) -> None:
        ask(page, "fail")
        assert replies(page) == ["This will\n\nThe agent ran into a problem (RuntimeError)."]
        ask(page, "echo still here")
        assert replies(page)[-1] == "still here"

    @pytest.mark.parametrize(
        "text",
        [
            "nul \x00 byte",
            "\u202eright to left\u202c",
            "next line \x85 line \u2028 paragraph \u2029",
            "x" * 1_000_000,
            "\n".join(f"line {n}" for n in range(10_000)),
        ],
        ids=["NUL", "right-to-left", "ends of lines", "1 MB", "10,000 lines"],
    )
    def test_an_unusual_message_is_kept_exactly(self, page: Page, chat: Chat, text: str) -> None:
        type_raw(page, f"count {text}")
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message")).to_be_visible()
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        assert replies(page)[-1] == f"{len(text)} characters"
        assert stored_prompts(chat, page)[-1] == f"count {text}"

    def test_half_a_surrogate_pair_is_refused_with_the_reason_and_stays_in_the_box(self, page: Page) -> None:
        type_raw(page, "half \ud83d")
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".toast-wrap")).to_contain_text("half of a Unicode character")
        assert page.locator("#message textarea").input_value().startswith("half")
        ask(page, "echo fine")
        assert replies(page) == ["fine"]


class TestEmptyChat:
    def test_it_shows_the_title_the_sentence_the_model_and_examples_to_click(self, page: Page) -> None:
        empty = page.locator("#conversation")
        expect(empty).to_contain_text("Parley")
        expect(empty).to_contain_text("Ask anything. Your conversation is saved as you go.")
        expect(empty).to_contain_text("Answers come from scripted.")
        empty.get_by_text("What is the capital of France?").click()
        expect(page.locator(".user-row")).to_contain_text("What is the capital of France?")
        expect(page.locator(".bot.message")).to_contain_text("You said: What is the capital of France?")

    def test_what_it_says_comes_from_the_settings(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat(
            "--agent", "tests.scripted:agent", "--title", "Oracle", CHAT_DESCRIPTION="Ask it.", CHAT_EXAMPLES="echo hi"
        )
        page = open_page(visitor, chat.url)
        expect(page).to_have_title("Oracle")
        expect(page.locator("#conversation")).to_contain_text("Ask it.")
        page.locator("#conversation").get_by_text("echo hi").click()
        expect(page.locator(".bot.message")).to_have_text("hi")

    def test_new_chat_leaves_the_conversation_and_back_returns_to_it(self, page: Page) -> None:
        ask(page, "echo remember me")
        address = page.url
        page.locator("#new-chat").click()
        expect(page.locator("#conversation")).to_contain_text("Ask anything.")
        assert "?c=" not in page.url
        page.go_back()
        expect(page.locator(".bot.message")).to_have_text("remember me")
        assert page.url == address


class TestReturning:
    def test_the_address_of_a_conversation_shows_it_again(self, page: Page, visitor: BrowserContext) -> None:
        ask(page, "echo hello")
        assert re.search(r"\?c=[0-9a-f-]{36}$", page.url)
        page.reload()
        expect(page.locator(".bot.message")).to_have_text("hello")
        expect(open_page(visitor, page.url).locator(".bot.message")).to_have_text("hello")

    def test_the_list_leads_back_to_a_conversation(self, page: Page, visitor: BrowserContext, chat: Chat) -> None:
        ask(page, "echo the first words")
        again = open_page(visitor, chat.url)
        again.locator("#conversations a").get_by_text("echo the first words").click()
        expect(again.locator(".bot.message")).to_have_text("the first words")
        assert again.url == page.url

    def test_a_restart_of_the_server_keeps_conversations_and_visitors(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        ask(page, "echo before")
        assert chat.stop() == 0
        chat.start()
        page = open_again(page)
        expect(page.locator(".bot.message")).to_have_text("before")
        ask(page, "turns")
        assert replies(page) == ["before", "2 turns"]

    def test_another_browser_never_sees_it_and_is_told_no_more_than_of_a_missing_one(
        self, page: Page, browser: Browser
    ) -> None:
        ask(page, "echo secret words")
        stranger = browser.new_context(viewport={"width": 1200, "height": 800})
        seen: list[str] = []
        for address in (page.url, page.url[:-4] + "0000"):
            other = stranger.new_page()
            other.goto(address)
            expect(other.locator("#status")).to_contain_text("This conversation does not exist.")
            expect(other.locator("#conversation")).to_contain_text("Ask anything.")
            assert "?c=" not in other.url
            seen.append(other.locator("body").inner_text())
        assert seen[0] == seen[1]
        assert "secret" not in seen[0]
        stranger.close()

    def test_a_nonsense_address_gives_a_new_chat(self, visitor: BrowserContext, chat: Chat) -> None:
        page = open_page(visitor, f"{chat.url}/?c=%00..%2Fetc%F0%9F%98%80")
        expect(page.locator("#status")).to_contain_text("This conversation does not exist.")
        ask(page, "echo works")
        assert replies(page) == ["works"]

    def test_what_is_typed_but_not_sent_survives_a_reload(self, page: Page) -> None:
        page.locator("#message textarea").press_sequentially("half a thought")
        page.reload()
        expect(page.locator("#message textarea")).to_have_value("half a thought")
        page.locator("#message textarea").fill("echo done")
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message")).to_have_text("done")
        page.reload()
        expect(page.locator(".bot.message")).to_have_text("done")
        expect(page.locator("#message textarea")).to_have_value("")


class TestOnAPhone:
    def test_everything_fits_and_the_library_opens_over_it(self, browser: Browser, chat: Chat) -> None:
        phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
        page = open_page(phone, chat.url)
        ask(page, "markdown")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        expect(page.locator("#new-chat")).not_to_be_in_viewport()
        page.locator("#library .toggle-button").click()
        expect(page.locator("#new-chat")).to_be_in_viewport()
        phone.close()


def type_raw(page: Page, text: str) -> None:
    """Put text into the box as a script of the page would: exactly, and at once."""
    page.locator("#message textarea").evaluate(
        """(box, json) => {
            box.value = JSON.parse(json);
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        json.dumps(text),
    )


def stored_prompts(chat: Chat, page: Page) -> list[str]:
    """The prompts of the conversation that a page shows, as the database has them."""
    with sqlite3.connect(chat.database) as database:
        rows = database.execute(
            """WITH RECURSIVE history (id, parent_id, message) AS (
                SELECT entry.id, parent_id, message FROM entry JOIN conversation ON entry.id = head_id
                WHERE conversation_id = ?
                UNION ALL
                SELECT entry.id, entry.parent_id, entry.message FROM entry JOIN history ON entry.id = history.parent_id)
            SELECT message FROM history ORDER BY id""",
            (page.url.rpartition("=")[2],),
        ).fetchall()
    database.close()
    messages = [json.loads(row[0]) for row in rows]
    return [message["parts"][0]["content"] for message in messages if message["kind"] == "request"]
