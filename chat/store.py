"""Conversations in SQLite: the backend of Pydantic AI's `ConversationStore`.

It can be used without the chat, by any program that runs an agent:

    async with SQLiteConversationStore("chat.db") as store:
        conversation = await store.load(conversation_id) or Conversation(conversation_id=conversation_id)
        result = await agent.run(prompt, conversation=conversation)
        await store.save(result)

Each message is one row, as JSON in Pydantic AI's own format, and its files are kept beside it, once by content
(`chat.files`). What `load`, `save`, `branch` and `fork` do is Pydantic AI's; this module only keeps records, entries
and files, and each write is one transaction.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter
from pydantic_ai import DeferredToolRequests, ModelMessage, ModelMessagesTypeAdapter, RunUsage
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import BinaryContent

from chat.database import Database, Transaction
from chat.files import Files, Light, binary_contents, mark, places_in, take_out, with_places
from chat.search_index import index_new, keep_shared, words_of

READ_AT_ONCE = 250
"""Messages that are read, and then validated without a pause for others: some five milliseconds."""

HASHED_AT_ONCE = 1 << 20
"""Bytes of files that are hashed while others wait: about a millisecond."""

SEARCHED_AT_ONCE = 20_000
"""Characters of messages whose words are found while others wait: about a millisecond."""

_USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)
_DEFERRED: TypeAdapter[DeferredToolRequests | None] = TypeAdapter(DeferredToolRequests | None)

_RECORD = """
    SELECT conversation_id, head_id, scope, usage, deferred_tool_requests, forked_from, forked_at, revision,
           updated_at, format_version,
           (SELECT json_group_array(entry_id) FROM (
                SELECT entry_id FROM branch WHERE branch.conversation_id = conversation.conversation_id
                ORDER BY position)) AS branches
    FROM conversation
"""

_HISTORY = """
    WITH RECURSIVE history (id, parent_id, kind, message, age) AS (
        SELECT id, parent_id, kind, message, 1 FROM entry WHERE id = :head
        UNION ALL
        SELECT entry.id, entry.parent_id, entry.kind, entry.message, history.age + 1
        FROM entry JOIN history ON entry.id = history.parent_id
        LIMIT :limit
    )
    SELECT id, parent_id, kind, message FROM history ORDER BY age DESC
"""

# From an entry back to the one at a position of its history: over the jumps that don't go too far.
_ANCESTOR = """
    WITH RECURSIVE ancestor (id, parent_id, position, jump) AS (
        SELECT id, parent_id, position, jump FROM entry WHERE id = :head
        UNION ALL
        SELECT entry.id, entry.parent_id, entry.position, entry.jump
        FROM ancestor JOIN entry ON entry.id = CASE
            WHEN (SELECT position FROM entry WHERE id = ancestor.jump) >= :position THEN ancestor.jump
            ELSE ancestor.parent_id END
        WHERE ancestor.position > :position
    )
    SELECT id FROM ancestor WHERE position = :position
"""

# The entries that go with a deleted conversation. One stays when a conversation that is left ends in it, left a branch
# at it, or continues after it; so do all entries before such a one.
_UNREACHED = """
    WITH RECURSIVE
    candidate (id) AS (
        SELECT value FROM json_each(:tips)
        UNION
        SELECT entry.parent_id FROM entry JOIN candidate ON entry.id = candidate.id
        WHERE entry.parent_id IS NOT NULL
    ),
    reached (id) AS (
        SELECT id FROM candidate
        WHERE EXISTS (SELECT 1 FROM conversation WHERE head_id = candidate.id)
           OR EXISTS (SELECT 1 FROM branch WHERE entry_id = candidate.id)
           OR EXISTS (SELECT 1 FROM entry WHERE parent_id = candidate.id AND id NOT IN (SELECT id FROM candidate))
        UNION
        SELECT entry.parent_id FROM entry JOIN reached ON entry.id = reached.id
        WHERE entry.parent_id IS NOT NULL
    )
    SELECT json_group_array(id) FROM candidate WHERE id NOT IN (SELECT id FROM reached)
"""

_DELETE_UNUSED_FILES = """
    DELETE FROM file WHERE id IN (SELECT value FROM json_each(:files))
    AND NOT EXISTS (SELECT 1 FROM entry_file WHERE file_id = file.id)
