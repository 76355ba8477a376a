"""Binary content is kept once, beside the messages, comes back as it was, and is served to its owner only."""

import asyncio
import hashlib
import json
import sqlite3
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext
from pydantic import BaseModel
from pydantic_ai import Agent, ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import (
    BinaryContent,
    FilePart,
    ModelRequest,
    ModelResponse,
    SpeechPart,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat.file_route import FILE_ROUTE, file_path, serve_file
from chat.files import Files, StoredFile, binary_contents, file_of
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.services import Services, open_services
from chat.settings import Settings
from chat.store import SQLiteConversationStore
from tests.browser import Chat, open_page
from tests.cancelling import CancelledAt
from tests.every_part import EVERY_BYTE, EVERY_MESSAGE, NOON

pytestmark = pytest.mark.anyio

PICTURE = EVERY_BYTE * 8
ANNA, BEN = "A" * 43, "B" * 43
"""The tokens in two visitors' cookies."""


def owner(token: str) -> Owner:
    return Owner(f"visitor:{hashlib.sha256(token.encode()).hexdigest()}")


def file_id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def image(data: bytes = PICTURE, **options: Any) -> BinaryContent:
    return BinaryContent.narrow_type(BinaryContent(data, media_type="image/png", **options))


def returned(content: Any) -> ModelRequest:
    return ModelRequest([ToolReturnPart("look", content, tool_call_id="1", timestamp=NOON)])


def prompt(*content: Any) -> ModelRequest:
    return ModelRequest([UserPromptPart(list(content), timestamp=NOON)])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteConversationStore]:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        yield store


async def keep(
    store: SQLiteConversationStore, *messages: ModelMessage, name: str = "c", scope: str | None = None
) -> Conversation:
    conversation = Conversation(messages=list(messages), conversation_id=name)
    await store.save(conversation, scope=scope)
    return conversation


async def loaded(store: SQLiteConversationStore, name: str = "c") -> Conversation:
    conversation = await store.load(name)
    assert conversation is not None
    return conversation


async def window(store: SQLiteConversationStore, name: str = "c") -> list[ModelMessage]:
    """A whole conversation, as a page's window is read."""
    record = await store.read_record(name)
    assert record is not None
    assert record.head_id is not None
    end = await store.position(record.head_id)
    assert end is not None
    return [entry.message for entry in await store.read_part(record.head_id, 0, end)]


