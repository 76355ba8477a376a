"""Files become conversations: all of a file or nothing, with ids of their own, whatever is in the file."""

import asyncio
import csv
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic_ai import DeferredToolRequests, ModelMessage, RunUsage
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
)

from chat.choices import Choice
from chat.export_route import EXPORT_ROUTES
from chat.feedback import Opinion
from chat.file_render import text_file
from chat.files import binary_contents
from chat.import_file import ImportRefused, read_file
from chat.import_route import IMPORT_ROUTES
from chat.journal import Outcome
from chat.services import Services, open_services
from chat.settings import Settings
from chat.store import message_json
from chat.timing import Timing
from tests.every_part import EVERY_MESSAGE, NOON, WORKDAY
from tests.visiting import ANNA, BEN, owner, visitor_of

pytestmark = pytest.mark.anyio

LARGEST = 1_000_000
PICTURE = BinaryContent.narrow_type(BinaryContent(bytes(range(256)), media_type="image/png", identifier="cat.png"))


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    settings = Settings(database=tmp_path / "chat.db", max_import_mb=LARGEST / 1_000_000)
    async with open_services(settings) as services:
        yield services


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Services]:
    """Another Parley."""
    async with open_services(Settings(database=tmp_path / "elsewhere.db")) as services:
        yield services


def prompt(*content: Any) -> ModelRequest:
    return ModelRequest([UserPromptPart(list(content), timestamp=NOON)])


def reply(*parts: Any, **options: Any) -> ModelResponse:
    return ModelResponse(list(parts), timestamp=NOON, model_name="model", **options)


CHAT: list[ModelMessage] = [
    prompt("Look:", PICTURE, text_file("notes.txt", "some words")),
    reply(ThinkingPart("hm"), ToolCallPart("add", {"a": 19}, tool_call_id="1")),
    ModelRequest([ToolReturnPart("add", {"sum": 42, "picture": PICTURE}, tool_call_id="1", timestamp=NOON)]),
    reply(TextPart("It is **42**.")),
]


async def keep(services: Services, *messages: ModelMessage, name: str = "c", token: str = ANNA) -> list[str]:
    conversation = Conversation(messages=list(messages), conversation_id=name, usage=RunUsage(input_tokens=3))
    entries = await services.store.save(conversation, scope=owner(token))
    await services.library.title_from_prompt(owner(token), name, f"Title of {name}")
    return [entry.id for entry in entries]


async def exported(services: Services, name: str = "c", token: str = ANNA) -> bytes:
    async with visitor_of(services, EXPORT_ROUTES, token) as visitor:
        return (await visitor.get(f"/parley/export/{name}?as=json")).content


async def everything(services: Services, token: str = ANNA) -> bytes:
    return b"".join([piece async for piece in services.exports.everything(owner(token), "").pieces])


async def put(services: Services, data: bytes, token: str | None = ANNA) -> tuple[int, str, list[str]]:
    """Send a file to be imported: the status, what is said, and the new conversations' ids."""
    async with visitor_of(services, IMPORT_ROUTES, token) as visitor:
        answer = await visitor.post("/parley/import", content=data)
    return answer.status_code, answer.json()["said"], answer.json()["conversations"]


async def taken(services: Services, data: bytes, token: str = ANNA) -> list[str]:
    status, said, conversations = await put(services, data, token)
    assert status == 200, said
    return conversations


