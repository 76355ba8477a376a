"""What a list of conversations needs and the store does not have: their titles, their places, and pages of them."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self, get_args

from chat.database import Database, Transaction
from chat.identity import Owner
from chat.search_index import index_title
from chat.title_text import first_words

PAGE = 50
"""Conversations that are listed at a time."""

UNTITLED = "Untitled"

Place = Literal["archived", "listed", "pinned"]
"""Where an owner keeps a conversation. In the database it is the number of the place, from 0, in this order."""

PLACES: tuple[Place, ...] = get_args(Place)

_LISTED = """
    SELECT conversation_id, title, updated_at, place, unread, deferred_tool_requests IS NOT NULL AS waits
    FROM conversation LEFT JOIN title USING (conversation_id)
"""

# Costs what it returns: the index `conversation_by_place` has its order.
_PAGE = f"""{_LISTED}
    WHERE scope = :owner AND place >= :lowest AND (place, updated_at, conversation_id) < (:place, :time, :id)
    ORDER BY place DESC, updated_at DESC, conversation_id DESC LIMIT :limit
"""

_NAMED = f"{_LISTED} WHERE scope = ? AND conversation_id IN (SELECT value FROM json_each(?))"  # noqa: S608  # of constants


@dataclass(frozen=True)
class Listed:
    """A conversation in the list. `waits` says that it waits for a decision, `unread` that nobody saw its reply."""

    conversation_id: str
    title: str
    updated_at: datetime
    place: Place = "listed"
    waits: bool = False
    unread: bool = False


@dataclass(frozen=True)
class Mark:
    """Where a page of the list ends: the next one begins after it, whatever has moved meanwhile."""

    place: Place
    time: str
    conversation_id: str

    def __str__(self) -> str:
        return f"{self.place} {self.time} {self.conversation_id}"

    @classmethod
    def from_page(cls, value: str) -> Self:
        """What a page sent back. A forged one leads nowhere else than to the owner's own conversations.

        Raises:
            ValueError: If it has another form.
        """
        place, time, conversation_id = value.split(" ", 2)
        if place not in PLACES:
            raise ValueError(f"There is no place {place!r}.")
        return cls(place, time, conversation_id)


class Library:
    """The conversations of owners, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversations(
        self, owner: Owner, *, after: Mark | None = None, archived: bool = False, limit: int = PAGE
    ) -> tuple[list[Listed], Mark | None]:
        """A page of an owner's conversations, and where the next one begins, if there is one.

        Those that are pinned come first, then the most recently changed. Archived ones are a list of their own.
        """
        place, time, conversation_id = (
            (PLACES.index(after.place), after.time, after.conversation_id)
            if after is not None
            else (1 if archived else len(PLACES), "", "")  # Greater than all of them.
        )
        rows = await self._database.rows(
            _PAGE,
            {
                "owner": owner,
                "lowest": 0 if archived else 1,
                "place": place,
                "time": time,
                "id": conversation_id,
                "limit": limit + 1,
            },
        )
        return [_listed(row) for row in rows[:limit]], _mark(rows[limit - 1]) if len(rows) > limit else None

    async def find(self, owner: Owner, conversation_ids: Sequence[str]) -> list[Listed]:
        """Those of these conversations that the owner has."""
        rows = await self._database.rows(_NAMED, (owner, json.dumps(list(conversation_ids))))
        return [_listed(row) for row in rows]

    async def rename(self, owner: Owner, conversation_id: str, title: str) -> bool:
        """Give a conversation a title that stays; whether the owner has that conversation."""
        return await self._set_title(
            conversation_id,
            """INSERT INTO title (conversation_id, title, settled)
            SELECT conversation_id, ?, 1 FROM conversation WHERE conversation_id = ? AND scope = ?
            ON CONFLICT (conversation_id) DO UPDATE SET title = excluded.title, settled = 1""",
            (title, conversation_id, owner),
        )

    async def move(self, owner: Owner, conversation_id: str, place: Place) -> bool:
        """Put a conversation in another place; whether the owner has it."""
        return await self._change(
            "UPDATE conversation SET place = ? WHERE conversation_id = ? AND scope = ?",
            (PLACES.index(place), conversation_id, owner),
        )

    async def see(self, owner: Owner, conversation_id: str) -> bool:
        """Note that the owner sees a conversation's newest reply; whether it was unread."""
        unread = await self._database.row(
            "SELECT 1 FROM conversation WHERE conversation_id = ? AND scope = ? AND unread = 1",
            (conversation_id, owner),
        )
        if unread is None:
            return False  # As nearly always, and then nobody waits for the disk.
        return await self._change(
            "UPDATE conversation SET unread = 0 WHERE conversation_id = ? AND scope = ? AND unread = 1",
            (conversation_id, owner),
        )

    async def title_from_prompt(self, owner: Owner, conversation_id: str, prompt: str) -> None:
        """Give a conversation that has no title the first words of a prompt."""
        if title := first_words(prompt):
            await self._set_title(
                conversation_id,
                """INSERT INTO title (conversation_id, title, settled)
                SELECT conversation_id, ?, 0 FROM conversation WHERE conversation_id = ? AND scope = ?
                ON CONFLICT DO NOTHING""",
                (title, conversation_id, owner),
            )

    async def title_from_model(self, owner: Owner, conversation_id: str, title: str) -> bool:
        """Give a conversation the title that a model wrote, if it has none that stays; whether it had none.

        An empty one says that the model was asked and wrote none: what the conversation has stays.
        """
        return await self._set_title(
            conversation_id,
            """INSERT INTO title (conversation_id, title, settled)
            SELECT conversation_id, ?, 1 FROM conversation WHERE conversation_id = ? AND scope = ?
            ON CONFLICT (conversation_id) DO UPDATE
            SET title = coalesce(nullif(excluded.title, ''), title), settled = 1 WHERE settled = 0""",
            (title, conversation_id, owner),
        )

    async def is_settled(self, owner: Owner, conversation_id: str) -> bool:
        """Whether a conversation's title stays, because a person gave it or a model was asked for it."""
        row = await self._database.row(
            """SELECT settled FROM title JOIN conversation USING (conversation_id)
            WHERE conversation_id = ? AND scope = ?""",
            (conversation_id, owner),
        )
        return row is not None and bool(row["settled"])

    async def _set_title(self, conversation_id: str, sql: str, parameters: Sequence[object]) -> bool:
        def give(change: Transaction) -> bool:
            given = change.execute(sql, parameters) == 1
            if given:
                index_title(change, conversation_id)
            return given

        return await self._database.change(give)

    async def _change(self, sql: str, parameters: Sequence[object]) -> bool:
        return await self._database.change(lambda change: change.execute(sql, parameters)) == 1


def _mark(row: sqlite3.Row) -> Mark:
    return Mark(_place(row["place"]), row["updated_at"], row["conversation_id"])


def _place(number: int) -> Place:
    return PLACES[number]


def _listed(row: sqlite3.Row) -> Listed:
    return Listed(
        row["conversation_id"],
        row["title"] or UNTITLED,
        datetime.fromisoformat(row["updated_at"]),
        _place(row["place"]),
        waits=bool(row["waits"]),
        unread=bool(row["unread"]),
    )
