"""What programs can do, whichever way they come: each function acts for a caller, with checked arguments.

`chat.api_route` offers these over HTTP, and `chat.api_events` to `gradio_client`. The rules are those of the page: the
owner is part of every query, and somebody else's conversation is a missing one.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import takewhile

from pydantic_ai import ModelMessage
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from starlette.requests import Request

from chat.api_schema import (
    About,
    Conversation,
    Detail,
    File,
    Finding,
    Findings,
    Hit,
    ListedConversation,
    Listing,
    Message,
    Problem,
    Reply,
    ReplyEvent,
    Started,
    State,
    Step,
    StepBegun,
    TextSoFar,
    Upload,
)
from chat.attachments import Attaching, Sent, prompt_of
from chat.choices import Choice
from chat.database import DatabaseError, DatabaseUnavailable
from chat.decisions import Decision, pending_calls
from chat.exports import Export, Form
from chat.file_route import file_path
from chat.files import file_of
from chat.identity import Owner, owner_of
from chat.library import PAGE, Listed, Mark
from chat.listing import Change, make_change, sign_of
from chat.models import ChatAgent
from chat.render import starts_turn
from chat.runs import ConversationMissing, Run
from chat.services import Services
from chat.snippet import Piece
from chat.transcript import Attached, Folded, Said, transcript
from chat.view import conversation_id_from, outcomes_of, paint_seconds

MESSAGES = 20
"""Stored messages that are read at a time, when nobody says how many. A turn takes two, and two for each call."""

MOST_MESSAGES = 100

LONGEST_TURN = 1_000
"""Stored messages up to which a reply is told whole."""

KEEPALIVE_SECONDS = 10
"""The longest silence while a reply is written, so that nobody on the way takes its connection for dead."""

CHANGED = "The reply is stored, but the conversation has changed meanwhile. Read it."


class NoVisitor(Exception):
    """A program that keeps no cookie, so that nobody knows what is its own."""

    def __init__(self) -> None:
        super().__init__("Ask for /parley/api/about first and keep the cookie: it says which conversations are yours.")


class Unusable(ValueError):
    """An argument that can't be used. The message says why."""


@dataclass(frozen=True)
class Caller:
    """Who calls, and what of the server is used."""

    services: Services
    agent: ChatAgent
    attaching: Attaching
    owner: Owner


def caller_of(request: Request) -> Caller:
    """Who calls.

    Raises:
        NoVisitor: If the request has no owner.
    """
    owner = owner_of(request)
    if owner is None:
        raise NoVisitor
    return Caller(request.state.services, request.state.agent, request.state.attaching, owner)


def about(services: Services, agent: ChatAgent) -> About:
    """What this chat is, and which models can be chosen."""
    return About(title=services.title, models=[model.name for model in agent.models])


async def conversations(
    caller: Caller, *, after: str | None = None, archived: bool = False, limit: int = PAGE
) -> Listing:
    """A page of the caller's conversations.

    Args:
        caller: Whose they are.
        after: The `more` of the page before.
        archived: Whether the archived ones are listed, instead of the others.
        limit: How many, up to `PAGE`.

    Raises:
        Unusable: If `after` has another form.
        DatabaseUnavailable: If the database can't be read now.
    """
    try:
        mark = Mark.from_page(after) if after else None
    except ValueError as error:
        raise Unusable("`after` is not the `more` of a page before.") from error
    found, more = await caller.services.library.conversations(
        caller.owner, after=mark, archived=archived, limit=max(1, min(limit, PAGE))
    )
    writing = caller.services.runs.writing(caller.owner)
    listing = [_listed(listed, writing) for listed in found]
    return Listing(conversations=listing, more=None if more is None else str(more))


