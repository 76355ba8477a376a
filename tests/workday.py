"""An agent that does all that agents do, in one conversation: `python app.py --agent tests.workday:agent`.

Whatever it is asked, it plans a trip: it thinks, searches, runs a program, draws, calls tools that work, fail, are
tried again and want an approval, has another agent help it, speaks, cites, and ends with structured output.
"""

import math
import struct
import wave
import zlib
from io import BytesIO
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_ai import Agent, DeferredToolRequests, ModelResponse, RequestUsage, RunContext, ToolReturn
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import (
    BinaryContent,
    BinaryImage,
    Citation,
    CompactionPart,
    ContentCitationAnchor,
    FilePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    SpeechPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    WebCitationSource,
)

from tests.replay import Replay

PROVIDER = {"model_name": "gpt-5", "provider_name": "openai", "provider_url": "https://api.openai.com/v1"}


class Plan(BaseModel):
    """What is planned."""

    city: str
    days: list[str]
    cost: int | None = Field(description="Euros.")
    sights: list[dict[str, str]]


def picture() -> bytes:
    """A map of a coast, as a PNG."""
    width, height = 480, 150
    rows = [b"\0" + b"".join(bytes(_colour(x / width, y / height)) for x in range(width)) for y in range(height)]
    chunks = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(rows), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _colour(x: float, y: float) -> tuple[int, int, int]:
    coast = 0.62 + 0.1 * math.sin(7 * x) + 0.04 * math.sin(23 * x)
    if abs(y - 0.42 + 0.2 * x) < 0.012 or abs(x - 0.35 - 0.1 * y) < 0.006:
        return 250, 246, 235  # Roads.
    if y > coast:
        return 122, 178, 205
    return (236, 224, 190) if y > coast - 0.03 else (176, 203, 158)


def sound() -> bytes:
    """A second of a falling tone, as WAV."""
    file, rate = BytesIO(), 8000
    with wave.open(file, "wb") as written:
        written.setparams((1, 1, rate, 0, "NONE", ""))
        tone = (math.sin(math.tau * (660 - 220 * at / rate) * at / rate) for at in range(rate))
        written.writeframes(bytes(int(128 + 90 * height) for height in tone))
    return file.getvalue()


def _native(tool: str, args: dict[str, object], content: object) -> list[NativeToolCallPart | NativeToolReturnPart]:
    call = f"native-{tool}"
    return [
        NativeToolCallPart(tool, args, tool_call_id=call, provider_name="openai"),
        NativeToolReturnPart(tool, content, tool_call_id=call, provider_name="openai"),
    ]


_SOURCES = [
    {"type": "url", "url": "https://example.com/lisbon", "title": "Two days in Lisbon"},
    {"type": "url", "url": "https://example.com/trams", "title": "The trams of Alfama"},
]

_guide = Agent(
    Replay(
        ModelResponse([ToolCallPart("opening_hours", {"of": "castle"}, tool_call_id="hours")], **PROVIDER),
        ModelResponse([TextPart("The castle is open until **nine**.")], **PROVIDER),
    ),
    name="guide",
)


@_guide.tool_plain
def opening_hours(of: str) -> dict[str, str]:
    """When something is open."""
    return {"opens": "09:00", "closes": "21:00"}


_RESPONSES = [
    ModelResponse(
        [
            ThinkingPart("Two days in Lisbon for Ann: the weather, what is open, a map."),
            TextPart("I will look around first.\n\n"),
            *_native("web_search", {"query": "two days in Lisbon"}, {"status": "completed", "sources": _SOURCES}),
            *_native("code_execution", {"code": "print(2 * 84 + 45)"}, {"status": "completed", "logs": ["213"]}),
            ToolCallPart("forecast", {"days": "two"}, tool_call_id="wrong"),
            ToolCallPart("ask_guide", {"about": "the castle"}, tool_call_id="guide"),
            ToolCallPart("draw_map", {"of": "Lisbon"}, tool_call_id="map"),
            ToolCallPart("read_page", {"address": "https://example.com/closed"}, tool_call_id="page"),
        ],
        usage=RequestUsage(input_tokens=2_400, cache_read_tokens=1_800, output_tokens=310),
        **PROVIDER,
    ),
    ModelResponse(
        [
            CompactionPart("Ann wants two days in Lisbon. A map is drawn."),
            ThinkingPart("", signature="signature", provider_name="openai"),
            *_native(
                "mcp_server:maps",
                {"action": "call_tool", "tool_name": "route", "tool_args": {"to": "Belém"}},
                {"output": "6.2 km, 18 minutes", "error": None},
            ),
            *_native("image_generation", {}, {"status": "completed", "size": "480x150"}),
            FilePart(BinaryImage(picture(), media_type="image/png", identifier="view")),
            ToolCallPart("forecast", {"days": 2}, tool_call_id="right"),
            ToolCallPart("book", {"what": "hotel", "nights": 2, "for_whom": "Ann"}, tool_call_id="hotel"),
            ToolCallPart("book", {"what": "boat", "nights": 1, "for_whom": "Ann"}, tool_call_id="boat"),
        ],
        usage=RequestUsage(input_tokens=3_100, output_tokens=140),
        **PROVIDER,
    ),
    ModelResponse(
        [
            SpeechPart(
                speaker="assistant",
                transcript="Lisbon it is.",
                audio=BinaryContent(sound(), media_type="audio/wav", identifier="lisbon"),
            ),
            TextPart(
                "The trams climb to Alfama, and \\(d = v \\cdot t\\) says that Belém is 18 minutes away.",
                citations=[
                    Citation(
                        [WebCitationSource("https://example.com/trams", title="The trams of Alfama")],
                        anchor=ContentCitationAnchor(start=0, end=25),
                    )
                ],
            ),
        ],
        usage=RequestUsage(input_tokens=3_600, output_tokens=60),
        **PROVIDER,
    ),
    ModelResponse(
        [
            ToolCallPart(
                "final_result",
                Plan(
                    city="Lisbon",
                    days=["Alfama and the castle", "Belém"],
                    cost=213,
                    sights=[{"sight": "Castle", "open": "until 21:00"}, {"sight": "Tower", "open": "until 18:30"}],
                ).model_dump(),
                tool_call_id="output",
            )
        ],
        usage=RequestUsage(input_tokens=3_700, output_tokens=90),
        **PROVIDER,
    ),
]

agent = Agent(
    Replay(*_RESPONSES),
    name="workday",
    output_type=[Plan, DeferredToolRequests],
    instructions="Plan trips.",
)


@agent.tool_plain
def forecast(days: int) -> list[dict[str, object]]:
    """The weather of the next days."""
    return [{"day": day + 1, "sky": sky, "high": 21.5 + day} for day, sky in enumerate(["sunny", "windy"][:days])]


@agent.tool
async def ask_guide(ctx: RunContext[object], about: str) -> ToolReturn:
    """Ask the guide, an agent too."""
    result = await _guide.run(f"Tell me about {about}.", usage=ctx.usage)
    return ToolReturn(result.output, metadata=result.new_messages())


@agent.tool_plain
def draw_map(of: Literal["Lisbon"]) -> list[str | BinaryImage]:
    """Draw a map."""
    return [f"A map of {of}.", BinaryImage(picture(), media_type="image/png", identifier="map")]


@agent.tool_plain
def read_page(address: str) -> str:
    """Read a page."""
    raise ToolFailed("The page is gone.")


@agent.tool_plain(requires_approval=True)
def book(what: str, nights: int, for_whom: str) -> str:
    """Book something."""
    return f"Booked for {for_whom}: {what}, {nights} nights."
