"""A link shows a conversation as it was when it was shared, to whoever has it, until it is revoked."""

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai import ModelMessage
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from chat.services import Services, open_services
from chat.settings import Settings
from chat.share_route import SHARE_ROUTES
from chat.shares import PAGE
from tests.every_part import EVERY_MESSAGE, HIDDEN, NOON, WORKDAY
from tests.visiting import ANNA, BEN, owner, visitor_of

pytestmark = pytest.mark.anyio

PICTURE = BinaryContent.narrow_type(BinaryContent(bytes(range(256)), media_type="image/png", identifier="cat.png"))
DRAWING = BinaryContent.narrow_type(BinaryContent(bytes(range(200)), media_type="image/png", identifier="draw.png"))
HTML = BinaryContent(b"<script>alert(1)</script>", media_type="text/html", identifier="page.html")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db", title="Our <chat>")) as services:
        yield services


def prompt(*content: Any) -> ModelRequest:
    return ModelRequest([UserPromptPart(list(content), timestamp=NOON)])


def reply(*parts: Any) -> ModelResponse:
    return ModelResponse(list(parts), timestamp=NOON, model_name="model")


CHAT: list[ModelMessage] = [
    prompt("How much is **it**?", PICTURE, HTML),
    reply(ThinkingPart("secret thought"), ToolCallPart("price", {"of": "secret argument"}, tool_call_id="1")),
    ModelRequest([ToolReturnPart("price", ["secret result", DRAWING], tool_call_id="1", timestamp=NOON)]),
    reply(TextPart("It is *free*.")),
]


async def keep(services: Services, *messages: ModelMessage, name: str = "c") -> None:
    await services.store.save(Conversation(messages=list(messages), conversation_id=name), scope=owner(ANNA))
    await services.library.title_from_prompt(owner(ANNA), name, "Prices & <more>")


async def say(services: Services, message: ModelMessage, name: str = "c") -> None:
    conversation = await services.store.load(name)
    assert conversation is not None
    conversation.messages.append(message)
    await services.store.save(conversation)


async def call(services: Services, method: str, path: str, token: str | None = ANNA) -> httpx.Response:
    async with visitor_of(services, SHARE_ROUTES, token) as visitor:
        return await visitor.request(method, path)


async def share(services: Services, name: str = "c", options: str = "") -> str:
    """Share a conversation of Anna's; the link."""
    answer = await call(services, "POST", f"/parley/shares?conversation={name}{options}")
    assert answer.status_code == 200
    return f"/parley{answer.json()['path']}"


async def seen(services: Services, path: str) -> str:
    """What somebody without a cookie sees."""
    answer = await call(services, "GET", path, None)
    assert answer.status_code == 200, path
    return answer.text


async def listed(services: Services, token: str = ANNA) -> list[dict[str, Any]]:
    return (await call(services, "GET", "/parley/shares", token)).json()["shares"]


# What a link shows


async def test_anybody_with_the_link_reads_what_was_said_and_not_what_was_done_or_thought(services: Services) -> None:
    await keep(services, *CHAT)
    page = await seen(services, await share(services))
    assert "How much is <strong>it</strong>?" in page
    assert "It is <em>free</em>." in page
    assert "Prices &amp; &lt;more&gt; · Our &lt;chat&gt;" in page
    assert "cat.png" in page
    assert not any(word in page for word in ("secret", "draw.png", "<details"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("&tools=1", {"secret argument", "secret result", "draw.png"}),
        ("&thinking=1", {"secret thought"}),
        ("&tools=1&thinking=1", {"secret argument", "secret result", "draw.png", "secret thought"}),
        ("&tools=true&thinking=", set[str]()),
    ],
)
async def test_what_was_done_and_thought_is_told_where_that_is_chosen(
    services: Services, options: str, told: set[str]
) -> None:
    await keep(services, *CHAT)
    page = await seen(services, await share(services, options=options))
    words = ("secret argument", "secret result", "draw.png", "secret thought")
    assert {word for word in words if word in page} == told