async def read(caller: Caller, conversation: str, *, before: int | None = None, limit: int = MESSAGES) -> Conversation:
    """A conversation with its newest messages, or with those before a position.

    What is read begins with a prompt, so that it can be a little less than `limit` stored messages. A turn that is
    longer is read in parts.

    Raises:
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be read now.
    """
    services, record = caller.services, await _record(caller, conversation)
    [listed] = await services.library.find(caller.owner, [record.conversation_id]) or [None]
    if listed is None:
        raise ConversationMissing
    run = services.runs.of(caller.owner, record.conversation_id)
    head = record.head_id if run is None else run.prompt_id  # What follows its prompt is the run's to tell.
    end = await services.store.position(head) if head else None
    last = -1 if end is None else end if before is None else min(before - 1, end)
    entries: list[ConversationEntry] = []
    if head is not None and last >= 0:  # Else there is nothing before.
        entries = await services.store.read_part(head, max(0, last - max(1, min(limit, MOST_MESSAGES)) + 1), last)
        entries = entries[next((index for index, entry in enumerate(entries) if starts_turn(entry.message)), 0) :]
    first = last - len(entries) + 1
    newest = last == end
    return Conversation(
        **_listed(listed, services.runs.writing(caller.owner)).model_dump(),
        messages=[
            *await _messages(caller, record, entries, newest=newest, run=run),
            *([_so_far(record.conversation_id, run)] if run is not None and newest else []),
        ],
        earlier=first if first > 0 else None,
        pending=pending_calls(record.deferred_tool_requests) if run is None else [],
        token=(record.revision or "") if run is None else run.token,
    )


async def send(
    caller: Caller,
    text: str,
    *,
    conversation: str | None = None,
    model: str | None = None,
    files: Sequence[Upload] = (),
) -> Run:
    """Store a message at the end of a conversation, or of a new one, and have it answered: `follow` tells how.

    Raises:
        PromptRefused: If the text, or a file, can't be sent.
        Unusable: If there is no such model, or it is chosen for a conversation that is there already.
        ConversationBusy: If a reply is being written there; nothing is stored.
        LimitReached: If the caller may not use more now; nothing is stored.
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the message can't be stored now.
        ShuttingDown: If the server is about to end.
    """
    if conversation is not None and model is not None:
        raise Unusable("A model is chosen for a new conversation only.")
    try:
        choice = caller.agent.choice({"model": model}) if model is not None else Choice()
    except ValueError as error:
        raise Unusable(str(error)) from error
    known = None if conversation is None else _id(conversation)
    sent = Sent.from_page({"text": text, "files": [file.model_dump() for file in files]})
    limits = None
    if files:
        answering = choice if known is None else await caller.services.choices.read(caller.owner, known)
        limits = caller.attaching.limits(caller.owner, caller.agent.chosen(answering.model).model)
    prompt = await prompt_of(sent, limits)
    run = await caller.services.runs.send(caller.owner, known, prompt, caller.agent, choice)
    if known is None:
        with suppress(DatabaseUnavailable):  # It then has none; the message is stored all the same.
            await caller.services.library.title_from_prompt(caller.owner, run.conversation_id, sent.title)
            caller.services.changes.announce_listing(caller.owner, run.conversation_id)
    return run


async def decide(caller: Caller, conversation: str, token: str, decisions: Sequence[Decision]) -> Run:
    """Have a turn that paused go on with what was decided about each of its calls: `follow` tells how.

    Raises:
        DecisionRefused: If they are not for what waits there now; nothing is done.
        ConversationBusy: If a reply is being written there.
        LimitReached: If the caller may not use more now.
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be changed now.
        ShuttingDown: If the server is about to end.
    """
    return await caller.services.runs.decide(caller.owner, _id(conversation), token, decisions, caller.agent)


async def running(caller: Caller, conversation: str) -> Run | None:
    """The run that is at work in a conversation, if any.

    Raises:
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be read now.
    """
    record = await _record(caller, conversation)
    return caller.services.runs.of(caller.owner, record.conversation_id)


async def growing(caller: Caller, run: Run) -> AsyncGenerator[Reply | Problem | None, None]:
    """A reply as it grows, all of it each time, with the state `writing`; at last as it is stored, or a `Problem`.

    `None` only says that it is still being written. Whoever stops following changes nothing for the reply.
    """
    version = -1
    while not run.done:
        seen = version
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEPALIVE_SECONDS):
                version = await run.after(version)
        if version == seen:
            yield None
            continue
        message = _so_far(run.conversation_id, run)
        yield Reply(conversation=run.conversation_id, state="writing", message=message, pending=[], token=run.token)
        if message.text or message.steps:
            await run.whole_within(paint_seconds(caller.services.runs))
    try:
        yield await result(caller, run) or Problem(error=CHANGED)
    except (ConversationMissing, DatabaseError) as error:
        yield Problem(error=str(error))


