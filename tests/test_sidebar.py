"""The sidebar's requests tell and change an owner's own conversations only; its list is true in a real browser."""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, UserPromptPart
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from chat.identity import COOKIE, Owner
from chat.models import ChatAgent, ChatModel
from chat.services import Services, open_services
from chat.settings import Settings
from chat.sidebar import LARGEST_CHANGE, LIST_ROUTE, ROUTES
from chat.title_text import LONGEST_NAME
from tests.browser import Chat, ask, open_page, send
from tests.scripted import agent

SCRIPTED = ChatAgent(agent, (ChatModel("scripted"),))
ANNAS, BENS = "a" * 43, "b" * 43
PATIENCE = 20


def owner(token: str) -> Owner:
    return Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


@pytest.fixture
def visit(services: Services) -> Callable[[str | None], httpx.AsyncClient]:
    """Clients of visitors, by the token in their cookie."""
    routes = Starlette(routes=ROUTES)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await routes({**scope, "state": {"services": services}}, receive, send)

    def client(token: str | None) -> httpx.AsyncClient:
        cookies = {COOKIE: token} if token else {}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chat", cookies=cookies)

    return client


async def start(services: Services, name: str, token: str = ANNAS) -> None:
    conversation = Conversation(messages=[ModelRequest([UserPromptPart(name)])], conversation_id=name)
    await services.store.save(conversation, scope=owner(token))
    await services.library.title_from_prompt(owner(token), name, f"About {name}")


async def listed(client: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get(LIST_ROUTE, params=asked)
    assert answer.status_code == 200
    return answer.json()["conversations"]


Visit = Callable[[str | None], httpx.AsyncClient]


@pytest.mark.anyio
class TestRequests:
    async def test_each_visitor_is_told_their_own_conversations(self, services: Services, visit: Visit) -> None:
        await start(services, "hers")
        await start(services, "his", BENS)
        for asked in ({}, {"id": ["hers", "his", "nobody's"]}):
            assert [item["title"] for item in await listed(visit(ANNAS), **asked)] == ["About hers"]
            assert [item["title"] for item in await listed(visit(BENS), **asked)] == ["About his"]
        assert await listed(visit("c" * 43)) == []
        assert (await visit(None).get(LIST_ROUTE)).status_code == 403

    @pytest.mark.parametrize(
        "change", [{"title": "Taken"}, {"place": "archived"}, {"deleted": True}, {"deleted": False}], ids=str
    )
    async def test_somebody_elses_is_answered_as_a_missing_one_is(
        self, services: Services, visit: Visit, change: dict[str, Any]
    ) -> None:
        await start(services, "hers")
        before = await listed(visit(ANNAS))
        elses, missing = [await visit(BENS).patch(f"{LIST_ROUTE}/{name}", json=change) for name in ("hers", "nobody's")]
        assert elses.status_code == missing.status_code == 404
        assert elses.content == missing.content
        assert await listed(visit(ANNAS)) == before

    async def test_a_change_is_answered_with_how_the_conversation_is_listed_then(
        self, services: Services, visit: Visit
    ) -> None:
        await start(services, "a/b ?")
        address = f"{LIST_ROUTE}/a%2Fb%20%3F"
        for change, expected in (
            ({"title": " <b>New</b>\n\u202etitle "}, {"title": "<b>New</b> title", "place": "listed"}),
            ({"title": "x" * 10_000}, {"title": "x" * LONGEST_NAME + "…"}),
            ({"place": "pinned"}, {"place": "pinned"}),
            ({"place": "archived"}, {"place": "archived"}),
        ):
            answer = await visit(ANNAS).patch(address, json=change)
            [item] = answer.json()["conversations"]
            assert {**item, **expected} == item
        assert await listed(visit(ANNAS)) == []
        assert [item["id"] for item in await listed(visit(ANNAS), archived=1)] == ["a/b ?"]
        assert (await visit(ANNAS).patch(address, json={"deleted": True})).json() == {"conversations": []}
        assert [
            item["id"] for item in (await visit(ANNAS).patch(address, json={"deleted": False})).json()["conversations"]
        ]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"{}",
            b'{"title": 1}',
            b'{"title": null}',
            b'{"title": ""}',
            b'{"title": "\\u200b\\u0000"}',
            b'{"place": "elsewhere"}',
            b'{"place": 1}',
            b'{"deleted": "yes"}',
            b'{"title": "a", "place": "pinned"}',
            b'{"scope": "visitor:other"}',
            b"[" * 100_000,
            b'{"title": "' + b"x" * LARGEST_CHANGE + b'"}',
            b"\xff\xfe",
        ],
        ids=lambda body: body[:20],
    )
    async def test_a_change_that_is_none_is_refused_with_a_sentence(
        self, services: Services, visit: Visit, body: bytes
    ) -> None:
        await start(services, "a")
        before = await listed(visit(ANNAS))
        answer = await visit(ANNAS).patch(f"{LIST_ROUTE}/a", content=body)
        assert answer.status_code in (400, 409)
        assert answer.json()["error"].endswith(".")
        assert await listed(visit(ANNAS)) == before

    @pytest.mark.parametrize("after", ["x", "listed", "nowhere 2026 a", "listed 2026", " ", "pinned  "])
    async def test_a_forged_mark_of_a_page_leads_nowhere_else(
        self, services: Services, visit: Visit, after: str
    ) -> None:
        await start(services, "his", BENS)
        answer = await visit(ANNAS).get(LIST_ROUTE, params={"after": after})
        assert answer.status_code == 400 or answer.json()["conversations"] == []

    async def test_half_a_character_in_a_title_is_left_out(self, services: Services, visit: Visit) -> None:
        await start(services, "a")
        answer = await visit(ANNAS).patch(f"{LIST_ROUTE}/a", content=json.dumps({"title": "half \ud83d"}))
        assert answer.json()["conversations"][0]["title"] == "half"


