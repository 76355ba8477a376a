"""The stage of the attacks: a chat with Anna's conversations in it, and who tries to get at them."""

import asyncio
import json
import re
import secrets
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx

from chat.identity import visitor
from tests.browser import Chat

WORD = "quincunx"
"""A word in everything of Anna's, and in what only the server may read."""

FORBIDDEN = (WORD, "root:x:0", "SQLite format 3", "Traceback (most recent", 'File "/')
"""What no answer to an attack holds."""

SECONDS = 20
"""How long an answer may take until it counts as none."""


@dataclass(frozen=True)
class Case:
    """One thing that was tried. `saw` says what was wrong when it did not hold."""

    name: str
    saw: str = ""

    @property
    def held(self) -> bool:
        return not self.saw


@dataclass(frozen=True)
class Things:
    """The names of things of Anna's, or of things that don't exist."""

    conversation: str
    waiting: str
    """A conversation in which a tool call waits for her decision."""
    writing: str
    """One in which a reply is being written."""
    entry: str
    file: str
    call: str
    """The fingerprint of the call that waits."""
    token: str
    """The state of the conversation where it waits."""
    share: str
    upload: str

    def missing(self) -> "Things":
        """Names of the same form, of nothing."""
        return Things(*(_another(getattr(self, field.name)) for field in fields(self)))

    def hide(self, text: str) -> str:
        """A text without these names, to be compared with one about others."""
        for field in fields(self):
            name = getattr(self, field.name)
            for form in {name, json.dumps(name)[1:-1], name.replace("/", "%2F")}:
                text = text.replace(form, f"<{field.name}>")
        return text


def _another(name: str) -> str:
    """The same with other digits: in the name of an upload's folder, not in its own."""
    folder, slash, last = name.rpartition("/")
    swapped = "".join(secrets.choice("0123456789") if letter.isdigit() else letter for letter in folder or last)
    return f"{swapped}{slash}{last}" if folder else swapped


class Person:
    """Somebody who asks, with a cookie of their own or without one, and speaks the protocol of Gradio's queue."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        # A connection of its own each time: the server ends one on which it refused a body before all of it came.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.AsyncClient(base_url=url, timeout=SECONDS, limits=limits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    @property
    def cookie(self) -> str:
        return self.http.cookies.get("parley_visitor") or ""

    async def ask(self, method: str, path: str, **how: Any) -> str:
        """The status and the body of an answer, or its first event when it is a stream of them."""
        async with self.http.stream(method, path, **how) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                async with aclosing(answer.aiter_lines()) as lines:
                    return f"{answer.status_code} {await anext(lines, '')}"
            return f"{answer.status_code} {(await answer.aread()).decode(errors='replace')}"

    async def call(self, index: object, data: list[Any], event: object = None, session: str | None = None) -> str:
        """What a function of the page answers, called by its index: its messages and what it paints at last."""
        session = session or uuid4().hex
        body = {"data": data, "fn_index": index, "session_hash": session, "event_data": event}
        joined = await self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != httpx.codes.OK:
            return f"{joined.status_code} {joined.text}"
        return await self.painted(session)

    async def painted(self, session: str) -> str:
        """What the functions paint that were called under a session hash."""
        seen: list[object] = []
        with suppress(httpx.RemoteProtocolError):  # How Gradio says that there is no such session.
            async with aclosing(self._events(session)) as events:
                async for event in events:
                    if event["msg"] == "log":
                        seen.append([event["log"], event["title"]])
                    elif event["msg"] in ("process_generating", "process_completed", "unexpected_error"):
                        seen.append([event.get("success"), event.get("output")])
                    if event["msg"] in ("process_completed", "close_stream", "unexpected_error"):
                        break
        return re.sub(r'"(average_)?duration": [\d.e-]+', "", json.dumps(seen))

    async def run(self, index: object, data: list[Any], event: object = None) -> str:
        """The same of a function that does not wait in line."""
        body = {"data": data, "fn_index": index, "session_hash": uuid4().hex, "event_data": event}
        answer = await self.http.post("/gradio_api/run/predict", json=body)
        return re.sub(r'"(average_)?duration": ?[\d.e-]+', "", f"{answer.status_code} {answer.text}")

    async def _events(self, session: str) -> AsyncGenerator[dict[str, Any], None]:
        async with self.http.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))


@dataclass(frozen=True)
class Stage:
    """A chat, who is in it, and what is Anna's and Ben's there."""

    chat: Chat
    anna: Person
    ben: Person
    stranger: Person
    functions: dict[str, dict[str, Any]]
    """The functions of the running page by name, as its configuration has them."""
    hers: Things
    his: Things
    shared: str
    """The token of a link that Anna has revoked."""

    @property
    def others(self) -> tuple[Person, Person]:
        return self.ben, self.stranger

    async def hers_now(self) -> str:
        """All that the chat has of Anna's, to be compared with what it has later."""
        listed = await self.anna.ask("GET", "/parley/conversations")
        rows = await asyncio.to_thread(_rows_of, self.chat.database, visitor(self.anna.cookie))
        return f"{listed}\n{rows}"