"""


class SQLiteConversationStore(ConversationStore):
    """A `ConversationStore` in an SQLite file.

    Writers in other tasks and processes are welcome: the revision check and SQLite's locks decide, and whoever comes
    second gets `ConversationConflict`. `delete` erases the entries that no conversation's head and no branch reaches,
    and the files that no entry has.

    Args:
        database: The file, opened and closed with the store, or a `Database` whose owner opens and closes it.

    Raises:
        DatabaseError: When it is entered and the file can't be used.
    """

    def __init__(self, database: str | Path | Database) -> None:
        self._owns_database = not isinstance(database, Database)
        self.database = database if isinstance(database, Database) else Database(database)
        self._files = Files(self.database)

    async def __aenter__(self) -> Self:
        if self._owns_database:
            await self.database.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owns_database:
            await self.database.close()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        row = await self.database.row(f"{_RECORD} WHERE conversation_id = ?", (conversation_id,))
        return None if row is None else _record(row)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        where, parameters = ("", []) if scope is None else ("WHERE scope = ?", [scope])
        rows = await self.database.rows(
            f"{_RECORD} {where} ORDER BY updated_at DESC LIMIT ?", [*parameters, -1 if limit is None else limit]
        )
        return [_record(row) for row in rows]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        # Made before the transaction holds the write lock.
        rows = await _rows(new_entries)
        found = await _words(new_entries, rows) if record.scope is not None else {}

        def write(change: Transaction) -> None:
            if _stored_revision(change, record.conversation_id) != expected_revision:
                raise ConversationConflict(record.conversation_id)
            try:
                places = _places(change, new_entries)
                change.execute_many(
                    "INSERT INTO entry (id, parent_id, kind, message, position, jump) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (entry.id, entry.parent_id, entry.kind, row.message, place.position, place.jump)
                        for entry, row, place in zip(new_entries, rows, places, strict=True)
                    ],
                )
                _add_files(change, {entry.id: row.files for entry, row in zip(new_entries, rows, strict=True)})
                _replace_record(change, record)
                index_new(change, record.conversation_id, found)
            except (sqlite3.IntegrityError, LookupError) as error:
                # The entry that the record or the new entries continue from is gone, or a file of a light message.
                raise ConversationConflict(record.conversation_id) from error

        await self.database.change(write)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation's record, and what no other conversation reaches: entries, and files."""

        def delete(change: Transaction) -> None:
            if _stored_revision(change, conversation_id) != expected_revision:
                raise ConversationConflict(conversation_id)
            [(tips,)] = change.rows(
                """SELECT json_group_array(id) FROM (
                    SELECT head_id AS id FROM conversation WHERE conversation_id = :conversation AND head_id NOT NULL
                    UNION SELECT entry_id FROM branch WHERE conversation_id = :conversation)""",
                {"conversation": conversation_id},
            )
            keep_shared(change, conversation_id)
            change.execute("DELETE FROM conversation WHERE conversation_id = ?", (conversation_id,))
            [(unreached,)] = change.rows(_UNREACHED, {"tips": tips})
            [(files,)] = change.rows(
                """SELECT json_group_array(DISTINCT file_id) FROM entry_file
                WHERE entry_id IN (SELECT value FROM json_each(?))""",
                (unreached,),
            )
            change.execute("DELETE FROM entry WHERE id IN (SELECT value FROM json_each(?))", (unreached,))
            change.execute(_DELETE_UNUSED_FILES, {"files": files})

        await self.database.change(delete)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        [entry] = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        entries, light = await self._read_light(head_id, limit)
        await self._files.put_back(light)
        return entries

    async def read_part(self, head_id: str, first: int, last: int) -> list[ConversationEntry]:
        """The entries at the positions `first` to `last` of the history that ends in `head_id`; the oldest is at 0.

        Their messages are light: `chat.files.file_of` tells which files they have, and none is read. Costs what it
        returns, wherever in a history of whatever length it is.
        """
        found = await self.database.row(_ANCESTOR, {"head": head_id, "position": last})
        entries, _ = await self._read_light(None if found is None else found["id"], last - first + 1)
        return entries

    async def position(self, head_id: str, entry_id: str | None = None) -> int | None:
        """The position of an entry in the history that ends in `head_id`, that one's own by default.

        `None` when it isn't in that history.
        """
        entry_id = entry_id or head_id
        placed = await self.database.row("SELECT position FROM entry WHERE id = ?", (entry_id,))
        if placed is None or entry_id == head_id:
            return None if placed is None else placed["position"]
        found = await self.database.row(_ANCESTOR, {"head": head_id, "position": placed["position"]})
        return placed["position"] if found is not None and found["id"] == entry_id else None

    async def _read_light(
        self, head_id: str | None, limit: int | None
    ) -> tuple[list[ConversationEntry], list[BinaryContent]]:
        """The last `limit` entries up to `head_id`, and the content in them whose data is in files."""
        pieces: list[list[ConversationEntry]] = []
        light: list[BinaryContent] = []
        reading = self._begin_reading(head_id, limit)
        try:
            while reading is not None:
                rows = await reading
                if not rows:
                    raise LookupError(f"Entry {head_id!r} is not in the store.")
                limit = None if limit is None else limit - len(rows)
                reading = self._begin_reading(rows[0]["parent_id"], limit)
                await asyncio.sleep(0)  # What is before them is read while these are validated.
                entries = _entries(rows)
                for row, entry in zip(rows, entries, strict=True):
                    if places := places_in(row["message"]):
                        light.extend(mark(entry.message, places))
                pieces.append(entries)
        finally:
            if reading is not None:
                reading.cancel()
        return [entry for piece in reversed(pieces) for entry in piece], light

    def _begin_reading(self, head_id: str | None, limit: int | None) -> asyncio.Task[list[sqlite3.Row]] | None:
        """Begin to read the next rows back from `head_id`; `None` when there are none left to read."""
        if head_id is None or limit == 0:
            return None
        count = READ_AT_ONCE if limit is None else min(limit, READ_AT_ONCE)
        return asyncio.create_task(self.database.rows(_HISTORY, {"head": head_id, "limit": count}))


