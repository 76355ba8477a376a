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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import TypeAdapter
from pydantic_ai import DeferredToolRequests, ModelMessage, ModelMessagesTypeAdapter, RunUsage
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import BinaryContent

from chat.database import Database, Transaction, rows_of
from chat.files import BEFORE_PLACES, PLACES, Files, Light, Place, binary_contents, mark, take_out, with_places
from chat.holdings import add_entries, remove_entries
from chat.search_index import index_new, keep_shared, words_of

READ_FIRST = 100
"""Messages that are read at first; then twice as many each time, so that they are there when those are validated,"""

READ_AT_ONCE = 400
"""up to so many: some five milliseconds of validation, without a pause for others."""

READ_AHEAD = 3
"""Pieces of a history that are asked for at the same time: the reader's thread goes from one to the next by itself."""

READ_AT_ONCE_SIZE = 1 << 22
"""Characters after which no more of them are read at once."""

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

# One row, however many messages: SQLite makes it while Python does something else, and waits for Python only once.
_HISTORY = """
    WITH RECURSIVE history (id, parent_id, kind, message, age, size) AS (
        SELECT id, parent_id, kind, message, 1, length(message) FROM entry WHERE id = :head
        UNION ALL
        SELECT entry.id, entry.parent_id, entry.kind, entry.message, history.age + 1,
               history.size + length(entry.message)
        FROM entry JOIN history ON entry.id = history.parent_id
        WHERE history.size < :size
        LIMIT :limit
    )
    SELECT json_group_array(id) AS ids, json_group_array(parent_id) AS parents, json_group_array(kind) AS kinds,
           json_group_array(json(CASE WHEN substr(message, 1, length(:before_places)) = :before_places
                                 THEN json_extract(message, :places) END)) AS places,
           '[' || group_concat(message) || ']' AS messages
    FROM (SELECT * FROM history ORDER BY age DESC)
"""

_LINE = """
    WITH RECURSIVE line (id, parent_id) AS (
        SELECT id, parent_id FROM entry WHERE id = :head
        UNION ALL
        SELECT entry.id, entry.parent_id FROM entry JOIN line ON entry.id = line.parent_id
        LIMIT :limit
    )
    SELECT id FROM line
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

# Of several ends, the first in whose history an entry is.
_LINE_OF = """
    WITH RECURSIVE line (number, id, parent_id, position, jump) AS (
        SELECT tip.key, entry.id, entry.parent_id, entry.position, entry.jump
        FROM json_each(:tips) AS tip JOIN entry ON entry.id = tip.value
        UNION ALL
        SELECT line.number, entry.id, entry.parent_id, entry.position, entry.jump
        FROM line JOIN entry ON entry.id = CASE
            WHEN (SELECT position FROM entry WHERE id = line.jump) >= :position THEN line.jump
            ELSE line.parent_id END
        WHERE line.position > :position
    )
    SELECT number FROM line WHERE id = :entry ORDER BY number LIMIT 1
"""

# What follows some entries in one conversation: what it has stored itself, and what it shares as a fork.
_FOLLOWING = """
    WITH following (number, id, parent_id) AS (
        SELECT rowid, id, parent_id FROM entry
        WHERE stored_by = :conversation AND parent_id IN (SELECT value FROM json_each(:parents))
        UNION
        SELECT rowid, id, parent_id FROM entry
        WHERE stored_by = :conversation AND parent_id IS NULL AND :first
        UNION
        SELECT rowid, id, parent_id FROM entry
        WHERE id IN (SELECT value FROM json_each(:shared))
        AND (parent_id IN (SELECT value FROM json_each(:parents)) OR (parent_id IS NULL AND :first))
    )