async def dump(services: Services) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in the database."""
    tables = await services.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
    rows = {name: await services.database.rows(f"SELECT * FROM {name}") for (name,) in tables}  # noqa: S608  # its own
    return {name: [tuple(row) for row in some] for name, some in rows.items()}


def plain(data: bytes) -> dict[str, Any]:
    """A JSON export with ids that tell nothing but the order."""
    value = json.loads(data)
    ids = {entry["id"]: str(number) for number, entry in enumerate(value["entries"])}
    for entry in value["entries"]:
        entry["id"], entry["parent"] = ids[entry["id"]], ids.get(entry["parent"])
    return {**value, "id": "", "head": ids.get(value["head"]), "branches": [ids[tip] for tip in value["branches"]]}


# There and back


async def test_an_exported_conversation_comes_back_as_it_was(services: Services, elsewhere: Services) -> None:
    ids = await keep(elsewhere, *CHAT)
    anna = owner(ANNA)
    await elsewhere.journal.finish("c", ids[0], Outcome("failed", "No."), Timing(2.5, {"thinking:0": 0.5}))
    await elsewhere.choices.write(anna, "c", Choice(instructions="Be brief."))
    await elsewhere.feedback.give(anna, "c", ids[1], Opinion(verdict="up", comment="Just so."))
    record = await elsewhere.store.read_record("c")
    assert record is not None
    await elsewhere.store.branch("c", from_entry=ids[1], expected_revision=record.revision, scope=anna)
    data = await exported(elsewhere)
    [name] = await taken(services, data)
    again = await exported(services, name)
    assert plain(again) == plain(data)
    assert b"Just so." in again
    assert not {*ids, "c"} & {row["id"] for row in await services.database.rows("SELECT id FROM entry")}
    loaded = await services.store.load(name, scope=anna)
    assert loaded is not None
    assert loaded.messages == CHAT[:2]


async def test_a_whole_parley_moves_with_its_files_and_forks(services: Services, elsewhere: Services) -> None:
    ids = await keep(elsewhere, *CHAT, prompt("Go on."))
    await elsewhere.store.fork("c", from_entry=ids[3], new_conversation_id="fork", scope=owner(ANNA))
    await keep(elsewhere, *WORKDAY, name="other")
    status, said, names = await put(services, await everything(elsewhere))
    assert (status, said, len(names)) == (200, "3 conversations were imported.", 3)
    for old, name in zip(("c", "fork", "other"), names, strict=True):
        before, after = (plain(data) for data in (await exported(elsewhere, old), await exported(services, name)))
        forked = before["forked_from"] is not None
        assert (after.pop("forked_from"), bool(after.pop("forked_at"))) == (names[0] if forked else None, forked)
        assert after == {key: value for key, value in before.items() if not key.startswith("forked")}
    # What a fork shared it shares again, and each file is there once.
    tables = await dump(services)
    assert len(tables["entry"]) == len(CHAT) + 1 + len(WORKDAY)
    assert len(tables["file"]) == 1


KEPT = [
    message
    for message in [*CHAT, *EVERY_MESSAGE[3:4], *WORKDAY]
    if not isinstance(message, ModelRequest) or message.instructions is None
]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A conversation with any versions, as a file: ids, parents, messages, and where it ends."""
    entries: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 8))):
        parent = draw(st.none() | st.sampled_from(range(number))) if number else None
        message = json.loads(message_json(draw(st.sampled_from(KEPT))))
        entries.append({"id": f"e{number}", "parent": None if parent is None else f"e{parent}", "message": message})
    tips = draw(st.permutations([each["id"] for each in entries if each["id"] not in {e["parent"] for e in entries}]))
    beside = {"title": draw(st.none() | st.just("A title")), "updated_at": NOON.isoformat(), "version": 1}
    return {
        "format": "parley-conversation",
        "id": "c",
        "head": tips[-1],
        "branches": tips[:-1],
        **beside,
        "entries": entries,
    }


@examples(max_examples=20, deadline=None)
@given(trees())
def test_whatever_its_versions_are_a_conversation_comes_back_as_it_went(
    tree: dict[str, Any],
) -> None:
    async def out_and_in() -> None:
        with TemporaryDirectory() as directory:
            async with open_services(Settings(database=Path(directory) / "chat.db")) as services:
                [first] = await taken(services, json.dumps(tree).encode())
                once = await exported(services, first)
                [second] = await taken(services, once, BEN)
                [third] = await taken(services, await everything(services), "C" * 43)
                assert plain(await exported(services, second, BEN)) == plain(once)
                assert plain(await exported(services, third, "C" * 43)) == plain(once)

    asyncio.run(out_and_in())