async def test_everything_that_an_agent_can_do_has_a_page(services: Services) -> None:
    await keep(services, *EVERY_MESSAGE, *WORKDAY)
    page = await seen(services, await share(services, options="&tools=1&thinking=1"))
    assert "Tool: forecast · retried" in page
    assert HIDDEN not in page
    plain = await seen(services, await share(services))
    assert "measure" not in plain


async def test_what_is_said_or_changed_later_does_not_show(services: Services) -> None:
    await keep(services, *CHAT)
    path = await share(services)
    before = await seen(services, path)
    await say(services, prompt("A later word."))
    record = await services.store.read_record("c")
    assert record is not None
    await services.store.branch("c", at=1, expected_revision=record.revision)
    await say(services, reply(TextPart("Another version.")))
    await services.library.rename(owner(ANNA), "c", "Another title")
    assert await seen(services, path) == before


async def test_what_anybody_wrote_does_nothing_on_the_page(services: Services) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) ![b](https://evil.example/x)"
    table = "| a |\n|--:|\n| 1 |\n\n# Big"
    await keep(services, prompt(bad), reply(ToolCallPart("</pre><script>", bad), TextPart(f"{bad}\n\n{table}")))
    await services.library.rename(owner(ANNA), "c", "<script>")
    page = await seen(services, await share(services, options="&tools=1"))
    tags = set(re.findall(r"<(\w+)[^>]*", page.partition("<body>")[2]))
    assert not tags & {"script", "img", "iframe", "style", "link", "h1"} - {"h1"}
    assert page.count("<h1") == 1
    assert not re.search(r"(href|src)=\"(?!https://evil|data)", page.partition("<main>")[2])
    assert '<a href="https://evil.example/x" rel="noopener noreferrer nofollow">b</a>' in page
    assert 'style="' not in page
    assert '<td class="right">1</td>' in page


async def test_the_page_is_told_to_nobody_and_loads_only_its_own(services: Services) -> None:
    await keep(services, *CHAT)
    path = await share(services)
    for each in (path, "/parley/shared/nonsense"):
        headers = (await call(services, "GET", each, None)).headers
        policy = headers["content-security-policy"]
        assert re.sub(r"sha256-[^']+", "sha256-", policy) == (
            "default-src 'none'; style-src 'sha256-'; img-src 'self'; media-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert headers["x-robots-tag"] == "noindex, nofollow, noarchive"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers


async def test_a_long_conversation_has_pages_that_together_show_each_turn_once(services: Services) -> None:
    turns = [message for number in range(130) for message in (prompt(f"P{number}."), reply(TextPart(f"R{number}.")))]
    await keep(services, turns[0], *turns)
    path = await share(services)
    pages = [await seen(services, f"{path}?page={number}") for number in range(3)]
    said = [word for page in pages for word in re.findall(r"[PR]\d+\.", page)]
    assert said == ["P0.", *(f"{who}{number}." for number in range(130) for who in "PR")]
    assert [re.findall(r'\?page=(\d)" rel="(\w+)"', page) for page in pages] == [
        [("1", "next")],
        [("0", "prev"), ("2", "next")],
        [("1", "prev")],
    ]
    for wrong in ("3", "-1", "x", "9" * 5000, "²", ""):
        assert (await call(services, "GET", f"{path}?page={wrong}", None)).status_code == 404


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
async def test_the_last_page_is_never_empty(services: Services, length: int) -> None:
    await keep(services, *(prompt(f"P{number}.") for number in range(length)))
    path = await share(services)
    pages = [await call(services, "GET", f"{path}?page={number}", None) for number in range(3)]
    shown = [re.findall(r"P\d+\.", page.text) for page in pages if page.status_code == 200]
    assert all(shown)
    assert [word for words in shown for word in words] == [f"P{number}." for number in range(length)]


# Files


async def test_files_are_served_for_the_link_and_only_what_it_shows(services: Services) -> None:
    await keep(services, *CHAT)
    path, with_tools = await share(services), await share(services, options="&tools=1")
    base = path.rpartition("/")[0]
    addresses = [f"{base}/{each}" for each in re.findall(r'href="([^"?]+/files/[^"]+)"', await seen(services, path))]
    picture, page = [await call(services, "GET", address, None) for address in dict.fromkeys(addresses)]
    assert (picture.content, picture.headers["content-type"]) == (PICTURE.data, "image/png")
    assert picture.headers["cache-control"] == "no-cache"
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"].startswith("attachment")
    [drawing] = re.findall(r'href="[^"/]+(/files/[^"]+)"><img[^>]+draw.png', await seen(services, with_tools))
    assert (await call(services, "GET", f"{with_tools}{drawing}", None)).content == DRAWING.data
    assert (await call(services, "GET", f"{path}{drawing}", None)).status_code == 404


# Whose


async def test_an_owner_sees_and_revokes_their_own_links_and_nobody_else_does(services: Services) -> None:
    await keep(services, *CHAT)
    path = await share(services, options="&thinking=1")
    other = await share(services)
    second, first = await listed(services)
    assert {**first, "at": "", "id": ""} == {
        "id": "",
        "conversation": "c",
        "title": "Prices & <more>",
        "tools": False,
        "thinking": True,
        "at": "",
    }
    assert await listed(services, BEN) == []
    file = re.findall(r'href="[^"]+(/files/[^"]+)"', await seen(services, path))[0]
    assert (await call(services, "POST", f"/parley/shares/{first['id']}/revoke", BEN)).status_code == 404
    assert (await call(services, "GET", path, None)).status_code == 200
    assert (await call(services, "POST", f"/parley/shares/{first['id']}/revoke")).status_code == 200
    gone = await call(services, "GET", path, None)
    nonsense = await call(services, "GET", "/parley/shared/nonsense", None)
    assert (gone.status_code, gone.text, gone.headers) == (404, nonsense.text, nonsense.headers)
    assert (await call(services, "GET", f"{path}{file}", None)).status_code == 404
    assert (await call(services, "GET", other, None)).status_code == 200
    assert await listed(services) == [second]


async def test_the_database_does_not_tell_the_link(services: Services) -> None:
    await keep(services, *CHAT)
    token = (await share(services)).rpartition("/")[2]
    assert len(token) == 43
    [share_id] = [each["id"] for each in await listed(services)]
    assert share_id == hashlib.sha256(token.encode()).hexdigest()
    assert (await call(services, "GET", f"/parley/shared/{share_id}", None)).status_code == 404
    assert token not in str([tuple(row) for row in await services.database.rows("SELECT * FROM share")])


async def test_a_conversation_that_is_somebody_else_s_missing_or_empty_is_not_shared(services: Services) -> None:
    await keep(services, *CHAT)
    await services.store.save(Conversation(conversation_id="empty"), scope=owner(ANNA))
    asked = [("c", BEN), ("missing", ANNA), ("empty", ANNA), ("", ANNA), ("x" * 5000, ANNA), ("%00", ANNA)]
    answers = [await call(services, "POST", f"/parley/shares?conversation={name}", who) for name, who in asked]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (404, '{"said":"There is nothing to share in this conversation."}')
    }
    for method, path in (("POST", "/parley/shares?conversation=c"), ("GET", "/parley/shares")):
        assert (await call(services, method, path, None)).status_code == 403
    assert await listed(services) == await listed(services, BEN) == []


async def test_a_deleted_conversation_is_not_shared_any_more_until_it_is_restored(services: Services) -> None:
    await keep(services, *CHAT)
    path = await share(services)
    assert await services.deletions.delete(owner(ANNA), "c")
    assert (await call(services, "GET", path, None)).status_code == 404
    assert await listed(services) == []
    assert await services.deletions.restore(owner(ANNA), "c")
    assert len(await listed(services)) == 1
    await seen(services, path)
    await services.store.delete("c")
    assert (await call(services, "GET", path, None)).status_code == 404
    assert [*await services.database.rows("SELECT * FROM share")] == []


async def test_too_many_links_are_refused_with_a_sentence(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.shares.MOST_SHARES", 1)
    await keep(services, *CHAT)
    await share(services)
    answer = await call(services, "POST", "/parley/shares?conversation=c")
    assert (answer.status_code, answer.json()) == (409, {"said": "You share 1 conversations. Revoke a link first."})