@dataclass(frozen=True)
class _Place:
    """Where an entry is in its history: `position` counts from 0, `jump` is an entry before it, or `None` at 0.

    Jumps are laid as in Myers' skip lists ("An applicative random-access stack", 1983), so that any position is at
    most about twice the logarithm of the length away.
    """

    position: int
    jump: str | None


def _places(change: Transaction, entries: Sequence[ConversationEntry]) -> list[_Place]:
    known: dict[str, _Place] = {}

    def place(entry_id: str) -> _Place:
        if entry_id not in known:
            rows = change.rows("SELECT position, jump FROM entry WHERE id = ?", (entry_id,))
            if not rows:
                raise LookupError(f"Entry {entry_id!r} is not in the store.")
            known[entry_id] = _Place(rows[0]["position"], rows[0]["jump"])
        return known[entry_id]

    for entry in entries:
        known[entry.id] = _Place(0, None) if entry.parent_id is None else _place_after(entry.parent_id, place)
    return [known[entry.id] for entry in entries]


def _place_after(parent_id: str, place: Callable[[str], _Place]) -> _Place:
    """Jump as far as the parent's jump does twice, if both of its jumps are of one length; else to the parent."""
    parent = place(parent_id)
    if parent.jump is not None:
        near = place(parent.jump)
        if near.jump is not None and parent.position - near.position == (near.position - place(near.jump).position):
            return _Place(parent.position + 1, near.jump)
    return _Place(parent.position + 1, parent_id)


def _stored_revision(change: Transaction, conversation_id: str) -> str | None:
    rows = change.rows("SELECT revision FROM conversation WHERE conversation_id = ?", (conversation_id,))
    return rows[0]["revision"] if rows else None


def _replace_record(change: Transaction, record: ConversationRecord) -> None:
    deferred = record.deferred_tool_requests
    change.execute(
        """INSERT INTO conversation (conversation_id, head_id, scope, usage, deferred_tool_requests, forked_from,
                                     forked_at, revision, updated_at, format_version)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (conversation_id) DO UPDATE SET
            head_id = excluded.head_id, scope = excluded.scope, usage = excluded.usage,
            deferred_tool_requests = excluded.deferred_tool_requests, forked_from = excluded.forked_from,
            forked_at = excluded.forked_at, revision = excluded.revision, updated_at = excluded.updated_at,
            format_version = excluded.format_version""",
        (
            record.conversation_id,
            record.head_id,
            record.scope,
            _USAGE.dump_json(record.usage).decode(),
            None if deferred is None else _DEFERRED.dump_json(deferred).decode(),
            record.forked_from,
            record.forked_at,
            record.revision,
            # One zone and one width, so that text order is time order.
            record.updated_at.astimezone(UTC).isoformat(timespec="microseconds"),
            record.format_version,
        ),
    )
    change.execute("DELETE FROM branch WHERE conversation_id = ?", (record.conversation_id,))
    change.execute_many(
        "INSERT INTO branch (conversation_id, position, entry_id) VALUES (?, ?, ?)",
        [(record.conversation_id, position, entry) for position, entry in enumerate(record.branches)],
    )