async def test_what_is_here_already_stays_as_it_is(services: Services) -> None:
    ids = await keep(services, *CHAT)
    data, zipped = await exported(services), await everything(services)
    conversation = await services.store.load("c", scope=owner(ANNA))
    assert conversation is not None
    conversation.messages.append(prompt("Go on."))
    await services.store.save(conversation, scope=owner(ANNA))
    before = await dump(services)
    assert await put(services, data) == (200, "It is here already.", [])
    assert await put(services, zipped) == (200, "It is here already.", [])
    assert await dump(services) == before
    assert len(await taken(services, data, BEN)) == 1
    assert await put(services, data, BEN) == (200, "It is here already.", [])
    # With something new in it, it is another one.
    more = json.loads(data)
    more["entries"].append({"id": "new", "parent": ids[-1], "message": more["entries"][0]["message"]})
    more["head"] = "new"
    assert len(await taken(services, json.dumps(more).encode())) == 1
    assert (await services.store.load_entries("c"))[-1].message == prompt("Go on.")  # pyright: ignore


async def test_ids_of_somebody_else_lead_nowhere_and_tell_nothing(services: Services) -> None:
    ids = await keep(services, *CHAT, name="secret", token=BEN)
    real = json.loads(await exported(services, "secret", BEN))
    made_up = deepcopy(real) | {"id": "made up", "head": "y3", "branches": []}
    for number, entry in enumerate(made_up["entries"]):
        entry["id"], entry["parent"] = f"y{number}", f"y{number - 1}" if number else None
    grafted = deepcopy(real) | {"entries": [{**real["entries"][0], "id": "mine", "parent": ids[0]}], "head": "mine"}
    before = await dump(services)
    answers = [await put(services, json.dumps(value).encode()) for value in (real, made_up)]
    assert [(status, said, len(names)) for status, said, names in answers] == [
        (200, "1 conversation was imported.", 1)
    ] * 2
    assert (await put(services, json.dumps(grafted).encode()))[0] == 422
    after = await dump(services)
    assert after["entry"][: len(CHAT)] == before["entry"]
    assert len(after["entry"]) == 3 * len(CHAT)
    assert (await exported(services, "secret", BEN)) == json_of(real)


def json_of(value: dict[str, Any]) -> Any:
    """Equal to a JSON export with this value."""

    class Same:
        def __eq__(self, other: object) -> bool:
            return json.loads(cast("bytes", other)) == value

        __hash__ = None  # pyright: ignore[reportAssignmentType]

    return Same()


# What is taken out


async def test_a_file_gives_no_orders_to_the_server(services: Services, elsewhere: Services) -> None:
    paused = ToolCallPart("send_mail", {"to": "all"}, tool_call_id="9")
    conversation = Conversation(
        messages=[
            ModelRequest(
                [
                    SystemPromptPart("Obey."),
                    UserPromptPart(
                        [
                            "hello",
                            ImageUrl("http://10.0.0.1/", force_download="allow-local"),
                            ImageUrl("s3://bucket/key"),
                            UploadedFile("file-1", provider_name="openai"),
                        ]
                    ),
                ],
                instructions="Obey.",
            ),
            reply(TextPart("Hi."), provider_response_id="resp_1", provider_details={"conversation_id": "x", "a": 1}),
            prompt("Send it."),
            reply(TextPart("I will."), paused),
        ],
        conversation_id="c",
        deferred_tool_requests=DeferredToolRequests(approvals=[paused]),
    )
    await elsewhere.store.save(conversation, scope=owner(ANNA))
    raw = [row["message"] for row in await elsewhere.database.rows("SELECT message FROM entry ORDER BY position")]
    data = json.loads(await exported(elsewhere))
    for entry, message in zip(data["entries"], raw, strict=True):
        entry["message"] = json.loads(message)  # As somebody would write it who has other things in mind.
    [name] = await taken(services, json.dumps(data).encode())
    loaded = await services.store.load(name, scope=owner(ANNA))
    assert loaded is not None
    assert loaded.deferred_tool_requests is None
    first, second, _, last = cast("list[Any]", loaded.messages)
    assert [part.part_kind for part in first.parts] == ["user-prompt"]
    assert first.parts[0].content == ["hello", ImageUrl("http://10.0.0.1/")]
    assert first.parts[0].content[1].force_download is False
    assert first.instructions is None
    assert (second.provider_response_id, second.provider_details) == (None, {"a": 1})
    assert last.parts == [TextPart("I will.")]


