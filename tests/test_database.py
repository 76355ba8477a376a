"""The file is opened only when it is ours and sound, and every change happens whole or not at all."""

import asyncio
import gc
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chat import database as module
from chat.database import (
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA_VERSION,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    Transaction,
)
from tests.cancelling import CancelledAt

pytestmark = pytest.mark.anyio

PATIENCE = 20
"""Seconds that a test waits for what happens at once when it works."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "chat.db") as database:
        yield database


def files_in(directory: Path) -> dict[str, bytes | None]:
    """All that is in a directory, to the byte."""
    paths = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in paths}


def sqlite_file(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def opening(path: Path) -> str:
    """What a person reads who opens this file in vain."""
    with pytest.raises(DatabaseError) as caught:
        async with Database(path):
            pass
    return str(caught.value)


async def add_entry(database: Database, entry_id: str, message: str = "{}") -> None:
    sql = "INSERT INTO entry (id, kind, message) VALUES (?, 'message', ?)"
    await database.change(lambda change: change.execute(sql, (entry_id, message)))


async def entries(database: Database) -> list[str]:
    return [row["id"] for row in await database.rows("SELECT id FROM entry ORDER BY id")]


# What is not opened


def a_directory(path: Path) -> None:
    path.mkdir()


def a_text_file(path: Path) -> None:
    path.write_text("Dear diary,\n" * 100)


def a_short_text_file(path: Path) -> None:
    path.write_text("x")


def anothers_with_an_application_id(path: Path) -> None:
    sqlite_file(path, "CREATE TABLE note (text)", "PRAGMA application_id = 1196444487")


def anothers_with_a_version(path: Path) -> None:
    sqlite_file(path, "CREATE TABLE note (text)", "PRAGMA user_version = 3")


def anothers_with_neither(path: Path) -> None:
    sqlite_file(path, "CREATE TABLE note (text)", "INSERT INTO note VALUES ('mine')")


def a_newer_one(path: Path) -> None:
    sqlite_file(path, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def a_place_below_a_file(path: Path) -> None:
    path.parent.write_text("a file, not a directory")


@pytest.mark.parametrize(
    ("make", "name", "sentence"),
    [
        (a_directory, "chats", "{} is a directory. Set CHAT_DATABASE to a file in it, such as chat.db."),
        (a_text_file, "diary.txt", "{} is not an SQLite database. Set CHAT_DATABASE to another file."),
        (a_short_text_file, "x.db", "{} is not an SQLite database. Set CHAT_DATABASE to another file."),
        (anothers_with_an_application_id, "o.db", "{} is the database of another program. Set CHAT_DATABASE to "),
        (anothers_with_a_version, "o.db", "{} is the database of another program. Set CHAT_DATABASE to another file."),
        (anothers_with_neither, "o.db", "{} is the database of another program. Set CHAT_DATABASE to another file."),
        (a_newer_one, "chat.db", f"{{}} was written by a newer version of Parley (schema {SCHEMA_VERSION + 1}, this "),
        (a_place_below_a_file, "file/chat.db", "{} can't be used as the database: Not a directory. Make it writable, "),
    ],
)
async def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], name: str, sentence: str
) -> None:
    path = tmp_path / name
    make(path)
    before = files_in(tmp_path)
    assert (await opening(path)).startswith(sentence.format(path))
    assert files_in(tmp_path) == before


async def test_the_database_of_another_program_is_noticed_while_it_is_only_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE note (text)")
        assert "is the database of another program" in await opening(path)
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("note",)]


async def test_a_first_start_that_was_killed_before_its_log_was_merged_is_opened(tmp_path: Path) -> None:
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    async with Database(path) as database:
        await add_entry(database, "a")
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    async with Database(copy) as database:
        assert await entries(database) == ["a"]


async def test_a_newer_version_is_noticed_while_it_is_only_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with Database(path):
        pass
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        assert "was written by a newer version of Parley" in await opening(path)


@pytest.mark.parametrize("page", [1, 3, -1])
async def test_a_damaged_file_is_refused_with_the_way_to_rescue_it_and_left_as_it_is(tmp_path: Path, page: int) -> None:
    path = tmp_path / "chat.db"
    async with Database(path) as database:
        for number in range(50):
            await add_entry(database, f"{number:03}", f'"{"x" * 500}"')
    content = bytearray(path.read_bytes())
    start = page * 4096 % len(content)
    content[start : start + 2048] = b"\xa5" * 2048
    path.write_bytes(content)
    before = files_in(tmp_path)
    assert await opening(path) == (
        f"{path} is damaged. Restore it from a backup, or recover what is left with "
        "`sqlite3 chat.db .recover | sqlite3 recovered.db` and set CHAT_DATABASE to the result."
    )
    assert files_in(tmp_path) == before


async def test_a_file_cut_short_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with Database(path) as database:
        await add_entry(database, "a", f'"{"x" * 50_000}"')
    path.write_bytes(path.read_bytes()[:-20_000])
    before = files_in(tmp_path)
    assert f"{path} is damaged. " in await opening(path)
    assert files_in(tmp_path) == before


@contextmanager
def held_by_another_program(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


async def test_a_locked_file_is_refused_and_opened_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    path = tmp_path / "chat.db"
    async with Database(path) as database:
        await add_entry(database, "a")
    with held_by_another_program(path):
        assert await opening(path) == (
            f"{path} is locked by another program. Close that program, or set CHAT_DATABASE to another file."
        )
    async with Database(path) as database:
        assert await entries(database) == ["a"]


# Creating and migrating


@pytest.mark.parametrize("empty", [True, False])
async def test_a_missing_or_empty_file_becomes_a_database(tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "new" / "chat.db"
    if empty:
        path.parent.mkdir()
        path.touch()
    async with Database(path) as database:
        assert await entries(database) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(SCHEMA_VERSION,)]
        assert connection.execute("PRAGMA application_id").fetchall() == [(APPLICATION_ID,)]


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "chat.db") as database:
        await add_entry(database, "a")
    before = files_in(tmp_path)
    async with Database(tmp_path / "chat.db") as database:
        assert await entries(database) == ["a"]
    assert files_in(tmp_path) == before


async def test_a_migration_runs_once_and_keeps_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chat.db"
    async with Database(path) as database:
        await add_entry(database, "a")
    migrate_to(monkeypatch, "CREATE TABLE later (id TEXT) STRICT", "INSERT INTO later SELECT id FROM entry")
    for _ in range(2):
        async with Database(path) as database:
            assert [row["id"] for row in await database.rows("SELECT id FROM later")] == ["a"]


async def test_a_migration_that_fails_midway_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chat.db"
    async with Database(path) as database:
        await add_entry(database, "a")
    with monkeypatch.context() as patch:
        migrate_to(patch, "CREATE TABLE later (id TEXT) STRICT", "DELETE FROM entry", "CREATE TABLE entry (id TEXT)")
        assert "table entry already exists" in await opening(path)
    async with Database(path) as database:
        assert await entries(database) == ["a"]
        assert await database.rows("SELECT * FROM pragma_table_list WHERE name = 'later'") == []


def migrate_to(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, statements))
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)


async def test_two_that_open_a_new_file_at_the_same_time_share_it(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "chat.db") for _ in range(4)]
    await asyncio.gather(*(database.open() for database in databases))
    for number, database in enumerate(databases):
        await add_entry(database, str(number))
    assert [await entries(database) for database in databases] == [["0", "1", "2", "3"]] * 4
    for database in databases:
        await database.close()


async def test_a_new_file_that_another_program_is_just_writing_is_opened_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # With it, SQLite refuses a write-ahead log at once.

        async def end(seconds: float) -> None:
            other.execute("ROLLBACK")

        with monkeypatch.context() as waiting:
            waiting.setattr(asyncio, "sleep", end)
            async with Database(tmp_path / "chat.db") as database:
                assert await entries(database) == []
        assert not other.in_transaction


async def test_a_database_that_is_not_open_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "chat.db")
    with pytest.raises(RuntimeError, match="is not open"):
        await database.rows("SELECT 1")
    assert files_in(tmp_path) == {}


# Changing


async def test_a_change_is_seen_only_when_it_is_whole(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def add_two(change: Transaction) -> list[str]:
        change.execute("INSERT INTO entry (id, kind, message) VALUES ('a', 'message', '')")
        begun.set()
        assert go_on.wait(PATIENCE)
        change.execute("INSERT INTO entry (id, kind, message) VALUES ('b', 'message', '')")
        return [row["id"] for row in change.rows("SELECT id FROM entry ORDER BY id")]

    changing = asyncio.create_task(database.change(add_two))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    assert await entries(database) == []
    go_on.set()
    assert await changing == ["a", "b"]
    assert await entries(database) == ["a", "b"]


async def test_a_change_that_raises_leaves_nothing(database: Database) -> None:
    async def insert_and(statement: str) -> None:
        def work(change: Transaction) -> None:
            change.execute("INSERT INTO entry (id, kind, message) VALUES ('a', 'message', '')")
            change.execute(statement)
            raise ZeroDivisionError

        await database.change(work)

    with pytest.raises(ZeroDivisionError):
        await insert_and("SELECT 1")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await insert_and("INSERT INTO entry (id, kind, message, parent_id) VALUES ('b', 'message', '', 'x')")
    await add_entry(database, "d")
    assert await entries(database) == ["d"]


async def test_changes_take_turns(database: Database) -> None:
    def count_up(change: Transaction) -> None:
        [(count,)] = change.rows("SELECT count(*) FROM entry")
        change.execute("INSERT INTO entry (id, kind, message) VALUES (?, 'message', '')", (str(count),))

    await asyncio.gather(*(database.change(count_up) for _ in range(10)))
    assert await entries(database) == [*"0123456789"]


async def test_reading_never_changes_the_file(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await database.rows("INSERT INTO entry (id, kind, message) VALUES ('a', 'message', '')")


async def test_a_full_disk_is_named_and_what_was_stored_stays(database: Database) -> None:
    await add_entry(database, "a")
    await database.change(lambda change: change.rows("PRAGMA max_page_count = 1"))  # It is raised to what there is.
    with pytest.raises(DatabaseUnavailable) as caught:
        await add_entry(database, "b", "x" * 100_000)
    assert str(caught.value) == (
        f"The disk that holds {database.path} is full. Free some space, or set CHAT_DATABASE to another disk."
    )
    assert await entries(database) == ["a"]
    await database.change(lambda change: change.rows("PRAGMA max_page_count = 100000"))
    await add_entry(database, "b", "x" * 100_000)
    assert await entries(database) == ["a", "b"]


async def test_a_lock_held_too_long_is_named_and_the_next_change_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    async with Database(tmp_path / "chat.db") as database:
        with held_by_another_program(database.path):
            with pytest.raises(DatabaseUnavailable, match="is locked by another program"):
                await add_entry(database, "a")
            assert await entries(database) == []
        await add_entry(database, "b")
        assert await entries(database) == ["b"]


async def test_a_change_whose_asker_is_cancelled_happens_whole_and_does_not_block_the_next(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def add_two(change: Transaction) -> None:
        change.execute("INSERT INTO entry (id, kind, message) VALUES ('a', 'message', '')")
        begun.set()
        assert go_on.wait(PATIENCE)
        change.execute("INSERT INTO entry (id, kind, message) VALUES ('b', 'message', '')")

    changing = asyncio.create_task(database.change(add_two))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    changing.cancel()
    await asyncio.wait({changing})
    assert changing.cancelled()
    go_on.set()
    await add_entry(database, "c")
    assert await entries(database) == ["a", "b", "c"]


@pytest.mark.parametrize("position", range(12))
async def test_opening_cancelled_at_any_await_lets_the_next_one_open_it(tmp_path: Path, position: int) -> None:
    database = Database(tmp_path / "chat.db")
    if await CancelledAt(database.open(), position):
        await database.close()
    async with Database(tmp_path / "chat.db") as database:
        await add_entry(database, "a")
        assert await entries(database) == ["a"]


async def test_closing_waits_for_the_change_that_is_under_way(tmp_path: Path) -> None:
    database = Database(tmp_path / "chat.db")
    await database.open()
    begun, go_on = threading.Event(), threading.Event()

    def add_one(change: Transaction) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        change.execute("INSERT INTO entry (id, kind, message) VALUES ('a', 'message', '')")

    changing = asyncio.create_task(database.change(add_one))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    closing = asyncio.create_task(database.close())
    go_on.set()
    await asyncio.gather(changing, closing)
    async with Database(tmp_path / "chat.db") as database:
        assert await entries(database) == ["a"]


async def test_nothing_of_a_change_stays_in_memory_once_it_is_made(database: Database) -> None:
    class Large:
        pass

    def work(change: Transaction) -> Large:
        return Large()

    work_left = weakref.ref(work)
    result = await database.change(work)
    result_left = weakref.ref(result)
    del work, result
    gc.collect()
    assert (work_left(), result_left()) == (None, None)
