"""Who has signed in: sessions, kept in the database by the SHA-256 of their tokens, so that they survive a restart.

A session's token is in the same cookie as a visitor's. It is always a new one: whoever knew the browser's token before
its owner signed in knows nothing afterwards.
"""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from chat.database import Database, Transaction
from chat.identity import Owner, new_token
from chat.runs import Runs
from chat.search_index import give_all

LIFETIME = 30 * 24 * 3600
"""Seconds after which somebody who signed in has to do it again."""

KEPT = 10_000
"""Sessions, and tokens that have none, that are kept in memory: the database is not asked at every request."""

OWNED = (("conversation", "scope"), ("share", "scope"), ("feedback", "owner"))
"""The tables and columns that say whose something is, and go with it when a visitor claims it."""


@dataclass(frozen=True)
class Session:
    """Somebody who signed in. `proof` tells what they showed for it, so that it ends when that is no longer valid."""

    owner: Owner
    name: str
    proof: str
    expires_at: float


class Sessions:
    """The sessions in a database that is open.

    Args:
        database: Where they are kept.
        runs: The runs of whoever claims what they wrote: they end before it is moved.
    """

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs
        self._known: OrderedDict[str, Session | None] = OrderedDict()

    async def find(self, token: str) -> Session | None:
        """The session that a token is for; `None` for a visitor's, and when it has expired.

        Raises:
            DatabaseUnavailable: If it can't be read now.
        """
        key = _hash(token)
        if key not in self._known:
            row = await self._database.row(
                "SELECT owner, name, proof, expires_at FROM session WHERE token_hash = ?", (key,)
            )
            found = None if row is None else Session(Owner(row["owner"]), row["name"], row["proof"], row["expires_at"])
            self._keep(key, found)
        self._known.move_to_end(key)
        session = self._known[key]
        return session if session is not None and session.expires_at > time.time() else None

    async def start(
        self, owner: Owner, name: str, proof: str = "", *, claimed: Owner | None = None, lifetime: float = LIFETIME
    ) -> str:
        """Let somebody in; the token of their session.

        Args:
            owner: Whose conversations they get.
            name: What they are called.
            proof: What they showed, as a fingerprint.
            claimed: Who they were until now, if what that one wrote is to be theirs. All of it is moved at once, with
                new revisions; replies that are being written in it are stopped.
            lifetime: Seconds until it expires.

        Raises:
            DatabaseUnavailable: If it can't be stored now; nothing has been moved then.
        """
        token = new_token()
        key, session = _hash(token), Session(owner, name, proof, time.time() + lifetime)

        def write(change: Transaction) -> None:
            change.execute("DELETE FROM session WHERE expires_at < ?", (time.time(),))
            change.execute(
                "INSERT INTO session (token_hash, owner, name, proof, expires_at) VALUES (?, ?, ?, ?, ?)",
                (key, owner, name, proof, session.expires_at),
            )
            if claimed is not None:
                _move(change, claimed, owner)

        if claimed is None:
            await self._database.change(write)
        else:
            async with self._runs.without(claimed):
                await self._database.change(write)
        self._keep(key, session)
        return token

    async def end(self, token: str) -> None:
        """End the session of a token; nothing happens for a visitor's."""
        await self._database.change(
            lambda change: change.execute("DELETE FROM session WHERE token_hash = ?", (_hash(token),))
        )
        self._keep(_hash(token), None)

    async def has_written(self, owner: Owner) -> bool:
        """Whether there is anything of an owner's that could be claimed."""
        return await self._database.row("SELECT 1 FROM conversation WHERE scope = ? LIMIT 1", (owner,)) is not None

    def _keep(self, key: str, session: Session | None) -> None:
        self._known[key] = session
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def _move(change: Transaction, claimed: Owner, owner: Owner) -> None:
    # Whoever still has it open as it was is told so when they save.
    change.execute("UPDATE conversation SET revision = lower(hex(randomblob(16))) WHERE scope = ?", (claimed,))
    for table, column in OWNED:
        change.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (owner, claimed))  # noqa: S608  # names of ours
    give_all(change, claimed, owner)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
