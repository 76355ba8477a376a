"""A choice is kept with its conversation, for its owner alone; what a browser sends is checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, UserPromptPart

from chat.choices import LONGEST_INSTRUCTIONS, Choice, Choices
from chat.identity import Owner
from chat.store import SQLiteConversationStore
from tests.anything import ANYTHING, TEXT, objects

ANN, BOB = Owner("visitor:ann"), Owner("visitor:bob")
ALL = Choice(model="b", instructions="Rhyme.", temperature=0.5, thinking="high", tools_off=("add", "fetch"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteConversationStore]:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        await store.save(conversation("c"), scope=ANN)
        yield store


@pytest.fixture
def choices(store: SQLiteConversationStore) -> Choices:
    return Choices(store.database)


def conversation(name: str) -> Conversation:
    return Conversation(messages=[ModelRequest([UserPromptPart(name)])], conversation_id=name)


def refusal(value: object) -> str:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        Choice.from_page(value)
    return str(caught.value)


class TestKeeping:
    pytestmark = pytest.mark.anyio

    async def test_a_choice_is_read_as_it_was_written_and_the_newest_one_counts(self, choices: Choices) -> None:
        assert await choices.read(ANN, "c") == Choice()
        for choice in (ALL, Choice(thinking=False), Choice()):
            assert await choices.write(ANN, "c", choice)
            assert await choices.read(ANN, "c") == choice

    async def test_each_conversation_has_its_own(self, store: SQLiteConversationStore, choices: Choices) -> None:
        await store.save(conversation("d"), scope=ANN)
        await choices.write(ANN, "c", ALL)
        assert await choices.read(ANN, "d") == Choice()

    async def test_nobody_else_reads_or_writes_it(self, choices: Choices) -> None:
        await choices.write(ANN, "c", ALL)
        assert not await choices.write(BOB, "c", Choice(model="x"))
        assert (await choices.read(BOB, "c"), await choices.read(ANN, "c")) == (Choice(), ALL)

    async def test_nothing_is_kept_for_a_conversation_that_is_not_there(self, choices: Choices) -> None:
        assert not await choices.write(ANN, "none", ALL)
        assert await choices.read(ANN, "none") == Choice()

    async def test_it_goes_with_its_conversation(self, store: SQLiteConversationStore, choices: Choices) -> None:
        await choices.write(ANN, "c", ALL)
        await store.delete("c", scope=ANN)
        assert await store.database.rows("SELECT * FROM choice") == []

    async def test_what_cannot_be_read_is_the_default_and_is_reported(
        self, store: SQLiteConversationStore, choices: Choices, caplog: pytest.LogCaptureFixture
    ) -> None:
        await choices.write(ANN, "c", ALL)
        sideways = """UPDATE choice SET content = '{"thinking": "sideways"}'"""
        await store.database.change(lambda change: change.execute(sideways))
        assert await choices.read(ANN, "c") == Choice()
        assert "The settings of conversation c can't be read" in caplog.text


class TestChecking:
    def test_what_a_browser_sends_becomes_a_choice(self) -> None:
        assert Choice.from_page(ALL.model_dump(mode="json")) == ALL
        assert Choice.from_page({}) == Choice()
        assert Choice.from_page({"temperature": 1, "thinking": True}) == Choice(temperature=1.0, thinking=True)

    def test_the_same_choice_is_equal_however_it_was_put(self) -> None:
        sent = {"instructions": " \n", "tools_off": ["b", "a", "b"]}
        assert Choice.from_page(sent) == Choice(tools_off=("a", "b"))

    def test_what_differs_from_the_default_is_known(self) -> None:
        assert Choice().changes() == {}
        assert Choice(thinking=False, temperature=0).changes() == {"thinking": False, "temperature": 0}

    @pytest.mark.parametrize(
        ("value", "sentence"),
        [
            ({"temperature": 1.5}, "The temperature can't be used: Input should be less than or equal to 1."),
            ({"temperature": "0.5"}, "The temperature can't be used: Input should be a valid number."),
            ({"temperature": float("nan")}, "The temperature can't be used: "),
            ({"thinking": "sideways"}, "The thinking can't be used: "),
            ({"thinking": 1}, "The thinking can't be used: "),
            ({"instructions": None}, "The instructions can't be used: Input should be a valid string."),
            ({"instructions": "x" * (LONGEST_INSTRUCTIONS + 1)}, "The instructions can't be used: String should have "),
            ({"instructions": "\ud800"}, "The instructions can't be used: "),
            ({"tools_off": "add"}, "The tools off can't be used: Input should be a valid tuple."),
            ({"tools_off": [1]}, "The tools off can't be used: Input should be a valid string."),
            ({"model": 5}, "The model can't be used: Input should be a valid string."),
            ({"owner": "bob"}, "The owner can't be used: Extra inputs are not permitted."),
            ("b", "The choice can't be used: "),
            (None, "The choice can't be used: "),
        ],
    )
    def test_anything_else_is_refused_in_one_sentence(self, value: object, sentence: str) -> None:
        said = refusal(value)
        assert said.startswith(sentence)
        assert "\n" not in said


@examples(max_examples=60, deadline=None)
@given(
    objects("model", "instructions", "temperature", "thinking", "tools_off", "owner")
    | ANYTHING
    | st.dictionaries(TEXT, ANYTHING)
)
@example({"a\nb": 1})
def test_whatever_a_page_sends_is_a_choice_that_can_be_stored_or_refused_in_one_line(sent: object) -> None:
    said, chosen = "", Choice()
    try:
        chosen = Choice.from_page(sent)
    except ValueError as error:
        said = str(error)
    assert said.isprintable()
    assert Choice.model_validate_json(chosen.model_dump_json()) == chosen
