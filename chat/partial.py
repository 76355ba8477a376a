"""A reply while it is being written: stream events folded into messages.

The page shows this fold while a run is at work, and a restart after a kill rebuilds it from the journal, so what was
seen and what is recovered are made by the same code.
"""

from collections.abc import Sequence

from pydantic_ai import AgentStreamEvent, ModelMessage
from pydantic_ai.messages import (
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    ToolResultEvent,
)

FOLDED_EVENTS = (PartStartEvent, PartDeltaEvent, ToolResultEvent)
"""The events that add to a reply; the others repeat what these said."""


class Partial:
    """The messages that a run has produced so far.

    Complete messages come from the run itself (`complete`); what it streams beyond them is folded from events.
    """

    def __init__(self) -> None:
        self.completed: list[ModelMessage] = []
        self._parts: dict[int, ModelResponsePart] = {}
        self._results: list[ModelRequestPart] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was produced yet."""
        return not (self.completed or self._parts or self._results)

    def apply(self, event: AgentStreamEvent) -> None:
        """Fold one event into the message that is being written. `index` restarts at 0 with each response."""
        if isinstance(event, PartStartEvent):
            self._parts[event.index] = event.part
        elif isinstance(event, PartDeltaEvent):
            if (part := self._parts.get(event.index)) is not None:
                self._parts[event.index] = event.delta.apply(part)  # pyright: ignore[reportArgumentType]  # a delta's own event stream pairs it with its kind of part
        elif isinstance(event, ToolResultEvent):
            self._results.append(event.part)

    def complete(self, messages: Sequence[ModelMessage]) -> None:
        """Take over messages that the run has finished; they replace what was folded for them."""
        for message in messages:
            if isinstance(message, ModelResponse):
                self._parts = {}
            else:
                self._results = []
        self.completed.extend(messages)

    def messages(self) -> list[ModelMessage]:
        """All messages so far, the unfinished ones last and marked `interrupted`."""
        messages = list(self.completed)
        if self._parts:
            parts = [self._parts[index] for index in sorted(self._parts)]
            messages.append(ModelResponse(parts=parts, state="interrupted"))
        if self._results:
            messages.append(ModelRequest(parts=list(self._results)))
        return messages
