"""Conversations out of the database, as files: Markdown to read, JSON to keep, and a zip of all an owner has.

Everything is read and handed on in pieces: what is in memory is some messages, or one file, however much is exported.
Entries never change, so that a conversation is exported as it was when its record was read.
"""

import asyncio
import json
import mimetypes
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic_ai import ModelMessage, RunUsage
from pydantic_ai.messages import BinaryContent

from chat.archive import (
    CLOSING,
    FILES_FOLDER,
    ArchivedConversation,
    ArchivedFeedback,
    ArchivedOutcome,
    ArchivedTiming,
    entry_line,
    opening,
)
from chat.cases import dataset_yaml
from chat.database import Database
from chat.feedback import Feedback, Rating
from chat.files import LONGEST_NAME_BYTES, Files, StoredFile, file_of, mark, places_in, portable
from chat.identity import Owner
from chat.library import PLACES, UNTITLED
from chat.markdown_file import markdown
from chat.markup import inert
from chat.render import starts_turn
from chat.store import message_json, messages_from_json
from chat.transcript import transcript
from chat.withheld import without_withheld
from chat.zip_stream import ZipStream

READ_AT_ONCE = 100
"""Messages that are read, and written, at a time."""

ZIPS_AT_ONCE = 2
"""Zips of everything that are made at the same time, each of them work for a core. Others wait in line."""

LONGEST_NAME = 80
"""Characters of an exported file's name, before its ending."""

Form = Literal["markdown", "json", "case"]

_USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)
_PARTS: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])

_CONVERSATION = """
    SELECT conversation.*, title, choice.content AS choice,
           (SELECT json_group_array(entry_id) FROM (
                SELECT entry_id FROM branch WHERE branch.conversation_id = conversation.conversation_id
                ORDER BY position)) AS branches
    FROM conversation LEFT JOIN title USING (conversation_id) LEFT JOIN choice USING (conversation_id)
    WHERE conversation_id = :conversation AND scope = :owner
"""

# All that these entries come after, an entry always after the one that it follows.
_KEPT = """
    WITH RECURSIVE kept (id) AS (
        SELECT value FROM json_each(:tips)
        UNION
        SELECT entry.parent_id FROM entry JOIN kept ON entry.id = kept.id WHERE entry.parent_id IS NOT NULL
    )
    SELECT entry.id FROM entry JOIN kept USING (id) ORDER BY position, entry.rowid
"""

_HAS_FILES = """
    WITH RECURSIVE kept (id) AS (
        SELECT :head
        UNION ALL
        SELECT entry.parent_id FROM entry JOIN kept ON entry.id = kept.id WHERE entry.parent_id IS NOT NULL
    )
    SELECT 1 FROM kept JOIN entry_file ON entry_id = kept.id LIMIT 1
"""

_ENTRIES = """
    SELECT entry.id, parent_id, message, outcome.kind, sentence, seconds, parts
    FROM json_each(:ids) AS wanted JOIN entry ON entry.id = wanted.value
    LEFT JOIN outcome ON outcome.entry_id = entry.id LEFT JOIN timing ON timing.entry_id = entry.id
    ORDER BY wanted.key
"""


class ExportBroken(Exception):
    """A conversation that was deleted while it was exported."""


