"""A scripted agent, to try the chat without a model: `python app.py --agent tests.scripted:agent`.

What it does is said in the prompt: `fast`, `slow 30`, `long 5000`, `think`, `tool`, `tool forever`, `tool blocked`,
`calls`, `approve`, `approve two`, `ask`, `outside`, `sent`, `hang`, `fail`, `markdown`, `turns`, `files`, `count ...`,
`echo ...`. Anything else is answered in a few words.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

from pydantic_ai import Agent, CallDeferred, ModelMessage
from pydantic_ai.messages import BinaryContent, TextContent, ToolReturnPart, UserContent, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.profiles import ModelProfile

from chat.titles import INSTRUCTIONS

TOKEN_SECONDS = 0.01

MARKDOWN = """## A heading

Some **bold** text, a [link](https://example.com) and `code`.

| city | country |
|---|---|
| Paris | France |
| Lima | Peru |

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

An equation: $$e^{i\\pi} + 1 = 0$$ and inline \\(a^2 + b^2 = c^2\\).

1. First
2. Second
"""

PAUSES: dict[str, list[tuple[str, dict[str, object]]]] = {
    "approve": [
        ("send_mail", {"to": "ann@example.com", "text": "Hello <b>Ann</b> {{value}}", "copies": 1}),
        ("send_mail", {"to": "ben@example.com", "text": "Hello Ben", "copies": 2}),
    ],
    "ask": [("ask_person", {"question": "Which colour do you like?"})],
    "outside": [("measure", {"what": "temperature"})],
}
"""What the model calls at a command: tools that wait for a person."""


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, object]]:
    prompt = _last_prompt(messages)
    if info.instructions == INSTRUCTIONS:
        yield f'"About {prompt.splitlines()[1]}."'
        return
    command, _, rest = prompt.partition(" ")
    if command == "fail":
        yield "This will "
        raise RuntimeError("the scripted failure, with sk-secret-details")
    if command == "hang":
        yield "Waiting "
        await asyncio.Event().wait()
    if command == "think":
        for word in ("Let ", "me ", "think ", "about ", "it. "):
            await asyncio.sleep(TOKEN_SECONDS)
            yield {0: DeltaThinkingPart(content=word)}
    if command == "tool" and rest == "forever":
        yield {0: DeltaToolCall(name="wait", json_args="{}", tool_call_id="call-2")}
        return
    if command == "tool" and rest == "blocked":
        yield {0: DeltaToolCall(name="block", json_args="{}", tool_call_id="call-3")}
        return
    if command == "calls":
        yield f"{waited} calls"
        return
    if command == "tool" and not _has_tool_result(messages):
        yield "I will add them. "
        yield {1: DeltaToolCall(name="add", json_args='{"a": 19, "b": 23}', tool_call_id="call-1")}
        return
    if command in PAUSES and not _has_tool_result(messages):
        yield "I need you for this. "
        for index, (name, arguments) in enumerate(PAUSES[command][: 2 if rest == "two" else 1], start=1):
            yield {index: DeltaToolCall(name=name, json_args=json.dumps(arguments), tool_call_id=f"{name}-{index}")}
        return
    if command in PAUSES:
        returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        yield "; ".join(f"{part.outcome}: {part.content}" for part in returned)
        return
    if command == "sent":
        yield f"{len(sent)} sent: {', '.join(sent)}"
        return
    if command == "files":
        yield "\n\n".join(_files(messages)) or "no files"
        return
    if command == "turns":
        yield f"{sum(_is_prompt(message) for message in messages)} turns"
        return
    for word in _words(command, rest):
        await asyncio.sleep(TOKEN_SECONDS * (20 if command == "slow" else 1))
        yield word


def _words(command: str, rest: str) -> list[str]:
    if command == "echo":
        return re.findall(r"\S*\s*", rest)
    if command in ("long", "slow", "fast"):
        count = int(rest) if rest.isdecimal() else 60
        return [f"word{n} " for n in range(1, count + 1)]
    if command == "count":
        return [f"{len(rest)} ", "characters"]
    if command == "markdown":
        return re.findall(r"\S*\s*", MARKDOWN)
    if command == "tool":
        return ["The ", "sum ", "is ", "42."]
    return ["You ", "said: ", f"{command} {rest}".strip(), "."]


def _last_prompt(messages: list[ModelMessage]) -> str:
    content = _last_content(messages)
    return "\n\n".join(item for item in content if isinstance(item, str))


def _files(messages: list[ModelMessage]) -> list[str]:
    """What the last prompt's files are: name, type, size and hash of each; of a text, all of it."""
    found: list[str] = []
    for item in _last_content(messages):
        if isinstance(item, BinaryContent):
            found.append(f"{item.identifier} {item.media_type} {len(item.data)} {sha256(item.data).hexdigest()}")
        elif isinstance(item, TextContent):
            found.append(item.content)
    return found


def _last_content(messages: list[ModelMessage]) -> Sequence[UserContent]:
    prompts = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    content = prompts[-1].content
    return [content] if isinstance(content, str) else content


def _is_prompt(message: ModelMessage) -> bool:
    return any(isinstance(part, UserPromptPart) for part in message.parts)


def _has_tool_result(messages: list[ModelMessage]) -> bool:
    last = messages[-1]
    # Beside a prompt it belongs to the turn before: calls that were denied by that prompt.
    return not _is_prompt(last) and any(isinstance(part, ToolReturnPart) for part in last.parts)


agent = Agent(FunctionModel(stream_function=_script, model_name="scripted"), name="scripted")  # pyright: ignore[reportArgumentType]

readers = Agent(
    FunctionModel(
        stream_function=_script,  # pyright: ignore[reportArgumentType]
        model_name="readers",
        profile=ModelProfile(
            supports_image_input=False,
            supports_document_input=False,
            supports_audio_file_input=False,
            supports_video_input=False,
        ),
    ),
    name="readers",
)
"""The same for a model that takes nothing but text."""


waited = 0
"""How often `wait` was called in this process."""


@agent.tool_plain
async def wait() -> None:
    """Never return."""
    global waited
    waited += 1
    await asyncio.Event().wait()


@agent.tool_plain
def block() -> None:
    """Never return, and hold a thread."""
    threading.Event().wait()


@agent.tool_plain
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    await asyncio.sleep(0.3)
    return a + b


sent: list[str] = []
"""What `send_mail` was really called with in this process."""


@agent.tool_plain(requires_approval=True)
async def send_mail(to: str, text: str, copies: int = 1) -> str:
    """Send a mail."""
    await asyncio.sleep(0.3)
    sent.append(f"{text!r} to {to}")
    return f"Sent {copies} to {to}."


@agent.tool_plain
def ask_person(question: str) -> str:
    """Ask the person something."""
    raise CallDeferred(kind="question")


@agent.tool_plain
def measure(what: str) -> str:
    """Have something measured elsewhere."""
    raise CallDeferred
