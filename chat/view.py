"""What a page shows of a conversation: a part of it as stored, and after its newest the reply that is being written."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar, cast

from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import BinaryContent, ModelResponse

from chat.decisions import PendingCall, pending_calls
from chat.feedback import Rating
from chat.file_route import file_path
from chat.files import file_of
from chat.identity import Owner
from chat.journal import Outcome
from chat.limits import Left
from chat.render import starts_turn, to_gradio
from chat.runs import INTERRUPTED, Run, Runs
from chat.services import Services
from chat.shown import FileLink, GradioMessage, Showing
from chat.summary import lines_by_turn, spent
from chat.versions import Turn, Turns

T = TypeVar("T")

WINDOW = 10
"""Messages of a conversation that a page shows at first: all of them are painted anew at each update of a reply."""

TURN = 40
"""Messages up to which a turn is shown whole, when it began before the window."""

AROUND = 20
"""Messages shown before and after one that was asked for."""

WIDEST = 200
"""Messages that a page shows at most, however far it is scrolled."""

LONGEST_ID = 200
"""Characters of a conversation's id."""

PAINT_SECONDS = 0.1
"""The shortest time between two updates of a page: the latest state wins."""

PAINTS_A_SECOND = 200
"""Updates of all pages together: a quarter of a core. When more replies are written, each is painted less often."""

BEGINNING = 4
"""How many updates give way to a reply that has no word yet: an agent's run takes its time to begin."""

TICK_SECONDS = 1
"""How often the time that a tool has taken so far is shown."""

KEEPALIVE_SECONDS = 5
"""The longest time between two updates while a reply is being written, so that a page notices a dead connection."""

Phase = Literal["idle", "waiting", "writing", "saving"]

UNANSWERED = Outcome("interrupted", "Interrupted before a reply was written.")
MISSING = "This conversation does not exist. Here is a new chat."


@dataclass(frozen=True)
class Span:
    """The part of a conversation that a page asks for, by positions in its history; the oldest message is at 0.

    Args:
        first: Where it begins; `None` for a window that ends with `last`.
        last: Where it ends; `None` for the newest message, and what follows it.
        around: Instead of both, the id of an entry to show with what is before and after it.
    """

    first: int | None = None
    last: int | None = None
    around: str | None = None

    @classmethod
    def from_page(cls, value: object) -> "Span":
        """What a page asks for, whatever it really sent."""
        if not isinstance(value, dict):
            return cls()
        sent = cast("dict[object, object]", value)
        return cls(_position(sent.get("first")), _position(sent.get("last")), conversation_id_from(sent.get("around")))

    def within(self, end: int) -> tuple[int, int]:
        """The positions of the first and the last message to read, in a history whose newest message is at `end`."""
        last = end if self.last is None else min(self.last, end)
        first = last - TURN + 1 if self.first is None else min(self.first, last)
        if self.last is not None:
            return max(0, first), min(last, first + WIDEST - 1)
        return max(0, first, last - WIDEST + 1), last


NEWEST = Span()
"""What a page shows of a conversation that was just opened."""


@dataclass(frozen=True)
class ShownTurn:
    """A turn, and where in the `messages` of a view its prompt and its reply end; `None` for what shows nothing.

    `rating` is what the owner said of the reply.
    """

    turn: Turn
    prompt_at: int | None
    reply_at: int | None
    rating: Rating | None = None


@dataclass(frozen=True)
class View:
    """What a page shows. `messages` is for the chatbot; the rest says in which state it is.

    `first` and `last` are the positions of the part that is shown; `last` is `None` when it is the newest part.
    `counts` says how many of `messages`, without those inside others, belong to each message of the conversation from
    `first` on, and at last to the reply that is being written. `spent` is what the conversation has taken in all.
    `target` is where among these the entry is that was asked for. `pending` are the calls that wait for a decision.
    `turns` are what can be acted on when nothing is being written; `taken_back` says whether turns that were taken back
    can be brought back. `left` is what its owner may still use today; `None` without limits.
    """

    conversation: str | None
    messages: Sequence[GradioMessage] = ()
    token: str | None = None
    spent: str = ""
    phase: Phase = "idle"
    notice: str = ""
    first: int = 0
    last: int | None = None
    counts: Sequence[int] = ()
    target: int | None = None
    pending: Sequence[PendingCall] = ()
    turns: Sequence[ShownTurn] = ()
    taken_back: bool = False
    left: Left | None = None


async def watch(
    services: Services, owner: Owner, conversation: object, span: Span = NEWEST, *, show_system: bool = False
) -> AsyncGenerator[View, None]:
    """A conversation as it is now and, while a reply is being written in it, as it becomes.

    Ends when nothing is being written. `conversation` comes from the page and can be anything. `show_system` shows also
    what only the model is meant to read.
    """
    conversation_id = conversation_id_from(conversation)
    if not conversation_id:
        yield View(None, notice=MISSING if conversation else "", left=await services.limits.left(owner))
        return
    showing = Showing(files=partial(_link, conversation_id), show_system=show_system)
    while True:
        run = services.runs.of(owner, conversation_id)
        stored = await _stored(services, owner, conversation_id, span, run, showing)
        if run is None or stored is None:
            yield stored or View(None, notice=MISSING, left=await services.limits.left(owner))
            return
        async for view in _live(stored, run, services.runs, showing):
            yield view