def message_json(message: ModelMessage) -> str:
    """A message as its row keeps it: Pydantic AI's own JSON, bytes as base64.

    Raises:
        PydanticSerializationError: If it holds something that has no JSON, such as half a surrogate pair.
    """
    return ModelMessagesTypeAdapter.dump_json([message])[1:-1].decode()


def messages_from_json(rows: Sequence[str]) -> list[ModelMessage]:
    """The messages of rows that `message_json` made, validated in one pass."""
    return ModelMessagesTypeAdapter.validate_json(f"[{','.join(rows)}]")


@dataclass(frozen=True)
class _Row:
    """A message as it is stored: its row's JSON, and its files by id."""

    message: str
    files: Mapping[str, bytes]


async def _rows(entries: Sequence[ConversationEntry]) -> list[_Row]:
    messages = [entry.message for entry in entries]
    if sum(len(content.data) for message in messages for content in binary_contents(message)) > HASHED_AT_ONCE:
        return await asyncio.to_thread(lambda: [_row(message) for message in messages])
    return [_row(message) for message in messages]


async def _words(entries: Sequence[ConversationEntry], rows: Sequence[_Row]) -> dict[str, list[str]]:
    """The words of entries that can be found, by the entries' ids."""
    if sum(len(row.message) for row in rows) > SEARCHED_AT_ONCE:
        found = await asyncio.to_thread(lambda: [words_of(row.message) for row in rows])
    else:
        found = [words_of(row.message) for row in rows]
    return {entry.id: each for entry, each in zip(entries, found, strict=True)}


def _row(message: ModelMessage) -> _Row:
    light = take_out(message)
    text = message_json(light.message)
    if not light.places:
        return _Row(text, {})
    if not _is_found_again(text, light):
        return _Row(message_json(message), {})
    return _Row(with_places(text, light.places), light.files)


def _is_found_again(text: str, light: Light) -> bool:
    """Whether all files can be put back into the message when it is read; else they stay in its row."""
    try:
        mark(messages_from_json([text])[0], light.places)
    except LookupError:
        return False
    return True


def _add_files(change: Transaction, files: Mapping[str, Mapping[str, bytes]]) -> None:
    """Store the files of entries: each content once, whoever has it."""
    change.execute_many(
        "INSERT INTO file (id, size, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(file_id, len(data), data) for of_entry in files.values() for file_id, data in of_entry.items() if data],
    )
    change.execute_many(
        "INSERT INTO entry_file (entry_id, file_id) VALUES (?, ?)",
        [(entry_id, file_id) for entry_id, of_entry in files.items() for file_id in of_entry],
    )


def _entries(rows: Sequence[sqlite3.Row]) -> list[ConversationEntry]:
    ids, parents, kinds, contents = zip(*rows, strict=True)  # Looked up by name, columns take as long as validation.
    return [
        ConversationEntry(id=entry_id, parent_id=parent_id, kind=kind, message=message)
        for entry_id, parent_id, kind, message in zip(ids, parents, kinds, messages_from_json(contents), strict=True)
    ]


def _record(row: sqlite3.Row) -> ConversationRecord:
    deferred = row["deferred_tool_requests"]
    return ConversationRecord(
        conversation_id=row["conversation_id"],
        head_id=row["head_id"],
        usage=_USAGE.validate_json(row["usage"]),
        deferred_tool_requests=None if deferred is None else _DEFERRED.validate_json(deferred),
        scope=row["scope"],
        forked_from=row["forked_from"],
        forked_at=row["forked_at"],
        branches=json.loads(row["branches"]),
        revision=row["revision"],
        updated_at=datetime.fromisoformat(row["updated_at"]),
        format_version=row["format_version"],
    )
