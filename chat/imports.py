"""Conversations into the database, out of files: all of a file or nothing of it.

Everything gets an id of its own here. An id in a file says nothing: it may be somebody else's, and whether it is must
not show. So nothing that is stored can be overwritten, continued or found out by a file.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from hashlib import sha256
from typing import IO

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

from chat.database import Database, Transaction
from chat.identity import Owner
from chat.import_file import ReadConversation, ReadEntry, read_file
from chat.library import PLACES
from chat.search_index import index_title
from chat.store import SQLiteConversationStore, message_json
from chat.title_text import LONGEST_NAME, one_line

_ALREADY_IMPORTED = """
    SELECT 1 FROM origin JOIN conversation USING (conversation_id) WHERE source = ? AND scope = ?
"""

# Whether all of these entries are in an owner's conversation, in whichever version.
_HAS_ALL = """
    WITH RECURSIVE kept (id) AS (
        SELECT head_id FROM conversation WHERE conversation_id = :conversation AND scope = :owner AND head_id NOT NULL
        UNION
        SELECT entry_id FROM branch JOIN conversation USING (conversation_id)
        WHERE conversation_id = :conversation AND scope = :owner
        UNION
        SELECT entry.parent_id FROM entry JOIN kept ON entry.id = kept.id WHERE entry.parent_id IS NOT NULL
    )
    SELECT 1 FROM conversation WHERE conversation_id = :conversation AND scope = :owner
    AND NOT EXISTS (SELECT 1 FROM json_each(:tips) WHERE value NOT IN (SELECT id FROM kept))
"""


@dataclass(frozen=True)
class Imported:
    """What came of a file: the ids of the new conversations, and how many were there already."""

    conversation_ids: Sequence[str]
    known: int


class Imports:
    """Takes files into a database that is open.

    Args:
        database: The database.
        store: The conversations in it.
        largest: Bytes that may be in a file, unpacked.
    """

    def __init__(self, database: Database, store: SQLiteConversationStore, *, largest: int) -> None:
        self.largest = largest
        self._database = database
        self._store = store
        self._one_at_a_time = asyncio.Semaphore(1)  # A large one takes a core and several times its size of memory.

    async def take(self, owner: Owner, file: IO[bytes]) -> Imported:
        """Store what is in a file as an owner's conversations, all of it in one transaction.

        A conversation that the owner has already, unchanged since or continued, is left as it is.

        Raises:
            ImportRefused: If something in the file is not as it should be; nothing is stored then.
            DatabaseUnavailable: If it can't be stored now.
        """
        async with self._one_at_a_time:
            read = await asyncio.to_thread(read_file, file, self.largest)
            new = [conversation for conversation in _once(read) if not await self._is_here(owner, conversation)]
            placing, ids = _Placing(owner), list[str]()
            writes: list[Callable[[Transaction], None]] = []
            for conversation in new:
                record, entries = await asyncio.to_thread(placing.place, conversation)
                ids.append(record.conversation_id)
                writes.append(await self._store.writing(record, [entry for entry, _ in entries], None))
                writes.append(_writing_beside(owner, record.conversation_id, conversation, entries))

            def write(change: Transaction) -> None:
                for step in writes:
                    step(change)

            await self._database.change(write)
            return Imported(ids, len(read) - len(new))

    async def _is_here(self, owner: Owner, conversation: ReadConversation) -> bool:
        if await self._database.row(_ALREADY_IMPORTED, (conversation.source, owner)) is not None:
            return True
        tips = json.dumps(conversation.tips)
        row = await self._database.row(_HAS_ALL, {"conversation": conversation.id, "owner": owner, "tips": tips})
        return row is not None


def _once(conversations: Sequence[ReadConversation]) -> list[ReadConversation]:
    return list({conversation.source: conversation for conversation in conversations}.values())


@dataclass(frozen=True)
class _Placed:
    """A conversation of a file, with the ids that it and its entries have here."""

    id: str
    ids: Mapping[str, str]
    digests: Mapping[str, bytes]


class _Placing:
    """Gives conversations and entries new ids. What a fork shares with another conversation of the file, it shares
    again."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._placed: dict[str, _Placed] = {}

    def place(
        self, conversation: ReadConversation
    ) -> tuple[ConversationRecord, list[tuple[ConversationEntry, ReadEntry]]]:
        """The record of a conversation, and the entries that it brings, each with what it is made of."""
        digests = {read.id: _digest(read) for read in conversation.entries}
        origin = self._placed.get(conversation.forked_from or "")
        shared = {} if origin is None else _shared(conversation, digests, origin)
        ids = dict(shared)
        entries: list[tuple[ConversationEntry, ReadEntry]] = []
        for read in conversation.entries:
            if read.id not in ids:
                parent_id = None if read.parent is None else ids[read.parent]
                entry = ConversationEntry(parent_id=parent_id, message=read.message)
                ids[read.id] = entry.id
                entries.append((entry, read))
        record = ConversationRecord(
            conversation_id=Conversation().conversation_id,
            head_id=None if conversation.head is None else ids[conversation.head],
            usage=conversation.usage,
            scope=self._owner,
            # Of a conversation that isn't in the file nothing is known here.
            forked_from=origin.id if origin is not None and shared else None,
            forked_at=shared.get(conversation.forked_at or ""),
            branches=[ids[tip] for tip in conversation.branches],
            updated_at=conversation.updated_at,
        )
        self._placed[conversation.id] = _Placed(record.conversation_id, ids, digests)
        return record, entries