async def _live(stored: View, run: Run, runs: Runs, showing: Showing) -> AsyncGenerator[View, None]:
    version = -1
    while not run.done:
        with suppress(TimeoutError):  # Nothing new; the same view says that the connection lives.
            # Not `wait_for`: in Python 3.11 it can swallow the cancellation of a watcher that is gone.
            async with asyncio.timeout(TICK_SECONDS if run.stopwatch.running else KEEPALIVE_SECONDS):
                version = await run.after(version)
        if run.done:
            return
        written = _partial(run, showing) if stored.last is None else []
        yield replace(
            stored,
            messages=[*stored.messages, *written],
            counts=[*stored.counts, len(_outer(written))],
            token=run.token,
            phase=run.state,
            notice=_say(run),
        )
        if written:  # The first words are shown at once, and the last; what is between them is worth gathering.
            await run.whole_within(paint_seconds(runs))
        elif stored.last is not None:  # It is written where the page doesn't look.
            await run.whole_within(TICK_SECONDS)


def paint_seconds(runs: Runs) -> float:
    """How long to wait before the next update of a reply is shown."""
    return max(PAINT_SECONDS, (runs.at_work + BEGINNING * runs.beginning) / PAINTS_A_SECOND)


async def _stored(
    services: Services, owner: Owner, conversation_id: str, span: Span, run: Run | None, showing: Showing
) -> View | None:
    record = await services.store.read_owned(conversation_id, owner)
    if record is None:
        return None
    token = record.revision if run is None else run.token
    head = record.head_id if run is None else run.prompt_id  # What follows its prompt is the run's to show.
    end = await services.store.position(head) if head else None
    if head is None or end is None:
        turns = await services.versions.turns(record, [], 0) if run is None else Turns()
        left = await services.limits.left(owner)
        return View(conversation_id, token=token, taken_back=turns.taken_back, left=left)
    if span.around is not None:
        middle = await services.store.position(head, span.around)
        span = NEWEST if middle is None else replace(span, first=max(0, middle - AROUND), last=middle + AROUND)
    first, last = span.within(end)
    entries = await services.store.read_part(head, first, last)
    entries = entries[_beginning(entries, span) :]
    pending = pending_calls(record.deferred_tool_requests) if run is None else []
    waiting = frozenset(call.id for call in pending)
    forked = record.forked_at == record.head_id
    showing = replace(showing, waiting=waiting)
    messages = await _shown(services, entries, run, showing, newest=last == end, forked=forked)
    turns = await services.versions.turns(record, entries, last - len(entries) + 1) if run is None else Turns()
    ratings = await services.feedback.of(owner, [turn.reply for turn in turns.shown if turn.reply])
    outer = _outer(messages)
    shown = [message["metadata"].get("id", "").partition(":")[0] for message in outer]
    return View(
        conversation_id,
        messages,
        token,
        _spent(record),
        first=last - len(entries) + 1,
        last=None if last == end else last,
        counts=[shown.count(entry.id) for entry in entries],
        target=shown.index(span.around) if span.around in shown else None,
        pending=pending,
        turns=_places(turns.shown, entries, outer, ratings),
        taken_back=turns.taken_back,
        left=await services.limits.left(owner),
    )


def _outer(messages: Sequence[GradioMessage]) -> list[GradioMessage]:
    """The messages that have a place of their own on the page: not those inside another one's block."""
    return [message for message in messages if "parent_id" not in message["metadata"]]


def _places(
    turns: Sequence[Turn],
    entries: Sequence[ConversationEntry],
    messages: Sequence[GradioMessage],
    ratings: Mapping[str, Rating],
) -> list[ShownTurn]:
    turn_of = {entry_id: turn for turn, of_turn in _by_turn(entries).items() for entry_id in of_turn}
    ends: dict[tuple[str | None, bool], int] = {}
    for index, message in enumerate(messages):
        entry_id = message["metadata"].get("id", "").partition(":")[0]
        ends[turn_of.get(entry_id), message["role"] == "user"] = index
    return [
        ShownTurn(turn, ends.get((turn.prompt, True)), ends.get((turn.prompt, False)), ratings.get(turn.reply or ""))
        for turn in turns
    ]


def _by_turn(entries: Sequence[ConversationEntry]) -> dict[str, list[str]]:
    """The entries of each turn, by the one that began it, which is the first of them."""
    turns: dict[str, list[str]] = {}
    of_turn: list[str] = []
    for entry in entries:
        if starts_turn(entry.message):
            of_turn = turns[entry.id] = []
        of_turn.append(entry.id)
    return turns


def _spent(record: ConversationRecord) -> str:
    """What a conversation took in all, where somebody may have to pay for it."""
    total = spent(record.usage)
    return total.line() if total.cost is not None or total.unpriced else ""


