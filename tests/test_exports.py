"""A conversation leaves the chat as a file that people read, or one that keeps all of it; so does everything."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from inline_snapshot import snapshot
from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter, RunUsage
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

from chat.choices import Choice
from chat.export_route import EXPORT_ROUTES
from chat.exports import file_name
from chat.feedback import Opinion
from chat.journal import Outcome
from chat.services import Services, open_services
from chat.settings import Settings
from chat.timing import Timing
from chat.transcript import RULES, Folded, Shown, transcript
from tests.every_part import EVERY_MESSAGE, HIDDEN, NOON, REQUEST_PARTS, RESPONSE_PARTS, WORKDAY
from tests.visiting import ANNA, BEN, owner, visitor_of

pytestmark = pytest.mark.anyio

PICTURE = BinaryContent.narrow_type(BinaryContent(bytes(range(256)), media_type="image/png", identifier="cat.png"))


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


async def keep(services: Services, *messages: ModelMessage, name: str = "c", title: str = "A day") -> list[str]:
    """Keep a conversation of Anna's; its entries' ids."""
    conversation = Conversation(messages=list(messages), conversation_id=name, usage=RunUsage(input_tokens=3))
    entries = await services.store.save(conversation, scope=owner(ANNA))
    await services.library.title_from_prompt(owner(ANNA), name, title)
    return [entry.id for entry in entries]


async def get(services: Services, path: str, token: str | None = ANNA) -> httpx.Response:
    async with visitor_of(services, EXPORT_ROUTES, token) as visitor:
        return await visitor.get(path)


def prompt(*content: Any) -> ModelRequest:
    return ModelRequest([UserPromptPart(list(content), timestamp=NOON)])


def reply(*parts: Any) -> ModelResponse:
    return ModelResponse(list(parts), timestamp=NOON, model_name="model")


CHAT: list[ModelMessage] = [
    prompt("What is <b>19 + 23</b>?\n\n- exactly"),
    reply(ThinkingPart("I should *add*."), ToolCallPart("add", {"a": 19, "b": 23}, tool_call_id="1")),
    ModelRequest([ToolReturnPart("add", 42, tool_call_id="1", timestamp=NOON)]),
    reply(TextPart("It is **42**.")),
]


# Markdown


async def test_markdown_reads_as_the_conversation_with_its_tool_calls_folded(services: Services) -> None:
    ids = await keep(services, *CHAT)
    await services.journal.finish("c", ids[0], Outcome("stopped", "Stopped."))
    answer = await get(services, "/parley/export/c?as=markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text == snapshot("""\
# A day

## You

What is <b>19 + 23</b>?

- exactly

## Assistant

<details><summary>Thinking</summary>

I should *add*.

</details>

<details><summary>Tool: add · done</summary>

**Arguments**

```json
{
  "a": 19,
  "b": 23
}
```

**Result**

```json
42
```

</details>

It is **42**.

*Stopped.*