@pytest.mark.anyio
class TestSigns:
    async def test_a_reply_is_unread_until_a_page_shows_it(self, services: Services, visit: Visit) -> None:
        run = await services.runs.send(owner(ANNAS), None, "hang", SCRIPTED)
        assert [item["sign"] for item in await listed(visit(ANNAS))] == ["writing"]
        run.stop()
        assert await run.ends_within(PATIENCE)
        assert [item["sign"] for item in await listed(visit(ANNAS))] == ["unread"]
        assert await services.library.see(owner(ANNAS), run.conversation_id)
        assert not await services.library.see(owner(ANNAS), run.conversation_id)
        assert [item["sign"] for item in await listed(visit(ANNAS))] == [None]

    async def test_what_a_page_showed_as_it_was_written_is_not_unread(self, services: Services, visit: Visit) -> None:
        run = await services.runs.send(owner(ANNAS), None, "echo hello", SCRIPTED)
        with services.changes.follow(owner(ANNAS), run.conversation_id):
            assert await run.ends_within(PATIENCE)
        assert [item["sign"] for item in await listed(visit(ANNAS))] == [None]

    async def test_a_decision_that_is_waited_for_comes_before_unread(self, services: Services, visit: Visit) -> None:
        run = await services.runs.send(owner(ANNAS), None, "approve", SCRIPTED)
        assert await run.ends_within(PATIENCE)
        assert [item["sign"] for item in await listed(visit(ANNAS))] == ["waiting"]


