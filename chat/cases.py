"""A conversation as a test of its agent: a `pydantic_evals` dataset with one case, and the command that runs it.

    python -m chat.cases conversation.yaml --agent my_package.my_module:agent

The case holds the prompts, the replies that are expected, and what each tool returned. When it runs, the agent is asked
the same; its tools are not run but answered from the record, so that nothing is sent or paid for twice but the model.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_ai import ModelMessage, ModelResponse, ModelRetry, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolCallPart, ToolReturnPart, UserContent, UserPromptPart
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
from pydantic_core import from_json, to_json

from chat.models import AgentError, ChatAgent, choose_agent
from chat.render import starts_turn
from chat.settings import SettingsError, read_settings
from chat.tool_render import OUTPUT_TAKEN

EVALUATOR = "EqualsExpected"
"""What an exported case is judged by. For a model whose words vary, `LLMJudge` in its place takes a rubric."""

MISSING = "Cases are run by pydantic-evals, which is not installed. Install it: pip install --no-deps pydantic-evals"
"""Without its dependencies, which are there: its releases lag behind, and would take Pydantic AI back with them."""

_RETURN: TypeAdapter[ToolReturnPart] = TypeAdapter(ToolReturnPart)


class RecordedCall(BaseModel):
    """A tool call and what came of it: the content and outcome of Pydantic AI's `ToolReturnPart`, as JSON."""

    tool: str
    arguments: dict[str, Any]
    result: Any = None
    outcome: Literal["success", "failed", "denied", "retried", "interrupted"] = "success"


class Turn(BaseModel):
    """A prompt, as text or as Pydantic AI's `UserContent`, and the calls that its reply made, in their order."""

    prompt: str | list[UserContent]
    calls: list[RecordedCall] = []


class Replay(BaseModel):
    """What a case puts in: the turns of a conversation. What is expected is a list of their replies."""

    turns: list[Turn]


class NotRecorded(Exception):
    """A tool that was called in a test and not in the conversation that the test was made of."""

    def __init__(self, tool: str, arguments: object) -> None:
        super().__init__(
            f"The agent called {tool!r} with {to_json(arguments, fallback=str).decode()}, and the conversation holds "
            "no such call that was not answered yet. Change the case's `calls`, or the agent."
        )


def dataset_yaml(name: str, messages: Sequence[ModelMessage]) -> str:
    """A conversation's messages, with their files in them, as the file of a dataset."""
    turns, replies = _turns(messages)
    case = {"name": name, "inputs": {"turns": list(map(_plain, turns))}, "expected_output": replies}
    dataset = {"name": name, "cases": [case], "evaluators": [EVALUATOR]}
    return yaml.safe_dump(dataset, allow_unicode=True, sort_keys=False, width=100)


async def replay(agent: ChatAgent, inputs: Replay) -> list[str]:
    """What the agent answers to the same prompts, when its tools return what they returned.

    Raises:
        NotRecorded: If it calls a tool as it wasn't called then.
    """
    history: list[ModelMessage] = []
    replies: list[str] = []
    for turn in inputs.turns:
        arguments = await agent.run_arguments("test", "test")
        arguments["capabilities"].append(Recorded(list(turn.calls)))
        # As the chat does: some agents can do nothing but stream.
        async with agent.agent.run_stream_events(
            turn.prompt, message_history=history, infer_name=False, **arguments
        ) as events:
            async for _ in events:
                pass
            history = events.all_messages()
            replies.append(_reply(events.new_messages()))
    return replies


@dataclass
class Recorded(AbstractCapability[Any]):
    """Answers tool calls from a record, each of its calls once, instead of running the tools."""

    calls: list[RecordedCall]

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """The tools as the model is told of them, answered from the record."""
        return _RecordedToolset(toolset, self.calls)


