"""A scripted reply, event by event: thinking, text and two tool calls, then thinking and text again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent, AgentRunResultEvent, AgentStreamEvent, ModelMessage
from pydantic_ai.messages import PartDeltaEvent
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    first = len(messages) == 1
    for word in ("let ", "me ", "see"):
        yield {0: DeltaThinkingPart(content=word)}
    for word in ("I ", "will ", "look.") if first else ("It ", "is ", "blue."):
        yield word
    if first:
        for number in (2, 3):
            yield {number: DeltaToolCall(name="look", json_args='{"at"', tool_call_id=f"call-{number}")}
            yield {number: DeltaToolCall(json_args=f': "sky {number}"}}')}


AGENT = Agent(FunctionModel(stream_function=_script), name="scripted")


@AGENT.tool_plain
async def look(at: str) -> str:
    return f"{at} is blue"


@dataclass(frozen=True)
class Step:
    """An event, and the messages that the run had finished when it came."""

    event: AgentStreamEvent
    finished: list[ModelMessage]


async def reply() -> tuple[list[Step], list[ModelMessage]]:
    """The events of a run, and its own messages at the end."""
    steps: list[Step] = []
    known = 0
    async with AGENT.run_stream_events("What colour is the sky?") as events:
        async for event in events:
            if isinstance(event, AgentRunResultEvent):
                return steps, event.result.new_messages()
            finished = [] if isinstance(event, PartDeltaEvent) else events.new_messages()[known:]
            known += len(finished)
            steps.append(Step(event, finished))
    raise AssertionError("A run ends with its result.")
