"""A deleted conversation is as if it had never been, can be restored for a while, and then is erased with its files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import BinaryContent, ModelRequest, UserPromptPart

from chat import deletions as deletions_module
from chat.identity import Owner
from chat.library import Library
from chat.models import ChatAgent, ChatModel
from chat.runs import ConversationMissing
from chat.services import Services, open_services
from chat.settings import Settings
from chat.view import MISSING, View, watch
from tests.scripted import agent

pytestmark = pytest.mark.anyio

ANNA, BEN = Owner("visitor:anna"), Owner("visitor:ben")
SCRIPTED = ChatAgent(agent, (ChatModel("scripted"),))
PICTURE = BinaryContent(b"\x89PNG picture", media_type="image/png")
PATIENCE = 20


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


async def start(services: Services, name: str = "c") -> None:
    message = ModelRequest([UserPromptPart([PICTURE, name])])
    await services.store.save(Conversation(messages=[message], conversation_id=name), scope=ANNA)
    await services.library.rename(ANNA, name, f"About {name}")


async def shown(services: Services, name: str = "c") -> View:
    return [view async for view in watch(services, ANNA, name)][-1]


async def counts(services: Services) -> dict[str, int]:
    """How many rows there are of what a conversation consists of."""
    tables = ("conversation", "entry", "file", "title", "deletion")
    rows = [await services.database.row(f"SELECT count(*) AS n FROM {table}") for table in tables]  # noqa: S608
    return {table: row["n"] for table, row in zip(tables, rows, strict=True) if row is not None}


async def test_a_deleted_conversation_looks_like_one_that_never_was(services: Services) -> None:
    await start(services)
    assert await services.deletions.delete(ANNA, "c")
    assert await shown(services) == await shown(services, "never") == View(None, notice=MISSING)
    assert await services.library.find(ANNA, ["c"]) == []
    assert await services.runs.token(ANNA, "c") is None
    assert await services.exports.conversation(ANNA, "c", "json") is None
    assert not await services.library.rename(ANNA, "c", "Still mine?")
    assert not await services.deletions.delete(ANNA, "c")
    for send in (services.runs.send(ANNA, "c", "hello", SCRIPTED), services.runs.retry(ANNA, "c", SCRIPTED)):
        with pytest.raises(ConversationMissing):
            await send


async def test_a_restored_conversation_is_what_it_was_and_where_it_was(services: Services) -> None:
    for name in "abc":
        await start(services, name)
    await services.library.move(ANNA, "b", "pinned")
    before = await services.library.conversations(ANNA)
    await services.deletions.delete(ANNA, "b")
    assert await services.deletions.restore(ANNA, "b")
    assert await services.library.conversations(ANNA) == before
    assert not await services.deletions.restore(ANNA, "b")
    run = await services.runs.send(ANNA, "b", "files", SCRIPTED)
    assert await run.ends_within(PATIENCE)
    assert len(await services.store.load_entries("b", scope=ANNA) or ()) == 3


async def test_nobody_else_can_delete_or_restore_it(services: Services) -> None:
    await start(services)
    assert not await services.deletions.delete(BEN, "c")
    assert await services.deletions.delete(ANNA, "c")
    assert not await services.deletions.restore(BEN, "c")
    assert await services.deletions.restore(ANNA, "c")


async def test_a_reply_that_is_written_is_stopped_and_what_it_has_is_restored_too(services: Services) -> None:
    run = await services.runs.send(ANNA, None, "hang", SCRIPTED)
    async with asyncio.timeout(PATIENCE):
        while not run.partial.messages():
            await run.after(run.version)
    assert await services.deletions.delete(ANNA, run.conversation_id)
    assert run.done
    await services.deletions.restore(ANNA, run.conversation_id)
    view = await shown(services, run.conversation_id)
    assert (view.phase, len(view.messages)) == ("idle", 3)


async def test_open_pages_hear_of_it(services: Services) -> None:
    await start(services)
    with services.changes.follow(ANNA) as news:
        await services.deletions.delete(ANNA, "c")
        assert await anext(news) == {"c": None}
        await services.deletions.restore(ANNA, "c")
        assert await anext(news) == {"c": await services.runs.token(ANNA, "c")}


async def test_after_a_while_it_is_erased_with_the_files_that_nothing_else_has(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions_module, "KEPT_SECONDS", 0)
    for name in "ab":
        await start(services, name)
    await erased(services, "a")
    assert await counts(services) == {"conversation": 1, "entry": 1, "file": 1, "title": 1, "deletion": 0}
    await erased(services, "b")
    assert await counts(services) == {"conversation": 0, "entry": 0, "file": 0, "title": 0, "deletion": 0}
    assert not await services.deletions.restore(ANNA, "a")


async def test_what_was_deleted_before_a_restart_is_erased_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database=tmp_path / "chat.db")
    async with open_services(settings) as services:
        for name in "ab":
            await start(services, name)
            await services.deletions.delete(ANNA, name)
        await services.deletions.restore(ANNA, "b")
    monkeypatch.setattr(deletions_module, "KEPT_SECONDS", 0)
    async with open_services(settings) as services:
        await services.deletions._eraser  # pyright: ignore
        assert [listed.conversation_id for listed in (await Library(services.database).conversations(ANNA))[0]] == ["b"]
        assert (await counts(services))["conversation"] == 1


async def erased(services: Services, name: str) -> None:
    await services.deletions.delete(ANNA, name)
    async with asyncio.timeout(PATIENCE):
        await services.deletions._eraser  # pyright: ignore