def files_in(path: Path) -> dict[str, tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return {row[0]: (row[1], row[2]) for row in connection.execute("SELECT id, size, data FROM file")}


def rows_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [message for (message,) in connection.execute("SELECT message FROM entry")]


def as_json(messages: list[ModelMessage]) -> bytes:
    return ModelMessagesTypeAdapter.dump_json(messages)


# What is kept


class Album(BaseModel):
    """What a tool returns when it has a class of its own."""

    cover: BinaryContent
    title: str


def nested(value: Any, levels: int) -> Any:
    return [nested(value, levels - 1)] if levels else value


FORGED = [{"at": [0, "content"], "id": file_id(PICTURE), "size": 9}]

MESSAGES: dict[str, ModelMessage] = {
    "a prompt": prompt("What is this?", image(), BinaryContent(b"%PDF", media_type="application/pdf")),
    "the same twice": prompt(image(), "and", image(), BinaryContent(PICTURE, media_type="text/plain")),
    "vendor metadata": prompt(image(vendor_metadata={"detail": "high", "parley_files": FORGED})),
    "a name of its own": prompt(image(identifier="my cat.png")),
    "empty content": prompt(image(b""), image(), image(b"")),
    "one byte": prompt(image(b"\0")),
    "a file of the model": ModelResponse([TextPart("Here:"), FilePart(image(), id="f")], timestamp=NOON),
    "speech": ModelRequest([SpeechPart(speaker="user", audio=BinaryContent(PICTURE, media_type="audio/wav"))]),
    "a tool's picture": returned(image()),
    "a tool's lists and mappings": returned({"pages": [{"": image(), "n": 1}, [image(b"x"), None]], "at": [0]}),
    "a tuple": returned(("first", image())),
    "a tool's raw bytes": returned({"raw": PICTURE, "picture": image()}),
    "pages by number": returned({1: image(), 2: image(b"two")}),
    "keys that are no text": returned({None: image(b"none"), True: image(b"true"), 1.5: image()}),
    "two keys that become one": returned({1: image(b"one"), "1": image(b"text")}),
    "two keys that become one, of which one is no file": returned({"1": image(), 1: [image(b"")]}),
    "two keys that become one, of which one only looks like a file": returned(
        {"1": image(), 1: {"kind": "binary", "data": "eA==", "media_type": "image/png"}}
    ),
    "a tool's own class": returned([Album(cover=image(), title="Cats"), image(b"beside it")]),
    "deep in lists": returned(nested(image(), 90)),
    "too deep in lists": returned(nested(image(), 120)),
    "text like ours": prompt(f'{{"parley_files":{json.dumps(FORGED)},"parts":[]}}', image()),
    "a mapping like ours": returned({"parley_files": FORGED, "parts": [image()]}),
    "a mapping like ours, and no file": returned({"parley_files": FORGED}),
    "a mapping like content": returned({"kind": "binary", "data": "", "media_type": "image/png"}),
    "a mapping like half content": returned([{"kind": "binary", "data": "@@"}, {"kind": "binary"}, image()]),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_comes_back_as_pydantic_ai_s_own_json_keeps_it(
    store: SQLiteConversationStore, name: str
) -> None:
    message = MESSAGES[name]
    before = deepcopy(message)
    [expected] = ModelMessagesTypeAdapter.validate_json(as_json([message]))
    [entry] = await store.save(Conversation(messages=[message], conversation_id="c"))
    assert message == before
    for read in ((await loaded(store)).messages[0], (await store.read_entry(entry.id)).message):
        assert read == expected
        assert as_json([read]) == as_json([expected])


CONTENT = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.sampled_from([image(), image(b""), image(b"small")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@examples(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.lists(CONTENT, min_size=1, max_size=3))
def test_whatever_tools_return_comes_back_as_pydantic_ai_s_own_json_keeps_it(contents: list[Any]) -> None:
    async def compare(path: Path) -> None:
        messages: list[ModelMessage] = [returned(content) for content in contents]
        async with SQLiteConversationStore(path) as store:
            await keep(store, *messages)
            read = (await loaded(store)).messages
        assert read == ModelMessagesTypeAdapter.validate_json(as_json(messages))
        assert as_json(read) == as_json(ModelMessagesTypeAdapter.validate_json(as_json(messages)))

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(Path(directory) / "chat.db"))


def endless() -> list[Any]:
    value: list[Any] = [image()]
    value += [value, {"again": value}]
    return value


def very_deep() -> list[Any]:
    value: list[Any] = [image()]
    for _ in range(5_000):
        value = [value]
    return value


@pytest.mark.parametrize("content", [endless, very_deep])
async def test_what_has_no_json_is_refused_and_leaves_nothing(
    store: SQLiteConversationStore, content: Callable[[], list[Any]]
) -> None:
    with pytest.raises(ValueError, match="Circular reference"):
        await keep(store, returned(content()))
    assert files_in(store.database.path) == {}


async def test_no_row_of_a_message_holds_the_data_of_a_file(store: SQLiteConversationStore) -> None:
    messages = [*EVERY_MESSAGE, *(MESSAGES[name] for name in ("a tool's lists and mappings", "pages by number"))]
    await keep(store, *messages)
    rows = rows_of(store.database.path)
    assert len(rows) == len(messages)
    assert not any("AAECAwQFBgcICQoL" in row for row in rows)  # As both contents begin, in base64.
    files = (EVERY_BYTE, PICTURE, b"x", b"two")
    assert files_in(store.database.path) == {file_id(data): (len(data), data) for data in files}


async def test_a_row_is_still_pydantic_ai_s_own_json(store: SQLiteConversationStore) -> None:
    await keep(store, *EVERY_MESSAGE)
    light = ModelMessagesTypeAdapter.validate_json(f"[{','.join(rows_of(store.database.path))}]")
    assert [len(message.parts) for message in light] == [len(message.parts) for message in EVERY_MESSAGE]


async def test_rows_from_before_that_hold_their_data_are_read_as_they_are(store: SQLiteConversationStore) -> None:
    await keep(store, prompt("replaced"))
    inline = as_json([MESSAGES["a prompt"]])[1:-1].decode()
    await store.database.change(lambda change: change.execute("UPDATE entry SET message = ?", (inline,)))
    assert (await loaded(store)).messages == [MESSAGES["a prompt"]]


# Once, and as long as it is used


async def test_the_same_content_is_one_file_whoever_sends_it(store: SQLiteConversationStore) -> None:
    await keep(store, prompt(image(), image()), returned([image()]), scope="ann")
    await keep(store, prompt(BinaryContent(PICTURE, media_type="text/plain")), name="other", scope="ben")
    assert files_in(store.database.path) == {file_id(PICTURE): (len(PICTURE), PICTURE)}
    [first, second] = binary_contents((await loaded(store)).messages[0])
    assert first.data is second.data


async def test_a_fork_and_a_branch_share_the_files_and_the_last_to_go_takes_them(
    store: SQLiteConversationStore,
) -> None:
    shared, left, own = (image(name) for name in (b"shared", b"left", b"own"))
    conversation = await keep(store, prompt(shared), ModelResponse([FilePart(left)], timestamp=NOON))
    branched = await store.branch("c", at=1, expected_revision=conversation.revision)
    branched.messages.append(ModelResponse([FilePart(own)], timestamp=NOON))
    await store.save(branched)
    await store.fork("c", at=1, new_conversation_id="fork")
    path = store.database.path
    assert {data for _, data in files_in(path).values()} == {b"shared", b"left", b"own"}
    await store.delete("c")
    assert {data for _, data in files_in(path).values()} == {b"shared"}
    assert (await loaded(store, "fork")).messages == [prompt(shared)]
    await store.delete("fork")
    assert files_in(path) == {}


async def test_a_file_that_another_conversation_sent_too_stays(store: SQLiteConversationStore) -> None:
    await keep(store, prompt(image()))
    await keep(store, prompt(image()), name="other")
    await store.delete("c")
    assert (await loaded(store, "other")).messages == [prompt(image())]
    await store.delete("other")
    assert files_in(store.database.path) == {}


async def test_a_save_that_comes_second_leaves_no_file(store: SQLiteConversationStore) -> None:
    await keep(store, prompt("mine"))
    with pytest.raises(ConversationConflict):
        await keep(store, prompt(image()))
    assert files_in(store.database.path) == {}


@pytest.mark.parametrize("times", [1, 2])
async def test_a_save_or_a_delete_cancelled_at_any_await_leaves_the_files_of_its_entries(
    store: SQLiteConversationStore, times: int
) -> None:
    path, large = store.database.path, image(PICTURE * 1024)
    seen: list[bool] = []
    while not (seen and seen[-1]):
        saved = await CancelledAt(keep(store, prompt(large)), len(seen), times)
        await keep(store, prompt("next"), name="next")  # Waits for what is left on the connection's thread.
        assert len(files_in(path)) == len(rows_of(path)) - 1
        deleted = await CancelledAt(store.delete("c"), len(seen), times)
        await store.delete("next")
        assert len(files_in(path)) == len(rows_of(path))
        await store.delete("c")
        assert files_in(path) == {}
        seen.append(saved and deleted)
    assert len(seen) > 1


async def test_a_conversation_deleted_while_its_files_are_read_is_not_there(
    store: SQLiteConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(store, prompt(image()))
    put_back = Files.put_back

    async def delete_first(*arguments: Any) -> None:
        await store.delete("c")
        await put_back(*arguments)

    monkeypatch.setattr(Files, "put_back", delete_first)
    assert await store.load("c") is None


# Light messages


async def test_a_window_reads_no_file_and_knows_them_all(
    store: SQLiteConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [prompt("Look:", image(identifier="cat.png")), *EVERY_MESSAGE]
    await keep(store, *messages)
    asked: list[str] = []
    rows = store.database.rows

    async def traced(sql: str, parameters: Any = ()) -> list[sqlite3.Row]:
        asked.append(sql)
        return await rows(sql, parameters)

    monkeypatch.setattr(store.database, "rows", traced)
    light = await window(store)
    assert [sql for sql in asked if "file" in sql] == []
    kept = [content for message in messages for content in binary_contents(message)]
    known = [content for message in light for content in binary_contents(message)]
    assert [file_of(content) for content in known] == [file_of(content) for content in kept]
    assert file_of(known[0]) == StoredFile(file_id(PICTURE), len(PICTURE), "image/png", "cat.png")
    assert [content.data for content in known] == [b""] * len(kept)
    assert [deepcopy(file_of(content)) for content in deepcopy(known)] == [file_of(content) for content in kept]


async def test_what_a_window_takes_does_not_grow_with_the_files(store: SQLiteConversationStore) -> None:
    await keep(store, *(prompt(image(bytes([number]) * 1_000_000)) for number in range(20)))
    await window(store)
    tracemalloc.start()
    light = await window(store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(light) == 20
    assert peak < 1_000_000


async def test_a_light_message_that_is_saved_again_keeps_its_files(store: SQLiteConversationStore) -> None:
    await keep(store, *MESSAGES.values())
    await keep(store, *await window(store), name="again")
    kept = (await loaded(store)).messages
    await store.delete("c")
    again = (await loaded(store, "again")).messages
    assert again == kept
    assert as_json(again) == as_json(kept)


async def test_a_message_that_is_light_and_whole_brings_the_file_along(store: SQLiteConversationStore) -> None:
    await keep(store, prompt(image()))
    [light] = [content for message in await window(store) for content in binary_contents(message)]
    await store.delete("c")
    await keep(store, prompt(image(), light))
    assert (await loaded(store)).messages == [prompt(image(), image())]


def test_the_file_of_content_in_memory_is_known_by_its_data() -> None:
    for number in range(256):  # Each may be where the one before was.
        file = file_of(image(bytes([number])))
        assert file is not None
        assert file.id == file_id(bytes([number]))


async def test_a_light_message_whose_file_is_gone_is_a_conflict(store: SQLiteConversationStore) -> None:
    await keep(store, prompt(image()))
    light = await window(store)
    await store.delete("c")
    with pytest.raises(ConversationConflict):
        await keep(store, *light)
    assert rows_of(store.database.path) == []


@pytest.mark.parametrize(
    ("identifier", "media_type", "name"),
    [
        ("report.pdf", "application/pdf", "report.pdf"),
        ("a1b2c3", "image/png", "a1b2c3.png"),
        ("a1b2c3", "nonsense", "a1b2c3"),
        ("../../etc/passwd\r\nX: 1", "text/plain", "_.._etc_passwdX_ 1"),
        ("\u202egnp.exe", "image/png", "gnp.exe"),
        ('"\\<>', "nonsense", "____"),
        ("...", "nonsense", "file"),
        ("n" * 500 + ".png", "image/png", "n" * 116 + ".png"),
        ("\U0001f600" * 500 + ".png", "image/png", "\U0001f600" * 49 + ".png"),
        ("n" * 500 + ".env" + "n" * 116, "image/png", "env" + "n" * 116 + ".png"),
        ("..", "image/png", "file.png"),
        ("nul.png", "image/png", "_nul.png"),
        ("-rf.png", "image/png", "rf.png"),
        ("~/.bashrc", "nonsense", "_.bashrc"),
    ],
)
def test_a_name_is_fit_for_a_file(identifier: str, media_type: str, name: str) -> None:
    file = file_of(BinaryContent(b"x", media_type=media_type, identifier=identifier))
    assert file is not None
    assert file.name == name


# Serving


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


def browser_of(services: Services, token: str | None = ANNA) -> httpx.AsyncClient:
    app = Starlette(routes=[Route(FILE_ROUTE, serve_file)])

    async def with_services(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"services": services}}, receive, send)

    cookies = {} if token is None else {"parley_visitor": token}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(with_services), base_url="http://chat.example", cookies=cookies
    )


async def address(services: Services, content: BinaryContent, name: str = "c") -> str:
    """Keep content as Anna's; where it is served."""
    [entry] = await services.store.save(
        Conversation(messages=[prompt(content)], conversation_id=name), scope=owner(ANNA)
    )
    file = file_of(content)
    assert file is not None
    return file_path(name, entry.id, file)


async def test_the_owner_gets_a_picture_to_look_at(services: Services) -> None:
    url = await address(services, image(identifier="Katze äöü.png"))
    async with browser_of(services) as client:
        answer = await client.get(url)
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert dict(answer.headers) == {
        "content-type": "image/png",
        "content-length": str(len(PICTURE)),
        "content-disposition": "inline; filename=\"Katze ___.png\"; filename*=UTF-8''Katze%20%C3%A4%C3%B6%C3%BC.png",
        "content-security-policy": "default-src 'none'; img-src 'self'; media-src 'self'; "
        "style-src 'unsafe-inline'; sandbox allow-same-origin",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "private, max-age=86400, immutable",
        "vary": "cookie",
        "accept-ranges": "bytes",
        "etag": f'"{file_id(PICTURE)}"',
    }


@pytest.mark.parametrize(
    ("media_type", "served", "disposition"),
    [
        ("image/png", "image/png", "inline"),
        ("application/pdf", "application/pdf", "inline"),
        ("audio/webm;codecs=opus", "audio/webm", "inline"),
        ("Video/MP4", "video/mp4", "inline"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/html", "application/octet-stream", "attachment"),
        ("text/plain", "application/octet-stream", "attachment"),
        ("image/png\r\nset-cookie: a=b", "application/octet-stream", "attachment"),
        ("", "application/octet-stream", "attachment"),
    ],
)
async def test_only_media_that_can_run_nothing_are_shown_by_their_type(
    services: Services, media_type: str, served: str, disposition: str
) -> None:
    url = await address(services, BinaryContent(b"<script>alert(1)</script>", media_type=media_type))
    async with browser_of(services) as client:
        headers = (await client.get(url)).headers
    assert headers["content-type"] == served
    assert headers["content-disposition"].partition(";")[0] == disposition
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-", 206, slice(0, 2048)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=100-199", 206, slice(100, 200)),
        ("bytes=2000-9999", 206, slice(2000, 2048)),
        ("bytes=-10", 206, slice(2038, 2048)),
        ("bytes=-9999", 206, slice(0, 2048)),
        ("bytes=2048-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=200-100", 200, slice(0, 2048)),
        ("bytes=0-1,5-6", 200, slice(0, 2048)),
        ("bytes=-", 200, slice(0, 2048)),
        ("lines=1-2", 200, slice(0, 2048)),
        (f"bytes={'9' * 5000}-", 200, slice(0, 2048)),
    ],
)
async def test_a_part_of_a_film_is_served_when_asked_for(
    services: Services, asked: str, status: int, part: slice
) -> None:
    url = await address(services, BinaryContent(PICTURE, media_type="video/mp4"))
    async with browser_of(services) as client:
        answer = await client.get(url, headers={"range": asked})
        whole_again = await client.get(url, headers={"range": asked, "if-range": '"another"'})
    assert (answer.status_code, answer.content) == (status, PICTURE[part])
    assert answer.headers["content-length"] == str(part.stop - part.start)
    where = {206: f"bytes {part.start}-{part.stop - 1}/2048", 416: "bytes */2048"}.get(status)
    assert answer.headers.get("content-range") == where
    assert (whole_again.status_code, whole_again.content) == (200, PICTURE)


async def test_a_head_request_tells_the_size_and_sends_nothing(services: Services) -> None:
    url = await address(services, image())
    async with browser_of(services) as client:
        answer = await client.head(url)
        part = await client.head(url, headers={"range": "bytes=0-9"})
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "2048", b"")
    assert (part.status_code, part.headers["content-length"], part.content) == (206, "10", b"")


