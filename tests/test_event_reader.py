"""A run's events are read as its agent's own capabilities leave them, and those see every one."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, AgentStreamEvent, ModelMessage, RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.messages import PartDeltaEvent, TextPartDelta
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.services import open_services
from chat.settings import Settings
from chat.view import watch

pytestmark = pytest.mark.anyio

ANNA = Owner("visitor:anna")
WORDS = ("One, ", "two, ", "three.")


@dataclass
class Loud(AbstractCapability[Any]):
    """Hears each word and has it shown in capitals."""

    ordering: CapabilityOrdering | None
    heard: list[str] = field(default_factory=list[str])

    def get_ordering(self) -> CapabilityOrdering | None:
        return self.ordering

    async def wrap_run_event_stream(
        self, ctx: RunContext[Any], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncGenerator[AgentStreamEvent, None]:
        async for event in stream:
            if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                self.heard.append(event.delta.content_delta)
                event = replace(event, delta=replace(event.delta, content_delta=event.delta.content_delta.upper()))
            yield event


@pytest.mark.parametrize("position", [None, "outermost", "innermost"])
async def test_what_an_agents_own_capability_makes_of_the_words_is_shown_and_it_hears_all_of_them(
    tmp_path: Path, position: Any
) -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for word in WORDS:
            yield word

    loud = Loud(position and CapabilityOrdering(position=position))
    agent = ChatAgent(Agent(FunctionModel(stream_function=stream), capabilities=[loud]), (ChatModel("loud"),))
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        run = await services.runs.send(ANNA, None, "Count.", agent)
        views = [view async for view in watch(services, ANNA, run.conversation_id)]
    assert loud.heard == list(WORDS[1:])  # The first comes with the part that it begins.
    assert repr(run.partial.messages()).count("One, TWO, THREE.") == 1
    assert "One, two, three." in str(views[-1].messages)  # What is stored is what the model said.
