"""A model that writes what a script says, part by part, whatever kinds of parts these are."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic_ai import ModelMessage, ModelResponse, RunContext
from pydantic_ai.messages import ModelResponseStreamEvent, TextPart, ThinkingPart, ToolCallPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings

WORD_SECONDS = 0.01


class Replay(Model):
    """Answers each prompt with these responses, one for each time that it is asked; they name the provider.

    After the last it answers that this was all.
    """

    def __init__(self, *responses: ModelResponse) -> None:
        super().__init__()
        self._responses = responses

    @property
    def model_name(self) -> str:
        return self._responses[0].model_name or "replay"

    @property
    def system(self) -> str:
        return self._responses[0].provider_name or "replay"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return self._next(messages)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        # What it is given itself tells no prompt from what else a provider is sent as one.
        history = messages if run_context is None else run_context.messages
        yield _Replayed(model_request_parameters, self._next(history))

    def _next(self, messages: Sequence[ModelMessage]) -> ModelResponse:
        asked = 0
        for message in messages:
            if isinstance(message, ModelResponse):
                asked += 1
            elif any(isinstance(part, UserPromptPart) for part in message.parts):
                asked = 0
        return self._responses[asked] if asked < len(self._responses) else ModelResponse([TextPart("That was all.")])


@dataclass
class _Replayed(StreamedResponse):
    response: ModelResponse
    _timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        self._usage = self.response.usage
        for index, part in enumerate(self.response.parts):
            match part:
                case TextPart(content=content, citations=None):
                    for word in re.findall(r"\S*\s*", content):
                        await asyncio.sleep(WORD_SECONDS)
                        for event in self._parts_manager.handle_text_delta(vendor_part_id=index, content=word):
                            yield event
                case ThinkingPart(content=content, signature=None):
                    for word in re.findall(r"\S*\s*", content):
                        await asyncio.sleep(WORD_SECONDS)
                        for event in self._parts_manager.handle_thinking_delta(vendor_part_id=index, content=word):
                            yield event
                case ToolCallPart():
                    name: str | None = part.tool_name
                    for piece in re.findall(r".{1,20}", part.args_as_json_str()):
                        await asyncio.sleep(WORD_SECONDS)
                        for event in self._parts_manager.handle_tool_call_delta_events(
                            vendor_part_id=index, tool_name=name, args=piece, tool_call_id=part.tool_call_id
                        ):
                            yield event
                        name = None  # Else it is written once more.
                case _:
                    yield self._parts_manager.handle_part(vendor_part_id=index, part=part)

    async def close_stream(self) -> None:
        pass

    @property
    def model_name(self) -> str:
        return self.response.model_name or "replay"

    @property
    def provider_name(self) -> str | None:
        return self.response.provider_name

    @property
    def provider_url(self) -> str | None:
        return self.response.provider_url

    @property
    def timestamp(self) -> datetime:
        return self._timestamp
