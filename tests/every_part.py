"""One sample of each kind of message part and of prompt content that the installed Pydantic AI defines.

`WORKDAY` is a turn in which they work together, and `events` is how it is streamed. `missing_samples` names the kinds
that have none, so that a new version's new kinds fail a test instead of passing by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic_ai import AgentStreamEvent, ModelMessage, RequestUsage
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    CapabilityLoadDeltaPart,
    Citation,
    CompactionPart,
    ContentCitationAnchor,
    DocumentUrl,
    FilePart,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ImageUrl,
    InstructionBaselinePart,
    InstructionDeltaPart,
    InstructionPart,
    LoadCapabilityCallPart,
    LoadCapabilityReturnPart,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    ModelSettingsDeltaPart,
    NativeToolCallPart,
    NativeToolReturnPart,
    NativeToolSearchCallPart,
    NativeToolSearchReturnPart,
    OutputToolCallEvent,
    OutputToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    RetryFeedbackPart,
    RetryInfo,
    SpeechPart,
    SpeechTimestamp,
    StructuredContent,
    SystemPromptPart,
    TextContent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolAvailabilityDeltaPart,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    ToolSearchCallPart,
    ToolSearchReturnPart,
    UploadedFile,
    UserContent,
    UserPromptPart,
    VideoUrl,
    WebCitationSource,
)

HIDDEN = "never-for-visitors"
"""In every text of a sample that only the model may see."""

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
EVERY_BYTE = bytes(range(256))
IMAGE = BinaryContent.narrow_type(BinaryContent(EVERY_BYTE, media_type="image/png", vendor_metadata={"detail": "high"}))
SOUND = BinaryContent(EVERY_BYTE, media_type="audio/wav")

USER_CONTENT: list[UserContent] = [
    "plain text",
    TextContent("text with data", metadata={"page": 3}),
    StructuredContent({"cart": ["apple", 2]}, tag="cart"),
    ImageUrl("https://example.com/cat.png"),
    AudioUrl("https://example.com/song.mp3", force_download=True),
    DocumentUrl("https://example.com/report.pdf"),
    VideoUrl("https://example.com/film.mp4", vendor_metadata={"fps": 1}),
    IMAGE,
    BinaryContent(b"", media_type="application/pdf"),
    UploadedFile("file-1", provider_name="openai"),
    CachePoint(ttl="1h"),
]

REQUEST_PARTS: list[ModelRequestPart] = [
    SystemPromptPart(HIDDEN, timestamp=NOON, dynamic_ref="prompt"),
    UserPromptPart(USER_CONTENT, timestamp=NOON),
    SpeechPart(speaker="user", transcript="spoken", audio=SOUND),
    ToolSearchReturnPart(content={"discovered_tools": [{"name": "add"}]}, tool_call_id="search"),
    LoadCapabilityReturnPart(content={"message": "loaded"}, tool_call_id="load"),
    ToolReturnPart("look", {"seen": [1, None, "ü"]}, tool_call_id="look", metadata={"row": 1}, timestamp=NOON),
    ToolReturnPart("look", IMAGE, tool_call_id="picture", timestamp=NOON),
    RetryFeedbackPart("Answer in one word.", retry=RetryInfo("model_retry", attempt=1, max_retries=2), timestamp=NOON),
    ToolAvailabilityDeltaPart(tools_added=["add"], tool_call_id="search"),
    CapabilityLoadDeltaPart(loaded=["maths"], tool_call_id="load"),
    ModelSettingsDeltaPart(settings={"thinking": "high"}, top_level=True),
    InstructionDeltaPart(id=None, content=HIDDEN),
    InstructionBaselinePart(instructions=[InstructionPart(content=HIDDEN)]),
    CompactionPart(content="what was said", metadata={"by": "test"}),
]

RESPONSE_PARTS: list[ModelResponsePart] = [
    ThinkingPart("let me see", signature="sig", provider_name="anthropic"),
    TextPart(
        "The sky is blue.",
        citations=[
            Citation([WebCitationSource("https://example.com")], anchor=ContentCitationAnchor(start=4, end=7)),
        ],
    ),
    ToolSearchCallPart(args={"queries": ["sum"]}, tool_call_id="search"),
    LoadCapabilityCallPart(args={"id": "maths"}, tool_call_id="load"),
    ToolCallPart("look", {"at": "sky"}, tool_call_id="look"),
    ToolCallPart("look", '{"at": "unfinished', tool_call_id="picture"),
    NativeToolSearchCallPart(args={"queries": ["sum"]}, tool_call_id="native-search", provider_name="openai"),
    NativeToolSearchReturnPart(
        content={"discovered_tools": []}, tool_call_id="native-search", provider_name="openai", timestamp=NOON
    ),
    NativeToolCallPart("web_search", {"query": "sky"}, tool_call_id="web", provider_name="openai"),
    NativeToolReturnPart("web_search", ["blue"], tool_call_id="web", provider_name="openai", timestamp=NOON),
    CompactionPart(content=None, id="c-2", provider_name="openai", provider_details={"encrypted_content": "x"}),
    FilePart(IMAGE, id="f-1", provider_name="openai"),
    SpeechPart(
        speaker="assistant", transcript="said", timestamps=[SpeechTimestamp(text="said", start_ms=0, duration_ms=400)]
    ),
]

EVERY_MESSAGE: list[ModelMessage] = [
    ModelRequest([UserPromptPart("Look at the sky.", timestamp=NOON)], instructions=HIDDEN, timestamp=NOON),
    ModelResponse(
        RESPONSE_PARTS,
        usage=RequestUsage(input_tokens=5, output_tokens=7, details={"reasoning_tokens": 2}),
        model_name="model",
        timestamp=NOON,
        provider_name="openai",
        provider_url="https://example.com",
        provider_details={"score": 0.1},
        provider_response_id="r-1",
        finish_reason="tool_call",
        run_id="run-1",
        metadata={"tag": "a"},
    ),
    ModelRequest(REQUEST_PARTS, timestamp=NOON, run_id="run-1", metadata={"tag": "b"}),
    ModelResponse([TextPart("Blue")], timestamp=NOON, state="interrupted"),
    ModelRequest([], timestamp=NOON, state="interrupted"),
    ModelResponse([], timestamp=NOON),
]
"""A conversation in which each sample occurs."""


_SEARCHED = {"status": "completed", "sources": [{"type": "url", "url": "https://example.com/sky", "title": "Sky"}]}
_WRONG = [{"type": "int_parsing", "loc": ("days",), "msg": "Input should be a valid integer", "input": "few"}]
_ROWS = [{"city": "Paris", "high": 21.5}, {"city": "Lima | Peru", "high": None}]

_FORECASTER: list[ModelMessage] = [
    ModelRequest([UserPromptPart("How will it be in Paris?", timestamp=NOON)], timestamp=NOON),
    ModelResponse([ToolCallPart("measure", {"city": "Paris"}, tool_call_id="inner")], timestamp=NOON),
    ModelRequest([ToolReturnPart("measure", 21.5, tool_call_id="inner", timestamp=NOON)], timestamp=NOON),
    ModelResponse([TextPart("Sunny.")], timestamp=NOON),
]
"""What an agent that a tool ran said and did."""

WORKDAY: list[ModelMessage] = [
    ModelRequest([UserPromptPart("How is the weather?", timestamp=NOON)], instructions=HIDDEN, timestamp=NOON),
    ModelResponse(
        [
            ThinkingPart("I should **look**."),
            TextPart("I will look it up."),
            ToolCallPart("forecast", '{"days":"few"}', tool_call_id="wrong"),
            ToolCallPart("ask_forecaster", {"city": "Paris"}, tool_call_id="nested"),
            ToolCallPart("draw", {}, tool_call_id="draw"),
            ToolCallPart("delete_all", {"really": True}, tool_call_id="denied"),
            ToolCallPart("read", {"page": "<b>"}, tool_call_id="failed"),
        ],
        usage=RequestUsage(input_tokens=1200, cache_read_tokens=800, output_tokens=340),
        model_name="gpt-5",
        provider_name="openai",
        timestamp=NOON,
    ),
    ModelRequest(
        [
            ToolReturnPart(
                "forecast",
                _WRONG,
                tool_call_id="wrong",
                outcome="retried",
                retry=RetryInfo("validation_error", attempt=1, max_retries=2),
                timestamp=NOON,
            ),
            ToolReturnPart("ask_forecaster", "Sunny.", tool_call_id="nested", metadata=_FORECASTER, timestamp=NOON),
            ToolReturnPart("draw", ["A drawing:", IMAGE], tool_call_id="draw", timestamp=NOON),
            ToolReturnPart("delete_all", "Not today.", tool_call_id="denied", outcome="denied", timestamp=NOON),
            ToolReturnPart("read", "No <such> page", tool_call_id="failed", outcome="failed", timestamp=NOON),
        ],
        timestamp=NOON,
    ),
    ModelResponse(
        [
            ThinkingPart("", signature="sig", provider_name="openai"),
            NativeToolCallPart("web_search", {"query": "sky"}, tool_call_id="web", provider_name="openai"),
            NativeToolReturnPart("web_search", _SEARCHED, tool_call_id="web", provider_name="openai", timestamp=NOON),
            NativeToolCallPart("code_execution", {"code": "print(1)"}, tool_call_id="code", provider_name="openai"),
            NativeToolReturnPart(
                "code_execution", {"logs": ["1"]}, tool_call_id="code", provider_name="openai", timestamp=NOON
            ),
            NativeToolCallPart(
                "mcp_server:maps",
                {"action": "call_tool", "tool_name": "route", "tool_args": {"to": "Lima"}},
                tool_call_id="mcp",
                provider_name="openai",
            ),
            NativeToolReturnPart(
                "mcp_server:maps",
                {"output": "10,000 km", "error": None},
                tool_call_id="mcp",
                provider_name="openai",
                timestamp=NOON,
            ),
            FilePart(SOUND),
            ToolCallPart("forecast", {"days": 2}, tool_call_id="table"),
        ],
        usage=RequestUsage(input_tokens=1800, output_tokens=60),
        model_name="gpt-5",
        provider_name="openai",
        timestamp=NOON,
    ),
    ModelRequest([ToolReturnPart("forecast", _ROWS, tool_call_id="table", timestamp=NOON)], timestamp=NOON),
    ModelResponse(
        [
            TextPart(
                "It is warm.",
                citations=[
                    Citation(
                        [WebCitationSource("https://example.com/sky", title="Sky")],
                        anchor=ContentCitationAnchor(start=0, end=10),
                    )
                ],
            ),
        ],
        usage=RequestUsage(input_tokens=2000, output_tokens=10),
        model_name="gpt-5",
        provider_name="openai",
        timestamp=NOON,
    ),
    ModelRequest(
        [RetryFeedbackPart("Give the record.", retry=RetryInfo("model_retry", attempt=1, max_retries=1))],
        timestamp=NOON,
    ),
    ModelResponse(
        [ToolCallPart("final_result", {"place": "Paris", "days": [1, 2], "rain": None}, tool_call_id="output")],
        usage=RequestUsage(input_tokens=2100, output_tokens=30),
        model_name="gpt-5",
        provider_name="openai",
        timestamp=NOON,
    ),
    ModelRequest(
        [ToolReturnPart("final_result", "Final result processed.", tool_call_id="output", timestamp=NOON)],
        timestamp=NOON,
    ),
]
"""A turn in which an agent does all that agents do."""


def events(messages: Sequence[ModelMessage]) -> Iterator[AgentStreamEvent]:
    """What an agent that writes these messages streams, a part in several events where it can be."""
    for message in messages:
        if isinstance(message, ModelResponse):
            for index, part in enumerate(message.parts):
                yield from _part_events(index, part)
            for part in message.tool_calls:
                output = part.tool_name == "final_result"
                yield OutputToolCallEvent(part) if output else FunctionToolCallEvent(part, args_valid=True)
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                output = part.tool_name == "final_result"
                yield OutputToolResultEvent(part) if output else FunctionToolResultEvent(part)


def _part_events(index: int, part: ModelResponsePart) -> Iterator[AgentStreamEvent]:
    if isinstance(part, TextPart | ThinkingPart):
        middle = len(part.content) // 2
        begin, end = part.content[:middle], part.content[middle:]
        delta = TextPartDelta(end) if isinstance(part, TextPart) else ThinkingPartDelta(content_delta=end)
        yield PartStartEvent(index=index, part=replace(part, content=begin))
        yield PartDeltaEvent(index=index, delta=delta)
    elif isinstance(part, ToolCallPart):
        args = part.args_as_json_str()
        yield PartStartEvent(index=index, part=replace(part, args=args[:4]))
        yield PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=args[4:]))
    else:
        yield PartStartEvent(index=index, part=part)
    if isinstance(part, TextPart | ThinkingPart | ToolCallPart | NativeToolCallPart):
        yield PartEndEvent(index=index, part=part)


def members(union: Any) -> set[type]:
    """The classes of an annotated union, without those that are deprecated: Pydantic AI loads these as others."""
    if get_origin(union) is Annotated:
        return members(get_args(union)[0])
    if get_origin(union) in (Union, UnionType):
        return set().union(*(members(member) for member in get_args(union)))
    kind: type = get_origin(union) or union
    return set() if hasattr(kind, "__deprecated__") else {kind}


def missing_samples() -> set[str]:
    """The kinds of the installed Pydantic AI that have no sample here."""
    unions = ((ModelRequestPart, REQUEST_PARTS), (ModelResponsePart, RESPONSE_PARTS), (UserContent, USER_CONTENT))
    return {
        kind.__name__ for union, samples in unions for kind in members(union) - {type(sample) for sample in samples}
    }