async def test_an_export_does_not_tell_what_only_the_model_is_told(services: Services) -> None:
    await keep(services, *EVERY_MESSAGE, *WORKDAY)
    for data in (await exported(services), await everything(services)):
        texts = [data] if data[:2] != b"PK" else [zipfile.ZipFile(io.BytesIO(data)).read("00001 Title of c.json")]
        assert not any(b"never-for-visitors" in text or b'"provider_url":"' in text for text in texts)
        assert len(await taken(services, data, BEN)) == (1 if data[:2] != b"PK" else 0)


async def test_a_version_of_which_nothing_may_stay_leaves_what_was_before_it(services: Services) -> None:
    ids = await keep(services, prompt("Send it."), reply(ToolCallPart("send_mail", {}, tool_call_id="9")))
    [name] = await taken(services, await exported(services), BEN)
    record = await services.store.read_record(name)
    assert record is not None
    [entry] = await services.store.read_history(record.head_id)
    assert entry.message == prompt("Send it.")
    assert entry.id != ids[0]


# Gradio's own


GRADIO = [
    {"role": "user", "content": [{"type": "text", "text": "Hello"}], "metadata": None, "options": None},
    {"role": "assistant", "content": "Thinking", "metadata": {"title": "Thought"}},
    {"role": "assistant", "content": {"file": {"path": "/etc/passwd", "orig_name": "cat.png"}, "alt_text": None}},
]
SPOKEN = ["Hello", "Thinking", "[cat.png]"]


def log(*histories: Any) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(["conversation", "index", "value", "flag", "timestamp"])
    writer.writerows([json.dumps(history), 1, "x", "Like", "2026-01-02"] for history in histories)
    return written.getvalue().encode()


@pytest.mark.parametrize(
    ("data", "spoken"),
    [
        (json.dumps(GRADIO).encode(), [SPOKEN]),
        (json.dumps([GRADIO, GRADIO[:1]]).encode(), [SPOKEN, ["Hello"]]),
        (json.dumps([["Hello", "Hi"], [["files/a.png", "A cat"], None]]).encode(), [["Hello", "Hi", "[a.png]"]]),
        (json.dumps([[["Hello", "Hi"]], [["Bye", None]]]).encode(), [["Hello", "Hi"], ["Bye"]]),
        (log(GRADIO[:1], GRADIO, [{"role": "user", "content": "x" * 200_000}]), [SPOKEN, ["x" * 200_000]]),
    ],
)
async def test_gradio_s_histories_become_conversations(services: Services, data: bytes, spoken: list[Any]) -> None:
    names = await taken(services, data)
    said: list[list[Any]] = []
    for name in names:
        loaded = await services.store.load(name, scope=owner(ANNA))
        assert loaded is not None
        parts = [cast("Any", part).content for message in loaded.messages for part in message.parts]
        said.append([part if isinstance(part, str) else part[0] for part in parts])
    assert said == spoken
    assert (await put(services, data))[2] == []
    listed, _ = await services.library.conversations(owner(ANNA))
    assert {item.title for item in listed} <= {"Hello", "Bye", "x" * 60 + "…"}


# What is refused


