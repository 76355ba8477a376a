"""Search: what an owner's conversations hold of the words that they type.

A query is words, whatever else is in it: all of them have to be in one message, or in the title. What is written
together, such as `send_mail` or a row of Chinese characters, has to stand together. The last word is taken for the
beginning of one, as long as no space follows it.

`python -m chat.search rebuild --database chat.db` makes the index anew from the messages, also while a chat runs.
"""

import argparse
import asyncio
import logging
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chat.database import Database, DatabaseError, DatabaseUnavailable
from chat.identity import Owner
from chat.search_index import forget_all, index_conversation
from chat.searched import text_of
from chat.snippet import Phrase, Piece, snippet
from chat.words import words

logger = logging.getLogger(__name__)

LONGEST_QUERY = 200
"""Characters of a query that are looked at."""

MOST_WORDS = 20
"""Words of a query that are looked at; what is written together counts as one."""

MOST_FOUND = 1_000
"""Messages that a search looks at, the newest first. More words find older ones."""

CONVERSATIONS = 20
"""Conversations that a search answers with."""

HITS = 3
"""Messages of each that it shows."""

INDEXED_AT_ONCE = 20
"""Conversations that are indexed in one transaction: others can write between two."""

_TITLES = """
    SELECT conversation_id, title, updated_at
    FROM (SELECT rowid AS id FROM search_words WHERE search_words MATCH :match ORDER BY rowid DESC LIMIT :most)
    JOIN search_document USING (id)
    JOIN conversation USING (conversation_id)
    JOIN title USING (conversation_id)
    WHERE scope = :owner
    ORDER BY updated_at DESC LIMIT :limit
"""

# The newest messages of each conversation, the conversations by their newest.
_MESSAGES = """
    WITH found AS (
        SELECT id, entry_id, conversation_id, updated_at,
               row_number() OVER (PARTITION BY conversation_id ORDER BY id DESC) AS number,
               max(id) OVER (PARTITION BY conversation_id) AS newest
        FROM (SELECT rowid AS id FROM search_words WHERE search_words MATCH :match ORDER BY rowid DESC LIMIT :most)
        JOIN search_document USING (id)
        JOIN conversation USING (conversation_id)
        WHERE scope = :owner
    )
    SELECT found.conversation_id, title, updated_at, entry_id, message
    FROM found JOIN entry ON entry.id = entry_id LEFT JOIN title USING (conversation_id)
    WHERE number <= :each ORDER BY newest DESC, found.id DESC LIMIT :limit
"""

# Forks last: what they share belongs to the conversation that they were made of. Deleted ones are nobody's meanwhile.
_DUE = """
    SELECT conversation_id FROM search_due JOIN conversation USING (conversation_id)
    WHERE NOT EXISTS (SELECT 1 FROM deletion WHERE deletion.conversation_id = search_due.conversation_id)
    ORDER BY forked_from NOT NULL, updated_at LIMIT ?
"""

_IS_DUE = "SELECT 1 FROM search_due JOIN conversation USING (conversation_id) WHERE scope = ? LIMIT 1"


@dataclass(frozen=True)
class Hit:
    """A message that was found."""

    entry_id: str
    snippet: Sequence[Piece]


@dataclass(frozen=True)
class Found:
    """A conversation that was found: by its title, when there are no hits, or by some of its messages, newest first."""

    conversation_id: str
    title: Sequence[Piece]
    updated_at: datetime
    hits: Sequence[Hit] = ()