"""

_MORE_FOLLOWS = "SELECT DISTINCT parent_id FROM following WHERE id NOT IN (SELECT value FROM json_each(:known))"

_FOLLOWERS = """
    SELECT following.id, following.parent_id, json_extract(entry.message, '$.kind') = 'request' AND EXISTS (
        SELECT 1 FROM json_each(entry.message, '$.parts')
        WHERE json_extract(value, '$.part_kind') = 'user-prompt' OR json_extract(value, '$.speaker') = 'user'
    ) AS starts_turn
    FROM following JOIN entry ON entry.id = following.id ORDER BY following.number
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
        self._light = False

    def light(self) -> "SQLiteConversationStore":
        """A store on the same database that loads light messages: which files they have, but none is read.

        What it loads can be added to and saved. `chat.files.Files.to_send` makes of it what a model is given.
        """
        light = SQLiteConversationStore(self.database)
        light._light = True
        return light

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

    async def read_owned(self, conversation_id: str, owner: str) -> ConversationRecord | None:
        """The record of an owner's conversation. Somebody else's takes as long as one that isn't there."""
        row = await self.database.row(f"{_RECORD} WHERE conversation_id = ? AND scope = ?", (conversation_id, owner))
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
        await self.database.change(await self.writing(record, new_entries, expected_revision))

    async def writing(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], expected_revision: str | None
    ) -> Callable[[Transaction], None]:
        """What `write_record` does, for a transaction of which it is only a part."""
        writer = record.conversation_id
        # Made before the transaction holds the write lock.
        rows = await _rows(new_entries)
        found = await _words(new_entries, rows) if record.scope is not None else {}

        def write(change: Transaction) -> None:
            if _stored_revision(change, record.conversation_id) != expected_revision:
                raise ConversationConflict(record.conversation_id)
            try:
                places = _places(change, new_entries)
                change.execute_many(
                    """INSERT INTO entry (id, parent_id, kind, message, position, jump, stored_by)
                    VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    [
                        (entry.id, entry.parent_id, entry.kind, row.message, place.position, place.jump, writer)
                        for entry, row, place in zip(new_entries, rows, places, strict=True)
                    ],
                )
                _add_files(change, {entry.id: row.files for entry, row in zip(new_entries, rows, strict=True)})
                _replace_record(change, record)
                if record.scope and new_entries:
                    add_entries(change, record.scope, [entry.id for entry in new_entries])
                index_new(change, record.conversation_id, found)
            except (sqlite3.IntegrityError, LookupError) as error:
                # The entry that the record or the new entries continue from is gone, or a file of a light message.
                raise ConversationConflict(record.conversation_id) from error

        return write

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
            [(scope,)] = change.rows("SELECT scope FROM conversation WHERE conversation_id = ?", (conversation_id,))
            keep_shared(change, conversation_id)
            change.execute("DELETE FROM conversation WHERE conversation_id = ?", (conversation_id,))
            [(unreached,)] = change.rows(_UNREACHED, {"tips": tips})
            if scope:
                remove_entries(change, scope, json.loads(unreached))
            [(files,)] = change.rows(
                """SELECT json_group_array(DISTINCT file_id) FROM entry_file
                WHERE entry_id IN (SELECT value FROM json_each(?))""",
                (unreached,),
            )
            change.execute("DELETE FROM entry WHERE id IN (SELECT value FROM json_each(?))", (unreached,))
            change.execute(_DELETE_UNUSED_FILES, {"files": files})

        await self.database.change(delete)

    async def continue_at(
        self, record: ConversationRecord, entry_id: str | None, messages: Sequence[ModelMessage] = ()
    ) -> list[ConversationEntry]:
        """Have a conversation continue after an entry of its own, or from its beginning, with new messages.

        What `branch` and then `save` do, in one transaction and without reading the history. What it leaves becomes one
        of its branches, with the calls that wait there for a decision: they wait again when it comes back to them.

        Args:
            record: The conversation, as it was read.
            entry_id: The entry, in the conversation's history or in a branch that it left; `None` for none.
            messages: What follows the entry.

        Returns:
            The new messages' entries.

        Raises:
            ConversationConflict: If the conversation was changed since it was read.
        """
        left = record.head_id
        goes_on = left is not None and entry_id is not None and await self.position(entry_id, left) is not None
        branches = [tip for tip in record.branches if tip != left] if left is not None else record.branches
        if left is not None and not goes_on:
            branches.append(left)
        entries: list[ConversationEntry] = []
        for message in messages:
            entries.append(ConversationEntry(parent_id=entries[-1].id if entries else entry_id, message=message))
        head_id = entries[-1].id if entries else entry_id
        changed = ConversationRecord(
            conversation_id=record.conversation_id,
            head_id=head_id,
            usage=record.usage,
            deferred_tool_requests=await self._waiting_at(record, head_id),
            scope=record.scope,
            forked_from=record.forked_from,
            forked_at=record.forked_at,
            branches=[tip for tip in branches if tip not in (entry_id, head_id)],
        )
        await self.write_record(changed, new_entries=entries, expected_revision=record.revision)
        return entries

    async def line_of(self, record: ConversationRecord, entry_id: str) -> str | None:
        """The end of the line of a conversation that an entry is in: its head, else the branch that it left last.

        `None` when the entry is in none of them.
        """
        if (position := await self.position(entry_id)) is None:
            return None
        tips = [record.head_id, *reversed(record.branches)]
        found = await self.database.row(_LINE_OF, {"tips": json.dumps(tips), "entry": entry_id, "position": position})
        number: int | None = None if found is None else found["number"]
        return None if number is None else tips[number]

    async def followers(
        self, record: ConversationRecord, parents: Sequence[str | None], known: Sequence[str], first: int, last: int
    ) -> dict[str | None, list["Follower"]]:
        """What follows entries of a conversation in all its lines, oldest first; only where more does than is known.

        Args:
            record: The conversation.
            parents: The entries; `None` for what its lines begin with.
            known: Entries that follow some of them.
            first: The position of the first of what follows.
            last: The position of the last.
        """
        asked = {
            "conversation": record.conversation_id,
            "parents": json.dumps([parent for parent in parents if parent is not None]),
            "first": None in parents,
            "shared": json.dumps(await self._shared_line(record, first, last)),
            "known": json.dumps(list(known)),
        }
        more = [row["parent_id"] for row in await self.database.rows(f"{_FOLLOWING} {_MORE_FOLLOWS}", asked)]
        if not more:
            return {}
        asked |= {"parents": json.dumps([parent for parent in more if parent is not None]), "first": None in more}
        found: dict[str | None, list[Follower]] = {parent: [] for parent in more}
        for row in await self.database.rows(f"{_FOLLOWING} {_FOLLOWERS}", asked):
            found[row["parent_id"]].append(Follower(row["id"], bool(row["starts_turn"])))
        return found

    async def _shared_line(self, record: ConversationRecord, first: int, last: int) -> list[str]:
        """What a fork shares with the conversation that it was forked from, at these positions."""
        end = await self.position(record.forked_at) if record.forked_at is not None else None
        if end is None or end < first:
            return []
        newest = {"head": record.forked_at, "position": min(last, end)}
        found = await self.database.row(_ANCESTOR, newest)
        head = None if found is None else found["id"]
        rows = await self.database.rows(_LINE, {"head": head, "limit": min(last, end) - first + 1})
        return [row["id"] for row in rows]

    async def _waiting_at(self, record: ConversationRecord, head_id: str | None) -> DeferredToolRequests | None:
        """What waits for a decision where a conversation goes: here, or in a branch that it left."""
        if head_id == record.head_id:
            return record.deferred_tool_requests
        row = await self.database.row(
            "SELECT deferred_tool_requests AS waiting FROM branch WHERE conversation_id = ? AND entry_id = ?",
            (record.conversation_id, head_id),
        )
        return None if row is None or row["waiting"] is None else _DEFERRED.validate_json(row["waiting"])

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        [entry] = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        entries, light = await self._read_light(head_id, limit)
        if not self._light:
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
        walk = _Walk(head_id, limit)
        at_once = 1 if limit is not None and limit <= READ_FIRST else READ_AHEAD
        ahead = deque(asyncio.create_task(self.database.read(walk.step)) for _ in range(at_once))
        try:
            while ahead:
                piece = await ahead.popleft()
                if piece is None:
                    continue
                if not walk.ended:
                    ahead.append(asyncio.create_task(self.database.read(walk.step)))
                entries = piece.entries()
                for entry, places in zip(entries, piece.places, strict=True):
                    if places:
                        light.extend(mark(entry.message, places))
                pieces.append(entries)
        finally:
            for reading in ahead:
                reading.cancel()
        return [entry for piece in reversed(pieces) for entry in piece], light


@dataclass(frozen=True)
class Follower:
    """An entry that follows another, and whether a person's prompt is in it."""

    id: str
    starts_turn: bool


@dataclass(frozen=True)
class _Piece:
    """A piece of a history, oldest first: of each entry its id, its parent, its kind and where it has which file.

    `messages` is the JSON of all of them, for one pass of validation.
    """

    ids: Sequence[str]
    parents: Sequence[str | None]
    kinds: Sequence[Literal["message"]]
    places: Sequence[Sequence[Place] | None]
    messages: str

    def entries(self) -> list[ConversationEntry]:
        return [
            ConversationEntry(id=entry_id, parent_id=parent_id, kind=kind, message=message)
            for entry_id, parent_id, kind, message in zip(
                self.ids, self.parents, self.kinds, ModelMessagesTypeAdapter.validate_json(self.messages), strict=True
            )
        ]


class _Walk:
    """The way back through a history, piece by piece. Only the reader's thread takes its steps."""

    def __init__(self, head_id: str | None, limit: int | None) -> None:
        self._head_id = head_id
        self._left = limit
        self._size = READ_FIRST

    @property
    def ended(self) -> bool:
        """Whether it has come to the history's beginning, or to the limit."""
        return self._head_id is None or self._left == 0

    def step(self, connection: sqlite3.Connection) -> _Piece | None:
        """The next piece; `None` at the end.

        Raises:
            LookupError: If an entry is not in the store.
        """
        if self._head_id is None or self._left == 0:
            return None
        limit = self._size if self._left is None else min(self._left, self._size)
        asked = {"head": self._head_id, "limit": limit, "size": READ_AT_ONCE_SIZE}
        asked |= {"before_places": BEFORE_PLACES, "places": f"$.{PLACES}"}
        [row] = rows_of(connection, _HISTORY, asked)
        if row["messages"] is None:
            raise LookupError(f"Entry {self._head_id!r} is not in the store.")
        ids, parents, kinds, places = (json.loads(row[name]) for name in ("ids", "parents", "kinds", "places"))
        self._head_id = parents[0]
        self._left = None if self._left is None else self._left - len(ids)
        self._size = min(2 * self._size, READ_AT_ONCE)
        return _Piece(ids, parents, kinds, places, row["messages"])


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
    waited = change.rows(
        "SELECT head_id, deferred_tool_requests FROM conversation WHERE conversation_id = ?", (record.conversation_id,)
    )
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
    branches = change.rows(
        "SELECT entry_id, deferred_tool_requests FROM branch WHERE conversation_id = ? ORDER BY position",
        (record.conversation_id,),
    )
    if [entry_id for entry_id, _ in branches] == record.branches:
        return
    # What waits for a decision stays with the history that is left.
    waiting = {entry_id: requests for entry_id, requests in (*waited, *branches) if requests is not None}
    change.execute("DELETE FROM branch WHERE conversation_id = ?", (record.conversation_id,))
    change.execute_many(
        "INSERT INTO branch (conversation_id, position, entry_id, deferred_tool_requests) VALUES (?, ?, ?, ?)",
        [
            (record.conversation_id, position, entry_id, waiting.get(entry_id))
            for position, entry_id in enumerate(record.branches)
        ],
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
