"""Read-only links to conversations as they were when they were shared.

Whoever has a link can read; so the link's token is as hard to guess as a visitor's, and the database keeps only its
SHA-256. What is shared is a snapshot by itself: entries never change, and a share names the one that it ends with.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic_ai import ModelMessage
from pydantic_ai.messages import BinaryContent

from chat.database import Database, Transaction
from chat.files import file_of
from chat.identity import Owner
from chat.library import UNTITLED
from chat.render import starts_turn
from chat.store import SQLiteConversationStore
from chat.transcript import Attached, Piece, Shown, transcript

MOST_SHARES = 500
"""Links that an owner can have at a time: as many as a list of them can show."""

PAGE = 100
"""Messages of a page, about."""

TURN = 40
"""Messages by which a page may be longer, so that it ends with a whole turn."""

_TOKEN_BYTES = 32
_TOKEN_LENGTH = 43


class ShareRefused(Exception):
    """A conversation that can't be shared now. The message says why."""


@dataclass(frozen=True)
class Share:
    """What its owner sees of a share. `id` is not its token: nobody can read with it."""

    id: str
    conversation_id: str
    title: str
    shown: Shown
    created_at: datetime


@dataclass(frozen=True)
class SharedPage:
    """A part of a shared conversation. `earlier` and `later` are the numbers of the pages beside it, if any."""

    title: str
    created_at: datetime
    pieces: Sequence[Piece]
    earlier: int | None
    later: int | None


class Shares:
    """The shares of owners, in a database that is open."""

    def __init__(self, database: Database, store: SQLiteConversationStore) -> None:
        self._database = database
        self._store = store

    async def create(self, owner: Owner, conversation_id: str, shown: Shown) -> str | None:
        """Share a conversation as it is now; the token of the link, which is known to nobody later.

        `None` when the owner has no such conversation, or there is nothing in it.

        Raises:
            ShareRefused: If the owner shares too much already.
            DatabaseUnavailable: If it can't be stored now.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = datetime.now(UTC).isoformat(timespec="microseconds")

        def create(change: Transaction) -> bool:
            [(shares,)] = change.rows("SELECT count(*) FROM share WHERE scope = ?", (owner,))
            if shares >= MOST_SHARES:
                raise ShareRefused(f"You share {MOST_SHARES} conversations. Revoke a link first.")
            made = change.execute(
                """INSERT INTO share (id, conversation_id, scope, head_id, title, tools, thinking, created_at)
                SELECT ?, conversation_id, scope, head_id, coalesce(title, ?), ?, ?, ?
                FROM conversation LEFT JOIN title USING (conversation_id)
                WHERE conversation_id = ? AND scope = ? AND head_id IS NOT NULL""",
                (_id(token), UNTITLED, shown.tools, shown.thinking, now, conversation_id, owner),
            )
            return made == 1

        return token if await self._database.change(create) else None

    async def listed(self, owner: Owner) -> list[Share]:
        """An owner's shares, the newest first."""
        rows = await self._database.rows("SELECT * FROM share WHERE scope = ? ORDER BY created_at DESC", (owner,))
        return [_share(row) for row in rows]

    async def revoke(self, owner: Owner, share_id: str) -> bool:
        """End a share at once; whether the owner had it.

        Raises:
            DatabaseUnavailable: If it can't be stored now.
        """
        sql = "DELETE FROM share WHERE id = ? AND scope = ?"
        return await self._database.change(lambda change: change.execute(sql, (share_id, owner))) == 1

    async def page(self, token: str, number: int) -> SharedPage | None:
        """A page of what a link shows, from 0; `None` when there is none: revoked, deleted, or never shared."""
        row = await self._find(token)
        end = None if row is None else await self._store.position(row["head_id"])
        if row is None or end is None or not 0 <= number <= end // PAGE:
            return None
        first = number * PAGE
        entries = await self._store.read_part(row["head_id"], first, min(end, first + PAGE + TURN))
        messages = [(entry.id, entry.message) for entry in entries]
        start = _turn_after(messages, 0) if number else 0
        stop = _turn_after(messages, PAGE) if first + PAGE <= end else len(messages)
        share = _share(row)
        return SharedPage(
            share.title,
            share.created_at,
            transcript(messages[start:stop], share.shown),
            number - 1 if number else None,
            number + 1 if first + PAGE <= end else None,
        )

    async def file(self, token: str, entry_id: str, file_id: str) -> BinaryContent | None:
        """A file of what a link shows, light; `None` when it shows no such file."""
        row = await self._find(token)
        position = None if row is None else await self._store.position(row["head_id"], entry_id)
        if row is None or position is None:
            return None
        [entry] = await self._store.read_part(entry_id, position, position)
        pieces = transcript([(entry.id, entry.message)], _share(row).shown)
        contents = [piece.content for piece in pieces if isinstance(piece, Attached)]
        return next((each for each in contents if (file := file_of(each)) is not None and file.id == file_id), None)

    async def _find(self, token: str) -> sqlite3.Row | None:
        if len(token) != _TOKEN_LENGTH:
            return None
        return await self._database.row(
            """SELECT * FROM share WHERE id = ?
            AND NOT EXISTS (SELECT 1 FROM deletion WHERE deletion.conversation_id = share.conversation_id)""",
            (_id(token),),
        )


def _id(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _turn_after(messages: Sequence[tuple[str, ModelMessage]], start: int) -> int:
    """Where the next turn begins from `start` on, or `start` when none does soon."""
    turns = (index for index in range(start, min(len(messages), start + TURN)) if starts_turn(messages[index][1]))
    return next(turns, start)


def _share(row: sqlite3.Row) -> Share:
    return Share(
        row["id"],
        row["conversation_id"],
        row["title"],
        Shown(tools=bool(row["tools"]), thinking=bool(row["thinking"])),
        datetime.fromisoformat(row["created_at"]),
    )