class TestList:
    def test_conversations_stand_by_day_in_the_browsers_time_zone_pinned_ones_first(
        self, browser: Browser, chat: Chat
    ) -> None:
        visitor = browser.new_context(timezone_id="Pacific/Kiritimati")  # Fourteen hours ahead of UTC.
        page = open_page(visitor, chat.url)
        now = datetime.now(UTC) + timedelta(hours=14)
        today = now.replace(hour=0, minute=0, second=1)
        days = {"just now": 0, "last night": 0, "six days": 6, "long ago": 400, "kept": 90}
        times = {name: today - timedelta(days=days, hours=14) for name, days in days.items()}
        times["last night"] -= timedelta(seconds=2)
        seed(chat, visitor, {name: time.isoformat(timespec="microseconds") for name, time in times.items()})
        with sqlite3.connect(chat.database) as database:
            database.execute("UPDATE conversation SET place = 2 WHERE conversation_id LIKE 'kept%'")
        database.close()
        page.reload()
        old = times["long ago"] + timedelta(hours=14)
        shown = ["Pinned", "kept", "Today", "just now", "Yesterday", "last night", "Last 7 days", "six days"]
        expect(page.locator("#conversations :is(h2, a)")).to_have_text([*shown, f"{old:%B %Y}", "long ago"])
        visitor.close()

    def test_a_menu_that_the_keyboard_reaches_renames_in_place(self, page: Page) -> None:
        ask(page, "echo first words")
        row = row_of(page, "echo first words")
        row.get_by_role("link").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("menuitem")).to_have_text(["Rename", "Pin", "Archive", "Share …", "Export …", "Delete"])
        page.keyboard.press("Escape")
        expect(page.get_by_role("menu")).to_have_count(0)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Title", exact=True)).to_have_value("echo first words")
        page.keyboard.type("not this")
        page.keyboard.press("Escape")
        expect(row.get_by_role("link")).to_have_text("echo first words")
        choose(row, "Rename")
        page.keyboard.type("<img src=x onerror=alert(1)> {{value}} ${1}")
        page.keyboard.press("Enter")
        renamed = row_of(page, "<img src=x onerror=alert(1)> {{value}} ${1}")
        expect(renamed.get_by_role("link")).to_be_focused()
        ask(page, "echo more")
        page.reload()
        expect(renamed).to_be_visible()

    def test_a_conversation_is_pinned_archived_and_brought_back_also_in_another_tab(
        self, page: Page, visitor: BrowserContext, chat: Chat
    ) -> None:
        ask(page, "echo one")
        other = open_page(visitor, chat.url)
        expect(row_of(other, "echo one")).to_be_visible()
        choose(row_of(page, "echo one"), "Pin")
        for tab in (page, other):
            expect(tab.locator("#conversations h2")).to_have_text(["Pinned"])
        choose(row_of(page, "echo one"), "Archive")
        for tab in (page, other):
            expect(tab.locator(".conversation")).to_have_count(0)
        page.locator("#conversations .archived").click()
        choose(row_of(page, "echo one"), "Unarchive")
        expect(page.locator("#conversations")).to_contain_text("Nothing is archived.")
        page.locator("#conversations .archived").click()
        for tab in (page, other):
            expect(tab.locator("#conversations h2")).to_have_text(["Today"])

    def test_a_deleted_conversation_is_gone_from_every_tab_and_can_be_had_back(
        self, page: Page, visitor: BrowserContext
    ) -> None:
        ask(page, "echo keep me")
        address = page.url
        other = open_page(visitor, address)
        send(other, "slow 500")
        expect(page.locator(".bot.message").last).to_contain_text("word2")
        choose(row_of(page, "echo keep me"), "Delete")
        for tab in (page, other):
            expect(tab.locator("#conversation")).to_contain_text("Ask anything.")
            expect(tab.locator(".conversation")).to_have_count(0)
            assert "?c=" not in tab.url
        other.goto(address)
        expect(other.locator("#status")).to_contain_text("This conversation does not exist.")
        page.locator("#undo").get_by_role("button", name="Undo").click()
        expect(page.locator(".bot.message").first).to_have_text("keep me")
        expect(page.locator(".bot.message").last).to_contain_text("word2")
        expect(page.locator("body")).to_have_attribute("data-phase", "idle")
        assert page.url == address
        for tab in (page, other):
            expect(row_of(tab, "echo keep me")).to_be_visible()

    def test_signs_say_what_is_written_waits_or_was_not_seen(self, page: Page) -> None:
        signs = page.locator(".conversation .sign:visible")
        send(page, "slow 15")
        expect(signs).to_have_attribute("title", "being written")
        page.locator("#new-chat").click()
        expect(signs).to_have_attribute("title", "unread")
        page.reload()
        expect(signs).to_have_attribute("title", "unread")
        row_of(page, "slow 15").get_by_role("link").click()
        expect(signs).to_have_count(0)
        page.locator("#new-chat").click()
        ask(page, "approve")
        expect(signs).to_have_attribute("title", "waiting for your decision")
        page.get_by_role("button", name="Approve").first.click()
        expect(page.locator(".bot.message").last).to_contain_text("success")
        expect(signs).to_have_count(0)

    def test_scrolling_brings_all_of_many_conversations_once_each(
        self, visitor: BrowserContext, page: Page, chat: Chat
    ) -> None:
        began = datetime.now(UTC)
        times = {f"number {n}": (began - timedelta(hours=n)).isoformat(timespec="microseconds") for n in range(130)}
        seed(chat, visitor, times)
        page.reload()
        rows = page.locator(".conversation")
        expect(rows).to_have_count(50)
        for count in (100, 130):
            rows.last.scroll_into_view_if_needed()
            expect(rows).to_have_count(count)
        assert page.locator("#conversations a").all_inner_texts() == list(times)

    def test_on_a_phone_the_list_closes_when_a_conversation_is_opened(self, browser: Browser, chat: Chat) -> None:
        phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
        page = open_page(phone, chat.url)
        ask(page, "echo one")
        page.locator("#library .toggle-button").click()
        page.locator("#new-chat").click()
        expect(page.locator("#new-chat")).not_to_be_in_viewport()
        page.locator("#library .toggle-button").click()
        row_of(page, "echo one").get_by_role("link").click()
        expect(page.locator(".bot.message")).to_have_text("one")
        expect(page.locator("#new-chat")).not_to_be_in_viewport()
        phone.close()

    def test_the_models_title_takes_the_place_of_the_first_words(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        page = open_page(visitor, start_chat("--agent", "tests.scripted:agent", CHAT_TITLES="true").url)
        ask(page, "echo the sea")
        expect(row_of(page, "About echo the sea")).to_be_visible()


def row_of(page: Page, title: str) -> Locator:
    """The row of the conversation with this title."""
    return page.locator(".conversation").filter(has=page.get_by_text(title, exact=True))


def choose(row: Locator, action: str) -> None:
    """Choose an action in a conversation's menu."""
    row.page.bring_to_front()  # Behind another tab, a page paints once a second.
    row.hover()
    row.get_by_role("button").click()
    row.page.get_by_role("menuitem", name=action, exact=True).click()


def seed(chat: Chat, visitor: BrowserContext, times: dict[str, str]) -> None:
    """Conversations of a visitor, by title, with the times of their last activity."""
    [token] = [cookie.get("value", "") for cookie in visitor.cookies() if cookie.get("name") == COOKIE]
    rows = [(f"{title} {token}", owner(token), f"{title} {token}", time) for title, time in times.items()]
    with sqlite3.connect(chat.database, timeout=PATIENCE) as database:
        database.executemany(
            """INSERT INTO conversation (conversation_id, scope, usage, revision, updated_at, format_version)
            VALUES (?, ?, '{}', ?, ?, 1)""",
            rows,
        )
        database.executemany(
            "INSERT INTO title (conversation_id, title) VALUES (?, ?)", [(f"{title} {token}", title) for title in times]
        )
    database.close()
