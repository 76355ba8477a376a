"""A stopwatch tells by a run's events how long it takes, and its thinking and tool calls."""

from collections.abc import Iterator

import pytest
from pydantic_ai import AgentStreamEvent
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    OutputToolCallEvent,
    OutputToolResultEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)

from chat.timing import Stopwatch, Timing
from tests.every_part import WORKDAY, events
from tests.reply import reply

THOUGHT = ThinkingPart("hm")


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stopwatch(clock: Clock) -> Stopwatch:
    return Stopwatch(clock)


def begins(index: int, part: ThinkingPart | TextPart | NativeToolCallPart | NativeToolReturnPart) -> AgentStreamEvent:
    return PartStartEvent(index=index, part=part)


def test_a_turn_takes_the_time_since_it_began(clock: Clock, stopwatch: Stopwatch) -> None:
    assert stopwatch.timing() == Timing(0.0)
    clock.now += 2.5
    assert stopwatch.timing() == Timing(2.5)


def test_a_turn_that_paused_adds_to_what_it_had_taken_and_thought(clock: Clock) -> None:
    stopwatch = Stopwatch(clock, Timing(10.0, {"thinking:0": 3.0, "c1": 0.1}))
    stopwatch.apply(begins(0, THOUGHT))
    clock.now += 2.0
    assert stopwatch.timing() == Timing(12.0, {"thinking:0": 3.0, "c1": 0.1, "thinking:1": 2.0})


def test_thinking_takes_until_its_end_and_so_far_before(clock: Clock, stopwatch: Stopwatch) -> None:
    stopwatch.apply(begins(0, THOUGHT))
    clock.now += 2
    assert stopwatch.timing().parts == {"thinking:0": 2}
    stopwatch.apply(PartEndEvent(index=0, part=THOUGHT))
    clock.now += 5
    assert stopwatch.timing() == Timing(7, {"thinking:0": 2})


def test_thinking_is_numbered_through_the_responses_of_a_turn(clock: Clock, stopwatch: Stopwatch) -> None:
    for response in range(2):
        for index, part in enumerate((THOUGHT, TextPart("so"), THOUGHT)):
            stopwatch.apply(begins(index, part))
            clock.now += 10 * response + index + 1
            stopwatch.apply(PartEndEvent(index=index, part=part))
        stopwatch.complete([ModelResponse([THOUGHT, TextPart("so"), THOUGHT])])
    assert stopwatch.timing().parts == {"thinking:0": 1, "thinking:1": 3, "thinking:2": 11, "thinking:3": 13}


@pytest.mark.parametrize(
    ("call", "result"), [(FunctionToolCallEvent, FunctionToolResultEvent), (OutputToolCallEvent, OutputToolResultEvent)]
)
def test_calls_at_the_same_time_are_timed_each(
    clock: Clock,
    stopwatch: Stopwatch,
    call: type[FunctionToolCallEvent | OutputToolCallEvent],
    result: type[FunctionToolResultEvent | OutputToolResultEvent],
) -> None:
    for name in ("a", "b", "c"):
        stopwatch.apply(call(ToolCallPart("add", {}, tool_call_id=name)))
        clock.now += 1
    for name in ("c", "a"):
        stopwatch.apply(result(ToolReturnPart("add", 1, tool_call_id=name)))
        clock.now += 1
    assert stopwatch.timing().parts == {"a": 4, "b": 4, "c": 1}


def test_a_providers_tool_takes_from_its_call_to_its_return(clock: Clock, stopwatch: Stopwatch) -> None:
    stopwatch.apply(begins(0, NativeToolCallPart("web_search", {}, tool_call_id="web")))
    clock.now += 3
    stopwatch.apply(begins(1, NativeToolReturnPart("web_search", [], tool_call_id="web")))
    clock.now += 3
    assert stopwatch.timing().parts == {"web": 3}


def test_an_id_that_is_used_again_stands_for_its_newest_call(clock: Clock, stopwatch: Stopwatch) -> None:
    for seconds in (1, 5):
        stopwatch.apply(FunctionToolCallEvent(ToolCallPart("add", {}, tool_call_id="1")))
        clock.now += seconds
        stopwatch.apply(FunctionToolResultEvent(ToolReturnPart("add", 1, tool_call_id="1")))
    assert stopwatch.timing().parts == {"1": 5}


def test_a_result_without_a_call_is_passed_over(stopwatch: Stopwatch) -> None:
    stopwatch.apply(FunctionToolResultEvent(ToolReturnPart("add", 1, tool_call_id="lost")))
    assert stopwatch.timing().parts == {}


def test_the_parts_of_a_turn_are_named_as_the_stored_turn_names_them(stopwatch: Stopwatch) -> None:
    for message in WORKDAY:
        for event in events([message]):
            stopwatch.apply(event)
        stopwatch.complete([message])
    assert stopwatch.timing().parts.keys() == {"thinking:0", "thinking:1", *names()}


def names() -> Iterator[str]:
    """The ids of the calls of the turn."""
    for message in WORKDAY:
        for part in message.parts:
            if isinstance(part, ToolCallPart | NativeToolCallPart):
                yield part.tool_call_id


@pytest.mark.anyio
async def test_a_real_run_is_timed(clock: Clock, stopwatch: Stopwatch) -> None:
    steps, _ = await reply()
    for step in steps:
        clock.now += 1
        stopwatch.complete(step.finished)
        stopwatch.apply(step.event)
    parts = stopwatch.timing().parts
    assert parts.keys() == {"thinking:0", "thinking:1", "call-2", "call-3"}
    assert all(seconds > 0 for seconds in parts.values())
