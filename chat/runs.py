"""Replies being written: one run per conversation, in a task of its own.

A run belongs to its conversation. Whoever wants to see it watches (`Run.after`, `Run.partial`); nobody who watches, or
stops watching, changes anything for it. Its prompt is stored before the model is called, what it has written is
checkpointed about ten times a second, and however it ends, what it stores is a history that the next turn can continue.
"""

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from pydantic_ai import (
    AgentRunResultEvent,
    AgentStreamEvent,
    CancellationToken,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RunCancelled,
    RunUsage,
)
from pydantic_ai.agent import AgentRunEvents
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationEntry, ConversationRecord
from pydantic_ai.exceptions import AgentRunError, ContentFilterError, OutputTokenLimitExceeded, UserError
from pydantic_ai.messages import PartDeltaEvent, ToolResultEvent, UserContent, UserPromptPart
from pydantic_core import PydanticSerializationError

from chat.attachments import edited_prompt
from chat.brief import Brief, brief_of
from chat.changes import Changes
from chat.choices import Choice, Choices
from chat.database import DatabaseUnavailable
from chat.decisions import OUTDATED, Decision, DecisionRefused, denied_instead, note_edited, results_of
from chat.event_reader import EventReader
from chat.failures import log_failure, sentence_for
from chat.files import Files, binary_contents
from chat.identity import Owner
from chat.journal import Journal, Outcome, Progress, Unfinished
from chat.limits import Limits
from chat.models import ChatAgent
from chat.partial import FOLDED_EVENTS, Partial
from chat.recent import RecentConversations
from chat.render import starts_turn
from chat.reply_limits import AlsoLimited
from chat.spending import spending_beside, spending_of
from chat.store import SQLiteConversationStore, message_json
from chat.summary import usage_of
from chat.timing import NO_TIME, Stopwatch, Timing

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 0.1
"""How long what a run has written may stay in memory only."""

GULP_SECONDS = 0.1
"""How long a reply is taken in before those that begin come first again, while there are any."""

GIVE_WAY_SECONDS = 0.006
"""How long it then waits for each of them: half of what beginning takes of a processor. What its model says meanwhile
waits in the model's connection."""

LONGEST_WAY_SECONDS = 0.3
"""How long it waits for all of them."""

BEGINNING_SECONDS = 2
"""How long a reply without a word counts as one that begins: after that, it waits for its model."""

GRACE_SECONDS = 1.0
"""How long a run that was told to stop may take. After that its task is left behind: a tool's thread can't be ended."""

PROMPT_WITHIN = 40
"""Messages that are read at a time to find the newest prompt."""

SAVE_RETRY_SECONDS = (0.5, 1, 2, 4, 8)
"""The waits between attempts to save a reply; the last one repeats."""

STOPPED = Outcome("stopped", "Stopped.")
INTERRUPTED = Outcome("interrupted", "Interrupted: the server was shut down while this was written.")

State = Literal["waiting", "writing", "saving"]


class ConversationBusy(Exception):
    """A reply is being written in the conversation already."""

    def __init__(self) -> None:
        super().__init__("A reply is still being written here. Wait for it, or stop it, then send again.")


class ConversationMissing(Exception):
    """The owner has no such conversation. It may be somebody else's, deleted, or never have been."""

    def __init__(self) -> None:
        super().__init__("This conversation does not exist.")


class MessageMissing(Exception):
    """A conversation has no such message. It may be another one's, deleted, or never have been."""

    def __init__(self) -> None:
        super().__init__("This message does not exist in this conversation.")


