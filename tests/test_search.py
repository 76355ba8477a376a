"""An owner finds what is in their conversations, at once when it is stored, and never anything of others."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import ModelMessage
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from chat import database as database_module
from chat.database import MIGRATIONS, Database, Transaction
from chat.identity import Owner
from chat.library import Library
from chat.search import CONVERSATIONS, HITS, Found, Search
from chat.search_index import give_all
from chat.store import SQLiteConversationStore

pytestmark = pytest.mark.anyio

ANN, BOB = Owner("visitor:ann"), Owner("visitor:bob")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteConversationStore]:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        yield store


@pytest.fixture
def search(store: SQLiteConversationStore) -> Search:
    return Search(store.database)


def said(*texts: str) -> list[ModelMessage]:
    """Prompts and replies in turn."""
    return [
        ModelResponse([TextPart(text)]) if index % 2 else ModelRequest([UserPromptPart(text)])
        for index, text in enumerate(texts)
    ]


async def save(
    store: SQLiteConversationStore, name: str, *texts: str, owner: str | None = ANN
) -> tuple[Conversation, list[str]]:
    """A new conversation, and the ids of its entries."""
    conversation = Conversation(messages=said(*texts), conversation_id=name)
    return conversation, [entry.id for entry in await store.save(conversation, scope=owner)]


def shown(found: Sequence[Found]) -> dict[str, list[str]]:
    """What was found: the snippets of each conversation, in order, with what is marked in brackets."""
    return {
        each.conversation_id: [
            "".join(f"[{piece.text}]" if piece.marked else piece.text for piece in hit.snippet) for hit in each.hits
        ]
        for each in found
    }


async def find(search: Search, query: str, owner: Owner = ANN) -> dict[str, list[str]]:
    return shown(await search.find(owner, query))


async def index_size(store: SQLiteConversationStore) -> tuple[int, int]:
    """Documents, and documents that have words."""
    [row] = await store.database.rows(
        "SELECT (SELECT count(*) FROM search_document) AS a, (SELECT count(*) FROM search_words) AS b"
    )
    return row["a"], row["b"]


class TestFinding:
    async def test_words_of_prompts_and_replies_are_found_as_they_are_typed(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "Where is Málaga?", "In the south of Spain.")
        await save(store, "b", "Something else", "entirely")
        for query in ("malaga", "MAL", "  málaga  ", '"Malaga"', "malaga:*"):
            assert await find(search, query) == {"a": ["Where is [Málaga]?"]}, query
        assert await find(search, "mal ") == {}
        assert await find(search, "south sp") == {"a": ["In the [south] of [Spain]."]}
        assert await find(search, "malaga spain") == {}

    async def test_what_is_written_together_has_to_stand_together(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "send_mail", "mail was sent, send more")
        await save(store, "b", "東京大学", "京東")
        assert await find(search, "send_mail") == {"a": ["[send_mail]"]}
        assert (await find(search, "send mail")).keys() == {"a"}
        assert await find(search, "京大") == {"b": ["東[京大]学"]}
        assert await find(search, "東大") == {}

    async def test_titles_are_found_first_and_marked(self, store: SQLiteConversationStore, search: Search) -> None:
        library = Library(store.database)
        await save(store, "a", "x")
        await save(store, "b", "the harbour at night")
        await library.title_from_prompt(ANN, "a", "Harbour tour")
        found = await search.find(ANN, "harb")
        assert [(each.conversation_id, len(each.hits)) for each in found] == [("a", 0), ("b", 1)]
        assert [(piece.text, piece.marked) for piece in found[0].title] == [("Harbour", True), (" tour", False)]
        assert found[0].updated_at == (await library.find(ANN, ["a"]))[0].updated_at

    async def test_the_newest_messages_of_the_newest_conversations_are_answered(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        for number in range(CONVERSATIONS + 2):
            await save(store, f"c{number:02}", *(f"apple {turn}" for turn in range(HITS + 2)))
        found = await find(search, "apple")
        assert list(found) == [f"c{number:02}" for number in reversed(range(2, CONVERSATIONS + 2))]
        assert found["c05"] == ["[apple] 4", "[apple] 3", "[apple] 2"]

    async def test_nobody_finds_what_is_another_owners_or_nobodys(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "secret of ann")
        await save(store, "n", "secret of nobody", owner=None)
        assert await find(search, "secret", BOB) == {}
        await save(store, "b", "secret of bob", owner=BOB)
        assert await find(search, "secret") == {"a": ["[secret] of ann"]}
        assert await find(search, "secret", BOB) == {"b": ["[secret] of bob"]}
        assert await find(search, "m1/secret", BOB) == {}

    @pytest.mark.parametrize(
        "query",
        [
            *("", " ", '"', "'", "a OR", "NEAR(a b)", "words:x", "^a", "(", "a*", "-a", "\x00", "\ud800", "%"),
            *("a" * 10_000, "a " * 5_000, "{x}: y", "m1/", "; DROP TABLE entry"),
        ],
    )
    async def test_syntax_is_no_syntax(self, store: SQLiteConversationStore, search: Search, query: str) -> None:
        await save(store, "a", "b")
        assert await find(search, query) == {}


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, query=st.text())
def test_any_query_is_taken_for_words_and_every_word_that_was_written_is_found(text: str, query: str) -> None:
    async def check(path: Path) -> None:
        async with SQLiteConversationStore(path) as store:
            await save(store, "a", text)
            search = Search(store.database)
            await search.find(ANN, query)
            for run in text.split():
                if re.search(r"[^\W_]", run):
                    assert await search.find(ANN, run), run

    with TemporaryDirectory() as directory:
        asyncio.run(check(Path(directory, "chat.db")))


class TestKeeping:
    async def test_a_message_is_found_as_soon_as_it_is_appended(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        conversation, _ = await save(store, "a", "first")
        conversation.messages += said("", "second")[1:]
        entries = await store.save(conversation)
        [found] = await search.find(ANN, "second")
        assert [hit.entry_id for hit in found.hits] == [entry.id for entry in entries]

    async def test_other_versions_are_found_too(self, store: SQLiteConversationStore, search: Search) -> None:
        conversation, _ = await save(store, "a", "question", "old answer")
        again = await store.branch("a", at=1, expected_revision=conversation.revision)
        again.messages += said("", "new answer")[1:]
        await store.save(again)
        assert await find(search, "answer") == {"a": ["new [answer]", "old [answer]"]}

    async def test_a_new_title_takes_the_place_of_the_old_one(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "x")
        await Library(store.database).title_from_prompt(ANN, "a", "Old name")
        assert await find(search, "old") == {"a": []}
        await Library(store.database).rename(ANN, "a", "New name")
        assert await find(search, "old") == {}
        assert await find(search, "new name") == {"a": []}

    async def test_a_title_that_a_model_wrote_is_found(self, store: SQLiteConversationStore, search: Search) -> None:
        library = Library(store.database)
        await save(store, "a", "x")
        await library.title_from_prompt(ANN, "a", "First words")
        await library.title_from_model(ANN, "a", "Harbour tour")
        assert await find(search, "words") == {}
        assert await find(search, "harbour") == {"a": []}

    async def test_what_is_deleted_is_not_found_and_leaves_nothing_in_the_index(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "apple", "pear")
        await Library(store.database).title_from_prompt(ANN, "a", "Fruit")
        assert await index_size(store) == (3, 3)
        await store.delete("a")
        assert await find(search, "apple") == await find(search, "fruit") == {}
        assert await index_size(store) == (0, 0)

    async def test_a_fork_shows_what_it_shares_once_and_keeps_it_when_the_other_is_deleted(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        conversation, _ = await save(store, "a", "apple", "apple pie", "apple tree")
        fork = await store.fork("a", at=2, new_conversation_id="b")
        await store.fork("b", at=1, new_conversation_id="c")
        fork.messages += said("apple juice")
        await store.save(fork)
        assert await find(search, "apple") == {
            "b": ["[apple] juice"],
            "a": ["[apple] tree", "[apple] pie", "[apple]"],
        }
        await store.delete(conversation.conversation_id)
        found = await find(search, "apple")
        assert sorted(hit for hits in found.values() for hit in hits) == ["[apple]", "[apple] juice", "[apple] pie"]
        assert "apple pie" in "".join(found["b"]).replace("[", "").replace("]", "")
        await store.delete("b")
        assert await find(search, "apple") == {"c": ["[apple]"]}
        await store.delete("c")
        assert await index_size(store) == (0, 0)

    async def test_a_fork_for_another_owner_is_found_by_both(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "apple", "pear")
        await store.fork("a", new_conversation_id="b", scope=BOB)
        assert await find(search, "pear", BOB) == {"b": ["[pear]"]}
        await store.delete("a")
        assert await find(search, "pear") == {}
        assert await find(search, "pear", BOB) == {"b": ["[pear]"]}

    @pytest.mark.parametrize("had_some", [False, True])
    async def test_what_somebody_claims_is_found_by_them_and_no_more_by_whom_it_was(
        self, store: SQLiteConversationStore, search: Search, had_some: bool
    ) -> None:
        await save(store, "a", "apple")
        if had_some:
            await save(store, "b", "apple", owner=BOB)
        await give(store, ANN, BOB)
        assert await find(search, "apple") == {}
        await search.index_due()
        assert (await find(search, "apple", BOB)).keys() == ({"a", "b"} if had_some else {"a"})
        assert await find(search, "apple") == {}
        await save(store, "c", "apple tree")
        assert (await find(search, "apple")).keys() == {"c"}

    async def test_of_an_index_on_which_all_has_happened_the_rebuilt_one_finds_the_same(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        conversation, _ = await save(store, "a", "apple", "pear")
        await store.fork("a", at=1, new_conversation_id="b")
        await store.branch("a", at=1, expected_revision=conversation.revision)
        await Library(store.database).title_from_prompt(ANN, "a", "Apples")
        await save(store, "n", "apple", owner=None)
        before = [await find(search, query) for query in ("apple", "pear")], await index_size(store)
        assert await search.rebuild() == 2
        assert ([await find(search, query) for query in ("apple", "pear")], await index_size(store)) == before


class TestIndexing:
    async def test_what_was_stored_before_there_was_an_index_is_indexed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "old.db"
        first = next(number for number, step in enumerate(MIGRATIONS) if any("search_due" in sql for sql in step))
        with monkeypatch.context() as patch:
            patch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:first])
            patch.setattr(database_module, "SCHEMA_VERSION", first)
            async with Database(path) as database:
                for sql in (
                    """INSERT INTO entry (id, kind, message) VALUES
                    ('e', 'message', '{"parts": [{"part_kind": "text", "content": "an apple"}]}')""",
                    """INSERT INTO conversation (conversation_id, head_id, scope, usage, revision, updated_at,
                    format_version) VALUES ('a', 'e', 'visitor:ann', '{}', 'r', '2026-01-01T00:00:00+00:00', 1)""",
                    "INSERT INTO title (conversation_id, title) VALUES ('a', 'Fruit')",
                ):
                    await database.change(lambda change, sql=sql: change.execute(sql))
        async with Database(path) as database:
            search = Search(database)
            assert await search.index_due() == 1
            assert await find(search, "apple") == {"a": ["an [apple]"]}
            assert await find(search, "fruit") == {"a": []}
            assert await search.index_due() == 0

    async def test_one_command_rebuilds_the_index_also_a_damaged_one(
        self, store: SQLiteConversationStore, search: Search
    ) -> None:
        await save(store, "a", "apple")
        await store.database.change(lambda change: change.execute("DELETE FROM search_words_data WHERE id > 10"))
        command = [sys.executable, "-m", "chat.search", "rebuild", "--database", str(store.database.path)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert done.stdout == "1 conversations indexed.\n"
        assert await find(search, "apple") == {"a": ["[apple]"]}

    def test_the_command_names_a_file_that_does_not_exist(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "chat.search", "rebuild", "--database", str(tmp_path / "x.db")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{tmp_path / 'x.db'} does not exist.")
        assert not (tmp_path / "x.db").exists()


async def give(store: SQLiteConversationStore, owner: Owner, taker: Owner) -> None:
    """All that an owner has, as when somebody signs in."""

    def move(change: Transaction) -> None:
        change.execute("UPDATE conversation SET scope = ? WHERE scope = ?", (taker, owner))
        give_all(change, owner, taker)

    await store.database.change(move)
