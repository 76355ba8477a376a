"""The SQLite file: opening it, bringing its schema up to date, reading it, and the one way to change it.

One connection writes and one reads, each on aiosqlite's own thread. The reader sees the last committed state, so a
long read never holds up a save (WAL). Every change is a transaction that runs on the writer's thread from its beginning
to its end: whoever asks for it and is cancelled leaves nothing half done. Other processes may use the same file;
SQLite's own locks settle that.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiosqlite
from opentelemetry.trace import Span, SpanKind, get_tracer

T = TypeVar("T")

Parameters = Sequence[Any] | Mapping[str, Any]
"""The values of a statement's placeholders: `?` by position, `:name` by name."""

APPLICATION_ID = 0x5061726C
"""Written into the file's header ("Parl"), so that another program's database is never taken for ours."""

BUSY_SECONDS = 5
"""How long a statement waits for another process's lock before it fails."""

AGAIN_SECONDS = 0.01
"""How long to wait until a statement that SQLite does not let wait is tried again."""

LARGEST_CHECKED = 1 << 30
"""Bytes up to which a file is read through for damage when it is opened: about two seconds of reading."""

_TRACER = get_tracer("parley.database")
"""Statements become spans where a program has set up OpenTelemetry, as `logfire.configure` does."""

_HEADER_MAGIC = b"SQLite format 3\0"
_SCHEMA_COOKIE = slice(40, 44)
_USER_VERSION = slice(60, 64)
_APPLICATION_ID = slice(68, 72)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # What pydantic_ai.conversation_store defines: one row per message, each pointing at the one before it.
        """CREATE TABLE entry (
            id TEXT PRIMARY KEY NOT NULL,
            parent_id TEXT REFERENCES entry (id),
            kind TEXT NOT NULL,
            message TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX entry_by_parent ON entry (parent_id)",
        """CREATE TABLE conversation (
            conversation_id TEXT PRIMARY KEY NOT NULL,
            head_id TEXT REFERENCES entry (id),
            scope TEXT,
            usage TEXT NOT NULL,
            deferred_tool_requests TEXT,
            forked_from TEXT,
            forked_at TEXT,
            revision TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            format_version INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX conversation_by_head ON conversation (head_id)",
        "CREATE INDEX conversation_by_scope ON conversation (scope, updated_at DESC)",
        "CREATE INDEX conversation_by_time ON conversation (updated_at DESC)",
        """CREATE TABLE branch (
            conversation_id TEXT NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            entry_id TEXT NOT NULL REFERENCES entry (id),
            PRIMARY KEY (conversation_id, position)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX branch_by_entry ON branch (entry_id)",
        # What a chat needs beside it.
        """CREATE TABLE title (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            title TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE outcome (
            entry_id TEXT PRIMARY KEY NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            kind TEXT NOT NULL CHECK (kind IN ('stopped', 'failed', 'interrupted')),
            sentence TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE checkpoint (
            conversation_id TEXT NOT NULL,
            position INTEGER NOT NULL,
            prompt_id TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('message', 'events')),
            content TEXT NOT NULL,
            PRIMARY KEY (conversation_id, position)
        ) STRICT""",
    ),
    (
        # Where an entry is in its history, and a way far back: `store` finds any position of it in a few steps.
        "ALTER TABLE entry ADD COLUMN position INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE entry ADD COLUMN jump TEXT",
        # Entries from before jump to their parent: right, if no faster than going one by one.
        """WITH RECURSIVE placed (id, parent_id, position) AS (
            SELECT id, parent_id, 0 FROM entry WHERE parent_id IS NULL
            UNION ALL
            SELECT entry.id, entry.parent_id, placed.position + 1 FROM entry JOIN placed ON entry.parent_id = placed.id
        )
        UPDATE entry SET position = placed.position, jump = placed.parent_id FROM placed WHERE placed.id = entry.id""",
    ),
    (
        # What people and models send beside text, once for each content: `id` is its SHA-256 in hexadecimal.
        """CREATE TABLE file (
            id TEXT PRIMARY KEY NOT NULL,
            size INTEGER NOT NULL,
            data BLOB NOT NULL
        ) STRICT""",
        """CREATE TABLE entry_file (
            entry_id TEXT NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            file_id TEXT NOT NULL REFERENCES file (id),
            PRIMARY KEY (entry_id, file_id)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX entry_file_by_file ON entry_file (file_id)",
        # Which model and settings a conversation's owner chose for it.
        """CREATE TABLE choice (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            content TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        # How long a turn took, and its tool calls and thinking: JSON by their ids. The entry is the turn's prompt.
        """CREATE TABLE timing (
            entry_id TEXT PRIMARY KEY NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            seconds REAL NOT NULL,
            parts TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # What the model was told for a turn beside the conversation. The entry is the turn's prompt.
        """CREATE TABLE brief (
            entry_id TEXT PRIMARY KEY NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            content TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # Where a conversation is listed (0 archived, 1 listed, 2 pinned), and whether its newest reply was not seen.
        "ALTER TABLE conversation ADD COLUMN place INTEGER NOT NULL DEFAULT 1 CHECK (place BETWEEN 0 AND 2)",
        "ALTER TABLE conversation ADD COLUMN unread INTEGER NOT NULL DEFAULT 0 CHECK (unread BETWEEN 0 AND 1)",
        "CREATE INDEX conversation_by_place ON conversation (scope, place, updated_at, conversation_id)",
        # Whether a title stays: a person gave it, or a model was asked for it.
        "ALTER TABLE title ADD COLUMN settled INTEGER NOT NULL DEFAULT 1 CHECK (settled BETWEEN 0 AND 1)",
        # Deleted conversations, until they are erased: their scope is no owner's, so that nobody finds them.
        """CREATE TABLE deletion (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            deleted_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX deletion_by_time ON deletion (deleted_at)",
    ),
    (
        # Which database this is, also in its copies: a backup is never mixed up with another's.
        "CREATE TABLE lineage (id TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO lineage VALUES (lower(hex(randomblob(8))))",
    ),
    (
        # What an imported conversation was in its file: the same file again brings nothing new.
        """CREATE TABLE origin (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            source TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX origin_by_source ON origin (source)",
    ),
    (
        # Which conversation stored an entry: forks share entries, but what follows one in a fork is the fork's alone.
        "ALTER TABLE entry ADD COLUMN stored_by TEXT",
        """WITH RECURSIVE
        shared (conversation_id, id) AS (
            SELECT conversation_id, forked_at FROM conversation WHERE forked_at IS NOT NULL
            UNION
            SELECT shared.conversation_id, entry.parent_id FROM shared JOIN entry ON entry.id = shared.id
            WHERE entry.parent_id IS NOT NULL
        ),
        tip (conversation_id, id) AS (
            SELECT conversation_id, head_id FROM conversation WHERE head_id IS NOT NULL
            UNION SELECT conversation_id, entry_id FROM branch
            EXCEPT SELECT conversation_id, id FROM shared
        ),
        own (conversation_id, id) AS (
            SELECT conversation_id, id FROM tip
            UNION
            SELECT own.conversation_id, entry.parent_id FROM own JOIN entry ON entry.id = own.id
            WHERE entry.parent_id IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM shared WHERE conversation_id = own.conversation_id AND id = entry.parent_id)
        )
        UPDATE entry SET stored_by = own.conversation_id FROM own WHERE own.id = entry.id""",
        "CREATE INDEX entry_by_conversation ON entry (stored_by, parent_id)",
        # The calls that waited for a decision in a history when it was left.
        "ALTER TABLE branch ADD COLUMN deferred_tool_requests TEXT",
        # What is noted of a turn is noted of one version: by the entry that its reply begins with, not by the prompt's.
        *(
            f"""UPDATE OR REPLACE {table} SET entry_id = coalesce((
                SELECT reply.id FROM entry AS reply
                WHERE reply.parent_id = {table}.entry_id AND json_extract(reply.message, '$.kind') = 'response'
                ORDER BY reply.rowid DESC LIMIT 1), entry_id)
            WHERE NOT EXISTS (SELECT 1 FROM conversation WHERE head_id = {table}.entry_id)"""
            for table in ("outcome", "timing", "brief")
        ),
    ),
    (
        # Links to conversations as they were. `id` is the SHA-256 of the link's token, in hexadecimal.
        """CREATE TABLE share (
            id TEXT PRIMARY KEY NOT NULL,
            conversation_id TEXT NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            scope TEXT NOT NULL,
            head_id TEXT NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            title TEXT NOT NULL,
            tools INTEGER NOT NULL,
            thinking INTEGER NOT NULL,
            created_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX share_by_conversation ON share (conversation_id)",
        "CREATE INDEX share_by_head ON share (head_id)",
        "CREATE INDEX share_by_owner ON share (scope, created_at)",
        # A share is always whose its conversation is: a list of them needs no look at each.
        """CREATE TRIGGER share_scope AFTER UPDATE OF scope ON conversation WHEN new.scope IS NOT old.scope BEGIN
            UPDATE share SET scope = coalesce(new.scope, '') WHERE conversation_id = new.conversation_id;
        END""",
    ),
    (
        # Who has signed in, by the SHA-256 of the token in their cookie. `expires_at` in seconds since 1970.
        """CREATE TABLE session (
            token_hash TEXT PRIMARY KEY NOT NULL,
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            proof TEXT NOT NULL,
            expires_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX session_by_end ON session (expires_at)",
    ),
    (
        # What was used: a row for each owner, and one for all, of the day and the minute of their last message.
        """CREATE TABLE spending (
            who TEXT PRIMARY KEY NOT NULL,
            day INTEGER NOT NULL,
            messages INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            micros INTEGER NOT NULL,
            minute_began INTEGER NOT NULL,
            minute_messages INTEGER NOT NULL,
            running INTEGER NOT NULL,
            held_tokens INTEGER NOT NULL,
            held_micros INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        # The replies that are being written: it outlives the conversation, which may be deleted meanwhile.
        """CREATE TABLE reservation (
            conversation_id TEXT PRIMARY KEY NOT NULL,
            owner TEXT NOT NULL,
            tokens INTEGER NOT NULL,
            micros INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # What owners said of replies: the entry is the first of one, which names its version.
        """CREATE TABLE feedback (
            entry_id TEXT NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
            owner TEXT NOT NULL,
            verdict TEXT NOT NULL CHECK (verdict IN ('up', 'down')),
            comment TEXT NOT NULL,
            model TEXT,
            said_at TEXT NOT NULL,
            PRIMARY KEY (entry_id, owner)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # What owners can find: see `search_index`. A document without an entry is the title of its conversation.
        """CREATE TABLE search_owner (
            id INTEGER PRIMARY KEY,
            scope TEXT NOT NULL UNIQUE
        ) STRICT""",
        """CREATE TABLE search_document (
            id INTEGER PRIMARY KEY,
            owner INTEGER NOT NULL REFERENCES search_owner (id),
            conversation_id TEXT NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE,
            entry_id TEXT REFERENCES entry (id) ON DELETE CASCADE,
            UNIQUE (entry_id, owner)
        ) STRICT""",
        "CREATE INDEX search_document_by_conversation ON search_document (conversation_id, entry_id)",
        # The ids of documents tell their order, and nothing asks for the best of them: no sizes of columns are kept.
        """CREATE VIRTUAL TABLE search_words USING fts5 (words, columnsize = 0, tokenize = "ascii tokenchars '/'")""",
        """CREATE TRIGGER search_words_of_deleted AFTER DELETE ON search_document BEGIN
            DELETE FROM search_words WHERE rowid = old.id;
        END""",
        """CREATE TABLE search_due (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversation (conversation_id) ON DELETE CASCADE
        ) STRICT, WITHOUT ROWID""",
        "INSERT INTO search_due SELECT conversation_id FROM conversation WHERE scope IS NOT NULL",
    ),
    (
        # What each owner keeps. Bytes are those of messages and their files: see `holdings`.
        """CREATE TABLE holding (
            owner TEXT PRIMARY KEY NOT NULL,
            conversations INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """INSERT INTO holding (owner, conversations, bytes)
        SELECT scope, count(*), 0 FROM conversation WHERE scope IS NOT NULL GROUP BY scope""",
        """WITH RECURSIVE reached (owner, id) AS (
            SELECT scope, head_id FROM conversation WHERE scope IS NOT NULL AND head_id IS NOT NULL
            UNION SELECT scope, entry_id FROM branch JOIN conversation USING (conversation_id) WHERE scope IS NOT NULL
            UNION SELECT owner, entry.parent_id FROM entry JOIN reached USING (id) WHERE entry.parent_id IS NOT NULL
        ), kept (owner, bytes) AS (
            SELECT owner, sum(length(CAST(message AS BLOB)) + (
                SELECT coalesce(sum(size), 0) FROM entry_file JOIN file ON file.id = file_id WHERE entry_id = entry.id
            )) FROM reached JOIN entry USING (id) GROUP BY owner
        )
        UPDATE holding SET bytes = kept.bytes FROM kept WHERE kept.owner = holding.owner""",
        """CREATE TRIGGER conversation_kept AFTER INSERT ON conversation WHEN NEW.scope IS NOT NULL BEGIN
            INSERT INTO holding (owner, conversations, bytes) VALUES (NEW.scope, 1, 0)
            ON CONFLICT DO UPDATE SET conversations = conversations + 1;
        END""",
        """CREATE TRIGGER conversation_gone AFTER DELETE ON conversation WHEN OLD.scope IS NOT NULL BEGIN
            UPDATE holding SET conversations = conversations - 1 WHERE owner = OLD.scope;
        END""",
        # Who takes over all conversations of another takes over their bytes with the last one. What is deleted stays
        # its owner's until it is erased.
        """CREATE TRIGGER conversation_moved AFTER UPDATE OF scope ON conversation
        WHEN NEW.scope IS NOT OLD.scope AND NEW.scope IS NOT NULL AND OLD.scope IS NOT NULL BEGIN
            INSERT INTO holding (owner, conversations, bytes) VALUES (NEW.scope, 1, 0)
            ON CONFLICT DO UPDATE SET conversations = conversations + 1;
            UPDATE holding SET conversations = conversations - 1 WHERE owner = OLD.scope;
            UPDATE holding SET bytes = bytes + (SELECT bytes FROM holding WHERE owner = OLD.scope)
            WHERE owner = NEW.scope
            AND NEW.scope NOT LIKE 'deleted:%' AND OLD.scope NOT LIKE 'deleted:%'
            AND NOT EXISTS (SELECT 1 FROM conversation WHERE scope = OLD.scope);
            UPDATE holding SET bytes = 0 WHERE owner = OLD.scope
            AND NEW.scope NOT LIKE 'deleted:%' AND OLD.scope NOT LIKE 'deleted:%'
            AND NOT EXISTS (SELECT 1 FROM conversation WHERE scope = OLD.scope);
        END""",
    ),
    (
        # What visitors from one address used: rows of `spending` that are named by a hash with the day's key.
        "ALTER TABLE spending ADD COLUMN hour_began INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE spending ADD COLUMN hour_visitors INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE reservation ADD COLUMN address TEXT",
        "CREATE TABLE address_key (day INTEGER PRIMARY KEY, key BLOB NOT NULL) STRICT",
    ),
)
"""The statements that lead from each schema version to the next. Never edit one that was released: add another."""

SCHEMA_VERSION = len(MIGRATIONS)


class DatabaseError(Exception):
    """A file that can't be used as the database. The message says why and what to do."""


class DatabaseUnavailable(DatabaseError):
    """A change that could not be made now; what was stored before is as it was. The message names the remedy."""


class Database:
    """An open SQLite file. Use it as an async context manager, or pair `open` with `close`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Open the file, creating it and its directory when missing, and bring its schema up to date.

        Raises:
            DatabaseError: If it is no database of ours, damaged, newer than this program, or not writable.
        """
        check_header(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = await _connect(self.path)
            await self._check_damage(self._writer)
            await self._migrate()
            self._reader = await _connect(self.path)
            await self._reader.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError) as error:
            await self.close()
            raise DatabaseError(_sentence(self.path, error)) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close both connections, after what is under way."""
        connections = [c for c in (self._reader, self._writer) if c is not None]
        self._reader = self._writer = None
        for connection in connections:
            await connection.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some reading on the reader's thread, in one go.

        Raises:
            DatabaseUnavailable: If the file can't be read now.
        """
        try:
            return await _on_thread_of(_opened(self._reader), work)
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailable(_sentence(self.path, error)) from error

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """The rows of a query, as last committed.

        Raises:
            DatabaseUnavailable: If the file can't be read now.
        """
        return await self.read(lambda own: rows_of(own, sql, parameters))

    async def row(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of a query, as last committed, or `None`."""
        found = await self.rows(sql, parameters)
        return found[0] if found else None

    async def change(self, work: Callable[["Transaction"], T]) -> T:
        """Do some work whose changes happen together or not at all, also when whoever waits for it is cancelled.

        All of it runs on the writer's thread in one go, under SQLite's write lock, and what it returns is returned:
        keep everything out of it that isn't the database's.

        Raises:
            DatabaseUnavailable: If the disk is full, the file read-only, or another program holds it for too long.
        """
        writer, along = _opened(self._writer), _along.get()
        try:
            whole = work if along is None else along.around(work)
            result = await _on_thread_of(writer, partial(_transaction, whole))
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailable(_sentence(self.path, error)) from error
        if along is not None:
            along.done = True
        return result

    @contextmanager
    def along(self, work: Callable[["Transaction"], AbstractContextManager[object]]) -> Generator["Along", None, None]:
        """Do some work around the next change that is made inside, whoever makes it: both happen, or neither.

        What the work raises, before the change or after it, is raised by that change.
        """
        along = Along(work)
        token = _along.set(along)
        try:
            yield along
        finally:
            _along.reset(token)

    async def _migrate(self) -> None:
        def migrate(change: Transaction) -> None:
            [(version,)] = change.rows("PRAGMA user_version")
            [(application,)] = change.rows("PRAGMA application_id")
            if application != APPLICATION_ID and change.rows("SELECT 1 FROM sqlite_schema LIMIT 1"):
                raise DatabaseError(_anothers(self.path))
            if version > SCHEMA_VERSION:
                raise DatabaseError(_too_new(self.path, version))
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    change.execute(statement)
            if version < SCHEMA_VERSION:
                change.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                change.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

        await self.change(migrate)

    async def _check_damage(self, connection: aiosqlite.Connection) -> None:
        if self.path.stat().st_size > LARGEST_CHECKED:
            return
        problems = await connection.execute_fetchall("PRAGMA quick_check(1)")
        if [row[0] for row in problems] != ["ok"]:
            raise DatabaseError(_damaged(self.path))


class Transaction:
    """What the work of a transaction can do: read its own changes and write."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """The rows of a query, with the changes made so far."""
        return rows_of(self._connection, sql, parameters)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; the number of rows it changed."""
        with _span(sql):
            return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of parameters."""
        with _span(sql):
            self._connection.executemany(sql, rows)


def rows_of(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[sqlite3.Row]:
    """The rows of a query, for work on a connection's own thread."""
    with _span(sql):
        return connection.execute(sql, parameters).fetchall()


class Along:
    """Some work that goes along with another change. `done` once they are stored."""

    def __init__(self, work: Callable[[Transaction], AbstractContextManager[object]]) -> None:
        self._work = work
        self.done = False

    def around(self, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        """This work around another, as one; only the other when this is done already."""

        def both(change: Transaction) -> T:
            with self._work(change):
                return work(change)

        return work if self.done else both


_along: ContextVar[Along | None] = ContextVar("along", default=None)


def _transaction(work: Callable[[Transaction], T], connection: sqlite3.Connection) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(Transaction(connection))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return result


async def _on_thread_of(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run a function with aiosqlite's own connection on the thread it belongs to.

    With aiosqlite's public methods each statement is a wait for the event loop's next turn, while the write lock is
    held: with fifty replies being written that is a tenth of a second for each save, and everybody waits in line.
    """
    own = connection._conn  # pyright: ignore[reportPrivateUsage]
    # The caller's span is the parent of the statements' spans.
    box: list[Any] = [partial(copy_context().run, work, own)]

    def do() -> None:  # The thread remembers what it did last, and what came of it: here neither of them.
        box.append(box.pop()())

    await connection._execute(do)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]  # aiosqlite leaves its type open
    return box.pop()


def check_header(path: Path) -> None:
    """Look at a file's first 100 bytes, changing nothing, before SQLite is let near it.

    Raises:
        DatabaseError: If it is a directory, another kind of file, another program's database, or newer than this one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise DatabaseError(f"{path} is a directory. Set CHAT_DATABASE to a file in it, such as chat.db.") from error
    except OSError as error:
        raise DatabaseError(_sentence(path, error)) from error
    if not header:
        return
    if not header.startswith(_HEADER_MAGIC):
        raise DatabaseError(f"{path} is not an SQLite database. Set CHAT_DATABASE to another file.")
    version = int.from_bytes(header[_USER_VERSION])
    application = int.from_bytes(header[_APPLICATION_ID])
    # A file whose first migration sits in the write-ahead log still has zeros here; one with tables doesn't.
    unused = application == 0 and version == 0 and not any(header[_SCHEMA_COOKIE])
    if application != APPLICATION_ID and not unused:
        raise DatabaseError(_anothers(path))
    if version > SCHEMA_VERSION:
        raise DatabaseError(_too_new(path, version))


async def _connect(path: Path) -> aiosqlite.Connection:
    # isolation_level=None: the module's own BEGIN and COMMIT are the only ones.
    connection = await aiosqlite.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        connection.row_factory = sqlite3.Row
        await _log_ahead(connection)
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        await connection.close()
        raise
    return connection


async def _log_ahead(connection: aiosqlite.Connection) -> None:
    """Have a file keep a write-ahead log. Of several that tell a new file to, SQLite refuses some without waiting."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + BUSY_SECONDS
    while True:
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock() >= deadline:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


def _span(sql: str) -> AbstractContextManager[Span]:
    statement = " ".join(sql.split())
    attributes = {"db.system.name": "sqlite", "db.query.text": statement}
    return _TRACER.start_as_current_span(statement.split(" ", 1)[0], kind=SpanKind.CLIENT, attributes=attributes)


def _opened(connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
    if connection is None:
        raise RuntimeError("The database is not open: use it inside `async with`.")
    return connection


def _anothers(path: Path) -> str:
    return f"{path} is the database of another program. Set CHAT_DATABASE to another file."


def _too_new(path: Path, version: int) -> str:
    return (
        f"{path} was written by a newer version of Parley (schema {version}, this one knows {SCHEMA_VERSION}). "
        "Update Parley, or set CHAT_DATABASE to another file."
    )


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged. Restore it from a backup, or recover what is left with "
        f"`sqlite3 {path.name} .recover | sqlite3 recovered.db` and set CHAT_DATABASE to the result."
    )


def _sentence(path: Path, error: Exception) -> str:
    """What went wrong with the file, for the person who started the program."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{path} is locked by another program. Close that program, or set CHAT_DATABASE to another file."
    if code == sqlite3.SQLITE_FULL:
        return f"The disk that holds {path} is full. Free some space, or set CHAT_DATABASE to another disk."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path} can't be used as the database: {reason}. Make it writable, or set CHAT_DATABASE to another file."