@dataclass
class Progress:
    """How many conversations of how many are in a zip that is being made."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Export:
    """A file on its way to a person: its name, its media type, and its bytes, in pieces."""

    name: str
    media_type: str
    pieces: AsyncGenerator[bytes, None]


class _Names:
    """Paths of files in a zip, by their own names: one for each content, and none twice."""

    def __init__(self) -> None:
        self.taken: dict[str, str] = {}
        self._used: set[str] = set()

    def path(self, file: StoredFile) -> str:
        """Where a file lies; always the same for one content."""
        if file.id not in self.taken:
            stem, ending = PurePosixPath(file.name).stem, PurePosixPath(file.name).suffix
            names = chain([file.name], (f"{stem} {number}{ending}" for number in count(2)))
            self.taken[file.id] = FILES_FOLDER + next(name for name in names if name.casefold() not in self._used)
            self._used.add(self.taken[file.id].removeprefix(FILES_FOLDER).casefold())
        return self.taken[file.id]


class Exports:
    """The conversations of owners as files, from a database that is open.

    Args:
        database: The database.
        files: The files in it.
        feedback: What owners said of replies.
        show_system: Whether visitors are told also what only the model is: see `chat.withheld`.
    """

    def __init__(self, database: Database, files: Files, feedback: Feedback, *, show_system: bool = False) -> None:
        self._database = database
        self._files = files
        self._feedback = feedback
        self._show_system = show_system
        self._zips: dict[tuple[Owner, str], Progress] = {}
        self._places = asyncio.Semaphore(ZIPS_AT_ONCE)

    def progress(self, owner: Owner, zip_id: str) -> Progress | None:
        """How far the zip of everything is that an owner is being sent by this id; `None` when there is none."""
        return self._zips.get((owner, zip_id))

    async def conversation(self, owner: Owner, conversation_id: str, form: Form) -> Export | None:
        """One conversation, Markdown in a zip when there are files; `None` when it is missing."""
        row = await self._database.row(_CONVERSATION, {"conversation": conversation_id, "owner": owner})
        if row is None:
            return None
        conversation = _conversation(row)
        name = file_name(conversation.title)
        if form == "json":
            return Export(f"{name}.json", "application/json", self._json(owner, conversation))
        if form == "case":
            return Export(f"{name}.yaml", "application/yaml", self._case(conversation))
        if await self._database.row(_HAS_FILES, {"head": conversation.head}) is None:
            words = self._markdown(conversation, lambda file: file.name)
            return Export(f"{name}.md", "text/markdown; charset=utf-8", words)
        return Export(f"{name}.zip", "application/zip", self._markdown_zip(f"{name}.md", conversation))

    def everything(self, owner: Owner, zip_id: str) -> Export:
        """A zip of all that an owner has: each conversation as Markdown and as JSON, and all files once.

        Its progress can be asked for by the id while it is sent.
        """
        name = f"Parley {datetime.now(UTC):%Y-%m-%d}.zip"
        return Export(name, "application/zip", self._zip_in_line(owner, zip_id))

    async def _zip_in_line(self, owner: Owner, zip_id: str) -> AsyncGenerator[bytes, None]:
        progress = self._zips[owner, zip_id] = Progress()
        try:
            async with self._places, aclosing(self._zip(owner, progress)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            if self._zips.get((owner, zip_id)) is progress:
                del self._zips[owner, zip_id]

    async def _zip(self, owner: Owner, progress: Progress) -> AsyncGenerator[bytes, None]:
        rows = await self._database.rows(
            "SELECT conversation_id FROM conversation WHERE scope = ? ORDER BY updated_at", (owner,)
        )
        progress.total = len(rows)
        zipped, files = ZipStream(), dict[str, str]()

        def path_of(file: StoredFile) -> str:
            return files.setdefault(file.id, _path_by_content(file))

        for number, (conversation_id,) in enumerate(rows, start=1):
            row = await self._database.row(_CONVERSATION, {"conversation": conversation_id, "owner": owner})
            if row is not None:  # Else it was deleted just now.
                conversation, known = _conversation(row), set(files)
                name = f"{number:05} {file_name(conversation.title)}"
                async for piece in zipped.write(f"{name}.json", self._json(owner, conversation, path_of)):
                    yield piece
                async for piece in zipped.write(f"{name}.md", self._markdown(conversation, path_of)):
                    yield piece
                for file_id in [file_id for file_id in files if file_id not in known]:
                    async for piece in zipped.write(files[file_id], self._file(file_id)):
                        yield piece
            progress.done = number
        yield zipped.end()

    async def _json(
        self, owner: Owner, conversation: ArchivedConversation, path_of: Callable[[StoredFile], str] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The archive file. Its messages have their files in them, unless `path_of` says where else these lie."""
        yield opening(conversation).encode()
        tips = [tip for tip in (*conversation.branches, conversation.head) if tip is not None]
        between = ""
        async for rows in self._rows(tips):
            lines: list[str] = []
            ratings = await self._feedback.of(owner, [row["id"] for row in rows])
            for row in rows:
                message = row["message"] if self._show_system else without_withheld(row["message"])
                if places := places_in(message):
                    [parsed] = messages_from_json([message])
                    light = mark(parsed, places)
                    if path_of is None:
                        await self._files.put_back(light)
                        message = await asyncio.to_thread(message_json, parsed)
                    else:
                        _name(light, path_of)
                lines.append(entry_line(row["id"], row["parent_id"], message, _beside(row, ratings.get(row["id"]))))
            yield (between + ",\n".join(lines)).encode()
            between = ",\n"
        yield CLOSING.encode()

    async def _markdown(
        self, conversation: ArchivedConversation, path_of: Callable[[StoredFile], str]
    ) -> AsyncGenerator[bytes, None]:
        """The version that is shown, as Markdown, some turns at a time."""
        yield f"# {inert(conversation.title or UNTITLED)}\n\n".encode(errors="replace")
        if conversation.branches:
            number = len(conversation.branches)
            others = "1 other version is" if number == 1 else f"{number} other versions are"
            yield f"*{others} in the JSON export.*\n\n".encode()
        async for messages, notes in self._turns(conversation.head):
            yield await asyncio.to_thread(_turns_as_markdown, messages, notes, path_of)

    async def _case(self, conversation: ArchivedConversation) -> AsyncGenerator[bytes, None]:
        """The version that is shown, as a test."""
        messages: list[ModelMessage] = []
        async for rows in self._rows([conversation.head] if conversation.head else []):
            for row, message in zip(rows, messages_from_json([row["message"] for row in rows]), strict=True):
                await self._files.put_back(mark(message, places_in(row["message"])))
                messages.append(message)
        text = await asyncio.to_thread(dataset_yaml, conversation.title or UNTITLED, messages)
        yield text.encode()

    async def _turns(self, head_id: str | None) -> AsyncIterator[tuple[list[tuple[str, ModelMessage]], dict[str, str]]]:
        """The history that ends in an entry, some whole turns at a time, light; and how these ended, when not well."""
        held: list[tuple[str, ModelMessage]] = []
        notes: dict[str, str] = {}
        async for rows in self._rows([head_id] if head_id else []):
            for row, message in zip(rows, messages_from_json([row["message"] for row in rows]), strict=True):
                mark(message, places_in(row["message"]))
                held.append((row["id"], message))
            notes |= {row["id"]: row["sentence"] for row in rows if row["sentence"] is not None}
            last = next((index for index in reversed(range(len(held))) if starts_turn(held[index][1])), 0)
            if last:
                yield held[:last], notes
                held = held[last:]
        if held:
            yield held, notes

    async def _rows(self, tips: list[str]) -> AsyncIterator[list[Any]]:
        ids = [row["id"] for row in await self._database.rows(_KEPT, {"tips": json.dumps(tips)})]
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            rows = await self._database.rows(_ENTRIES, {"ids": json.dumps(some)})
            if len(rows) < len(some):
                raise ExportBroken("A conversation was deleted while it was exported. Export again.")
            yield rows

    async def _markdown_zip(self, name: str, conversation: ArchivedConversation) -> AsyncGenerator[bytes, None]:
        zipped, names = ZipStream(), _Names()
        async for piece in zipped.write(name, self._markdown(conversation, names.path)):
            yield piece
        for file_id, path in names.taken.items():
            async for piece in zipped.write(path, self._file(file_id)):
                yield piece
        yield zipped.end()

    async def _file(self, file_id: str) -> AsyncGenerator[bytes, None]:
        row = await self._database.row("SELECT data FROM file WHERE id = ?", (file_id,))
        if row is None:
            raise ExportBroken("A conversation was deleted while it was exported. Export again.")
        yield row["data"]


