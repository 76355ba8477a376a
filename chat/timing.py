"""How long a reply takes, and the thinking and the tool calls in it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_ai import AgentStreamEvent, ModelMessage, ModelResponse
from pydantic_ai.messages import (
    NativeToolCallPart,
    NativeToolReturnPart,
    PartEndEvent,
    PartStartEvent,
    ThinkingPart,
    ToolCallEvent,
    ToolResultEvent,
)


@dataclass(frozen=True)
class Timing:
    """Seconds of a turn and of its parts: by tool call id, and of its nth thinking by `thinking:n`, from 0."""

    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


NO_TIME = Timing(0)

_THINKING = "thinking:"


def thinking_key(number: int) -> str:
    """The name that the thinking of this number, from 0, has among the parts of its turn."""
    return f"{_THINKING}{number}"


class Stopwatch:
    """Times a run by its events. It is given what a `Partial` is given, and every event beside.

    Args:
        clock: Tells the seconds.
        earlier: What the turn had taken before it paused.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, earlier: Timing = NO_TIME) -> None:
        self._clock = clock
        self._earlier = earlier
        self._start = clock()
        self._begun: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._thoughts = sum(name.startswith(_THINKING) for name in earlier.parts)
        """The thinking in the responses of the turn that are complete."""
        self._thinking: list[int] = []
        """The indexes of the thinking in the response that is being written."""

    def apply(self, event: AgentStreamEvent) -> None:
        """Note when a part begins or ends."""
        if isinstance(event, PartStartEvent):
            if isinstance(event.part, ThinkingPart):
                self._begin(self._thought(event.index))
            elif isinstance(event.part, NativeToolCallPart):
                self._begin(event.part.tool_call_id)
            elif isinstance(event.part, NativeToolReturnPart):
                self._end(event.part.tool_call_id)
        elif isinstance(event, PartEndEvent):
            if isinstance(event.part, ThinkingPart):
                self._end(self._thought(event.index))
        elif isinstance(event, ToolCallEvent):
            self._begin(event.tool_call_id)
        elif isinstance(event, ToolResultEvent):
            self._end(event.tool_call_id)

    def complete(self, messages: Sequence[ModelMessage]) -> None:
        """Take note of messages that the run has finished: what comes next is in another response."""
        for message in messages:
            if isinstance(message, ModelResponse):
                self._thoughts += sum(isinstance(part, ThinkingPart) for part in message.parts)
                self._thinking = []

    @property
    def running(self) -> bool:
        """Whether something that is shown with its time has not ended."""
        return len(self._begun) > len(self._ended)

    def timing(self) -> Timing:
        """The seconds so far; what hasn't ended has taken until now."""
        now = self._clock()
        parts = {name: self._ended.get(name, now) - begun for name, begun in self._begun.items()}
        return Timing(self._earlier.seconds + now - self._start, {**self._earlier.parts, **parts})

    def _thought(self, index: int) -> str:
        if index not in self._thinking:
            self._thinking.append(index)
        return thinking_key(self._thoughts + self._thinking.index(index))

    def _begin(self, name: str) -> None:
        self._begun[name] = self._clock()
        self._ended.pop(name, None)  # Some models use an id again.

    def _end(self, name: str) -> None:
        if name in self._begun:
            self._ended.setdefault(name, self._clock())