async def raw(chat: Chat, head: str) -> str:
    """The answer to a request that begins with exactly this head, as no client would send it."""
    host, _, port = chat.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{head}\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
        return (await asyncio.wait_for(reader.read(), SECONDS)).decode(errors="replace")
    finally:
        writer.close()


def fault(answer: str) -> str:
    """What is wrong with an answer to somebody who may have nothing."""
    return next((f"holds {word!r}: …{answer[-300:]}" for word in FORBIDDEN if word in answer), "")


@asynccontextmanager
async def stage(chat: Chat) -> AsyncIterator[Stage]:
    """A chat with the scripted agent, prepared: Anna has written, Ben has too."""
    async with (
        Person(chat.url, "Anna") as anna,
        Person(chat.url, "Ben") as ben,
        Person(chat.url, "a stranger") as nobody,
    ):
        functions: dict[str, dict[str, Any]] = {}
        for person in (anna, ben):
            config = (await person.http.get("/config")).json()
            functions = {each["api_name"] or str(each["id"]): each for each in config["dependencies"]}
        hers, shared = await _write(chat, anna, functions, WORD)
        his, _ = await _write(chat, ben, functions, "cabbage")
        yield Stage(chat, anna, ben, nobody, functions, hers, his, shared)


async def _write(chat: Chat, person: Person, functions: dict[str, Any], word: str) -> tuple[Things, str]:
    """Conversations of every kind: with a file, with a decision to make, with a reply being written, and shared."""
    send = functions["chat"]["id"]
    files = {"files": ("file.pdf", f"%PDF-1.4 {word} in a file".encode())}
    [upload] = (await person.http.post("/gradio_api/upload", files=files)).json()
    message = {"text": f"echo {word}", "files": [{"path": upload, "meta": {"_type": "gradio.FileData"}}]}
    await person.call(send, [message, {}])
    await person.call(send, [f"approve {word}", {}])
    session = uuid4().hex
    body = {"data": [f"hang {word}", {}], "fn_index": send, "session_hash": session}
    (await person.http.post("/gradio_api/queue/join", json=body)).raise_for_status()
    listed: list[dict[str, Any]] = []
    while not any(each["sign"] == "writing" for each in listed) or not all(
        word in (each["title"] or "") for each in listed
    ):
        listed = (await person.http.get("/parley/conversations")).json()["conversations"]
    ids = {(each["sign"] or "read").replace("unread", "read"): each["id"] for each in listed}
    async for event in person._events(session):  # until its reply has begun
        if "Waiting" in json.dumps(event):
            break
    conversation = ids["read"]
    tokens: list[str] = []
    for _ in range(2):
        made = await person.http.post("/parley/shares", params={"conversation": conversation})
        tokens.append(made.json()["path"].rpartition("/")[2])
    shares = (await person.http.get("/parley/shares")).json()["shares"]
    (await person.http.post(f"/parley/shares/{shares[0]['id']}/revoke")).raise_for_status()
    left = (await person.http.get("/parley/shares")).json()["shares"][0]["id"]
    [revoked] = [token for token in tokens if (await person.http.get(f"/parley/shared/{token}")).status_code == 404]
    shown = await person.call(functions["watch"]["id"], [{"conversation": ids["waiting"]}])
    [call, *_] = re.findall(r'"fingerprint": "(\w+)"', shown)
    [token, *_] = re.findall(r'"token": "([^"]+)"', shown)
    entry, file = await asyncio.to_thread(_first_entry, chat.database, conversation)
    things = Things(conversation, ids["waiting"], ids["writing"], entry, file, call, token, left, upload)
    return things, revoked


def _first_entry(database: Path, conversation: str) -> tuple[str, str]:
    """The first entry of a conversation, and its file."""
    with closing(sqlite3.connect(database)) as connection:
        entry = "SELECT id FROM entry WHERE stored_by = ? AND parent_id IS NULL"
        file = f"SELECT file_id FROM entry_file WHERE entry_id = ({entry})"  # noqa: S608  # no words of anybody
        [found] = connection.execute(entry, (conversation,)).fetchone()
        [stored] = connection.execute(file, (conversation,)).fetchone()
    return found, stored


def _rows_of(database: Path, owner: str) -> str:
    """All rows of the database in which an owner, their conversations or their entries are named."""
    with closing(sqlite3.connect(database)) as connection:
        conversations = [
            row[0] for row in connection.execute("SELECT conversation_id FROM conversation WHERE scope = ?", (owner,))
        ]
        marks = ", ".join("?" * len(conversations))
        entries = connection.execute(f"SELECT id FROM entry WHERE stored_by IN ({marks})", conversations)  # noqa: S608
        names = {owner, *conversations, *(row[0] for row in entries)}
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        rows = [
            (table, *row)
            for (table,) in tables
            for row in connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608  # the schema's own names
            if names.intersection(each for each in row if isinstance(each, str))
        ]
    return "\n".join(sorted(map(repr, rows)))