def file_name(title: str | None) -> str:
    """A title as the name of a file, without an ending, that every system takes and no path hides in."""
    plain = unicodedata.normalize("NFC", title or UNTITLED)
    name = portable(plain)[:LONGEST_NAME].encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    return portable(name) or UNTITLED


def _conversation(row: Any) -> ArchivedConversation:
    deferred = row["deferred_tool_requests"]
    return ArchivedConversation(
        id=row["conversation_id"],
        title=row["title"],
        head=row["head_id"],
        branches=json.loads(row["branches"]),
        usage=_USAGE.validate_json(row["usage"]),
        # Their metadata is for the program that made them.
        deferred_tool_requests=None if deferred is None else {**json.loads(deferred), "metadata": {}},
        choice=json.loads(row["choice"] or "{}"),
        forked_from=row["forked_from"],
        forked_at=row["forked_at"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        place=PLACES[int(row["place"])],
    )


def _beside(row: Any, rating: Rating | None) -> dict[str, BaseModel | None]:
    """What is known of an entry beside its message."""
    outcome = None if row["kind"] is None else ArchivedOutcome(kind=row["kind"], sentence=row["sentence"])
    timing = None
    if row["seconds"] is not None:
        timing = ArchivedTiming(seconds=row["seconds"], parts=_PARTS.validate_json(row["parts"]))
    feedback = None
    if rating is not None:
        feedback = ArchivedFeedback(verdict=rating.verdict, comment=rating.comment, model=rating.model, at=rating.at)
    return {"outcome": outcome, "timing": timing, "feedback": feedback}


def _name(contents: list[BinaryContent], path_of: Callable[[StoredFile], str]) -> None:
    for content in contents:
        if (file := file_of(content)) is not None:
            path_of(file)


def _turns_as_markdown(
    messages: list[tuple[str, ModelMessage]], notes: dict[str, str], path_of: Callable[[StoredFile], str]
) -> bytes:
    def path(content: BinaryContent) -> str | None:
        # What isn't light is in its row: another program stored it so, and it is in no file.
        file = None if content.data else file_of(content)
        return file and path_of(file)

    return f"{markdown(transcript(messages, notes=notes), path)}\n\n".encode(errors="replace")


def _path_by_content(file: StoredFile) -> str:
    ending = mimetypes.guess_extension(file.media_type.partition(";")[0].strip(), strict=False) or ""
    return f"{FILES_FOLDER}{file.id}{ending}"