@dataclass
class _RecordedToolset(WrapperToolset[Any]):
    calls: list[RecordedCall] = field(default_factory=list[RecordedCall])

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        # What was decided about a call is in the record, too: nobody is asked again.
        tools = await super().get_tools(ctx)
        return {name: replace(tool, tool_def=replace(tool.tool_def, kind="function")) for name, tool in tools.items()}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        arguments = from_json(to_json(tool_args, fallback=str))
        named = [call for call in self.calls if call.tool == name]
        # A model may put the same in other words: then it is the next call of this tool.
        found = next((call for call in named if call.arguments == arguments), named[0] if named else None)
        if found is None:
            raise NotRecorded(name, tool_args)
        self.calls.remove(found)
        if found.outcome in ("retried", "failed"):
            said = found.result if isinstance(found.result, str) else to_json(found.result).decode()
            raise ModelRetry(said) if found.outcome == "retried" else ToolFailed(said)
        part = {"part_kind": "tool-return", "tool_name": name, "tool_call_id": "recorded", "content": found.result}
        return _RETURN.validate_json(to_json(part)).content


def main(arguments: list[str]) -> int:
    """Run the cases of a file against an agent: the file, then the same flags as the chat's. The exit code."""
    try:
        evals: Any = import_module("pydantic_evals")  # Optional: only those who test an agent need it.
    except ImportError:
        sys.exit(MISSING)
    if not arguments or arguments[0].startswith("-"):
        sys.exit("Name a file of cases: python -m chat.cases conversation.yaml --agent module:attribute")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        agent = choose_agent(read_settings(arguments[1:]))
        dataset: Any = evals.Dataset[Replay, list[str], Any].from_file(Path(arguments[0]))
    except (AgentError, SettingsError) as error:
        sys.exit(str(error))
    except (OSError, ValidationError, ValueError, yaml.YAMLError) as error:
        sys.exit(f"{arguments[0]} can't be read as a file of cases: {error}")

    async def answers(inputs: Replay) -> list[str]:
        return await replay(agent, inputs)

    report: Any = asyncio.run(dataset.evaluate(answers, name=agent.model_name, max_concurrency=1, progress=False))
    report.print(include_input=False, include_output=True, include_expected_output=True, include_errors=True)
    judged: list[bool] = [result.value for case in report.cases for result in case.assertions.values()]
    return 0 if all(judged) and not report.failures else 1


def _turns(messages: Sequence[ModelMessage]) -> tuple[list[Turn], list[str]]:
    """The turns that have a reply, and their replies."""
    turns: list[Turn] = []
    replies: list[str] = []
    starts = [index for index, message in enumerate(messages) if starts_turn(message)]
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        if reply := _reply(messages[start + 1 : end]):
            turns.append(Turn(prompt=_prompt(messages[start]), calls=_calls(messages[start + 1 : end])))
            replies.append(reply)
    return turns, replies


def _plain(turn: Turn) -> dict[str, Any]:
    """A turn as plain values, without what people needn't read."""
    plain = turn.model_dump(mode="json")
    for call in plain["calls"]:
        if call["outcome"] == "success":
            del call["outcome"]
    if not plain["calls"]:
        del plain["calls"]
    return plain


def _prompt(message: ModelMessage) -> str | list[UserContent]:
    contents = [part.content for part in message.parts if isinstance(part, UserPromptPart)]
    if len(contents) == 1 and isinstance(contents[0], str):
        return contents[0]
    return [item for content in contents for item in ([content] if isinstance(content, str) else content)]


def _calls(messages: Sequence[ModelMessage]) -> list[RecordedCall]:
    open_calls: dict[str, ToolCallPart] = {}
    calls: list[RecordedCall] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                open_calls[part.tool_call_id] = part
            elif isinstance(part, ToolReturnPart) and (call := open_calls.pop(part.tool_call_id, None)) is not None:
                calls += [] if part.content == OUTPUT_TAKEN else [_recorded(call, part)]
    return calls


def _recorded(call: ToolCallPart, answer: ToolReturnPart) -> RecordedCall:
    result = cast("dict[str, Any]", from_json(_RETURN.dump_json(answer)))["content"]
    return RecordedCall(tool=call.tool_name, arguments=call.args_as_dict(), result=result, outcome=answer.outcome)


def _reply(messages: Sequence[ModelMessage]) -> str:
    """The text that a turn ends with, or what its output tool was called with, as JSON."""
    responses = [message for message in messages if isinstance(message, ModelResponse)]
    if not responses:
        return ""
    outputs = {
        part.tool_call_id
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart) and part.content == OUTPUT_TAKEN
    }
    output = next((call for call in responses[-1].tool_calls if call.tool_call_id in outputs), None)
    return to_json(output.args_as_dict()).decode() if output is not None else responses[-1].text or ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
