"""A reply belongs to its conversation: what tabs, networks and servers do to it, seen in a real browser."""

import sqlite3
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import Chat, ask, open_page, replies, send
from tests.provider import KEY, SECRET, running_provider
from tests.relay import relay_to

CONTINUE = "Continue exactly where you stopped."


def last_reply(page: Page) -> str:
    return replies(page)[-1]


def stop(page: Page) -> None:
    page.locator("#message .stop-button").click()
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")


class TestTabs:
    def test_a_reload_goes_on_streaming_with_a_working_stop(self, page: Page) -> None:
        send(page, "slow 200")
        expect(page.locator(".bot.message")).to_contain_text("word3")
        page.reload()
        expect(page.locator(".bot.message")).to_contain_text("word3")
        seen = len(last_reply(page))
        page.wait_for_function("seen => document.querySelector('.bot.message').innerText.length > seen + 20", arg=seen)
        stop(page)
        assert last_reply(page).endswith("Stopped.")

    def test_two_tabs_stay_the_same_when_one_sends_stops_and_retries(self, page: Page, visitor: BrowserContext) -> None:
        ask(page, "echo begin")
        other = open_page(visitor, page.url)
        expect(other.locator(".bot.message")).to_have_text("begin")
        send(page, "slow 200")
        expect(other.locator(".bot.message").last).to_contain_text("word3")
        stop(other)
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        expect(page.locator(".bot.message").last).to_contain_text("Stopped.")
        assert replies(page) == replies(other)
        page.get_by_role("button", name="Retry").last.click()
        expect(page.locator("body")).to_have_attribute("data-phase", "writing")
        expect(other.locator("body")).to_have_attribute("data-phase", "writing")
        expect(other.locator(".bot.message").last).to_contain_text("word2")
        stop(page)
        expect(other.locator(".bot.message").last).to_contain_text("Stopped.")
        assert replies(page) == replies(other)

    def test_switching_away_and_back_loses_nothing_and_does_not_stop_it(self, page: Page, chat: Chat) -> None:
        ask(page, "echo first conversation")
        first = page.url
        page.locator("#new-chat").click()
        expect(page.locator("#conversation")).to_contain_text("Ask anything.")
        send(page, "slow 30")
        expect(page.locator(".bot.message")).to_contain_text("word2")
        page.locator("#conversations a").get_by_text("echo first conversation").click()
        expect(page.locator(".bot.message")).to_have_text("first conversation")
        assert page.url == first
        page.locator("#conversations a").get_by_text("slow 30").click()
        expect(page.locator(".bot.message")).to_contain_text("word30")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        assert last_reply(page).split() == [f"word{n}" for n in range(1, 31)]

    def test_a_second_message_is_told_to_wait_and_stays_in_its_box(self, page: Page, visitor: BrowserContext) -> None:
        ask(page, "echo begin")
        other = open_page(visitor, page.url)
        send(page, "slow 200")
        expect(other.locator("body")).to_have_attribute("data-phase", "writing")
        send(other, "echo too early")
        expect(other.locator(".toast-wrap")).to_contain_text("A reply is still being written here.")
        expect(other.locator("#message textarea")).to_have_value("echo too early")
        stop(page)
        expect(other.locator("body")).to_have_attribute("data-phase", "idle")
        expect(other.locator(".user-row")).to_have_count(2)
        other.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message").last).to_have_text("too early")


