"""The fold of a reply's events is what has been streamed, at every moment."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
from inline_snapshot import snapshot
from pydantic_ai import AgentStreamEvent, ModelMessage
from pydantic_ai.messages import (
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolResultEvent,
    ToolReturnPart,
)

from chat.partial import FOLDED_EVENTS, Partial
from tests.every_part import WORKDAY, events, members
from tests.reply import Step, reply

pytestmark = pytest.mark.anyio


def fold(steps: Sequence[Step]) -> Partial:
    partial = Partial()
    for step in steps:
        partial.complete(step.finished)
        partial.apply(step.event)
    return partial


def parts(messages: Sequence[ModelMessage]) -> list[list[object]]:
    return [list(message.parts) for message in messages]


def written(event: AgentStreamEvent) -> str:
    """The text that an event adds to the reply, whichever kind of part it is in."""
    what = event.part if isinstance(event, PartStartEvent | ToolResultEvent) else None
    what = event.delta if isinstance(event, PartDeltaEvent) else what
    if isinstance(what, TextPart | ThinkingPart | ToolReturnPart):
        return str(what.content)
    if isinstance(what, TextPartDelta | ThinkingPartDelta):
        return what.content_delta or ""
    if isinstance(what, ToolCallPart):
        return str(what.args or "")
    return str(what.args_delta or "") if isinstance(what, ToolCallPartDelta) else ""


async def test_the_fold_of_a_whole_run_has_the_parts_of_its_messages() -> None:
    steps, messages = await reply()
    assert len(messages) == 4
    assert parts(fold(steps).messages()) == parts(messages)


async def test_at_every_event_the_fold_holds_what_has_been_streamed() -> None:
    steps, _ = await reply()
    streamed = "What colour is the sky?"
    for count, step in enumerate(steps, start=1):
        streamed += written(step.event)
        folded = [part for message in fold(steps[:count]).messages() for part in message.parts]
        text = "".join(str(part.args if isinstance(part, ToolCallPart) else part.content) for part in folded)  # pyright: ignore
        assert text == streamed
    assert streamed.endswith("It is blue.")


async def test_events_that_are_not_folded_add_nothing() -> None:
    steps, _ = await reply()
    without = [step for step in steps if step.finished or isinstance(step.event, FOLDED_EVENTS)]
    assert len(without) < len(steps)
    assert parts(fold(without).messages()) == parts(fold(steps).messages())


async def test_folding_leaves_the_events_as_they_were() -> None:
    steps, _ = await reply()
    before = deepcopy([step.event for step in steps])
    fold(steps).messages()
    assert [step.event for step in steps] == before


async def test_messages_that_the_run_finished_replace_what_was_folded_for_them() -> None:
    steps, messages = await reply()
    partial = fold(steps)
    partial.complete(messages[len(partial.completed) :])
    assert partial.messages() == messages


async def test_only_a_response_that_is_being_written_is_marked_interrupted() -> None:
    steps, _ = await reply()
    states = [message.state for message in fold(steps).messages() if isinstance(message, ModelResponse)]
    assert states == ["complete", "interrupted"]


def test_parts_stand_in_the_order_of_their_index() -> None:
    partial = Partial()
    for index in (2, 0, 1):
        partial.apply(PartStartEvent(index=index, part=TextPart(str(index))))
    assert parts(partial.messages()) == [[TextPart("0"), TextPart("1"), TextPart("2")]]


def test_a_delta_of_a_part_that_never_began_is_passed_over() -> None:
    partial = Partial()
    partial.apply(PartDeltaEvent(index=0, delta=TextPartDelta("lost")))
    assert partial.messages() == []


def test_every_kind_of_part_comes_out_as_it_was_streamed() -> None:
    for message in WORKDAY:
        partial = Partial()
        for event in events([message]):
            partial.apply(event)
        streamed = partial.messages()
        if streamed:
            assert without_form(streamed[0].parts) == without_form(message.parts)


def without_form(parts: Sequence[object]) -> list[object]:
    """The parts with the arguments of calls as JSON: they are streamed as text, whatever the message holds."""
    return [replace(part, args=part.args_as_dict()) if isinstance(part, ToolCallPart) else part for part in parts]


def test_a_new_kind_of_event_is_folded_or_left_out_on_purpose() -> None:
    left_out = {kind.__name__ for kind in members(AgentStreamEvent) if not issubclass(kind, FOLDED_EVENTS)}
    assert left_out == snapshot(
        {
            "CapabilityEvent",
            "CapabilityLoadDeltaEvent",
            "CustomEvent",
            "DeferredToolRequestsEvent",
            "DeferredToolResultsEvent",
            "EnqueuedMessagesEvent",
            "FinalResultEvent",
            "FunctionToolCallEvent",
            "ModelSettingsDeltaEvent",
            "OutputToolCallEvent",
            "PartEndEvent",
            "RealtimeInputSpeechEndEvent",
            "RealtimeInputSpeechStartEvent",
            "RealtimeInputTranscriptionErrorEvent",
            "RealtimeOutputSpeechEndEvent",
            "RealtimeOutputSpeechStartEvent",
            "RealtimeResponseInterruptedEvent",
            "RealtimeSessionErrorEvent",
            "RealtimeSessionReconnectEvent",
            "RealtimeTurnCompleteEvent",
            "ToolAvailabilityDeltaEvent",
        }
    )
