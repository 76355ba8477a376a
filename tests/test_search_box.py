"""The search box shows what a visitor's words find, marked, and leads to the message; others' requests find nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from chat.search_box import LARGEST_REQUEST, OPEN_ROUTE, ROUTES, SEARCH_ROUTE
from chat.services import Services, open_services
from chat.settings import Settings
from tests.browser import Chat, ask, open_page
from tests.long import lengthen
from tests.visiting import ANNA, BEN, owner, visitor_of


@asynccontextmanager
async def services_with(path: Path, text: str) -> AsyncIterator[Services]:
    async with open_services(Settings(database=path / "chat.db")) as services:
        conversation = Conversation(messages=[ModelRequest([UserPromptPart(text)])], conversation_id="a")
        await services.store.save(conversation, scope=owner(ANNA))
        yield services


@pytest.mark.anyio
async def test_only_the_owner_gets_what_is_found(tmp_path: Path) -> None:
    async with services_with(tmp_path, "the <b>harbour</b>") as services:
        async with visitor_of(services, ROUTES) as anna:
            answer = await anna.post(SEARCH_ROUTE, json={"query": "harb"})
        [found] = answer.json()["conversations"]
        assert found["id"] == "a"
        [hit] = found["hits"]
        assert [piece["text"] for piece in hit["snippet"] if piece["marked"]] == ["harbour"]
        assert answer.headers["cache-control"] == "no-store"
        async with visitor_of(services, ROUTES, BEN) as ben:
            stranger = await ben.post(SEARCH_ROUTE, json={"query": "harb"})
            nothing = await ben.post(SEARCH_ROUTE, json={"query": "nothing"})
        assert stranger.content == nothing.content
        async with visitor_of(services, ROUTES, None) as nobody:
            assert (await nobody.post(SEARCH_ROUTE, json={"query": "harb"})).status_code == 403


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "This search can't be read."),
        (b"\xff", "This search can't be read."),
        (b"[" * 50_000, "This search can't be read."),
        (b'["query"]', "This search is not complete. Send a JSON object with query"),
        (b'{"query": 3}', "This search is not complete."),
        (b'"' + b"x" * LARGEST_REQUEST, "A search may have at most 100,000 bytes."),
    ],
)
async def test_what_is_no_search_is_refused_in_a_sentence(tmp_path: Path, body: bytes, sentence: str) -> None:
    async with services_with(tmp_path, "x") as services, visitor_of(services, ROUTES) as anna:
        answer = await anna.post(SEARCH_ROUTE, content=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(sentence)


@pytest.mark.anyio
async def test_opening_what_was_found_in_another_version_shows_that_version(tmp_path: Path) -> None:
    async with services_with(tmp_path, "question") as services:
        before = await services.store.read_record("a")
        assert before is not None
        answers = [ModelResponse([TextPart("the old answer")])]
        [old] = await services.store.continue_at(before, before.head_id, answers)
        left = await services.store.read_record("a")
        assert left is not None
        [new] = await services.store.continue_at(left, before.head_id, [ModelResponse([TextPart("the new answer")])])
        async with visitor_of(services, ROUTES) as anna, visitor_of(services, ROUTES, BEN) as ben:
            answer = await anna.post(SEARCH_ROUTE, json={"query": "old answer"})
            [hit] = answer.json()["conversations"][0]["hits"]
            assert hit["entry"] == old.id
            wanted = {"conversation": "a", "entry": old.id}
            stranger = await ben.post(OPEN_ROUTE, json=wanted)
            missing = await anna.post(OPEN_ROUTE, json={**wanted, "entry": "nonsense"})
            assert stranger.status_code == missing.status_code == 404
            assert stranger.content == missing.content
            for entry in (new, old, new):
                answer = await anna.post(OPEN_ROUTE, json={**wanted, "entry": entry.id})
                assert answer.status_code == 200
                record = await services.store.read_record("a")
                assert record is not None
                assert record.head_id == entry.id


def test_results_take_the_place_of_the_list_and_lead_to_the_message(page: Page, chat: Chat) -> None:
    ask(page, "echo The harbour of <b>Málaga</b>")
    conversation = page.url.rpartition("=")[2]
    lengthen(chat.database, conversation, 30)
    page.locator("#new-chat").click()
    box = page.get_by_role("search").get_by_label("Search your conversations")
    box.fill("malaga")
    links = page.locator("#search nav a")
    expect(links).to_have_count(3)  # The title, the prompt and the reply.
    expect(page.locator("#conversations")).to_be_hidden()
    expect(links.nth(1).locator("mark")).to_have_text("Málaga")
    expect(links.nth(1)).to_contain_text("harbour of <b>Málaga</b>")
    box.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(links.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#conversation .found")).to_contain_text("The harbour of Málaga")
    assert f"c={conversation}&m=" in page.url
    expect(links.nth(2)).to_have_attribute("aria-current", "page")
    links.nth(2).press("ArrowUp")
    links.nth(1).press("Escape")
    expect(box).to_be_focused()
    expect(box).to_have_value("")
    expect(page.locator("#conversations")).to_be_visible()
    expect(links).to_have_count(0)


def test_what_is_typed_last_is_what_is_shown(page: Page) -> None:
    ask(page, "echo apples")
    box = page.locator("#search input")
    held: list[object] = []
    page.route("**/parley/search", lambda route: held.append(route) if not held else route.fallback())
    with page.expect_request("**/parley/search"):
        box.fill("apples")
    box.fill("<i>pears</i>")
    expect(page.locator("#search .said")).to_have_text("No results for “<i>pears</i>”.")
    expect(page.locator("#search nav a")).to_have_count(0)


def test_on_a_phone_a_result_opens_over_the_sidebar(browser: Browser, chat: Chat) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = open_page(phone, chat.url)
    ask(page, "echo plums")
    page.locator("#library .toggle-button").click()
    page.locator("#search input").fill("plums")
    page.locator("#search nav a").last.click()
    expect(page.locator("#search input")).not_to_be_in_viewport()
    expect(page.locator("#conversation .found")).to_be_visible()
    phone.close()