async def test_a_browser_that_has_it_is_told_so(services: Services) -> None:
    url = await address(services, image())
    async with browser_of(services) as client:
        answer = await client.get(url, headers={"if-none-match": f'"{file_id(PICTURE)}"'})
    assert (answer.status_code, answer.content) == (304, b"")


async def test_an_id_with_anything_in_it_has_an_address(services: Services) -> None:
    url = await address(services, image(), name="a/b c?ü#%2F")
    async with browser_of(services) as client:
        assert (await client.get(url)).content == PICTURE


async def test_a_file_in_a_row_from_before_is_served_too(services: Services) -> None:
    url = await address(services, image())
    inline = as_json([prompt(image())])[1:-1].decode()
    await services.store.database.change(lambda change: change.execute("UPDATE entry SET message = ?", (inline,)))
    async with browser_of(services) as client:
        assert (await client.get(url, headers={"range": "bytes=1-2"})).content == PICTURE[1:3]


async def test_the_files_of_branches_are_served_and_those_of_forks_by_their_own_names(services: Services) -> None:
    url = await address(services, image())
    record = await services.store.read_record("c")
    assert record is not None
    await services.store.branch("c", at=0, expected_revision=record.revision)
    async with browser_of(services) as client:
        assert (await client.get(url)).content == PICTURE
        assert (await client.get(url.replace("/c/", "/fork/"))).status_code == 404
        await services.store.fork("c", from_entry=record.head_id, new_conversation_id="fork")
        assert (await client.get(url.replace("/c/", "/fork/"))).content == PICTURE


