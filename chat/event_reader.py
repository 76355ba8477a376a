"""A reply's events, read where its agent makes them."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai import AgentStreamEvent, RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.messages import PartDeltaEvent


@dataclass
class EventReader(AbstractCapability[Any]):
    """Gives each event of a run to a function before anything else happens in the run.

    A run hands its events to another task, one at a time, which for each token takes more than the chat does with it.
    So deltas, most of all events, end here. The agent's own capabilities have seen them: this one is around them all.
    """

    read: Callable[[AgentStreamEvent], Awaitable[None]] | None = None
    """Set once the run is there that it reads of, and `None` again at the end: else the two keep each other alive."""

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost", wraps=[AbstractCapability])

    async def wrap_run_event_stream(
        self, ctx: RunContext[Any], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncGenerator[AgentStreamEvent, None]:
        async for event in stream:
            if self.read is not None:
                await self.read(event)
            if not isinstance(event, PartDeltaEvent):
                yield event