def _shared(conversation: ReadConversation, digests: Mapping[str, bytes], origin: _Placed) -> dict[str, str]:
    """The ids of the entries that a fork has from where it was made: all up to `forked_at`, or none that isn't so."""
    parents = {read.id: read.parent for read in conversation.entries}
    shared: dict[str, str] = {}
    entry_id = conversation.forked_at
    while entry_id is not None:
        if origin.digests.get(entry_id) != digests[entry_id]:
            return {}
        shared[entry_id] = origin.ids[entry_id]
        entry_id = parents[entry_id]
    return shared


def _digest(read: ReadEntry) -> bytes:
    """Tells whether two entries of one id are the same: what they hold, and what they follow."""
    return sha256(f"{read.parent}\n{message_json(read.message)}".encode()).digest()


def _writing_beside(
    owner: Owner, conversation_id: str, read: ReadConversation, entries: Sequence[tuple[ConversationEntry, ReadEntry]]
) -> Callable[[Transaction], None]:
    """Writes what belongs to a conversation beside its messages."""
    title = one_line(read.title or "", LONGEST_NAME)
    choice = read.choice.model_dump_json(exclude_defaults=True) if read.choice.changes() else None
    outcomes = [(entry.id, of.outcome.kind, of.outcome.sentence) for entry, of in entries if of.outcome is not None]
    timings = [
        (entry.id, of.timing.seconds, json.dumps(of.timing.parts)) for entry, of in entries if of.timing is not None
    ]
    feedback = [
        (entry.id, owner, said.verdict, said.comment, said.model, said.at.astimezone(UTC).isoformat())
        for entry, of in entries
        if (said := of.feedback) is not None
    ]

    def write(change: Transaction) -> None:
        if title:
            change.execute("INSERT INTO title (conversation_id, title) VALUES (?, ?)", (conversation_id, title))
            index_title(change, conversation_id)
        if choice is not None:
            change.execute("INSERT INTO choice (conversation_id, content) VALUES (?, ?)", (conversation_id, choice))
        place = PLACES.index(read.place)
        change.execute("UPDATE conversation SET place = ? WHERE conversation_id = ?", (place, conversation_id))
        change.execute_many("INSERT INTO outcome (entry_id, kind, sentence) VALUES (?, ?, ?)", outcomes)
        change.execute_many("INSERT INTO timing (entry_id, seconds, parts) VALUES (?, ?, ?)", timings)
        change.execute_many(
            "INSERT INTO feedback (entry_id, owner, verdict, comment, model, said_at) VALUES (?, ?, ?, ?, ?, ?)",
            feedback,
        )
        change.execute("INSERT INTO origin (conversation_id, source) VALUES (?, ?)", (conversation_id, read.source))

    return write