async def follow(caller: Caller, run: Run) -> AsyncGenerator[ReplyEvent, None]:
    """What is new of a reply: `Started`, `TextSoFar` and `StepBegun` as it grows, and at last `Reply` or `Problem`."""
    yield Started(conversation=run.conversation_id, prompt=run.prompt_id)
    text, steps = "", list[str]()
    async with aclosing(growing(caller, run)) as replies:
        async for reply in replies:
            if isinstance(reply, Reply):
                for event in _news(reply.message, text, steps):
                    yield event
                text, steps = reply.message.text, [step.title for step in reply.message.steps]
            if not isinstance(reply, Reply) or reply.state != "writing":
                yield reply


async def result(caller: Caller, run: Run) -> Reply | None:
    """The reply of a run that has ended; `None` when the conversation no longer leads there.

    Raises:
        ConversationMissing: If it was deleted meanwhile.
        DatabaseUnavailable: If the database can't be read now.
    """
    return await _reply(caller, run.conversation_id, run.prompt_id)


async def newest_reply(caller: Caller, conversation: str) -> Reply | None:
    """The reply to the newest prompt of a conversation in which nothing is written; `None` when it just changed.

    Raises:
        ConversationMissing: If the caller has no such conversation, or it holds no prompt.
        DatabaseUnavailable: If the database can't be read now.
    """
    record = await _record(caller, conversation)
    prompt = await caller.services.runs.newest_prompt(record.head_id)
    if prompt is None:
        raise ConversationMissing
    return await _reply(caller, record.conversation_id, prompt.id)


async def change(caller: Caller, conversation: str, wanted: Change) -> ListedConversation | None:
    """Rename, move, delete or restore a conversation; how it is listed then, or `None` when it was deleted.

    Raises:
        ChangeRefused: If a title has nothing in it that can be seen.
        ConversationBusy: If a reply that is being written in a conversation to delete does not stop.
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be changed now.
    """
    conversation_id = _id(conversation)
    if not await make_change(caller.services, caller.owner, conversation_id, wanted):
        raise ConversationMissing
    found = await caller.services.library.find(caller.owner, [conversation_id])
    return _listed(found[0], caller.services.runs.writing(caller.owner)) if found else None


async def stop(caller: Caller, conversation: str) -> bool:
    """End the reply that is being written in a conversation, keeping what it has; whether there was one.

    Raises:
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be read now.
    """
    run = await running(caller, conversation)
    if run is not None:
        run.stop()
    return run is not None


async def search(caller: Caller, query: str) -> Findings:
    """The caller's conversations that have all words of a query in their title or in one message.

    Raises:
        DatabaseUnavailable: If the database can't be read now.
    """
    return Findings(
        conversations=[
            Finding(
                id=found.conversation_id,
                title=_words(found.title),
                at=found.updated_at,
                hits=[Hit(message=hit.entry_id, snippet=_words(hit.snippet)) for hit in found.hits],
            )
            for found in await caller.services.search.find(caller.owner, query)
        ]
    )


async def export(caller: Caller, conversation: str, form: Form) -> Export:
    """A conversation as a file.

    Raises:
        ConversationMissing: If the caller has no such conversation.
        DatabaseUnavailable: If the database can't be read now.
    """
    exported = await caller.services.exports.conversation(caller.owner, _id(conversation), form)
    if exported is None:
        raise ConversationMissing
    return exported


