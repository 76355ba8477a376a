"""What people think of replies: thumbs and a comment, by the entry that the reply begins with, which names its version.

It is given by the owner of a conversation only, can be changed and removed, and goes with the reply.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.messages import ModelResponse

from chat.database import Database
from chat.identity import Owner
from chat.store import SQLiteConversationStore

LONGEST_COMMENT = 4_000
"""Characters of a comment."""

Verdict = Literal["up", "down"]


class ReplyMissing(Exception):
    """The owner has no such reply. It may be somebody else's, deleted, or never have been."""

    def __init__(self) -> None:
        super().__init__("This reply does not exist.")


class Opinion(BaseModel):
    """What a person says of a reply. Without a verdict, what they said before is taken back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict | None = None
    comment: Annotated[str, Field(max_length=LONGEST_COMMENT)] = ""


@dataclass(frozen=True)
class Rating:
    """What was said of a reply.

    Args:
        entry_id: The entry that the reply begins with.
        verdict: Whether it was good.
        comment: Why, if that was said.
        model: The name of the model that wrote the reply, as far as it is known.
        at: When it was said last.
    """

    entry_id: str
    verdict: Verdict
    comment: str
    model: str | None
    at: datetime


class Feedback:
    """What owners said of replies, in a database that is open."""

    def __init__(self, database: Database, store: SQLiteConversationStore) -> None:
        self._database = database
        self._store = store

    async def of(self, owner: Owner, entry_ids: Sequence[str]) -> dict[str, Rating]:
        """What an owner said of the replies that begin with these entries, by their ids."""
        rows = await self._database.rows(
            "SELECT * FROM feedback WHERE owner = ? AND entry_id IN (SELECT value FROM json_each(?))",
            (owner, json.dumps(list(entry_ids))),
        )
        return {
            row["entry_id"]: Rating(
                row["entry_id"], row["verdict"], row["comment"], row["model"], datetime.fromisoformat(row["said_at"])
            )
            for row in rows
        }

    async def give(self, owner: Owner, conversation_id: str, entry_id: str, opinion: Opinion) -> None:
        """Keep what an owner says of a reply, in place of what they said before.

        Raises:
            ReplyMissing: If the owner has no such conversation, or it has no such reply.
            DatabaseUnavailable: If it can't be kept now.
        """
        record = await self._store.read_owned(conversation_id, owner)
        if record is None or await self._store.line_of(record, entry_id) is None:
            raise ReplyMissing
        if opinion.verdict is None:
            forget = "DELETE FROM feedback WHERE entry_id = ? AND owner = ?"
            await self._database.change(lambda change: change.execute(forget, (entry_id, owner)))
            return
        message = (await self._store.read_entry(entry_id)).message
        if not isinstance(message, ModelResponse):
            raise ReplyMissing
        said = (owner, opinion.verdict, opinion.comment.strip(), message.model_name, datetime.now(UTC).isoformat())
        keep = """INSERT INTO feedback (entry_id, owner, verdict, comment, model, said_at)
            SELECT id, ?, ?, ?, ?, ? FROM entry WHERE id = ?
            ON CONFLICT (entry_id, owner) DO UPDATE SET
                verdict = excluded.verdict, comment = excluded.comment, said_at = excluded.said_at"""
        if not await self._database.change(lambda change: change.execute(keep, (*said, entry_id))):
            raise ReplyMissing  # Deleted just now.
