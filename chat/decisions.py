"""Tool calls that wait for a person: what a page shows of them, and what the person decided.

A decision names a call and, by a fingerprint, exactly what was shown of it. One that fits no pending call to the letter
is refused with all that came with it: either every call that waits gets its decision, or nothing happens.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRequest, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_core import from_json

from chat.markup import json_text
from chat.tool_render import EDITED

LONGEST_DECISION = 100_000
"""Characters of a reason, of edited arguments, or of a result."""

MOST_DECISIONS = 1_000
"""Calls that are decided at once."""

Kind = Literal["approval", "question", "external"]

OUTDATED = "This was decided already, or the conversation has changed. What waits now is shown."
INSTEAD = "The person did not decide about this call and wrote a message instead."
DECLINED = "The person declined to give a result."


class DecisionRefused(Exception):
    """Decisions that can't be taken. Nothing was done; the message says why."""


@dataclass(frozen=True)
class PendingCall:
    """A call that waits, as a page shows it.

    Args:
        id: The tool call's id.
        tool: The tool's name.
        arguments: What it would be called with: JSON, set out.
        fingerprint: Stands for the tool and its arguments; a decision repeats it.
        kind: Whether it needs an approval, asks a question, or waits for a result from outside.
        question: What is asked, when the arguments say so.
    """

    id: str
    tool: str
    arguments: str
    fingerprint: str
    kind: Kind
    question: str = ""


class Decision(BaseModel):
    """What a person decided about one call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    fingerprint: str
    verdict: Literal["approve", "deny", "answer"]
    text: Annotated[str, Field(max_length=LONGEST_DECISION)] = ""
    """Why it is denied, or the answer."""
    arguments: Annotated[str, Field(max_length=LONGEST_DECISION)] | None = None
    """The arguments to approve instead of those that were shown, as JSON."""


_DECISIONS = TypeAdapter(Annotated[list[Decision], Field(max_length=MOST_DECISIONS)])


def decisions_from_page(value: object) -> list[Decision]:
    """What a browser sent, if it has the form of decisions.

    Raises:
        DecisionRefused: If it hasn't.
    """
    try:
        return _DECISIONS.validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise DecisionRefused(f"This decision can't be read: {reason}.") from error


def pending_calls(requests: DeferredToolRequests | None) -> list[PendingCall]:
    """The calls that wait, those for an approval first."""
    if requests is None:
        return []
    return [
        PendingCall(
            call.tool_call_id,
            call.tool_name,
            _set_out(call),
            fingerprint(call),
            kind := requests.kind(call.tool_call_id),
            _question(call) if kind == "question" else "",
        )
        for call in _calls(requests)
    ]


def fingerprint(call: ToolCallPart) -> str:
    """Stands for the tool and the arguments of a call."""
    return sha256(json.dumps([call.tool_name, call.args_as_json_str()]).encode()).hexdigest()


def results_of(requests: DeferredToolRequests, decisions: Sequence[Decision]) -> DeferredToolResults:
    """The decisions as Pydantic AI takes them.

    Raises:
        DecisionRefused: If they aren't exactly one for each call that waits, made for what the call is.
    """
    calls = {call.tool_call_id: call for call in _calls(requests)}
    for decision in decisions:
        call = calls.get(decision.id)
        if call is None or decision.fingerprint != fingerprint(call):
            raise DecisionRefused(OUTDATED)
    if sorted(decision.id for decision in decisions) != sorted(calls):
        raise DecisionRefused("Decide about each call once.")
    results = DeferredToolResults()
    for decision in decisions:
        if requests.kind(decision.id) == "approval":
            results.approvals[decision.id] = _approval(decision)
        else:
            results.calls[decision.id] = _result(decision, requests.kind(decision.id))
    return results


def denied_instead(requests: DeferredToolRequests | None) -> list[ModelRequest]:
    """What ends the turn of calls about which nobody decided, so that the next message can follow."""
    if requests is None:
        return []
    parts = [
        ToolReturnPart(call.tool_name, INSTEAD, tool_call_id=call.tool_call_id, outcome="denied")
        for call in _calls(requests)
    ]
    return [ModelRequest(parts=parts)] if parts else []


def note_edited(part: object, results: DeferredToolResults | None) -> None:
    """Write on a call's return which arguments it was approved with, when they are not the call's own.

    The call in the history stays as the model made it, and no model is sent a return's metadata.
    """
    if results is None or not isinstance(part, ToolReturnPart):
        return
    approval = results.approvals.get(part.tool_call_id)
    known: object = part.metadata
    if isinstance(approval, ToolApproved) and approval.override_args is not None and isinstance(known, dict | None):
        part.metadata = {**cast("dict[str, object]", known or {}), EDITED: approval.override_args}


def _calls(requests: DeferredToolRequests) -> Iterable[ToolCallPart]:
    return (*requests.approvals, *requests.calls)


def _approval(decision: Decision) -> ToolApproved | ToolDenied:
    if decision.verdict == "deny":
        return ToolDenied(decision.text.strip()) if decision.text.strip() else ToolDenied()
    if decision.verdict != "approve":
        raise DecisionRefused("This call needs an approval, not an answer.")
    return ToolApproved(override_args=None if decision.arguments is None else _object(decision.arguments))


def _result(decision: Decision, kind: Kind) -> object:
    if decision.verdict == "deny":
        return ToolFailed(decision.text.strip() or DECLINED)
    if decision.verdict != "answer":
        raise DecisionRefused("This call needs an answer, not an approval.")
    if kind == "question":
        return decision.text
    try:
        return from_json(decision.text, allow_inf_nan=False)
    except ValueError:  # Text.
        return decision.text


def _object(arguments: str) -> dict[str, Any]:
    try:
        value: object = from_json(arguments, allow_inf_nan=False)
    except ValueError as error:
        raise DecisionRefused(f"The edited arguments are not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise DecisionRefused("The edited arguments are not a JSON object. Put them in braces.")
    return cast("dict[str, Any]", value)


def _set_out(call: ToolCallPart) -> str:
    raw = call.args if isinstance(call.args, str) and call.args else call.args_as_json_str()
    try:
        return json_text(from_json(raw))
    except ValueError:  # What the model wrote is not JSON; it is shown as it is.
        return raw


def _question(call: ToolCallPart) -> str:
    asked: object = call.args_as_dict().get("question")
    return asked if isinstance(asked, str) else ""