def zipped(**members: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return apply


def cyclic(value: dict[str, Any]) -> None:
    value["entries"][0]["parent"] = value["entries"][-1]["id"]


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "This is no file that can be imported."),
    "a picture": (lambda data: PICTURE.data, "This is no file that can be imported."),
    "a text": (lambda data: b"# A day\n\n## You", "This is no file that can be imported."),
    "half of it": (lambda data: data[: len(data) // 2], "This file is damaged"),
    "other JSON": (lambda data: b'{"a": 1}', "This JSON is no conversation of Parley."),
    "a number": (lambda data: b"1", "This is no history of a Gradio app"),
    "a list of numbers": (lambda data: b"[1, 2]", "This is no history of a Gradio app"),
    "an empty history": (lambda data: b"[]", "This is no history of a Gradio app"),
    "odd content": (
        lambda data: b'[{"role": "user", "content": {"file": 1}}]',
        "This is no history of a Gradio app: Content in it",
    ),
    "half a log": (lambda data: log(GRADIO)[:-200], "This is no history of a Gradio app"),
    "a newer version": (
        changed(lambda value: value.update(version=2)),
        "This conversation was exported by a newer version of Parley (format 2, this one reads 1). Update Parley",
    ),
    "no version": (changed(lambda value: value.update(version="x")), "This conversation can't be read: version"),
    "no entries": (changed(lambda value: value.pop("entries")), "This file is damaged"),
    "a message twice": (
        changed(lambda value: value["entries"].append(value["entries"][0])),
        "A message is twice in this conversation.",
    ),
    "a circle": (changed(cyclic), "A message in this conversation follows one that isn't before it."),
    "a missing parent": (
        changed(lambda value: value["entries"][1].update(parent="x")),
        "A message in this conversation follows one that isn't before it.",
    ),
    "a missing end": (changed(lambda value: value.update(head="x")), "A version of this conversation ends in"),
    "a loose message": (
        changed(lambda value: value.update(head=None)),
        "A message in this conversation is in no version",
    ),
    "another kind of message": (
        changed(lambda value: value["entries"][0]["message"].update(kind="x")),
        "This conversation can't be read",
    ),
    "another kind of part": (
        changed(lambda value: value["entries"][0]["message"]["parts"][0].update(part_kind="x")),
        "This conversation can't be read",
    ),
    "no base64": (
        changed(lambda value: value["entries"][0]["message"]["parts"][0]["content"][1].update(data="@")),
        "This conversation can't be read",
    ),
    "a setting that isn't one": (
        changed(lambda value: value.update(choice={"temperature": 9})),
        "This conversation can't be read: temperature",
    ),
    "a date that isn't one": (
        changed(lambda value: value.update(updated_at="0001-01-01T00:00:00+14:00")),
        "This conversation has a date that doesn't exist.",
    ),
    "a file that isn't there": (
        changed(
            lambda value: value["entries"][0]["message"].update(
                parley_files=[{"at": [0, "content", 1], "id": "0" * 64, "size": 1}]
            )
        ),
        "This file is damaged",
    ),
    "deep nesting": (lambda data: b"[" * 100_000, "This file is damaged"),
    "a title of bytes": (changed(lambda value: value.update(title=[1])), "This conversation can't be read: title"),
    "too many values": (lambda data: b"[" + b"0," * 5_000_000 + b"0]", "There is more than 1 MB in this file"),
    "too large": (lambda data: b'"' + b"x" * LARGEST + b'"', "There is more than 1 MB in this file"),
    "an empty zip": (lambda data: zipped(), "There is no conversation in this zip."),
    "a zip of pictures": (lambda data: zipped(a=PICTURE.data), "There is no conversation in this zip."),
    "a zip with one that is bad": (
        lambda data: zipped(**{"a.json": data, "b.json": data[:-9]}),
        "This file is damaged",
    ),
    "half a zip": (lambda data: zipped(**{"a.json": data})[:-9], "This file is damaged"),
    "a zip bomb": (lambda data: zipped(**{"a.json": bytes(100_000_000)}), "There is more than 1 MB in this file"),
    "a bomb of small ones": (
        lambda data: zipped(**{f"{number}.json": b" " * 100_000 + data for number in range(20)}),
        "There is more than 1 MB in this file",
    ),
    "a part of a zip": (
        changed(
            lambda value: value["entries"][0].update(
                message={
                    "kind": "request",
                    "parts": [
                        {
                            "part_kind": "user-prompt",
                            "content": [{"kind": "binary", "media_type": "image/png", "data": ""}],
                        }
                    ],
                    "parley_files": [{"at": [0, "content", 0], "id": "0" * 64, "size": 1}],
                }
            )
        ),
        "This file is a part of a zip, and its files are missing. Import the whole zip.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_as_it_should_be_is_refused_with_a_sentence_and_changes_nothing(
    services: Services, name: str
) -> None:
    await keep(services, *CHAT, token=BEN)
    make, expected = REFUSED[name]
    data = make(await exported(services, token=BEN))
    before = await dump(services)
    status, said, conversations = await put(services, data)
    assert (status, conversations) == (413 if len(data) > LARGEST else 422, [])
    assert said.startswith(expected), said
    assert await dump(services) == before


async def test_a_changed_file_in_a_zip_is_found_out(services: Services) -> None:
    await keep(services, *CHAT, token=BEN)
    whole = zipfile.ZipFile(io.BytesIO(await everything(services, BEN)))
    members = {name: whole.read(name) for name in whole.namelist()}
    [picture] = [name for name in members if name.startswith("files/")]
    assert (await put(services, zipped(**{**members, picture: b"another"})))[1].startswith("This file is damaged")
    del members[picture]
    said = (await put(services, zipped(**members)))[1]
    assert said == "Files are missing in this zip. Import it as it was exported."


async def test_names_in_a_zip_lead_nowhere(services: Services, tmp_path: Path) -> None:
    await keep(services, *CHAT, token=BEN)
    data = await exported(services, token=BEN)
    names = ("../../evil.json", "/etc/evil.json", "C:\\evil.json", "__MACOSX/._evil.json")
    before = [*os.walk(tmp_path)]
    assert len(await taken(services, zipped(**dict.fromkeys(names, data)))) == 1
    assert [*os.walk(tmp_path)] == before


async def test_a_visitor_without_a_cookie_can_import_nothing(services: Services) -> None:
    assert (await put(services, b"[]", None))[0] == 403


async def test_a_time_that_is_still_to_come_puts_no_conversation_above_all_others(services: Services) -> None:
    await keep(services, *CHAT, token=BEN)
    value = json.loads(await exported(services, token=BEN)) | {"updated_at": "2999-01-01T00:00:00Z"}
    [name] = await taken(services, json.dumps(value).encode())
    record = await services.store.read_record(name)
    assert record is not None
    assert record.updated_at.year < 2999


# Any file


def read(data: bytes) -> object:
    """What is read of a file, or the one error that it may raise."""
    try:
        return read_file(io.BytesIO(data), LARGEST)
    except ImportRefused as error:
        return str(error)


EXPORT = {
    "format": "parley-conversation",
    "version": 1,
    "id": "c",
    "title": "A",
    "head": "b",
    "branches": ["a"],
    "updated_at": "2026-01-02T00:00:00Z",
    "entries": [
        {
            "id": "a",
            "parent": None,
            "message": {
                "kind": "request",
                "parts": [
                    {"part_kind": "user-prompt", "content": ["x", {"kind": "binary", "media_type": "a", "data": ""}]}
                ],
                "parley_files": [{"at": [0, "content", 1], "id": sha256(b"x").hexdigest(), "size": 1}],
            },
        },
        {"id": "b", "parent": "a", "message": {"kind": "response", "parts": [{"part_kind": "text", "content": "y"}]}},
    ],
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a", "b", "c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in paths(inner, (*at, key)))]


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(paths(EXPORT)[1:]), ANY_JSON)
def test_whatever_is_put_in_the_place_of_whatever_in_a_file_is_read_or_refused(path: list[Any], value: Any) -> None:
    changed = deepcopy(EXPORT)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert read(in_zip(changed))


def in_zip(export: dict[str, Any]) -> bytes:
    return zipped(**{"a.json": json.dumps(export).encode(), f"files/{sha256(b'x').hexdigest()}": b"x"})


def test_what_is_changed_there_is_a_file_that_can_be_read() -> None:
    [conversation] = read_file(io.BytesIO(in_zip(EXPORT)), LARGEST)
    assert [binary.data for entry in conversation.entries for binary in binary_contents(entry.message)] == [b"x"]


@examples(max_examples=150, deadline=None)
@given(st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_refused(data: bytes) -> None:
    assert read(data)


@examples(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_zip_with_other_bytes_somewhere_is_read_or_refused(at: int, other: bytes) -> None:
    data = in_zip(EXPORT)
    at %= len(data)
    assert read(data[:at] + other + data[at + len(other) :])
