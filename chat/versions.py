"""Versions of turns: a conversation is a tree of which one line is shown, and nothing in it is ever replaced.

A prompt that is edited and a reply that is retried are branches of the store. The versions of a prompt are the prompts
that follow the same entry; those of a reply are what follows the same prompt, of which one can be that nothing did.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar

from pydantic_ai import RunUsage
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationEntry, ConversationRecord

from chat.changes import Changes
from chat.database import Database, Transaction
from chat.identity import Owner
from chat.render import starts_turn
from chat.runs import ConversationBusy, ConversationMissing, MessageMissing, Runs
from chat.search_index import index_title
from chat.store import Follower, SQLiteConversationStore

T = TypeVar("T")

Kind = Literal["prompt", "reply"]
"""Of what there are versions."""

Version = tuple[int, int]
"""Which version is shown, from 1, and how many there are."""


@dataclass(frozen=True)
class Turn:
    """A turn that is shown.

    Args:
        prompt: The entry that began it.
        reply: The entry that its reply begins with, which names the version of the reply; `None` while there is none.
        end: The last entry of it; `None` when that is not shown.
        asked: The version of the prompt, when there are several.
        answered: The version of the reply, when there are several.
    """

    prompt: str
    reply: str | None
    end: str | None
    asked: Version | None = None
    answered: Version | None = None


@dataclass(frozen=True)
class Turns:
    """The turns that are shown, oldest first, and whether others, which were taken back, follow the newest message."""

    shown: Sequence[Turn] = ()
    taken_back: bool = False


class NotNewest(Exception):
    """What should be taken back is not the newest turn any more."""

    def __init__(self) -> None:
        super().__init__("This is not the newest message any more. What is the newest now is shown.")


class Versions:
    """The versions of conversations, in a database that is open."""

    def __init__(self, database: Database, store: SQLiteConversationStore, runs: Runs, changes: Changes) -> None:
        self._database = database
        self._store = store
        self._runs = runs
        self._changes = changes

    async def turns(self, record: ConversationRecord, entries: Sequence[ConversationEntry], first: int) -> Turns:
        """The turns of a part of a conversation's history. Costs what is shown, however many versions there are.

        Args:
            record: The conversation.
            entries: The part.
            first: The position of its first entry.
        """
        ends = not entries or entries[-1].id == record.head_id
        turns = _turns(entries, ends=ends)
        before = {entry.id: entry.parent_id for entry in entries}
        parents = [before[turn.prompt] for turn in turns]
        parents += [turn.prompt for turn in turns if ends or turn.prompt != entries[-1].id]
        if ends:
            parents.append(record.head_id)
        found = await self._store.followers(
            record, list(dict.fromkeys(parents)), list(before), first, first + len(entries)
        )
        if not found:
            return Turns(turns)
        unanswered = turns[-1].prompt if turns and ends and turns[-1].reply is None else None
        return Turns(
            [
                replace(
                    turn,
                    asked=_version(_prompts(found.get(before[turn.prompt], ())), turn.prompt),
                    answered=_version(
                        _replies(found.get(turn.prompt, ()), unanswered=turn.prompt == unanswered), turn.reply
                    ),
                )
                for turn in turns
            ],
            taken_back=ends
            and any(follower.starts_turn or record.head_id != unanswered for follower in found.get(record.head_id, ())),
        )

    async def show(self, owner: Owner, conversation_id: str, entry_id: str) -> None:
        """Show the version that an entry is in, with everything that followed it when it was left.

        Raises:
            ConversationBusy: If it is in another than is shown, and a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            MessageMissing: If the conversation has no such entry.
            DatabaseUnavailable: If the database can't be changed now.
        """
        record = await self._runs.record(owner, conversation_id)
        if record.head_id is not None and await self._store.position(record.head_id, entry_id) is not None:
            return

        async def show(record: ConversationRecord) -> None:
            line = await self._newest_line(record, [entry_id])
            if line is None:
                raise MessageMissing
            if line != record.head_id:
                await self._store.continue_at(record, line)

        await self._change(owner, conversation_id, show)

    async def switch(self, owner: Owner, conversation_id: str, prompt_id: str, kind: Kind, number: int) -> None:
        """Show another version of a turn's prompt or of its reply, with everything that followed it when it was left.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation.
            prompt_id: The entry that began the turn, in any of its versions.
            kind: Whether it is a version of the prompt or of the reply.
            number: Which one, from 1.

        Raises:
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            MessageMissing: If it has no such turn, or the turn no such version.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def switch(record: ConversationRecord) -> None:
            prompt = await self._runs.prompt(record, prompt_id)
            parent = prompt.parent_id if kind == "prompt" else prompt.id
            position = (await self._store.position(prompt.id) or 0) + (kind == "reply")
            found = (await self._store.followers(record, [parent], [], position, position)).get(parent, [])
            versions = _prompts(found) if kind == "prompt" else _replies(found)
            if not 1 <= number <= len(versions):
                raise MessageMissing
            wanted = versions[number - 1]
            unanswered = [each.id for each in found if each.starts_turn]
            line = await self._newest_line(record, unanswered if wanted is None else [wanted])
            if line is None:
                raise MessageMissing
            if line != record.head_id:
                await self._store.continue_at(record, line)

        await self._change(owner, conversation_id, switch)

    async def take_back(self, owner: Owner, conversation_id: str, prompt_id: str) -> None:
        """Have a conversation end before its newest turn. The turn stays as a branch, which `bring_back` returns to.

        Args:
            owner: Whose conversation it is.
            conversation_id: The conversation.
            prompt_id: The entry that began the turn.

        Raises:
            NotNewest: If it is not the newest turn.
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def take_back(record: ConversationRecord) -> None:
            prompt = await self._runs.newest_prompt(record.head_id)
            if prompt is None or prompt.id != prompt_id:
                raise NotNewest
            await self._store.continue_at(record, prompt.parent_id)

        await self._change(owner, conversation_id, take_back)

    async def bring_back(self, owner: Owner, conversation_id: str) -> None:
        """Return to what was taken back last where a conversation ends; does nothing when nothing was.

        Raises:
            ConversationBusy: If a reply is being written there.
            ConversationMissing: If the owner has no such conversation.
            DatabaseUnavailable: If the database can't be changed now.
        """

        async def bring_back(record: ConversationRecord) -> None:
            head = record.head_id
            left = replace(record, head_id=None)
            line = await self._store.line_of(left, head) if head else next(reversed(record.branches), None)
            if line is not None:
                await self._store.continue_at(record, line)

        await self._change(owner, conversation_id, bring_back)

    async def fork(self, owner: Owner, conversation_id: str, entry_id: str) -> str:
        """Begin a conversation of its own with what another one says up to an entry; its id.

        It shares these entries and has the same settings. What waits for a decision there waits there only: the same
        call must not be made twice.

        Raises:
            ConversationMissing: If the owner has no such conversation.
            MessageMissing: If the conversation has no such entry.
            DatabaseUnavailable: If it can't be stored now.
        """
        record = await self._runs.record(owner, conversation_id)
        if await self._store.line_of(record, entry_id) is None:
            raise MessageMissing
        fork = ConversationRecord(
            conversation_id=Conversation().conversation_id,
            head_id=entry_id,
            usage=replace(record.usage) if entry_id == record.head_id else RunUsage(),
            scope=owner,
            forked_from=conversation_id,
            forked_at=entry_id,
        )

        store_fork = await self._store.writing(fork, (), None)

        def write(change: Transaction) -> None:
            store_fork(change)
            ids = {"fork": fork.conversation_id, "of": conversation_id}
            change.execute(
                "INSERT INTO title (conversation_id, title) "
                "SELECT :fork, title || ' (fork)' FROM title WHERE conversation_id = :of",
                ids,
            )
            index_title(change, fork.conversation_id)
            change.execute(
                "INSERT INTO choice (conversation_id, content) "
                "SELECT :fork, content FROM choice WHERE conversation_id = :of",
                ids,
            )

        try:
            await self._database.change(write)
        except ConversationConflict as error:  # Its entries were deleted just now.
            raise ConversationMissing from error
        self._changes.announce(owner, fork.conversation_id, fork.revision)
        return fork.conversation_id

    async def _newest_line(self, record: ConversationRecord, entries: Sequence[str]) -> str | None:
        """The end of the line that one of these entries is in: the current one, else the one that was left last."""
        lines = {await self._store.line_of(record, entry) for entry in entries}
        return next((tip for tip in (record.head_id, *reversed(record.branches)) if tip in lines and tip), None)

    async def _change(
        self, owner: Owner, conversation_id: str, change: Callable[[ConversationRecord], Awaitable[None]]
    ) -> None:
        """Change which line of a conversation is shown, unless a reply is being written there."""
        while True:
            if self._runs.of(owner, conversation_id) is not None:
                raise ConversationBusy
            record = await self._runs.record(owner, conversation_id)
            try:
                await change(record)
            except ConversationConflict:  # Changed between the reading and the writing.
                continue
            self._changes.announce(owner, conversation_id, await self._runs.token(owner, conversation_id) or "")
            return


def _turns(entries: Sequence[ConversationEntry], *, ends: bool) -> list[Turn]:
    """The turns that begin among these entries; `ends` says whether the conversation ends with the last one."""
    starts = [index for index, entry in enumerate(entries) if starts_turn(entry.message)]
    turns: list[Turn] = []
    for start, following in pairwise([*starts, len(entries)]):
        whole = following < len(entries) or ends
        reply = entries[start + 1].id if start + 1 < following else None
        turns.append(Turn(entries[start].id, reply, entries[following - 1].id if whole else None))
    return turns


def _prompts(followers: Iterable[Follower]) -> list[str | None]:
    return [follower.id for follower in followers if follower.starts_turn]


def _replies(followers: Iterable[Follower], *, unanswered: bool = False) -> list[str | None]:
    """The versions of a reply; `None` for no reply, when others follow the prompt at once, or nothing does now."""
    found = [None if follower.starts_turn else follower.id for follower in followers]
    return list(dict.fromkeys([*found, None] if unanswered else found))


def _version(versions: Sequence[str | None], shown: str | None) -> Version | None:
    return (versions.index(shown) + 1, len(versions)) if len(versions) > 1 and shown in versions else None