async def test_what_is_somebody_else_s_or_missing_is_one_and_the_same_404(services: Services) -> None:
    url = await address(services, image())
    other = await address(services, image(b"other"), name="other")
    [_, _, conversation, entry, file] = url.split("/")
    [_, _, _, other_entry, other_file] = other.split("/")
    wrong = [
        file_path(c, e, StoredFile(f, 0, "", ""))
        for c, e, f in [
            ("missing", entry, file),
            ("other", entry, file),
            (conversation, "missing", file),
            (conversation, other_entry, other_file),
            (conversation, entry, other_file),
            (conversation, entry, "0" * 64),
            (conversation, entry, "' OR 1=1"),
            (conversation, f"{entry}.0", file),
            (conversation, "\0", file),
            ("x" * 10_000, "9" * 10_000, "y" * 10_000),
        ]
    ]
    async with browser_of(services) as anna, browser_of(services, BEN) as ben, browser_of(services, None) as nobody:
        answers = [await anna.get(url) for url in wrong]
        answers += [await other.get(url) for other in (ben, nobody)]
        assert (await anna.get(url)).status_code == 200
        await services.store.delete("c")
        answers.append(await anna.get(url))
    assert {(answer.status_code, answer.content, str(answer.headers)) for answer in answers} == {
        (404, b"Not found.", str(answers[0].headers))
    }
    assert answers[0].headers["cache-control"] == "no-store"