""")


async def test_files_lie_beside_the_markdown_by_their_own_names(services: Services) -> None:
    other = BinaryContent(b"%PDF", media_type="application/pdf", identifier="CAT.png")
    await keep(services, prompt("Look:", PICTURE, PICTURE, other), reply(TextPart("A cat.")))
    answer = await get(services, "/parley/export/c")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        assert {name: zipped.read(name) for name in zipped.namelist()[1:]} == {
            "files/cat.png": PICTURE.data,
            "files/CAT 2.png": b"%PDF",
        }
        words = zipped.read("A day.md").decode()
    assert words.count("![cat.png](<files/cat.png>)") == 2
    assert "[CAT.png](<files/CAT 2.png>) · 4 bytes" in words


async def test_a_reader_is_not_told_what_only_the_model_is(services: Services) -> None:
    await keep(services, *EVERY_MESSAGE, *WORKDAY)
    answer = await get(services, "/parley/export/c")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        words = zipped.read("A day.md").decode()
    assert HIDDEN not in words
    assert "Sunny." in words  # What an agent said that a tool ran.


async def test_a_long_text_is_whole(services: Services) -> None:
    long = "word " * 100_000
    await keep(services, prompt(long), reply(ToolCallPart("f", {"x": long})), reply(TextPart(long)))
    assert (await get(services, "/parley/export/c")).text.count(long.strip()) == 3


async def test_long_conversations_are_read_turn_by_turn_and_lose_nothing(services: Services) -> None:
    turns = [message for number in range(250) for message in (prompt(f"P{number}."), reply(TextPart(f"R{number}.")))]
    await keep(services, *turns)
    words = (await get(services, "/parley/export/c")).text
    assert [line for line in words.splitlines() if line.endswith(".")] == [
        f"{who}{number}." for number in range(250) for who in "PR"
    ]


def test_every_kind_of_part_has_a_rule() -> None:
    assert {part.part_kind for part in [*REQUEST_PARTS, *RESPONSE_PARTS]} - RULES.keys() == set()


def test_what_is_not_chosen_is_not_told() -> None:
    messages = [(str(index), message) for index, message in enumerate([*CHAT, *EVERY_MESSAGE, *WORKDAY])]
    told = transcript(messages, Shown(tools=False, thinking=False))
    assert [piece for piece in told if isinstance(piece, Folded)] == []
    assert not any("measure" in str(piece) or "I should" in str(piece) for piece in told)


# JSON


@pytest.fixture
async def open_chat(tmp_path: Path) -> AsyncIterator[Services]:
    """A chat whose visitors may know what its model is told."""
    async with open_services(Settings(database=tmp_path / "open.db", show_system=True)) as services:
        yield services


async def test_json_has_each_message_as_pydantic_ai_s_own_and_its_files_in_it(open_chat: Services) -> None:
    services = open_chat
    ids = await keep(services, *EVERY_MESSAGE)
    answer = await get(services, "/parley/export/c?as=json")
    assert answer.headers["content-type"] == "application/json"
    exported = json.loads(answer.content)
    assert [entry["id"] for entry in exported["entries"]] == ids
    messages = [entry["message"] for entry in exported["entries"]]
    expected = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(EVERY_MESSAGE))
    assert ModelMessagesTypeAdapter.validate_json(json.dumps(messages)) == expected


async def test_json_has_all_versions_and_what_is_known_beside_the_messages(services: Services) -> None:
    ids = await keep(services, *CHAT)
    anna = owner(ANNA)
    await services.journal.finish("c", ids[0], Outcome("failed", "No."), Timing(2.5, {"thinking:0": 0.5}))
    await services.choices.write(anna, "c", Choice(temperature=0.5))
    await services.feedback.give(anna, "c", ids[1], Opinion(verdict="down", comment="Too short."))
    record = await services.store.read_record("c")
    assert record is not None
    await services.store.branch("c", from_entry=ids[0], expected_revision=record.revision, scope=anna)
    exported = json.loads((await get(services, "/parley/export/c?as=json")).content)
    first, *others = exported.pop("entries")
    assert [(entry["id"], entry["parent"]) for entry in [first, *others]] == list(zip(ids, [None, *ids], strict=False))
    assert first["outcome"] == {"kind": "failed", "sentence": "No."}
    assert first["timing"] == {"seconds": 2.5, "parts": {"thinking:0": 0.5}}
    said = others[0]["feedback"]
    assert (said["verdict"], said["comment"], said["model"]) == ("down", "Too short.", "model")
    assert exported["usage"]["input_tokens"] == 3
    del exported["usage"], exported["updated_at"]
    assert exported == {
        "format": "parley-conversation",
        "version": 1,
        "id": "c",
        "title": "A day",
        "head": ids[0],
        "branches": [ids[-1]],
        "deferred_tool_requests": None,
        "choice": {"temperature": 0.5},
        "forked_from": None,
        "forked_at": None,
        "place": "listed",
    }


# Everything


async def test_everything_is_one_zip_with_each_file_once(services: Services) -> None:
    await keep(services, prompt("Look:", PICTURE), reply(TextPart("A cat.")), title="Cats/../<cats>")
    await keep(services, prompt("Again:", PICTURE), name="d", title="Again")
    await services.store.save(Conversation(messages=[prompt("Ben's")], conversation_id="b"), scope=owner(BEN))
    answer = await get(services, "/parley/export?id=x")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        names = zipped.namelist()
        [picture] = [name for name in names if name.startswith("files/")]
        assert sorted({*names} - {picture}) == [
            "00001 Cats_..__cats_.json",
            "00001 Cats_..__cats_.md",
            "00002 Again.json",
            "00002 Again.md",
        ]
        assert zipped.read(picture) == PICTURE.data
        assert f"![cat.png](<{picture}>)" in zipped.read("00002 Again.md").decode()
        assert all(json.loads(zipped.read(name))["id"] in "cd" for name in names if name.endswith(".json"))
        assert b"Ben's" not in b"".join(map(zipped.read, names))


async def test_a_zip_says_how_far_it_is_to_whom_it_is_sent(services: Services) -> None:
    for number in range(3):
        await keep(services, *CHAT, name=str(number))
    export = services.exports.everything(owner(ANNA), "mine")
    told: list[tuple[int, int] | None] = []
    async for _ in export.pieces:
        progress = services.exports.progress(owner(ANNA), "mine")
        told.append(progress and (progress.done, progress.total))
        assert services.exports.progress(owner(BEN), "mine") is None
    assert list(dict.fromkeys(told)) == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert services.exports.progress(owner(ANNA), "mine") is None


async def test_what_a_zip_takes_does_not_grow_with_what_is_in_it(services: Services) -> None:
    async def peak(conversations: int) -> int:
        for number in range(conversations):
            await keep(
                services,
                *CHAT * 25,
                prompt(BinaryContent(bytes([number]) * 500_000, media_type="image/png")),
                name=f"{conversations} {number}",
            )
        tracemalloc.start()
        async for _ in services.exports.everything(owner(ANNA), "").pieces:
            pass
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    assert await peak(20) < 1.5 * await peak(2)


# Whose, and what else


@pytest.mark.parametrize("form", ["markdown", "json"])
async def test_somebody_else_s_conversation_is_as_missing_as_a_missing_one(services: Services, form: str) -> None:
    await keep(services, *CHAT)
    answers = [
        await get(services, f"/parley/export/c?as={form}", BEN),
        await get(services, f"/parley/export/c?as={form}", None),
        await get(services, f"/parley/export/missing?as={form}"),
        await get(services, f"/parley/export/{'x' * 5000}?as={form}"),
        await get(services, f"/parley/export/%00?as={form}"),
        await get(services, "/parley/export/c?as=nonsense"),
        await get(services, "/parley/export", None),
        await get(services, "/parley/export-progress?id=x", None),
    ]
    assert {(answer.status_code, answer.content, str(answer.headers)) for answer in answers} == {
        (404, b"Not found.", str(answers[0].headers))
    }


async def test_a_download_runs_nothing_and_is_named_safely(services: Services) -> None:
    await keep(services, *CHAT, title='Ü "a"\r\nb: c ../..')
    headers = (await get(services, "/parley/export/c")).headers
    expected = "attachment; filename=\"_ _a_ b_ c .._.md\"; filename*=UTF-8''%C3%9C%20_a_%20b_%20c%20.._.md"
    assert headers["content-disposition"] == expected
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "b" not in headers


@pytest.mark.parametrize(
    ("title", "name"),
    [
        (None, "Untitled"),
        ("...", "Untitled"),
        ("a/b\\c:d*e", "a_b_c_d_e"),
        ("\u202eexe.gnp\n", "exe.gnp"),
        ("x" * 500, "x" * 80),
        ("\u6f22" * 500, "\u6f22" * 66),
        ("con", "_con"),
        ("Lpt1 .txt", "_Lpt1 .txt"),
        ("-rf ~", "rf ~"),
        ("console", "console"),
    ],
)
def test_a_title_makes_a_name_that_every_system_takes(title: str | None, name: str) -> None:
    assert file_name(title) == name
