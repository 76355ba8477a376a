"""The server that `tests.crash` kills, and its agent, which notes each word in a file before it hands it over."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import redirect_stdout
from io import TextIOBase
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, ModelMessage
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from chat.server import Server
from chat.settings import Settings

NOTES = "TESTS_CRASH_NOTES"
"""The environment variable that names the agent's file."""

QUESTION = "Are you there?"
"""Answered with `Yes.`, or with what is wrong with the history."""

WORD = re.compile(r"w(\d+)@(\d+) ")
"""A word: its number in the reply, and when it was written in milliseconds."""

WORD_SECONDS = 0.01

LONGEST_STORY = 400
"""Words: more than are ever told before a kill."""


def _note(*items: object) -> None:
    # One write that the kernel has: a kill of the process can't undo it.
    descriptor = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, items)) + "\n").encode())
    os.close(descriptor)


async def _story(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """Thinks, writes, calls a tool, and so on: `w1@<milliseconds> w2@...`."""
    tale = prompts(messages)[-1]
    if tale == QUESTION:
        yield _problem_of(messages) or "Yes."
        return
    if any(note.startswith(f"{tale} word ") for note in notes()) and not _in_the_middle(messages):
        yield "Told before."
        return
    number = sum(len(WORD.findall(text)) for text in texts(messages, of=tale))
    if number > LONGEST_STORY:
        yield "The end."
        return
    for index in range(24):
        await asyncio.sleep(WORD_SECONDS)
        number += 1
        now = round(time.time() * 1000)
        _note(tale, "word", number, now)
        word = f"w{number}@{now} "
        yield {0: DeltaThinkingPart(content=word)} if index < 8 else word
    call = f"{tale}.{number}"
    yield {1: DeltaToolCall(name="look", json_args='{"at": ', tool_call_id=call)}
    yield {1: DeltaToolCall(json_args=f'"{call}"}}')}


agent = Agent(FunctionModel(stream_function=_story, model_name="storyteller"), name="storyteller")


@agent.tool_plain
async def look(at: str) -> str:
    _note(at, "start", 0, round(time.time() * 1000))
    await asyncio.sleep(0.1)
    _note(at, "end", 0, round(time.time() * 1000))
    return f"saw {at}"


def _in_the_middle(messages: Sequence[ModelMessage]) -> bool:
    return not any(isinstance(part, UserPromptPart) for part in messages[-1].parts)


def _problem_of(messages: Sequence[ModelMessage]) -> str | None:
    """Why a model's provider would refuse this history, if it would."""
    waiting: set[str] = set()
    for message in messages:
        returned = {part.tool_call_id for part in message.parts if isinstance(part, ToolReturnPart)}
        if returned - waiting:
            return f"The results {returned - waiting} answer no call."
        waiting -= returned
        if isinstance(message, ModelResponse):
            if waiting:
                return f"The calls {waiting} are not answered."
            waiting = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
    return f"The calls {waiting} are not answered." if waiting else None


def serve(database: Path, notes: Path, port: int, ready: Connection) -> None:
    """The chat, as `app.py` runs it; says `True` once it serves."""
    os.environ |= {NOTES: str(notes), "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    with redirect_stdout(_Until("Conversations:", ready)):
        # No examples: Gradio's handler of them holds a semaphore, which a killed process leaves behind.
        Server(Settings(database=database, agent="tests.storyteller:agent", examples=())).run()


class _Until(TextIOBase):
    """Says so when the text is printed."""

    def __init__(self, text: str, ready: Connection) -> None:
        self._text, self._ready = text, ready

    def write(self, text: str) -> int:
        if self._text in text:
            self._ready.send(True)
        return len(text)


def prompts(messages: Sequence[ModelMessage]) -> list[str]:
    """The text of the prompts."""
    parts = [part for message in messages for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, UserPromptPart)]


def texts(messages: Sequence[ModelMessage], *, of: str | None = None) -> list[str]:
    """The text and the thinking of the replies; with `of`, after this prompt."""
    found: list[str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart) and part.content == of:
                found = []
            if isinstance(part, TextPart | ThinkingPart):
                found.append(part.content)
    return found


def notes() -> list[str]:
    """What the agent has noted: `<tale> word <number> <ms>`, `<call> start 0 <ms>`, `<call> end 0 <ms>`."""
    return Path(os.environ[NOTES]).read_text().splitlines()