async def test_a_file_deleted_while_it_is_served_is_missing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await address(services, image())
    read = Files.read

    async def delete_first(*arguments: Any) -> bytes:
        await services.store.delete("c")
        return await read(*arguments)

    monkeypatch.setattr(Files, "read", delete_first)
    async with browser_of(services) as client:
        assert (await client.get(url)).status_code == 404


async def test_a_running_reply_s_files_are_served_until_it_is_stored(services: Services) -> None:
    go_on = asyncio.Event()

    async def draw_then_wait(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="draw", json_args="{}", tool_call_id="1")}
        else:
            yield "There "
            await go_on.wait()

    agent = Agent(FunctionModel(stream_function=draw_then_wait))

    @agent.tool_plain
    def draw() -> BinaryContent:  # pyright: ignore[reportUnusedFunction]
        return image()

    run = await services.runs.send(owner(ANNA), None, "Draw.", ChatAgent(agent, (ChatModel("painter"),)))
    file = file_of(image())
    assert file is not None
    async with asyncio.timeout(20):
        while len(run.partial.messages()) < 3:
            await run.after(run.version)
    path = file_path(run.conversation_id, f"{run.id}.1", file)
    async with browser_of(services) as anna, browser_of(services, BEN) as ben:
        assert (await anna.get(path)).content == PICTURE
        assert (await anna.get(path, headers={"range": "bytes=1-2"})).content == PICTURE[1:3]
        assert (await ben.get(path)).status_code == 404
        for entry in (f"{run.id}.0", f"{run.id}.99", f"{run.id}.-1", f"{run.id}.", f"{'9' * 5000}", "other.1"):
            assert (await anna.get(file_path(run.conversation_id, entry, file))).status_code == 404
        go_on.set()
        async with asyncio.timeout(20):
            while not run.done:
                await run.after(run.version)
        assert (await anna.get(path)).status_code == 404
        entries = await services.store.load_entries(run.conversation_id) or []
        assert (await anna.get(file_path(run.conversation_id, entries[2].id, file))).content == PICTURE


