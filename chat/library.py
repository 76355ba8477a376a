"""What a list of conversations needs and the store does not have: titles, and one owner's list of them."""

from dataclasses import dataclass
from datetime import datetime

from chat.database import Database, Transaction
from chat.identity import Owner
from chat.search_index import index_title

LONGEST_TITLE = 60
"""Characters of a title that is made of a prompt's first words."""


@dataclass(frozen=True)
class Listed:
    """A conversation in the list."""

    conversation_id: str
    title: str
    updated_at: datetime


class Library:
    """The conversations of owners, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversations(self, owner: Owner, *, limit: int) -> list[Listed]:
        """An owner's newest conversations, the most recently changed first."""
        rows = await self._database.rows(
            """SELECT conversation_id, title, updated_at FROM conversation LEFT JOIN title USING (conversation_id)
            WHERE scope = ? ORDER BY updated_at DESC LIMIT ?""",
            (owner, limit),
        )
        return [
            Listed(row["conversation_id"], row["title"] or "Untitled", datetime.fromisoformat(row["updated_at"]))
            for row in rows
        ]

    async def title_from_prompt(self, owner: Owner, conversation_id: str, prompt: str) -> None:
        """Give a conversation that has no title the first words of a prompt."""

        def give(change: Transaction) -> None:
            given = change.execute(
                """INSERT INTO title (conversation_id, title)
                SELECT conversation_id, ? FROM conversation WHERE conversation_id = ? AND scope = ?
                ON CONFLICT DO NOTHING""",
                (_first_words(prompt), conversation_id, owner),
            )
            if given:
                index_title(change, conversation_id)

        await self._database.change(give)


def _first_words(prompt: str) -> str:
    text = " ".join(prompt.strip()[: LONGEST_TITLE * 4].split())
    if len(text) <= LONGEST_TITLE:
        return text
    return f"{text[:LONGEST_TITLE].rpartition(' ')[0] or text[:LONGEST_TITLE]}…"