class TestConnection:
    def test_a_dropped_connection_resumes_by_itself(self, chat: Chat, visitor: BrowserContext) -> None:
        with relay_to(int(chat.url.rpartition(":")[2])) as network:
            page = open_page(visitor, network.url)
            send(page, "slow 30")
            expect(page.locator(".bot.message")).to_contain_text("word2")
            network.cut()
            expect(page.locator(".toast-wrap")).to_contain_text("Connection")
            seen = last_reply(page).split()
            assert len(seen) < 30
            network.mend()
            expect(page.locator(".bot.message")).to_contain_text("word30")
            expect(page.locator("body")).to_have_attribute("data-phase", "idle")
            assert last_reply(page).split() == [f"word{n}" for n in range(1, 31)]

    def test_a_message_sent_without_a_connection_stays_in_its_box(self, chat: Chat, visitor: BrowserContext) -> None:
        with relay_to(int(chat.url.rpartition(":")[2])) as network:
            page = open_page(visitor, network.url)
            ask(page, "echo before")
            network.cut()
            send(page, "echo into the void")
            expect(page.locator(".toast-wrap")).to_contain_text("Connection")
            with page.expect_navigation():  # Gradio loads the page anew once it finds the server again.
                network.mend()
            expect(page.locator("#message textarea")).to_have_value("echo into the void")
            ask(page, "echo into the void")
            assert replies(page) == ["before", "into the void"]

    def test_the_open_page_finds_a_restarted_server_and_shows_what_was_saved(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        ask(page, "echo before")
        send(page, "slow 200")
        expect(page.locator(".bot.message").last).to_contain_text("word6")
        chat.kill()
        seen = last_reply(page).split()
        chat.start()
        expect(page.locator(".bot.message").last).to_contain_text("Interrupted: the server was shut down")
        kept = last_reply(page).removesuffix("Interrupted: the server was shut down while this was written.").split()
        assert kept == seen[: len(kept)]
        assert len(seen) - len(kept) <= 3, "a word takes 0.2 s, and at most half a second may be lost"
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".bot.message").last).to_contain_text(f"You said: {CONTINUE}")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        ask(page, "turns")
        assert last_reply(page) == "4 turns"

    def test_a_terminated_server_saves_what_is_written_and_ends_with_open_streams(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        send(page, "slow 200")
        expect(page.locator(".bot.message")).to_contain_text("word4")
        chat.process.terminate()
        chat.process.join(timeout=3)
        assert chat.process.exitcode == 0
        with sqlite3.connect(chat.database) as database:
            [(message,)] = database.execute("SELECT message FROM entry WHERE message LIKE '%\"response\"%'").fetchall()
            [(outcome,)] = database.execute("SELECT kind FROM outcome").fetchall()
        database.close()
        assert "word4" in message
        assert outcome == "interrupted"


class TestTools:
    def test_a_tool_that_ran_when_the_server_was_killed_is_interrupted_and_not_run_again(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        send(page, "tool forever")
        expect(page.locator(".thought-group")).to_contain_text("Tool: wait")
        page.wait_for_function("() => document.body.dataset.phase === 'writing'")
        until_stored(chat, "wait")
        chat.kill()
        chat.start()
        expect(page.locator(".thought-group")).to_contain_text("interrupted")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        ask(page, "calls")
        assert last_reply(page) == "0 calls"


class TestNotices:
    def test_a_database_that_can_not_be_written_is_said_and_saved_when_it_can(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        send(page, "slow 60")
        expect(page.locator(".bot.message")).to_contain_text("word2")
        locker = sqlite3.connect(chat.database, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        expect(page.locator("#status")).to_contain_text("Not saved yet:")
        expect(page.locator("#status")).to_contain_text("is locked by another program")
        expect(page.locator(".bot.message")).to_contain_text("word60")
        locker.execute("ROLLBACK")
        locker.close()
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        expect(page.locator("#status")).to_have_text("")
        page.reload()
        expect(page.locator(".bot.message")).to_contain_text("word60")

    def test_the_place_in_line_is_shown_and_its_turn_comes(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent", CHAT_MAX_RUNS="1")
        first, second = open_page(visitor, chat.url), open_page(visitor, chat.url)
        send(first, "slow 200")
        expect(first.locator(".bot.message")).to_contain_text("word1")
        send(second, "echo my turn")
        expect(second.locator("#status")).to_contain_text("number 1 in line")
        expect(second.locator(".user-row")).to_contain_text("echo my turn")
        stop(first)
        expect(second.locator(".bot.message")).to_have_text("my turn")


class TestFailures:
    @pytest.mark.parametrize(
        ("prompt", "sentence"),
        [
            ("unauthorized", "did not accept this chat's key"),
            ("no such model", "does not have the model"),
            ("rate limited", "asked too much at the moment. Try again in 7 seconds."),
            ("server error", "has a problem"),
            ("hang", "took longer than 5 seconds"),
            ("reset", "connection to the model was lost"),
            ("too long", "too long for the model"),
            ("filtered", "refused to answer this because of its content"),
            ("malformed", "form that the agent can't use"),
        ],
    )
    def test_a_failure_of_the_provider_is_one_sentence_with_retry(
        self, failing: Chat, visitor: BrowserContext, prompt: str, sentence: str
    ) -> None:
        page = open_page(visitor, failing.url)
        ask(page, prompt)
        expect(page.locator(".bot.message")).to_contain_text(sentence)
        expect(page.get_by_role("button", name="Retry").last).to_be_visible()
        for hidden in ("Traceback", KEY, SECRET, "status_code", "127.0.0.1"):
            assert hidden not in page.locator("body").inner_text()
        assert KEY not in failing.output


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with running_provider() as provider:
        chat = Chat(
            tmp_path_factory.mktemp("failing"),
            "--model",
            "openai-chat:test",
            OPENAI_BASE_URL=provider.url,
            OPENAI_API_KEY=KEY,
            CHAT_TIMEOUT="5",
        )
        yield chat
        chat.kill()


def until_stored(chat: Chat, text: str) -> None:
    """Wait until a checkpoint holds `text`: it is written within half a second."""
    with sqlite3.connect(chat.database) as database:
        while not database.execute("SELECT 1 FROM checkpoint WHERE content LIKE ?", (f"%{text}%",)).fetchall():
            pass
    database.close()