# In a browser


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20, 20, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\0\0" * 20) * 20
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav() -> bytes:
    silence = bytes(16_000)
    head = struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 8_000, 1, 8)
    return b"RIFF" + struct.pack("<I", 36 + len(silence)) + b"WAVEfmt " + head + b"data\x80\x3e\0\0" + silence


def test_a_browser_shows_a_picture_and_plays_a_sound(visitor: BrowserContext, chat: Chat) -> None:
    page = open_page(visitor, chat.url)
    [token] = [cookie.get("value", "") for cookie in visitor.cookies() if cookie.get("name") == "parley_visitor"]
    contents = image(png()), BinaryContent(wav(), media_type="audio/wav")
    conversation = Conversation(messages=[prompt(*contents)])

    async def save() -> str:
        async with SQLiteConversationStore(chat.database) as store:
            return (await store.save(conversation, scope=owner(token)))[0].id

    with ThreadPoolExecutor() as thread:  # Playwright's event loop holds this one.
        entry = thread.submit(asyncio.run, save()).result()
    files = [file for content in contents if (file := file_of(content)) is not None]
    picture, sound = (file_path(conversation.conversation_id, entry, file) for file in files)
    page.set_content(f"<img src='{picture}'><audio preload='auto' src='{sound}'></audio>")
    page.wait_for_function("document.images[0].naturalWidth === 20")
    page.wait_for_function("document.querySelector('audio').duration === 2")
    # In a tab of their own, too.
    page.goto(f"{chat.url}/{picture}")
    page.wait_for_function("document.images[0]?.naturalWidth === 20")
    page.goto(f"{chat.url}/{sound}")
    page.wait_for_function("document.querySelector('video, audio')?.duration === 2")
