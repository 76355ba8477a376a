"""What runs are writing now; how past ones ended when they didn't end well, how long they took, what they were told.

A run's checkpoints are the messages it has finished and, after them, the events it has streamed since: each write adds
only what is new, and is dropped when the whole turn is saved. What a kill leaves behind is rebuilt from them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter
from pydantic_ai import AgentStreamEvent, ModelMessage

from chat.brief import Brief
from chat.database import Database, Transaction
from chat.partial import Partial
from chat.store import message_json, messages_from_json
from chat.timing import Timing

_EVENTS: TypeAdapter[list[AgentStreamEvent]] = TypeAdapter(list[AgentStreamEvent])
_BRIEF = TypeAdapter(Brief)
_PARTS: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])

OutcomeKind = Literal["stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """Why a turn has no whole reply, in one sentence for its reader."""

    kind: OutcomeKind
    sentence: str


@dataclass
class Progress:
    """What a run has added since its last checkpoint."""

    conversation_id: str
    follows: str
    """The entry that it comes after: the turn's prompt, or where the turn had paused."""
    messages: list[ModelMessage] = field(default_factory=list[ModelMessage])
    events: list[AgentStreamEvent] = field(default_factory=list[AgentStreamEvent])

    def take(self) -> "Progress":
        """All of it, leaving nothing."""
        taken = Progress(self.conversation_id, self.follows, self.messages, self.events)
        self.messages, self.events = [], []
        return taken

    def put_back(self, taken: "Progress") -> None:
        """Undo a `take` that could not be written."""
        # Messages finished meanwhile hold what the events that were taken told.
        self.events = self.events if self.messages else [*taken.events, *self.events]
        self.messages = [*taken.messages, *self.messages]

    def __bool__(self) -> bool:
        return bool(self.messages or self.events)


@dataclass(frozen=True)
class Unfinished:
    """A run that ended with its process: the entry that it comes after, and what it had written."""

    conversation_id: str
    follows: str
    messages: list[ModelMessage]


class Journal:
    """The checkpoints, outcomes, timings and briefs of runs, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, progress: Sequence[Progress]) -> None:
        """Add the progress of several runs in one transaction: one wait for the disk, however many they are.

        Raises:
            DatabaseUnavailable: If it can't be written now.
        """
        finished = [(run.conversation_id,) for run in progress if run.messages]
        rows = [
            (run.conversation_id, run.follows, kind, content, run.conversation_id)
            for run in progress
            for kind, content in _rows(run)
        ]

        def write(change: Transaction) -> None:
            # A finished message holds what the events before it told.
            change.execute_many("DELETE FROM checkpoint WHERE conversation_id = ? AND kind = 'events'", finished)
            change.execute_many(
                """INSERT INTO checkpoint (conversation_id, position, prompt_id, kind, content)
                SELECT ?, coalesce(max(position), 0) + 1, ?, ?, ? FROM checkpoint WHERE conversation_id = ?""",
                rows,
            )

        await self._database.change(write)

    async def finish(
        self,
        conversation_id: str,
        entry_id: str,
        outcome: Outcome | None,
        timing: Timing | None = None,
        brief: Brief | None = None,
        *,
        unread: bool = False,
    ) -> None:
        """Drop a run's checkpoints, and note how its turn ended when it has no whole reply, and what time it took.

        It is noted of the entry that the reply begins with, so that each version of a reply has its own; of the
        prompt's when nothing came of it. What was noted there before is forgotten, but for what the model was told when
        it wasn't told anew. With `unread`, it is noted too that nobody saw it end.
        """

        def finish(change: Transaction) -> None:
            change.execute("DELETE FROM checkpoint WHERE conversation_id = ?", (conversation_id,))
            change.execute("DELETE FROM outcome WHERE entry_id = ?", (entry_id,))
            change.execute("DELETE FROM timing WHERE entry_id = ?", (entry_id,))
            if unread:
                change.execute("UPDATE conversation SET unread = 1 WHERE conversation_id = ?", (conversation_id,))
            if outcome is not None:
                change.execute(
                    "INSERT INTO outcome (entry_id, kind, sentence) SELECT id, ?, ? FROM entry WHERE id = ?",
                    (outcome.kind, outcome.sentence, entry_id),
                )
            if timing is not None:
                change.execute(
                    "INSERT INTO timing (entry_id, seconds, parts) SELECT id, ?, ? FROM entry WHERE id = ?",
                    (timing.seconds, json.dumps(dict(timing.parts)), entry_id),
                )
            if brief is not None:
                change.execute(
                    """INSERT INTO brief (entry_id, content) SELECT id, ? FROM entry WHERE id = ?
                    ON CONFLICT (entry_id) DO UPDATE SET content = excluded.content""",
                    (_BRIEF.dump_json(brief).decode(), entry_id),
                )

        await self._database.change(finish)

    async def unfinished(self) -> list[Unfinished]:
        """The runs that a process which is gone left in the middle."""
        rows = await self._database.rows("SELECT * FROM checkpoint ORDER BY conversation_id, position")
        partials: dict[tuple[str, str], Partial] = {}
        for row in rows:
            partial = partials.setdefault((row["conversation_id"], row["prompt_id"]), Partial())
            if row["kind"] == "message":
                partial.complete(messages_from_json([row["content"]]))
            else:
                for event in _EVENTS.validate_json(row["content"]):
                    partial.apply(event)
        return [Unfinished(*key, partial.messages()) for key, partial in partials.items()]

    async def outcomes(self, entry_ids: Sequence[str]) -> dict[str, Outcome]:
        """How turns ended that have no whole reply, by the entries of which it was noted."""
        rows = await self._database.rows(
            "SELECT * FROM outcome WHERE entry_id IN (SELECT value FROM json_each(?))", (json.dumps(list(entry_ids)),)
        )
        return {row["entry_id"]: Outcome(row["kind"], row["sentence"]) for row in rows}

    async def timings(self, entry_ids: Sequence[str]) -> dict[str, Timing]:
        """How long turns took, as far as it is known, by the entries of which it was noted."""
        rows = await self._database.rows(
            "SELECT * FROM timing WHERE entry_id IN (SELECT value FROM json_each(?))", (json.dumps(list(entry_ids)),)
        )
        return {row["entry_id"]: Timing(row["seconds"], _PARTS.validate_json(row["parts"])) for row in rows}

    async def briefs(self, entry_ids: Sequence[str]) -> dict[str, Brief]:
        """What the model was told for the turns that these entries began, as far as it is known."""
        rows = await self._database.rows(
            "SELECT * FROM brief WHERE entry_id IN (SELECT value FROM json_each(?))", (json.dumps(list(entry_ids)),)
        )
        return {row["entry_id"]: _BRIEF.validate_json(row["content"]) for row in rows}


def _rows(progress: Progress) -> list[tuple[str, str]]:
    rows = [("message", message_json(message)) for message in progress.messages]
    if progress.events:
        rows.append(("events", _EVENTS.dump_json(progress.events).decode()))
    return rows
