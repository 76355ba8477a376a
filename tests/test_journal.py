"""What runs have written so far survives a kill, and how turns ended is kept beside them."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pydantic_ai import ModelMessage
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, PartStartEvent, TextPart, UserPromptPart

from chat.database import Database, DatabaseUnavailable
from chat.journal import Journal, Outcome, Progress
from chat.partial import FOLDED_EVENTS, Partial
from chat.store import SQLiteConversationStore
from chat.timing import Timing
from tests.reply import Step, reply

pytestmark = pytest.mark.anyio

STOPPED = Outcome("stopped", "Stopped.")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "chat.db") as database:
        yield database


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database)


def take_in(progress: Progress, step: Step) -> None:
    """As a run does: finished messages replace the events that told of them."""
    if step.finished:
        progress.messages.extend(step.finished)
        progress.events.clear()
    if isinstance(step.event, FOLDED_EVENTS):
        progress.events.append(step.event)


def folded(steps: Sequence[Step]) -> list[ModelMessage]:
    partial = Partial()
    for step in steps:
        partial.complete(step.finished)
        partial.apply(step.event)
    return partial.messages()


def parts(messages: Sequence[ModelMessage]) -> list[list[object]]:
    return [list(message.parts) for message in messages]


async def unfinished(journal: Journal) -> dict[tuple[str, str], list[list[object]]]:
    return {(run.conversation_id, run.follows): parts(run.messages) for run in await journal.unfinished()}


def said(text: str, conversation_id: str = "c") -> Progress:
    event = PartStartEvent(index=0, part=TextPart(text))
    return Progress(conversation_id, f"prompt of {conversation_id}", events=[event])


async def break_disk(database: Database, pages: int) -> None:
    await database.change(lambda change: change.rows(f"PRAGMA max_page_count = {pages}"))


# Checkpoints


@pytest.mark.parametrize("every", [1, 2, 5, 100])
async def test_what_was_written_is_there_after_a_kill_at_any_checkpoint(journal: Journal, every: int) -> None:
    steps, _ = await reply()
    progress = Progress("c", "p")
    for count, step in enumerate(steps, start=1):
        take_in(progress, step)
        if count % every == 0 or count == len(steps):
            await journal.write([progress.take()])
            assert not progress
            assert await unfinished(journal) == {("c", "p"): parts(folded(steps[:count]))}


async def test_events_are_kept_only_until_their_message_is(database: Database, journal: Journal) -> None:
    steps, messages = await reply()
    progress = Progress("c", "p")
    for step in steps:
        take_in(progress, step)
        await journal.write([progress.take()])
    await journal.write([Progress("c", "p", messages=messages[-1:])])
    kinds = [row["kind"] for row in await database.rows("SELECT kind FROM checkpoint ORDER BY position")]
    assert kinds == ["message"] * len(messages)


async def test_finished_messages_come_back_whole(journal: Journal) -> None:
    _, messages = await reply()
    await journal.write([Progress("c", "p", messages=messages)])
    [run] = await journal.unfinished()
    assert (run.conversation_id, run.follows, run.messages) == ("c", "p", messages)


@pytest.mark.parametrize("failing", range(0, 20, 3))
async def test_a_write_that_fails_is_put_back_and_loses_and_doubles_nothing(
    database: Database, journal: Journal, failing: int
) -> None:
    steps, _ = await reply()
    progress = Progress("c", "p")
    for number, step in enumerate(steps):
        take_in(progress, step)
        taken = progress.take()
        if number in (failing, failing + 1):
            await fill_disk_while_writing(database, journal, taken)
            progress.put_back(taken)
        else:
            await journal.write([taken])
            assert await unfinished(journal) == {("c", "p"): parts(folded(steps[: number + 1]))}
    await journal.write([progress.take()])
    assert await unfinished(journal) == {("c", "p"): parts(folded(steps))}


async def fill_disk_while_writing(database: Database, journal: Journal, taken: Progress) -> None:
    await break_disk(database, 1)
    with pytest.raises(DatabaseUnavailable):
        await journal.write([taken, said("x" * 1_000_000, "too large")])
    await break_disk(database, 1_000_000)


@pytest.mark.parametrize("failing", range(20))
async def test_what_comes_while_a_write_fails_is_not_lost(journal: Journal, failing: int) -> None:
    steps, _ = await reply()
    progress = Progress("c", "p")
    for step in steps[:failing]:
        take_in(progress, step)
    taken = progress.take()
    for step in steps[failing:]:
        take_in(progress, step)
    progress.put_back(taken)
    await journal.write([progress.take()])
    assert await unfinished(journal) == {("c", "p"): parts(folded(steps))}


async def test_several_runs_are_written_together_and_kept_apart(journal: Journal) -> None:
    await journal.write([said("one", "a"), said("two", "b")])
    await journal.write([said("three", "c")])
    assert await unfinished(journal) == {
        ("a", "prompt of a"): [[TextPart("one")]],
        ("b", "prompt of b"): [[TextPart("two")]],
        ("c", "prompt of c"): [[TextPart("three")]],
    }


async def test_progress_that_was_taken_is_empty() -> None:
    progress = said("one")
    taken = progress.take()
    assert (bool(taken), bool(progress)) == (True, False)
    assert progress == Progress("c", "prompt of c")


# Outcomes


async def prompt_entry(database: Database) -> str:
    store = SQLiteConversationStore(database)
    [entry] = await store.save(Conversation(messages=[ModelRequest([UserPromptPart("hello")])], conversation_id="c"))
    return entry.id


async def test_a_run_that_finishes_leaves_no_checkpoints(database: Database, journal: Journal) -> None:
    await journal.write([said("one", "c"), said("two", "other")])
    await journal.finish("c", "prompt of c", None)
    assert await unfinished(journal) == {("other", "prompt of other"): [[TextPart("two")]]}
    assert await journal.outcomes(["prompt of c"]) == {}


async def test_how_a_turn_ended_is_kept_until_it_ends_otherwise(database: Database, journal: Journal) -> None:
    prompt = await prompt_entry(database)
    await journal.finish("c", prompt, STOPPED)
    assert await journal.outcomes([prompt, "another"]) == {prompt: STOPPED}
    failed = Outcome("failed", "It failed.")
    await journal.finish("c", prompt, failed)
    assert await journal.outcomes([prompt]) == {prompt: failed}
    await journal.finish("c", prompt, None)
    assert await journal.outcomes([prompt]) == {}


async def test_an_outcome_goes_with_its_conversation(database: Database, journal: Journal) -> None:
    prompt = await prompt_entry(database)
    await journal.finish("c", prompt, STOPPED)
    await SQLiteConversationStore(database).delete("c")
    assert await journal.outcomes([prompt]) == {}
    assert await database.rows("SELECT * FROM outcome") == []


async def test_a_run_whose_conversation_was_deleted_finishes_without_a_trace(
    database: Database, journal: Journal
) -> None:
    await journal.write([said("one")])
    await journal.finish("c", "prompt of c", STOPPED)
    assert await unfinished(journal) == {}
    assert await database.rows("SELECT * FROM outcome") == []


# Timings


async def test_what_time_a_turn_took_is_kept_until_it_is_answered_again(database: Database, journal: Journal) -> None:
    prompt = await prompt_entry(database)
    took = Timing(12.5, {"call-1": 0.25, "thinking:0": 3.0})
    await journal.finish("c", prompt, None, took)
    assert await journal.timings([prompt, "another"]) == {prompt: took}
    await journal.finish("c", prompt, STOPPED, Timing(1.0))
    assert await journal.timings([prompt]) == {prompt: Timing(1.0)}
    await journal.finish("c", prompt, None)
    assert await journal.timings([prompt]) == {}


async def test_a_timing_goes_with_its_conversation(database: Database, journal: Journal) -> None:
    prompt = await prompt_entry(database)
    await journal.finish("c", prompt, None, Timing(1.0))
    await SQLiteConversationStore(database).delete("c")
    await journal.finish("c", prompt, None, Timing(2.0))
    assert await database.rows("SELECT * FROM timing") == []