class Search:
    """Finds what is in the conversations of owners, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexing: asyncio.Task[None] | None = None

    async def find(self, owner: Owner, query: str) -> list[Found]:
        """An owner's conversations in which a query's words are: those whose title has them, then by their messages.

        Raises:
            DatabaseUnavailable: If the database can't be read now.
        """
        phrases = phrases_of(query)
        if not phrases:
            return []
        if await self._database.row(_IS_DUE, (owner,)) is not None:
            self.keep_indexing()
        number = await self._database.row("SELECT id FROM search_owner WHERE scope = ?", (owner,))
        if number is None:
            return []
        wanted = {"owner": owner, "most": MOST_FOUND, "each": HITS, "limit": CONVERSATIONS * HITS}
        titles = await self._database.rows(_TITLES, {**wanted, "match": _match(phrases, f"t{number['id']}/")})
        messages = await self._database.rows(_MESSAGES, {**wanted, "match": _match(phrases, f"m{number['id']}/")})
        # In another thread: of long messages it takes a while to find where the words are.
        return await asyncio.to_thread(_found, titles, messages, phrases)

    def keep_indexing(self) -> None:
        """Index the conversations that are due, if any, while others read and write."""
        if self._indexing is None or self._indexing.done():
            self._indexing = asyncio.create_task(self._index_quietly())

    async def close(self) -> None:
        """Index no more. What is left is indexed after the next start."""
        if self._indexing is not None:
            self._indexing.cancel()
            with suppress(asyncio.CancelledError):
                await self._indexing

    async def index_due(self) -> int:
        """Index the conversations that are due; how many there were.

        Raises:
            DatabaseUnavailable: If the database can't be changed now. What is left stays due.
        """
        count = 0
        while some := [row[0] for row in await self._database.rows(_DUE, (INDEXED_AT_ONCE,))]:
            for conversation_id in some:
                await self._database.change(lambda change, name=conversation_id: index_conversation(change, name))
            count += len(some)
        return count

    async def rebuild(self) -> int:
        """Make the index anew from the messages and titles; how many conversations there are.

        Raises:
            DatabaseUnavailable: If the database can't be changed now.
        """
        await self._database.change(forget_all)
        return await self.index_due()

    async def _index_quietly(self) -> None:
        try:
            await self.index_due()
        except DatabaseUnavailable as error:
            logger.warning("Some conversations can't be found yet: %s", error)


def phrases_of(query: str) -> list[Phrase]:
    """What a query looks for. It may hold anything."""
    looked_at = query[:LONGEST_QUERY]
    found = [each for run in looked_at.split() if (each := words(run))][:MOST_WORDS]
    if not found:
        return []
    # One letter begins too many words to be looked for with each key that is pressed.
    begun = not looked_at[-1:].isspace() and len(found[-1][-1]) > 1
    return [*map(Phrase, found[:-1]), Phrase(found[-1], begun)]


def _match(phrases: Sequence[Phrase], before: str) -> str:
    """The phrases for FTS5. Nothing in words has a meaning there: they are letters, digits and symbols beyond ASCII."""
    return " AND ".join(
        f'"{" ".join(before + word for word in phrase.words)}"{" *" if phrase.begun else ""}' for phrase in phrases
    )


def _found(titles: Sequence[sqlite3.Row], messages: Sequence[sqlite3.Row], phrases: Sequence[Phrase]) -> list[Found]:
    found: dict[str, Found] = {}
    hits: dict[str, list[Hit]] = {}
    for row in [*titles, *messages]:
        conversation_id: str = row["conversation_id"]
        if conversation_id not in found:
            if len(found) == CONVERSATIONS:
                continue
            title = snippet(row["title"] or "Untitled", phrases)
            hits[conversation_id] = []
            found[conversation_id] = Found(
                conversation_id, title, datetime.fromisoformat(row["updated_at"]), hits[conversation_id]
            )
        if "entry_id" in row.keys():  # noqa: SIM118  # a row's `in` looks at its values
            hits[conversation_id].append(Hit(row["entry_id"], snippet(text_of(row["message"]), phrases)))
    return list(found.values())


async def _rebuild(path: Path) -> int:
    async with Database(path) as database:
        return await Search(database).rebuild()


def main() -> None:
    """The command line: see the module."""
    parser = argparse.ArgumentParser(prog="python -m chat.search", description="The index of a chat's search.")
    commands = parser.add_subparsers(required=True, metavar="command")
    rebuild = commands.add_parser("rebuild", help="make the index anew from the messages, also while the chat runs")
    rebuild.add_argument("--database", type=Path, required=True, help="the file that keeps the conversations")
    path: Path = parser.parse_args().database
    if not path.exists():
        sys.exit(f"{path} does not exist. Name the file that the chat calls `Conversations:` when it starts.")
    try:
        print(f"{asyncio.run(_rebuild(path)):,} conversations indexed.")
    except DatabaseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
