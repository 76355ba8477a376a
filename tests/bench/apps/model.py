"""The scripted agent that every measured chat uses, and the earlier messages that their conversations begin with.

It runs in the peers' own environments, where only Pydantic AI is installed.
"""

import asyncio
import re
from collections.abc import AsyncIterator

from pydantic_ai import Agent, ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

TOKENS = 400
"""Tokens of a reply."""

TOKEN_SECONDS = 0.01
"""Seconds from one token to the next."""

WARM_UP_TOKENS = 20
"""Tokens of the reply to a prompt that says `briefly`."""

_PARAGRAPH = """The harbour wakes before the town does. Boats come in with **herring** and mackerel, gulls circle above
the quay, and by six the first lorries wait beside the *old* customs house.

- Fish is weighed and `labelled` at once,
- ice is shovelled over every crate,
- and the auction lasts for twenty minutes.

Nobody speaks much while the clock runs; a nod is enough. Later, when the nets hang in the sun to dry, people sit on the
wall with coffee and tell each other what the sea was like, [as they always have](https://example.com/harbour). """

_SEEN = re.compile(r"\S+\s*")


def question(number: int, wish: str = "at length") -> str:
    """A prompt. Its `number` comes back in the reply, so that each can be told from all others."""
    return f"{asked(number)} tell me {wish} about the harbour."


def asked(number: int) -> str:
    """A word that only the prompt with this number contains."""
    return f"Question{number}:"


def first_word(number: int) -> str:
    """The first word of the reply to the prompt with this number."""
    return f"Answer{number}"


def last_word(number: int) -> str:
    """The last word of the reply to the prompt with this number."""
    return f"Goodbye{number}."


def reply(number: int, tokens: int = TOKENS) -> list[str]:
    """A reply's tokens: words with some Markdown among them."""
    words = _SEEN.findall(_PARAGRAPH)
    middle = [words[index % len(words)] for index in range(tokens - 2)]
    return [f"{first_word(number)} ", *middle, last_word(number)]


def earlier(count: int) -> list[tuple[str, str]]:
    """A conversation of `count` messages, as pairs of prompt and reply; their numbers are below zero."""
    numbers = range(1, count // 2 + 1)
    return [(f"Earlier{n}: what happens next?", f"Then{n}: {_PARAGRAPH}") for n in numbers]


def newest_earlier(count: int) -> str:
    """A word that only the newest of `count` earlier messages contains."""
    return f"Then{count // 2}:"


def history(count: int) -> list[ModelMessage]:
    """The same conversation as Pydantic AI's messages."""
    messages: list[ModelMessage] = []
    for prompt, answer in earlier(count):
        messages += [ModelRequest(parts=[UserPromptPart(prompt)]), ModelResponse(parts=[TextPart(answer)])]
    return messages


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    prompt = _prompt(messages)
    number = re.search(r"Question(\d+)", prompt)
    tokens = reply(int(number[1]) if number else 0, WARM_UP_TOKENS if "briefly" in prompt else TOKENS)
    begin = clock()
    for index, token in enumerate(tokens, 1):
        # By the clock, not one after the other: what the chat takes for a token doesn't delay the next.
        await asyncio.sleep(max(0, begin + index * TOKEN_SECONDS - clock()))
        yield token


def _prompt(messages: list[ModelMessage]) -> str:
    return next(str(part.content) for part in reversed(messages[-1].parts) if isinstance(part, UserPromptPart))


agent = Agent(FunctionModel(stream_function=_script, model_name="scripted"), name="scripted")