async def _shown(
    services: Services,
    entries: Sequence[ConversationEntry],
    run: Run | None,
    showing: Showing,
    *,
    newest: bool,
    forked: bool,
) -> list[GradioMessage]:
    """What is shown of these entries. `forked` says that nothing was tried yet after the fork that ends with them."""
    noted = [entry.id for entry in entries]
    at_rest = newest and run is None
    turn = _last_turn(entries)
    outcomes = await outcomes_of(services, entries, at_rest=at_rest and not showing.waiting and not forked)
    notes = {entry_id: outcome.sentence for entry_id, outcome in outcomes.items()}
    if run is not None:
        notes.pop(run.prompt_id, None)
    said = [(entry.id, entry.message) for entry in entries]
    timings = _noted(await services.journal.timings(noted), entries)
    seconds = {entry_id: timing.seconds for entry_id, timing in timings.items()}
    parts = {entry_id: timing.parts for entry_id, timing in timings.items()}
    briefs = _noted(await services.journal.briefs(noted), entries) if showing.show_system else {}
    showing = replace(showing, timings=parts, briefs=briefs)
    messages = to_gradio(said, notes=notes, took=lines_by_turn(said, seconds), showing=showing)
    if at_rest and turn in outcomes:
        messages[-1]["options"] = [{"value": "retry", "label": "Retry"}]
        if not starts_turn(entries[-1].message):
            messages[-1]["options"].append({"value": "continue", "label": "Continue"})
    return messages


async def outcomes_of(services: Services, entries: Sequence[ConversationEntry], *, at_rest: bool) -> dict[str, Outcome]:
    """How turns ended that have no whole reply, by the entries that began them.

    Args:
        services: The open parts of the server.
        entries: The entries of the turns, oldest first.
        at_rest: Whether nothing follows the last turn, and nobody is at work on it.
    """
    outcomes = _noted(await services.journal.outcomes([entry.id for entry in entries]), entries)
    turn = _last_turn(entries)
    if at_rest and turn is not None:
        if starts_turn(entries[-1].message):
            outcomes.setdefault(turn, UNANSWERED)
        elif _breaks_off(entries):
            outcomes.setdefault(turn, INTERRUPTED)
    return outcomes


def _noted(notes: Mapping[str, T], entries: Sequence[ConversationEntry]) -> dict[str, T]:
    """What was noted of turns, by the entries that began them: a prompt's own note is of the reply that never came."""
    turns = {turn: of_turn[1:] or of_turn for turn, of_turn in _by_turn(entries).items()}
    return {turn: notes[entry] for turn, of_turn in turns.items() for entry in of_turn if entry in notes}


def _beginning(entries: Sequence[ConversationEntry], span: Span) -> int:
    """Where in these entries to begin: with a prompt, unless it would leave out too much, or show too much."""
    prompts = [index for index, entry in enumerate(entries) if starts_turn(entry.message)]
    if span.first is None:
        enough = max(0, len(entries) - WINDOW)
        return next((index for index in prompts if index >= enough), prompts[-1] if prompts else enough)
    return prompts[0] if prompts and span.first > 0 and prompts[0] <= TURN // 2 else 0


def _last_turn(entries: Sequence[ConversationEntry]) -> str | None:
    return next((entry.id for entry in reversed(entries) if starts_turn(entry.message)), None)


def _breaks_off(entries: Sequence[ConversationEntry]) -> bool:
    """Whether calls are left open: the process ended just after a decision, before anything came of it."""
    open_calls: set[str] = set()
    for entry in entries:
        if isinstance(entry.message, ModelResponse):
            open_calls = {call.tool_call_id for call in entry.message.tool_calls}
        else:
            open_calls -= {getattr(part, "tool_call_id", "") for part in entry.message.parts}
    return bool(open_calls)


def _partial(run: Run, showing: Showing) -> list[GradioMessage]:
    """The reply so far, and before it what its turn held when it had paused."""
    messages = enumerate(run.partial.messages())
    briefs = {run.prompt_id: run.brief} if run.brief else {}
    showing = replace(showing, timings={run.prompt_id: run.stopwatch.timing().parts}, briefs=briefs)
    begun = [(entry.id, entry.message) for entry in run.begun]
    said = [*begun, *((f"{run.id}.{index}", message) for index, message in messages)]
    return to_gradio(said, live=True, turn=run.prompt_id, showing=showing)


def _link(conversation_id: str, entry_id: str, content: BinaryContent) -> FileLink | None:
    file = file_of(content)
    return file and FileLink(file_path(conversation_id, entry_id, file), file.name, file.size)


def _say(run: Run) -> str:
    if run.trouble:
        return f"Not saved yet: {run.trouble} Saving is tried again until it works."
    if run.state == "waiting":
        return f"Waiting for a free place: number {run.place} in line."
    return ""


def conversation_id_from(value: object) -> str | None:
    """An id that a page names, if it has the form of one. Half a surrogate pair isn't printable."""
    return value if isinstance(value, str) and len(value) <= LONGEST_ID and value.isprintable() else None


def _position(value: object) -> int | None:
    return max(0, value) if isinstance(value, int) else None