def _words(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _id(conversation: str) -> str:
    conversation_id = conversation_id_from(conversation)
    if not conversation_id:
        raise ConversationMissing
    return conversation_id


async def _record(caller: Caller, conversation: str) -> ConversationRecord:
    record = await caller.services.store.read_owned(_id(conversation), caller.owner)
    if record is None:
        raise ConversationMissing
    return record


async def _reply(caller: Caller, conversation: str, prompt_id: str) -> Reply | None:
    record = await _record(caller, conversation)
    store, head = caller.services.store, record.head_id
    first = await store.position(head, prompt_id) if head is not None else None
    end = await store.position(head) if head is not None else None
    if head is None or first is None or end is None:
        return None
    prompt, *after = await store.read_part(head, first, min(first + LONGEST_TURN, end))
    entries = [prompt, *takewhile(lambda entry: not starts_turn(entry.message), after)]
    newest = entries[-1].id == head
    told = await _messages(caller, record, entries, newest=newest, run=None)
    return Reply(
        conversation=record.conversation_id,
        state=told[-1].state,
        message=told[-1],
        pending=pending_calls(record.deferred_tool_requests) if newest else [],
        token=record.revision or "",
    )


async def _messages(
    caller: Caller, record: ConversationRecord, entries: Sequence[ConversationEntry], *, newest: bool, run: Run | None
) -> list[Message]:
    """What both sides said in the turns of these entries. `newest` says that nothing stored comes after them.

    A turn at rest always has a reply, at least one that says why there is none.
    """
    waits = record.deferred_tool_requests is not None
    outcomes = await outcomes_of(caller.services, entries, at_rest=newest and run is None and not waits)
    turns: list[list[ConversationEntry]] = []
    for entry in entries:
        if starts_turn(entry.message) or not turns:
            turns.append([])
        turns[-1].append(entry)
    messages: list[Message] = []
    for turn in turns:
        prompt = turn[0] if starts_turn(turn[0].message) else None
        said = [(entry.id, entry.message) for entry in turn]
        if prompt is not None:
            messages.append(_message(record.conversation_id, prompt.id, "user", said[:1]))
        last = newest and turn is turns[-1]
        if last and run is not None:
            continue  # Its reply is being written.
        outcome = outcomes.get(prompt.id) if prompt is not None else None
        state: State = outcome.kind if outcome is not None else "waiting" if last and waits else "complete"
        reply_id = (turn[1] if prompt is not None and len(turn) > 1 else turn[0]).id
        note = None if outcome is None else outcome.sentence
        messages.append(_message(record.conversation_id, reply_id, "assistant", said, state, note))
    return messages


def _so_far(conversation_id: str, run: Run) -> Message:
    """A reply that is being written, with what its turn held when it had paused."""
    said = [(entry.id, entry.message) for entry in run.begun]
    said += [(f"{run.id}.{index}", message) for index, message in enumerate(run.partial.messages())]
    return _message(conversation_id, run.id, "assistant", said, "writing")


def _message(
    conversation_id: str,
    message_id: str,
    role: str,
    said: Sequence[tuple[str, ModelMessage]],
    state: State = "complete",
    note: str | None = None,
) -> Message:
    """What one side said, and did, in these entries."""
    speaker = "person" if role == "user" else "assistant"
    pieces = [piece for piece in transcript(said, notes={}) if piece.speaker == speaker]
    return Message(
        id=message_id,
        role="user" if role == "user" else "assistant",
        text="\n\n".join(piece.markdown for piece in pieces if isinstance(piece, Said)),
        steps=[_step(piece) for piece in pieces if isinstance(piece, Folded)],
        files=[_file(conversation_id, piece) for piece in pieces if isinstance(piece, Attached)],
        state=state,
        note=note,
    )


def _step(piece: Folded) -> Step:
    return Step(
        title=piece.title,
        details=[Detail(label=detail.label, text=detail.text) for detail in piece.details],
        steps=[_step(inside) for inside in piece.inside if isinstance(inside, Folded)],
    )


def _file(conversation_id: str, piece: Attached) -> File:
    file = file_of(piece.content)
    if file is None:
        return File(name=piece.content.identifier, media_type=piece.content.media_type, size=0, address=None)
    address = f"/{file_path(conversation_id, piece.entry_id, file)}"
    return File(name=file.name, media_type=file.media_type, size=file.size, address=address)


def _listed(listed: Listed, writing: set[str]) -> ListedConversation:
    return ListedConversation(
        id=listed.conversation_id,
        title=listed.title,
        at=listed.updated_at,
        place=listed.place,
        sign=sign_of(listed, writing),
    )


def _news(message: Message, text: str, steps: Sequence[str]) -> list[ReplyEvent]:
    """What a message says that was not told yet."""
    news: list[ReplyEvent] = [
        StepBegun(number=number, title=step.title)
        for number, step in enumerate(message.steps)
        if [step.title] != list(steps[number : number + 1])
    ]
    if message.text != text:
        same = len(text) if message.text.startswith(text) else _shared(message.text, text)
        news.append(TextSoFar(at=same, text=message.text[same:]))
    return news


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