class ShuttingDown(Exception):
    """The server is about to end and takes no more prompts."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Send again in a moment.")


class Run:
    """One reply, from the moment its prompt is accepted until it is saved."""

    def __init__(self, owner: Owner, conversation_id: str) -> None:
        self.id = uuid4().hex
        self.owner = owner
        self.conversation_id = conversation_id
        self.prompt_id = ""
        self.reply_id = ""
        """The entry that its reply begins with, of which is noted how it ended; the prompt's while there is none."""
        self.model: str | None = None
        """The name of the model that answers instead of the conversation's own."""
        self.begun: Sequence[ConversationEntry] = ()
        """What its turn holds already, when it had paused."""
        self.earlier: Timing = NO_TIME
        """What its turn had taken before it paused."""
        self.decided: DeferredToolResults | None = None
        """What was decided about the calls that its turn had paused for."""
        self.revision = ""
        self.history_size: int | None = 0
        """Bytes of the conversation's messages before the reply; `None` when they are not read yet."""
        self.state: State = "waiting"
        self.done = False
        self.place = 0
        """How many runs are served before this one, itself included; 0 once it is being written."""
        self.let_in = 0.0
        """When that was, by the event loop's clock."""
        self.trouble: str | None = None
        """Why what it wrote can't be saved at the moment, or `None`."""
        self.partial = Partial()
        self.stopwatch = Stopwatch()
        self.brief: Brief | None = None
        """What the model was told beside the conversation; `None` until it begins to write."""
        self.version = 0
        self._changed = asyncio.Event()
        self._written = asyncio.Event()
        self._ended = asyncio.Event()
        self.asked = False
        """Whether its model may have been asked."""
        self.stopping = asyncio.Event()
        self.stop_outcome = STOPPED
        self.cancellation = CancellationToken()
        self.progress = Progress(conversation_id, "")
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def token(self) -> str:
        """Names the state of the conversation while this run is at work."""
        return f"{self.revision}:{self.id}"

    async def after(self, version: int) -> int:
        """Wait until there is something newer than `version`; the newest version, whatever came in between."""
        while self.version <= version:
            await self._changed.wait()
        return self.version

    async def whole_within(self, seconds: float) -> None:
        """Wait until all of it is written, at most so long."""
        await _set_within(self._written, seconds)

    async def ends_within(self, seconds: float | None = None) -> bool:
        """Wait until it is saved, at most so long; whether it is."""
        await _set_within(self._ended, seconds)
        return self.done

    def end_writing(self) -> None:
        """Nothing more is written: what there is gets saved."""
        self.state = "saving"
        self._written.set()
        self.touch()

    def end(self) -> None:
        """It is saved, or can't be."""
        self.done = True
        self._ended.set()
        self.touch()

    def touch(self) -> None:
        """Let whoever watches know that there is something newer."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self, outcome: Outcome = STOPPED) -> None:
        """End the model call at once and keep what was written. Does nothing once the run has ended."""
        self.stop_outcome = outcome
        self.stopping.set()


@dataclass(frozen=True)
class _Ending:
    """What a run leaves to be stored."""

    messages: list[ModelMessage]
    usage: RunUsage | None = None
    deferred: DeferredToolRequests | None = None
    error: BaseException | None = None
    whole: bool = False


class Runs:
    """All runs of this process.

    Args:
        store: Where conversations are kept.
        files: Where their files are kept.
        journal: Where runs are checkpointed.
        choices: What owners chose for their conversations.
        changes: Who is told that a conversation changed.
        limits: What owners, and each reply, may use.
        timeout: Seconds that a reply may take.
        max_runs: How many are written at the same time; the others wait in line, first come, first served.
        history: How many of a conversation's newest messages its model is given at most.
        history_bytes: How many bytes of the newest files in them. Those of the newest message are given in any case.
    """

    def __init__(
        self,
        store: SQLiteConversationStore,
        files: Files,
        journal: Journal,
        choices: Choices,
        changes: Changes,
        limits: Limits,
        *,
        timeout: float,
        max_runs: int,
        history: int,
        history_bytes: int,
    ) -> None:
        self._store = store
        self._light = store.light()
        self._files = files
        self._journal = journal
        self._choices = choices
        self._changes = changes
        self._limits = limits
        self._recent = RecentConversations()
        self._timeout = timeout
        self._history = history
        self._history_bytes = history_bytes
        self._free = asyncio.Semaphore(max_runs)
        self._line: list[Run] = []
        self._active: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._checkpointer: asyncio.Task[None] | None = None
        self._checkpointing = asyncio.Lock()
        self._checkpoint_now = asyncio.Event()
        self._closing = asyncio.Event()
        self._leaving: set[Owner] = set()

    def of(self, owner: Owner, conversation_id: str) -> Run | None:
        """The run that is at work in an owner's conversation, if any. Its prompt is stored."""
        run = self._active.get(conversation_id)
        return run if run is not None and run.revision and run.owner == owner else None

    @property
    def at_work(self) -> int:
        """How many runs there are."""
        return len(self._active)

    @property
    def beginning(self) -> int:
        """How many of them are about to write their first word."""
        since = asyncio.get_running_loop().time() - BEGINNING_SECONDS
        return sum(run.let_in > since and run.state == "writing" and run.partial.empty for run in self._active.values())

    def writing(self, owner: Owner) -> set[str]:
        """The conversations of an owner in which a run is at work."""
        return {run.conversation_id for run in self._active.values() if run.owner == owner}

    async def send(
        self,
        owner: Owner,
        conversation_id: str | None,
        prompt: str | Sequence[UserContent],
        agent: ChatAgent,
        choice: Choice | None = None,
    ) -> Run:
        """Store a prompt at the end of a conversation, or of a new one, and have the agent answer it.

        Calls there that wait for a decision are denied.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation, or `None` for a new one.
            prompt: What is said.
            agent: Who answers.
            choice: What the owner chose for a new conversation.

        Raises:
            ConversationBusy: If a reply is being written there; nothing is stored.
            ConversationMissing: If the owner has no such conversation.
            DatabaseUnavailable: If the prompt can't be stored now.
        """

        message = ModelRequest(parts=[UserPromptPart(prompt)])

        async def begin(run: Run) -> Conversation:
            conversation = Conversation(conversation_id=run.conversation_id)
            if conversation_id is not None:
                taken = self._recent.take(owner, conversation_id)
                # Else its end is enough to append to: the prompt is stored before the whole is read.
                conversation, run.history_size = taken or (await self._end_of(run), None)
            if run.history_size is not None:
                run.history_size += _size([message])
            # Who writes instead of deciding denies what waits: the turn that had paused is over.
            conversation.messages.extend([*denied_instead(conversation.deferred_tool_requests), message])
            conversation.deferred_tool_requests = None
            run.prompt_id = (await self._store.save(conversation, scope=owner))[-1].id
            if conversation_id is None and choice is not None and choice.changes():
                await self._choices.write(owner, run.conversation_id, choice)
            return conversation

        return await self._start(self._admit(owner, conversation_id, agent, begin))

    async def retry(
        self,
        owner: Owner,
        conversation_id: str,
        agent: ChatAgent,
        prompt_id: str | None = None,
        model: str | None = None,
    ) -> Run:
        """Have a prompt of a conversation answered again. The reply it had, and all after it, stays as a branch.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation.
            agent: Who answers.
            prompt_id: The prompt's entry; the newest one's by default.
            model: The name of the model that answers this once; the conversation's own by default.

        Raises:
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation, or it holds no prompt.
            MessageMissing: If the conversation has no such prompt.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def begin(run: Run) -> Conversation:
            record = await self.record(owner, conversation_id)
            if prompt_id is not None:
                prompt = await self.prompt(record, prompt_id)
            elif (prompt := await self.newest_prompt(record.head_id)) is None:
                raise ConversationMissing
            run.prompt_id, run.model, run.history_size = prompt.id, model, None
            if record.head_id != prompt.id:
                await self._store.continue_at(record, prompt.id)
            return await self._end_of(run)

        return await self._start(self._admit(owner, conversation_id, agent, begin))

    async def edit(self, owner: Owner, conversation_id: str, prompt_id: str, text: str, agent: ChatAgent) -> Run:
        """Have a prompt answered as it should have been said. What it was, and all after it, stays as a branch.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation.
            prompt_id: The prompt's entry. What is attached to it is attached to the new one too.
            text: What it says now.
            agent: Who answers.

        Raises:
            PromptRefused: If the text can't be sent.
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            MessageMissing: If the conversation has no such prompt.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def begin(run: Run) -> Conversation:
            record = await self.record(owner, conversation_id)
            prompt = await self.prompt(record, prompt_id)
            [edited] = await self._store.continue_at(record, prompt.parent_id, [edited_prompt(prompt.message, text)])
            run.prompt_id, run.history_size = edited.id, None
            return await self._end_of(run)

        return await self._start(self._admit(owner, conversation_id, agent, begin))

    async def decide(
        self, owner: Owner, conversation_id: str, token: str, decisions: Sequence[Decision], agent: ChatAgent
    ) -> Run:
        """Have a turn that paused for decisions go on with them.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation.
            token: Names the state of the conversation that was decided about; it holds once.
            decisions: One for each call that waits.
            agent: Who goes on.

        Raises:
            DecisionRefused: If they are not for what waits there now; nothing is done.
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def begin(run: Run) -> Conversation:
            record = await self.record(owner, conversation_id)
            prompt = await self.newest_prompt(record.head_id)
            requests = record.deferred_tool_requests
            if requests is None or prompt is None or record.head_id is None or record.revision != token:
                raise DecisionRefused(OUTDATED)
            run.decided = results_of(requests, decisions)
            run.prompt_id, run.history_size = prompt.id, None
            run.begun = await self._entries_after(record.head_id, prompt.id) or ()
            begun = [entry.id for entry in run.begun]
            run.earlier = next(iter((await self._journal.timings(begun)).values()), NO_TIME)
            self._recent.take(owner, conversation_id)
            conversation = await self._end_of(run)
            if conversation.revision != token:
                raise DecisionRefused(OUTDATED)
            # From here on the decisions are taken: whatever happens, nobody can give them again.
            conversation.deferred_tool_requests = None
            await self._store.save(conversation, scope=owner)
            return conversation

        return await self._start(self._admit(owner, conversation_id, agent, begin))

    async def add_usage(self, owner: Owner, conversation_id: str, usage: RunUsage, *, paid: bool) -> None:
        """Count what was used for a conversation beside its replies, once none is being written in it.

        `paid` says whether somebody may ask money for it, also when its price is not known.

        Raises:
            DatabaseUnavailable: If it can't be stored now.
        """
        await self._limits.charge(owner, spending_beside(usage, paid=paid))
        while True:
            if (run := self.of(owner, conversation_id)) is not None:
                await run.ends_within()
                continue
            kept = self._recent.take(owner, conversation_id)
            conversation = kept[0] if kept else await self._store.load(conversation_id, limit=1, scope=owner)
            if conversation is None:  # Deleted meanwhile.
                return
            conversation.usage += usage
            try:
                await self._store.save(conversation, scope=owner)
            except ConversationConflict:  # A prompt came in between.
                continue
            if kept and conversation_id not in self._active:
                self._recent.put(owner, *kept)
            if conversation_id not in self._active:  # Else what is written there is newer.
                self._changes.announce(owner, conversation_id, conversation.revision)
            return

    async def token(self, owner: Owner, conversation_id: str) -> str | None:
        """Names the state that a conversation is in; another one after each change. `None` when it is missing."""
        if (run := self.of(owner, conversation_id)) is not None:
            return run.token
        record = await self._store.read_owned(conversation_id, owner)
        return None if record is None else record.revision

    async def recover(self) -> None:
        """Store what runs had written when their process was killed. Call it once, before the first `send`."""
        left = await self._journal.unfinished()
        await self._settle({unfinished.conversation_id: unfinished.messages for unfinished in left})
        for unfinished in left:
            try:
                await self._recover(unfinished)
            except (UserError, DatabaseUnavailable) as error:
                # Its checkpoints stay, so the next start tries again.
                logger.error("Conversation %s could not be recovered: %s", unfinished.conversation_id, error)

    async def close(self) -> None:
        """Stop all runs and store what they have written. What can't be stored now is recovered at the next start."""
        self._closing.set()
        for run in self._active.values():
            run.stop(INTERRUPTED)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * GRACE_SECONDS)
        if self._checkpointer is not None:
            self._checkpointer.cancel()
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def without(self, owner: Owner) -> AsyncGenerator[None, None]:
        """Stop what is being written for an owner, and let nothing begin meanwhile: what they have is being moved."""
        self._leaving.add(owner)
        try:
            while own := [run for run in self._active.values() if run.owner == owner]:
                for run in own:
                    run.stop()
                    await run.after(run.version)
            yield
        finally:
            self._leaving.discard(owner)

    async def prepare(self, owner: Owner, conversation_id: str) -> None:
        """Read a conversation that is likely to be continued, so that its next reply begins as soon as a new one's."""
        kept = self._recent.take(owner, conversation_id)
        if kept is None:
            conversation = await self._light.load(conversation_id, limit=self._history, scope=owner)
            if conversation is None or conversation_id in self._active:
                return
            kept = conversation, _size(conversation.messages)
        self._recent.put(owner, *kept)

    async def _end_of(self, run: Run) -> Conversation:
        """A conversation without its messages but the last: enough to append to."""
        conversation = await self._light.load(run.conversation_id, limit=1, scope=run.owner)
        if conversation is None:
            raise ConversationMissing
        return conversation

    async def _whole(self, run: Run, conversation: Conversation) -> Conversation:
        """A conversation with the messages that its model is given."""
        if run.history_size is not None:
            return conversation
        whole = await self._light.load(run.conversation_id, limit=self._history, scope=run.owner)
        if whole is None:  # Deleted meanwhile; what is written is then not kept.
            return conversation
        run.history_size = _size(whole.messages)
        return whole

    async def record(self, owner: Owner, conversation_id: str) -> ConversationRecord:
        """What is known of an owner's conversation beside its messages.

        Raises:
            ConversationMissing: If the owner has no such conversation.
        """
        record = await self._store.read_owned(conversation_id, owner)
        if record is None:
            raise ConversationMissing
        return record

    async def prompt(self, record: ConversationRecord, entry_id: str) -> ConversationEntry:
        """A prompt of a conversation, in its history or in a branch that it left. Its message is light.

        Raises:
            MessageMissing: If the conversation has no such prompt.
        """
        position = await self._store.position(entry_id)
        if position is not None and await self._store.line_of(record, entry_id) is not None:
            for entry in await self._store.read_part(entry_id, position, position):
                if starts_turn(entry.message):
                    return entry
        raise MessageMissing

    async def newest_prompt(self, head_id: str | None) -> ConversationEntry | None:
        """The newest prompt of the history that ends in `head_id`, if there is one. Its message is light."""
        last = await self._store.position(head_id) if head_id is not None else None
        while head_id is not None and last is not None and last >= 0:
            first = max(0, last - PROMPT_WITHIN + 1)
            for entry in reversed(await self._store.read_part(head_id, first, last)):
                if starts_turn(entry.message):
                    return entry
            last = first - 1
        return None

    async def _start(self, admission: Coroutine[Any, Any, Run]) -> Run:
        # A task of its own, as the run: who sent it may have gone before it is stored.
        starting = asyncio.create_task(admission)
        self._tasks.add(starting)
        starting.add_done_callback(self._tasks.discard)
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())  # Seen, too.
        return await asyncio.shield(starting)

    async def _admit(
        self,
        owner: Owner,
        conversation_id: str | None,
        agent: ChatAgent,
        begin: Callable[[Run], Awaitable[Conversation]],
    ) -> Run:
        if conversation_id is None:
            conversation_id = Conversation().conversation_id
        elif not self._recent.has(owner, conversation_id):
            # Before anything else: it takes as long to find out that it is somebody else's as that it isn't there.
            await self.record(owner, conversation_id)
        if self._closing.is_set():
            raise ShuttingDown
        if owner in self._leaving:
            raise ConversationBusy
        if (other := self._active.get(conversation_id)) is not None:
            # Somebody else's is not even said to be busy.
            raise ConversationBusy if other.owner == owner else ConversationMissing
        run = self._active[conversation_id] = Run(owner, conversation_id)
        # An empty context: the run outlives the request that it came from.
        task = asyncio.create_task(self._work(run, agent, begin), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(run.accepted)
        return run

    async def _work(self, run: Run, agent: ChatAgent, begin: Callable[[Run], Awaitable[Conversation]]) -> None:
        try:
            async with self._limits.reserved(run.owner, run.conversation_id):
                conversation = await _without_conflict(begin, run)
        except Exception as error:
            del self._active[run.conversation_id]
            run.accepted.set_exception(error)
            run.accepted.exception()  # Seen: whoever asked may have gone.
            return
        except asyncio.CancelledError:
            del self._active[run.conversation_id]
            run.accepted.cancel()
            raise
        run.revision = conversation.revision or ""
        run.progress.follows = run.begun[-1].id if run.begun else run.prompt_id
        run.reply_id = run.begun[0].id if run.begun else run.prompt_id
        run.accepted.set_result(None)
        self._changes.announce(run.owner, run.conversation_id, run.token)
        self._keep_checkpoints()
        try:
            async with self._slot(run):
                try:
                    conversation = await self._whole(run, conversation)
                except DatabaseUnavailable as error:
                    ending, outcome = _Ending([]), Outcome("failed", str(error))
                else:
                    ending, outcome = await self._answer(run, agent, conversation)
            run.end_writing()
            await self._save(run, conversation, ending, outcome)
        finally:
            del self._active[run.conversation_id]
            run.end()
            self._changes.announce(run.owner, run.conversation_id, run.revision)

    @asynccontextmanager
    async def _slot(self, run: Run) -> AsyncGenerator[None, None]:
        """Wait in line until fewer than `max_runs` are written, or this one is told to stop."""
        self._line.append(run)
        self._number_line()
        served = asyncio.create_task(self._free.acquire())
        await _first(served, run.stopping)
        self._line.remove(run)
        run.state, run.place, run.stopwatch = "writing", 0, Stopwatch(earlier=run.earlier)
        run.let_in = asyncio.get_running_loop().time()
        run.touch()
        self._number_line()
        if not served.done():
            served.cancel()
            await asyncio.wait({served})
        try:
            yield
        finally:
            if not served.cancelled():
                self._free.release()

    def _number_line(self) -> None:
        for place, run in enumerate(self._line, start=1):
            if run.place != place:
                run.place = place
                run.touch()

    async def _answer(self, run: Run, agent: ChatAgent, conversation: Conversation) -> tuple[_Ending, Outcome | None]:
        """Let the agent write until it has finished, is told to stop, or has used up its time."""
        if run.stopping.is_set():  # While it waited in line: the model is not even asked.
            return _Ending([]), run.stop_outcome
        reading = asyncio.create_task(self._read(run, agent, conversation))
        cut: Outcome | None = None
        if not await _first(reading, run.stopping, seconds=self._timeout):
            cut = run.stop_outcome if run.stopping.is_set() else self._timed_out()
            run.cancellation.cancel()
            await asyncio.wait({reading}, timeout=GRACE_SECONDS)
        if not reading.done():
            logger.warning("The run in conversation %s does not end; it is left behind.", run.conversation_id)
            reading.cancel()
            return _Ending(run.partial.messages()), cut
        ending = reading.result()
        error = _cut_by_provider(ending.messages) if ending.whole else ending.error
        if error is not None:
            log_failure(logger, error, run.conversation_id)
            return ending, Outcome("failed", sentence_for(error))
        return ending, None if ending.whole else cut

    async def _read(self, run: Run, agent: ChatAgent, conversation: Conversation) -> _Ending:
        """Run the agent and take in its events. Only takes in: a slow reader would hold up the model."""
        events: AgentRunEvents[Any] | None = None
        reader = EventReader()
        try:
            choice = await self._choices.read(run.owner, run.conversation_id)
            if run.model is not None:
                choice = choice.model_copy(update={"model": run.model})
            messages = await self._files.to_send(conversation.messages, self._history_bytes)
            arguments = await agent.run_arguments(run.owner, run.conversation_id, choice)
            if self._limits.of_reply is not None:
                arguments["usage_limits"] = self._limits.of_reply
                arguments["capabilities"].append(AlsoLimited(self._limits.of_reply))
            arguments["capabilities"].append(reader)
            async with agent.agent.run_stream_events(
                # A conversation's usage would count against the limits of each of its turns: after Pydantic AI's
                # default of 50 requests nothing would be answered any more.
                conversation=replace(conversation, messages=messages, usage=RunUsage()),
                cancellation_token=run.cancellation,
                infer_name=False,
                deferred_tool_results=run.decided,
                **arguments,
            ) as events:
                run.asked = True
                reader.read = self._reading(run, events)
                async for event in events:
                    if isinstance(event, AgentRunResultEvent):
                        output: object = event.result.output
                        deferred = output if isinstance(output, DeferredToolRequests) else None
                        return _Ending(event.result.new_messages(), event.result.usage, deferred, whole=True)
        except RunCancelled as cancelled:
            return _Ending(cancelled.new_messages(), cancelled.usage)
        except Exception as error:  # The agent's own code can raise anything; the turn must end well all the same.
            messages, usage = _left_by(events, run)
            return _Ending(messages, usage, error=error)
        finally:
            reader.read = None
        raise AssertionError("A run ends with its result or an error.")

    def _reading(self, run: Run, events: AgentRunEvents[Any]) -> Callable[[AgentStreamEvent], Awaitable[None]]:
        """What a run does with each event: take it in, and now and then let others say their first word."""
        clock = asyncio.get_running_loop().time
        since = clock()

        async def read(event: AgentStreamEvent) -> None:
            nonlocal since
            self._take_in(run, events, event)
            if clock() - since < GULP_SECONDS:
                return
            if beginning := self.beginning:
                await asyncio.sleep(min(LONGEST_WAY_SECONDS, beginning * GIVE_WAY_SECONDS))
            since = clock()

        return read

    def _take_in(self, run: Run, events: AgentRunEvents[Any], event: AgentStreamEvent) -> None:
        if isinstance(event, ToolResultEvent):
            note_edited(event.part, run.decided)
        if run.brief is None and run.decided is None:  # What goes on was told already.
            run.brief = brief_of(events.all_messages())
        if not isinstance(event, PartDeltaEvent):  # No message is finished between two deltas.
            finished = events.new_messages()[len(run.partial.completed) :]
            if finished:
                run.partial.complete(finished)
                run.stopwatch.complete(finished)
                run.progress.messages.extend(finished)
                run.progress.events.clear()
        run.stopwatch.apply(event)
        if isinstance(event, FOLDED_EVENTS):
            run.partial.apply(event)
            run.progress.events.append(event)
        if run.progress.messages or isinstance(event, ToolResultEvent):
            self._checkpoint_now.set()  # What a tool did can't be asked for again.
        run.touch()

    def _timed_out(self) -> Outcome:
        return Outcome("failed", f"This reply took longer than {self._timeout:g} seconds and was ended.")

    async def _save(self, run: Run, conversation: Conversation, ending: _Ending, outcome: Outcome | None) -> None:
        """Store the turn, for as long as it takes."""
        waits = iter(SAVE_RETRY_SECONDS)
        wait = 0.0
        timing = run.stopwatch.timing()
        loaded = list(conversation.messages)
        conversation.messages.extend(ending.messages)
        conversation.usage += usage_of(ending.messages, ending.usage)
        conversation.deferred_tool_requests = ending.deferred
        saved = outcome is not None and not ending.messages
        used = spending_of(ending.messages, ending.usage, loaded, cut=run.asked and ending.error is None)
        while True:
            try:
                if not saved:
                    outcome = await self._save_once(run, conversation, ending, outcome)
                    saved = True
                async with self._checkpointing, self._limits.settled(run.conversation_id, used):
                    run.progress.take()
                    await self._journal.finish(
                        run.conversation_id,
                        run.reply_id,
                        outcome,
                        timing,
                        run.brief,
                        unread=not self._changes.shows(run.owner, run.conversation_id),
                    )
                run.trouble = None
                return
            except DatabaseUnavailable as error:
                run.trouble = str(error)
                run.touch()
                if self._closing.is_set():
                    logger.error("The reply in conversation %s is not saved: %s", run.conversation_id, error)
                    return
                wait = next(waits, wait)
                await _set_within(self._closing, wait)
            except PydanticSerializationError as error:
                log_failure(logger, error, run.conversation_id)
                ending = _Ending(_storable(ending.messages), ending.usage)
                conversation.messages = [*loaded, *ending.messages]
                conversation.deferred_tool_requests = None
                outcome = Outcome("failed", "The reply holds something that can't be stored.")

    async def _save_once(
        self, run: Run, conversation: Conversation, ending: _Ending, outcome: Outcome | None
    ) -> Outcome | None:
        try:
            _note_reply(run, await self._store.save(conversation, scope=run.owner))
        except ConversationConflict:
            return await self._merge(run, conversation, ending, outcome)
        run.revision = conversation.revision or ""
        # Once it has grown to twice what its model is given, only that much is read again.
        if run.history_size is not None and len(conversation.messages) <= 2 * self._history:
            self._recent.put(run.owner, conversation, run.history_size + _size(ending.messages))
        return outcome

    async def _merge(
        self, run: Run, conversation: Conversation, ending: _Ending, outcome: Outcome | None
    ) -> Outcome | None:
        """Put the reply after what somebody else stored while it was written; nobody's messages are replaced."""
        stored = await self._light.load(run.conversation_id, limit=1, scope=run.owner)  # Its end, to append to.
        if stored is None:
            logger.warning("Conversation %s was deleted while a reply was written.", run.conversation_id)
            return outcome
        if stored.revision == conversation.revision:
            return outcome
        stored.messages.extend(ending.messages)
        stored.usage += usage_of(ending.messages, ending.usage)
        stored.deferred_tool_requests = ending.deferred
        try:
            _note_reply(run, await self._store.save(stored, scope=run.owner))
        except ConversationConflict:
            return await self._merge(run, conversation, ending, outcome)
        run.revision = stored.revision or ""
        return outcome or Outcome("interrupted", "This conversation was also changed elsewhere meanwhile.")

    async def _recover(self, unfinished: Unfinished) -> None:
        outcome, reply_id = None, unfinished.follows
        record = await self._store.read_record(unfinished.conversation_id)
        if record is not None and record.scope and record.head_id:
            entries = await self._entries_after(record.head_id, unfinished.follows)
            after = None if entries is None else [entry.message for entry in entries]
            stored = entries or []
            # Else the reply had been saved when the process was killed, and only its checkpoints remained.
            if after is not None and (not after or starts_turn(after[0])):
                conversation = await self._light.load(unfinished.conversation_id, limit=1, scope=record.scope)
                if conversation is not None:  # Deleted by another program just now.
                    conversation.messages.extend(unfinished.messages)
                    conversation.usage += usage_of(unfinished.messages)
                    stored = await self._store.save(conversation, scope=record.scope)
                after = unfinished.messages
            waits = record.deferred_tool_requests is not None
            outcome = None if after is None or waits or _is_whole(after) else INTERRUPTED
            if after is not None:
                reply_id = await self._reply_of(unfinished.follows, stored)
        await self._journal.finish(unfinished.conversation_id, reply_id, outcome)

    async def _reply_of(self, follows: str, stored: Sequence[ConversationEntry]) -> str:
        """The first entry of the reply of which these entries follow one: its turn may have paused there."""
        prompt = await self.newest_prompt(follows)
        begun = await self._entries_after(follows, prompt.id) if prompt is not None else None
        return next((entry.id for entry in (*(begun or ()), *stored)), follows)

    async def _settle(self, written: Mapping[str, Sequence[ModelMessage]]) -> None:
        """Count what the runs used that were killed, given what they had written by conversation."""
        for conversation_id in await self._limits.unsettled():
            try:
                stored = await self._store.load(conversation_id, limit=self._history)
            except UserError as error:  # Its messages can't be read any more.
                logger.error("What was used in conversation %s is not known: %s", conversation_id, error)
                stored = None
            given = [] if stored is None else stored.messages
            used = spending_of(written.get(conversation_id, ()), given=given, cut=True)
            await self._limits.settle(conversation_id, used)
        await self._limits.release()

    async def _entries_after(self, head_id: str, entry_id: str) -> list[ConversationEntry] | None:
        """What follows an entry in the history that ends in `head_id`; `None` when it isn't in it."""
        position = await self._store.position(head_id, entry_id)
        end = await self._store.position(head_id)
        if position is None or end is None:
            return None
        return await self._store.read_part(head_id, position + 1, end) if position < end else []

    def _keep_checkpoints(self) -> None:
        if self._checkpointer is None or self._checkpointer.done():
            self._checkpointer = asyncio.create_task(self._checkpoint(), context=contextvars.Context())

    async def _checkpoint(self) -> None:
        """While runs are at work, write down what all of them have added: one transaction at a time."""
        while self._active:
            self._checkpoint_now.clear()
            async with self._checkpointing:
                await self._checkpoint_once([run for run in self._active.values() if run.progress])
            await _set_within(self._checkpoint_now, CHECKPOINT_SECONDS)

    async def _checkpoint_once(self, runs: Sequence[Run]) -> None:
        taken = [run.progress.take() for run in runs]
        if not taken:
            return
        trouble = None
        try:
            await self._journal.write(taken)
        except DatabaseUnavailable as error:
            trouble = str(error)
            _put_back(runs, taken)
        except PydanticSerializationError:
            if len(runs) == 1:
                return  # It can't be stored, and says so when it is saved.
            _put_back(runs, taken)
            for run in runs:
                await self._checkpoint_once([run])
            return
        for run in runs:
            _set_trouble(run, trouble)


def _note_reply(run: Run, stored: Sequence[ConversationEntry]) -> None:
    if stored and not run.begun:
        run.reply_id = stored[0].id


def _put_back(runs: Sequence[Run], taken: Sequence[Progress]) -> None:
    for run, progress in zip(runs, taken, strict=True):
        run.progress.put_back(progress)


def _set_trouble(run: Run, trouble: str | None) -> None:
    if run.trouble != trouble:
        run.trouble = trouble
        run.touch()


def _left_by(events: AgentRunEvents[Any] | None, run: Run) -> tuple[list[ModelMessage], RunUsage | None]:
    """What a run that raised has produced."""
    try:
        if events is not None:
            return events.new_messages(), events.usage
    except UserError:  # It raised before it began.
        pass
    return run.partial.messages(), None


def _size(messages: Sequence[ModelMessage]) -> int:
    """Bytes of messages: of their files as they are, else as JSON."""
    files = [[len(content.data) for content in binary_contents(message)] for message in messages]
    return sum(sum(of) if of else len(message_json(message)) for of, message in zip(files, messages, strict=True))


def _storable(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages before the first that has no JSON."""
    for index, message in enumerate(messages):
        try:
            message_json(message)
        except PydanticSerializationError:
            return list(messages[:index])
    return list(messages)


def _cut_by_provider(messages: Sequence[ModelMessage]) -> AgentRunError | None:
    """Why a reply that ended without an error is not whole: what Pydantic AI raises when it has no text at all."""
    last = messages[-1] if messages else None
    reason = last.finish_reason if isinstance(last, ModelResponse) else None
    if reason == "content_filter":
        return ContentFilterError("The provider ended the reply with finish_reason='content_filter'.")
    if reason == "length":
        return OutputTokenLimitExceeded("The provider ended the reply with finish_reason='length'.")
    return None


def _is_whole(reply: Sequence[ModelMessage]) -> bool:
    last = reply[-1] if reply else None
    return isinstance(last, ModelResponse) and last.state == "complete" and not last.tool_calls


async def _without_conflict(begin: Callable[[Run], Awaitable[Conversation]], run: Run) -> Conversation:
    while True:
        try:
            return await begin(run)
        except ConversationConflict:  # Another program stored something between its reading and its writing.
            continue


async def _set_within(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until the event is set, at most so long, if there is a limit."""
    with suppress(TimeoutError):
        # Not `wait_for`: in Python 3.11 it can swallow a cancellation.
        async with asyncio.timeout(seconds):
            await event.wait()


async def _first(task: asyncio.Task[Any], event: asyncio.Event, seconds: float | None = None) -> bool:
    """Wait until the task is done, the event is set or the time is up; whether the task is done."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()
