"""Deleting conversations so that it can be undone for a while.

A deleted conversation gets a scope that is no owner's: every query that asks for its owner's finds it no more, as if it
had never been. What is left of it is erased some time later, also after a restart.
"""

import asyncio
import contextvars
import logging
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

from chat.changes import Changes
from chat.database import DatabaseUnavailable, Transaction
from chat.holdings import DELETED
from chat.identity import Owner
from chat.runs import ConversationBusy, Runs
from chat.store import SQLiteConversationStore

logger = logging.getLogger(__name__)

KEPT_SECONDS = 60
"""How long a deletion can be undone. The page offers it for less."""

STOP_SECONDS = 5
"""How long a reply that is being written may take to stop, and be saved, before its conversation is deleted."""


class Deletions:
    """Deletes conversations, restores them and erases them, in a database that is open."""

    def __init__(self, store: SQLiteConversationStore, runs: Runs, changes: Changes) -> None:
        self._store = store
        self._runs = runs
        self._changes = changes
        self._eraser: asyncio.Task[None] | None = None

    async def delete(self, owner: Owner, conversation_id: str) -> bool:
        """Delete a conversation, after stopping what is written in it; whether the owner had it.

        Raises:
            ConversationBusy: If the reply does not stop; nothing is deleted.
            DatabaseUnavailable: If the database can't be changed now.
        """
        if (run := self._runs.of(owner, conversation_id)) is not None:
            run.stop()
            if not await run.ends_within(STOP_SECONDS):
                raise ConversationBusy

        def delete(change: Transaction) -> bool:
            if not _give(change, conversation_id, owner, _deleted(owner)):
                return False
            change.execute(
                "INSERT INTO deletion (conversation_id, deleted_at) VALUES (?, ?)", (conversation_id, _now())
            )
            return True

        deleted = await self._store.database.change(delete)
        if deleted:
            self._changes.announce(owner, conversation_id, None)
            self.keep_erasing()
        return deleted

    async def restore(self, owner: Owner, conversation_id: str) -> bool:
        """Undo the deletion of a conversation; whether it was there to be restored.

        Raises:
            DatabaseUnavailable: If the database can't be changed now.
        """

        def restore(change: Transaction) -> bool:
            if not _give(change, conversation_id, _deleted(owner), owner):
                return False
            change.execute("DELETE FROM deletion WHERE conversation_id = ?", (conversation_id,))
            return True

        restored = await self._store.database.change(restore)
        if restored:
            self._changes.announce(owner, conversation_id, await self._runs.token(owner, conversation_id))
        return restored

    def keep_erasing(self) -> None:
        """Erase what was deleted long enough ago, now and as long as there is something to erase."""
        if self._eraser is None or self._eraser.done():
            self._eraser = asyncio.create_task(self._erase(), context=contextvars.Context())

    async def close(self) -> None:
        """Erase no more. What is left is erased after the next start."""
        if self._eraser is not None:
            self._eraser.cancel()
            with suppress(asyncio.CancelledError):
                await self._eraser

    async def _erase(self) -> None:
        try:
            while (oldest := await self._oldest()) is not None:
                passed = datetime.now(UTC) - datetime.fromisoformat(oldest["deleted_at"])
                if passed.total_seconds() < KEPT_SECONDS:
                    await asyncio.sleep(KEPT_SECONDS - passed.total_seconds())
                    continue  # It may have been restored.
                await self._store.delete(oldest["conversation_id"], scope=oldest["scope"])
        except DatabaseUnavailable as error:
            logger.warning("Deleted conversations are not erased yet: %s", error)

    async def _oldest(self) -> sqlite3.Row | None:
        return await self._store.database.row(
            "SELECT conversation_id, scope, deleted_at FROM deletion JOIN conversation USING (conversation_id) "
            "ORDER BY deleted_at LIMIT 1"
        )


def _give(change: Transaction, conversation_id: str, giver: str, taker: str) -> bool:
    """Give a conversation another scope, and a revision that no run or script knows; whether it had the first one."""
    return (
        change.execute(
            "UPDATE conversation SET scope = ?, revision = ? WHERE conversation_id = ? AND scope = ?",
            (taker, uuid4().hex, conversation_id, giver),
        )
        == 1
    )


def _deleted(owner: Owner) -> str:
    """The scope of what an owner deleted. No owner's begins like this."""
    return f"{DELETED}{owner}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
