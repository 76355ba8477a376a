"""What a page shows of a conversation: the newest part of it as stored, and the reply that is being written."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from pydantic_ai.conversation_store import ConversationEntry

from chat.identity import Owner
from chat.journal import Outcome
from chat.render import GradioMessage, starts_turn, to_gradio
from chat.runs import Run
from chat.services import Services

WINDOW = 40
"""Messages of a conversation that a page shows at first, and that each "Show earlier" adds."""

WIDEST_WINDOW = 10_000

LONGEST_ID = 200
"""Characters of a conversation's id."""

PAINT_SECONDS = 0.1
"""The shortest time between two updates of a page: the latest state wins."""

KEEPALIVE_SECONDS = 5
"""The longest time between two updates while a reply is being written, so that a page notices a dead connection."""

Phase = Literal["idle", "waiting", "writing", "saving"]

UNANSWERED = Outcome("interrupted", "Interrupted before a reply was written.")
MISSING = "This conversation does not exist. Here is a new chat."


@dataclass(frozen=True)
class View:
    """What a page shows. `messages` is for the chatbot; the rest says in which state it is."""

    conversation: str | None
    messages: Sequence[GradioMessage] = ()
    token: str | None = None
    phase: Phase = "idle"
    notice: str = ""
    earlier: bool = False
    window: int = WINDOW


async def watch(services: Services, owner: Owner, conversation: object, window: object) -> AsyncGenerator[View, None]:
    """A conversation as it is now and, while a reply is being written in it, as it becomes.

    Ends when nothing is being written. `conversation` and `window` come from the page and can be anything.
    """
    conversation_id, window = conversation_id_from(conversation), _clamped(window)
    if not conversation_id:
        yield View(None, notice=MISSING if conversation else "")
        return
    while True:
        run = services.runs.of(owner, conversation_id)
        stored = await _stored(services, owner, conversation_id, window, run)
        if run is None or stored is None:
            yield stored or View(None, notice=MISSING)
            return
        async for view in _live(stored, run):
            yield view


async def _live(stored: View, run: Run) -> AsyncGenerator[View, None]:
    version = -1
    while not run.done:
        with suppress(TimeoutError):  # Nothing new; the same view says that the connection lives.
            # Not `wait_for`: in Python 3.11 it can swallow the cancellation of a watcher that is gone.
            async with asyncio.timeout(KEEPALIVE_SECONDS):
                version = await run.after(version)
        if run.done:
            return
        partial = _partial(run)
        messages = [*stored.messages, *partial]
        yield replace(stored, messages=messages, token=run.token, phase=run.state, notice=_say(run))
        if partial:  # The first words are shown at once; what follows is worth gathering.
            await asyncio.sleep(PAINT_SECONDS)


async def _stored(services: Services, owner: Owner, conversation_id: str, window: int, run: Run | None) -> View | None:
    loaded = await services.store.load_entries(conversation_id, limit=window, scope=owner)
    if loaded is None:
        return None
    entries = _from_turn(loaded)
    if run is not None:  # What follows its prompt is the run's to show.
        ids = [entry.id for entry in entries]
        entries = entries[: ids.index(run.prompt_id) + 1] if run.prompt_id in ids else entries
    outcomes = await services.journal.outcomes([entry.id for entry in entries])
    if run is None and entries and starts_turn(entries[-1].message):
        outcomes.setdefault(entries[-1].id, UNANSWERED)
    notes = {entry_id: outcome.sentence for entry_id, outcome in outcomes.items()}
    if run is not None:
        notes.pop(run.prompt_id, None)
    messages = to_gradio([(entry.id, entry.message) for entry in entries], notes=notes)
    if run is None and _last_turn(entries) in outcomes:
        messages[-1]["options"] = [{"value": "retry", "label": "Retry"}]
        if not starts_turn(entries[-1].message):
            messages[-1]["options"].append({"value": "continue", "label": "Continue"})
    token = await services.runs.token(owner, conversation_id)
    earlier = bool(entries) and entries[0].parent_id is not None
    return View(conversation_id, messages, token, earlier=earlier, window=window)


def _from_turn(entries: list[ConversationEntry]) -> list[ConversationEntry]:
    """Without the end of a turn whose beginning is outside the window, unless there is nothing else."""
    for index, entry in enumerate(entries):
        if starts_turn(entry.message):
            return entries[index:]
    return entries


def _last_turn(entries: Sequence[ConversationEntry]) -> str | None:
    return next((entry.id for entry in reversed(entries) if starts_turn(entry.message)), None)


def _partial(run: Run) -> list[GradioMessage]:
    messages = enumerate(run.partial.messages())
    return to_gradio([(f"{run.id}.{index}", message) for index, message in messages], live=True)


def _say(run: Run) -> str:
    if run.trouble:
        return f"Not saved yet: {run.trouble} Saving is tried again until it works."
    if run.state == "waiting":
        return f"Waiting for a free place: number {run.place} in line."
    return ""


def conversation_id_from(value: object) -> str | None:
    """An id that a page names, if it has the form of one. Half a surrogate pair isn't printable."""
    return value if isinstance(value, str) and len(value) <= LONGEST_ID and value.isprintable() else None


def _clamped(window: object) -> int:
    return min(max(window, WINDOW), WIDEST_WINDOW) if isinstance(window, int) else WINDOW
